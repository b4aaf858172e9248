"""Starts the programs that the end-to-end tests talk to, and always stops them.

Everything listens on loopback and on free ports, every wait has an end, and every process is
stopped by its id.
"""

import contextlib
import gzip
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import exposition

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TALLYD_BIN", ROOT / "build/release/bin")).resolve()
# Builds with sanitizers are without it: who sends need not be the build that is tested.
LOAD_PROGRAM = next((path for path in (BIN / "tally-load", ROOT / "build/release/bin/tally-load")
                     if path.exists()), BIN / "tally-load")
CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TEXT = "text/plain;version=0.0.4"
# What Prometheus 2.42 sends.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

# A sanitizer build is slower. Waits are multiplied by this; loads are divided by it.
SLOWNESS = float(os.environ.get("TALLYD_E2E_SLOWNESS", "1"))


class Timeout(AssertionError):
    pass


def wait_for(what, condition, seconds=10.0, interval=0.05):
    """Returns the first true value of condition(), or raises Timeout."""
    end = time.monotonic() + seconds * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"not within {seconds * SLOWNESS:g} s: {what}")
        time.sleep(interval)


@contextlib.contextmanager
def stopped(pid):
    """Nothing of that process runs meanwhile: kill(2) returns before its threads have stopped, and
    one that is awake may still take a datagram."""
    def all_stopped():
        stats = [path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(f"process {pid} to stop", all_stopped)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def away_from_a_turn(seconds):
    """Waits, if the windows of sets turn within so long, until they have.

    A set shows the members of its window. Windows are minutes of the monotonic clock.
    """
    left = 60 - time.monotonic() % 60
    if left < seconds * SLOWNESS:
        time.sleep(left + 0.05)


def free_port(kind=socket.SOCK_STREAM, host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Process:
    """A child whose standard error goes to a file, stopped by its id within a bounded time."""

    def __init__(self, argv, log_path, env=None, preexec=None, close_fds=True):
        self.log_path = pathlib.Path(log_path)
        self._log = open(self.log_path, "ab")
        self.popen = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=env,
            preexec_fn=preexec,
            close_fds=close_fds,
        )

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def logged(self, *texts, seconds=5):
        """The lines with all of the texts, once there is one: a thread writes them when it can."""
        return wait_for(f"{texts} in the log", lambda: [
            line for line in self.log().splitlines() if all(text in line for text in texts)], seconds)

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds=15):
        """The exit code; negative for a signal."""
        try:
            return self.popen.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise Timeout(f"still running: {self.popen.args}\n{self.log()[-2000:]}") from None

    def stop(self, sig=signal.SIGTERM, seconds=15):
        if self.running():
            self.popen.send_signal(sig)
        try:
            return self.wait(seconds)
        finally:
            self.kill()

    def kill(self):
        if self.running():
            self.popen.kill()
            self.popen.wait()
        self._log.close()


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.raw_body = body
        self.body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body

    @property
    def content_type(self):
        return self.headers.get("content-type", "")


def http_request(port, path, method="GET", headers=None, body=None, timeout=10, host="127.0.0.1"):
    connection = http.client.HTTPConnection(host, port, timeout=timeout * SLOWNESS)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, fields, answer.read())
    finally:
        connection.close()


class Ledger:
    """The account of a daemon, read from one scrape."""

    def __init__(self, scrape):
        self.received = scrape.total("tallyd_received_samples_total")
        self.datagrams = scrape.total("tallyd_received_datagrams_total")
        self.bytes = scrape.total("tallyd_received_bytes_total")
        self.applied = scrape.value("tallyd_applied_samples_total")
        self.folded = scrape.value("tallyd_folded_samples_total")
        self.dropped = scrape.by_label("tallyd_dropped_samples_total", "reason")
        self.repaired = scrape.by_label("tallyd_repaired_total", "reason")
        self.events = scrape.by_label("tallyd_received_events_total", "kind")
        self.kernel_dropped = scrape.total("tallyd_kernel_dropped_datagrams_total")
        self.truncated = scrape.total("tallyd_truncated_datagrams_total")

    @property
    def lost(self):
        return sum(self.dropped.values())

    @property
    def reasons(self):
        return {reason: count for reason, count in self.dropped.items() if count}

    @property
    def repairs(self):
        return {reason: count for reason, count in self.repaired.items() if count}

    def at_rest(self):
        return self.received == self.applied + self.lost

    def __repr__(self):
        return (
            f"received {self.received:.0f} = applied {self.applied:.0f} + dropped {self.reasons}; "
            f"datagrams {self.datagrams:.0f}, kernel dropped {self.kernel_dropped:.0f}"
        )


class Daemon:
    """A running tallyd on free ports of loopback.

    `listen` names what it shall listen on, as (flag, value) pairs of --statsd.listen-*; the other
    kinds are switched off. Addresses that the daemon chose are read from its ready line.
    """

    def __init__(self, *flags, listen=(("udp", "127.0.0.1:0"),), web="127.0.0.1:0", wrapper=(),
                 expect_ready=True, env=None):
        self.directory = tempfile.mkdtemp(prefix="tallyd-e2e-")
        argv = [*wrapper, BIN / "tallyd"]
        for kind in ("udp", "tcp"):
            if not any(kind == other for other, _ in listen):
                argv.append(f"--statsd.listen-{kind}=")
        argv += [f"--statsd.listen-{kind}={value}" for kind, value in listen]
        argv += [f"--web.listen-address={web}", *flags]
        self.process = Process(argv, f"{self.directory}/tallyd.log", env=env)
        self.addresses = {}
        if expect_ready:
            try:
                self._read_ready_line()
            except BaseException:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _read_ready_line(self):
        def ready():
            if not self.process.running():
                raise AssertionError(f"tallyd ended:\n{self.log()}")
            return READY.search(self.log())

        line = wait_for("the ready line", ready).group()
        self.addresses = addresses_of(line)
        wait_for("/-/ready", lambda: self.get("/-/ready").status == 200)

    def log(self):
        return self.process.log()

    def logged(self, *texts, seconds=5):
        return self.process.logged(*texts, seconds=seconds)

    @property
    def pid(self):
        return self.process.pid

    def stop(self, sig=signal.SIGTERM, seconds=15):
        return self.process.stop(sig, seconds)

    def port(self, kind="udp", index=0):
        """The port of the index-th listener of a kind: udp, tcp, http."""
        return int(self.addresses[kind][index].rsplit(":", 1)[1])

    def get(self, path, method="GET", accept=None, headers=None, timeout=10, body=None):
        fields = dict(headers or {})
        if accept:
            fields["Accept"] = accept
        host = self.addresses["http"][0].rsplit(":", 1)[0].strip("[]")
        return http_request(self.port("http"), path, method, fields, body, timeout, host)

    def scrape(self, accept=TEXT, path="/metrics", timeout=30):
        answer = self.get(path, accept=accept, timeout=timeout)
        if answer.status != 200:
            raise AssertionError(f"scrape: {answer.status} {answer.body[:200]!r}")
        return exposition.parse(answer.body, "openmetrics" in answer.content_type)

    def ledger(self):
        return Ledger(self.scrape(path="/-/metrics"))

    # A scrape may be answered with a snapshot that is this old.
    SNAPSHOT_AGE = 0.1

    def settle(self, received=None, datagrams=None, seconds=15, fresh=True):
        """Waits until that much has come in and the account balances; returns the ledger.

        A scrape after it shows all that came, if it is to be `fresh`.
        """
        last = []

        def settled():
            last[:] = [self.ledger()]
            enough = (received is None or last[0].received >= received) and (
                datagrams is None or last[0].datagrams + last[0].kernel_dropped >= datagrams
            )
            return last[0] if enough and last[0].at_rest() else None

        try:
            ledger = wait_for(f"{received} samples, {datagrams} datagrams", settled, seconds, 0.02)
        except Timeout as late:
            raise Timeout(f"{late}; {last[0] if last else ''}") from None
        if fresh:
            time.sleep(self.SNAPSHOT_AGE * 1.1)
        return ledger

    def send_udp(self, *datagrams, index=0):
        """Sends datagrams from one socket, in order."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.port("udp", index)))
            for datagram in datagrams:
                sender.send(datagram if isinstance(datagram, bytes) else datagram.encode())

    def status_kib(self, field):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M).group(1))


# The log line that says that every listener is up, as logfmt or as JSON, and its addresses.
READY = re.compile(r'^.*msg"?[=:]"ready".*$', re.M)
ADDRESSES = re.compile(r'\b(udp|tcp|http|unixgram|unixstream|unixseqpacket)"?[=:]"?([^\s"]+)')


def addresses_of(line):
    return {kind: addresses.rstrip(",").split(",") for kind, addresses in ADDRESSES.findall(line)}


def run_tallyd(*flags, seconds=10):
    """Runs tallyd to its end: (exit code, standard output, standard error)."""
    done = subprocess.run(
        [str(BIN / "tallyd"), *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds * SLOWNESS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def tally_load(*flags, seconds=60):
    """Runs tally-load and returns its account."""
    done = subprocess.run(
        [str(LOAD_PROGRAM), *[str(flag) for flag in flags]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds * SLOWNESS,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"tally-load {flags}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def scratch():
    directory = tempfile.mkdtemp(prefix="tallyd-e2e-")
    try:
        yield pathlib.Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Scraper(threading.Thread):
    """Scrapes at a steady rate until stopped, in turns as 0.0.4, OpenMetrics, and gzip."""

    VARIANTS = (
        {"Accept": TEXT},
        {"Accept": OPENMETRICS},
        {"Accept": PROMETHEUS_ACCEPT, "Accept-Encoding": "gzip"},
    )

    def __init__(self, daemon, per_second=10):
        super().__init__(daemon=True)
        self._tallyd = daemon
        self._interval = 1 / per_second
        self._ended = threading.Event()
        self.scrapes = 0
        self.errors = []

    def run(self):
        while not self._ended.wait(self._interval):
            try:
                headers = self.VARIANTS[self.scrapes % len(self.VARIANTS)]
                answer = self._tallyd.get("/metrics", headers=headers, timeout=30)
                if answer.status != 200:
                    raise AssertionError(f"status {answer.status}")
                exposition.parse(answer.body, "openmetrics" in answer.content_type)
                self.scrapes += 1
            except Exception as error:  # pylint: disable=broad-except
                self.errors.append(repr(error))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(60)


class AcceptProxy:
    """Forwards GETs to a port with another Accept header, for scrapers that cannot be told."""

    def __init__(self, target_port, accept):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                answer = http_request(target_port, self.path, headers={"Accept": accept})
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """Debian's Prometheus, scraping `targets` = {job: port} every second."""

    SCRAPE_INTERVAL = "1s"

    def __init__(self, targets, *flags):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tallyd-e2e-prometheus-"))
        self.port = free_port()
        (self.directory / "prometheus.yml").write_text(self._config(targets))
        self.process = Process(
            [
                "prometheus",
                f"--config.file={self.directory}/prometheus.yml",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
                *flags,
            ],
            self.directory / "prometheus.log",
        )

    def _config(self, targets):
        jobs = [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for job, port in targets.items()
        ]
        # JSON is YAML.
        every = {"scrape_interval": self.SCRAPE_INTERVAL, "scrape_timeout": self.SCRAPE_INTERVAL}
        return json.dumps({"global": every, "scrape_configs": jobs})

    def __enter__(self):
        def ready():
            if not self.process.running():
                raise AssertionError(f"prometheus ended:\n{self.process.log()}")
            with contextlib.suppress(OSError):
                return http_request(self.port, "/-/ready").status == 200
            return False

        try:
            wait_for("prometheus", ready, 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Timeout):
            self.process.stop()
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def query(self, expression, at=None):
        """[(labels, value)] of an instant query."""
        fields = {"query": expression}
        if at is not None:
            fields["time"] = f"{at:.3f}"
        answer = http_request(self.port, "/api/v1/query?" + urllib.parse.urlencode(fields))
        result = json.loads(answer.body)
        if result.get("status") != "success":
            raise AssertionError(f"{expression}: {result}")
        return [(row["metric"], self._value(row)) for row in result["data"]["result"]]

    @staticmethod
    def _value(row):
        return float(row["value"][1])

    def value(self, expression, at=None):
        """The one value of an expression, or None."""
        rows = self.query(expression, at)
        if len(rows) > 1:
            raise AssertionError(f"{expression}: {rows}")
        return rows[0][1] if rows else None

    def targets(self):
        answer = http_request(self.port, "/api/v1/targets?state=active")
        return json.loads(answer.body)["data"]["activeTargets"]


def have(*commands):
    return all(shutil.which(command) for command in commands)


def needs(*commands):
    return unittest.skipUnless(have(*commands), f"needs {' and '.join(commands)}")
