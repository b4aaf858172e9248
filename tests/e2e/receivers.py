"""Receivers of remote write: Debian's Prometheus and VictoriaMetrics, and one that misbehaves."""

import contextlib
import http.server
import json
import pathlib
import shutil
import signal
import tempfile
import threading
import time
import urllib.parse

from harness import Process, Timeout, free_port, http_request, wait_for


class Server:
    """A server that can be killed and started again with the data and the port that it had."""

    NAME = ""
    READY = "/-/ready"

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"tallyd-e2e-{self.NAME}-"))
        self.port = free_port()
        self.process = None

    def argv(self):
        raise NotImplementedError

    def start(self):
        self.process = Process(self.argv(), self.directory / "log")

        def ready():
            if not self.process.running():
                raise AssertionError(f"{self.NAME} ended:\n{self.process.log()}")
            with contextlib.suppress(OSError):
                return http_request(self.port, self.READY).status == 200
            return False

        wait_for(self.NAME, ready, 30)
        return self

    def kill(self):
        self.process.stop(signal.SIGKILL)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        if self.process is not None:
            with contextlib.suppress(Timeout):
                self.process.stop(signal.SIGKILL)
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, path="/api/v1/write"):
        return f"http://127.0.0.1:{self.port}{path}"

    QUERY = "/api/v1/query"

    def query(self, expression, at=None):
        """[(labels, value)] of an instant query."""
        fields = {"query": expression}
        if at is not None:
            fields["time"] = f"{at:.3f}"
        answer = http_request(self.port, self.QUERY + "?" + urllib.parse.urlencode(fields))
        result = json.loads(answer.body)
        if result.get("status") != "success":
            raise AssertionError(f"{expression}: {result}")
        return [(row["metric"], float(row["value"][1])) for row in result["data"]["result"]
                if "value" in row]

    def value(self, expression):
        rows = self.query(expression)
        if len(rows) > 1:
            raise AssertionError(f"{expression}: {rows}")
        return rows[0][1] if rows else None

    def samples(self, matcher=""):
        """{(name, labels)} as a scrape has it, without what the sender adds and its own families."""
        stored = {}
        own = '__name__=~".+",__name__!~"tallyd_.*|process_.*|up|scrape_.*"'
        for labels, value in self.query(f"{{{own}{matcher}}}"):
            name = labels.pop("__name__")
            for extra in ("job", "instance"):
                labels.pop(extra, None)
            stored[(name, tuple(sorted(labels.items())))] = value
        return stored


class PrometheusReceiver(Server):
    NAME = "prometheus"

    def __init__(self, *flags, receives=True, native=False):
        super().__init__()
        self.flags = list(flags)
        if receives:
            self.flags.append("--web.enable-remote-write-receiver")
        if native:
            self.flags.append("--enable-feature=native-histograms")

    def argv(self):
        (self.directory / "prometheus.yml").write_text("{}")
        return ["prometheus", f"--config.file={self.directory}/prometheus.yml",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn", *self.flags]


class VictoriaMetrics(Server):
    NAME = "victoria-metrics"
    READY = "/health"

    def argv(self):
        return ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{self.port}",
                f"-storageDataPath={self.directory}/data", "-retentionPeriod=1d",
                "-memory.allowedBytes=256MB", "-search.latencyOffset=0s", "-search.disableCache",
                "-search.maxUniqueTimeseries=2000000", "-loggerLevel=WARN"]

    def query(self, expression, at=None):
        http_request(self.port, "/internal/force_flush")
        return super().query(expression, at)


class VmAgent(Server):
    """Buffers on disk, and gives everything to each of its URLs."""

    NAME = "vmagent"
    READY = "/health"

    def __init__(self, *urls):
        super().__init__()
        self.urls = urls

    def argv(self):
        return ["vmagent", f"-httpListenAddr=127.0.0.1:{self.port}",
                f"-remoteWrite.tmpDataPath={self.directory}/buffer",
                "-remoteWrite.flushInterval=200ms", "-loggerLevel=WARN",
                *[f"-remoteWrite.url={url}" for url in self.urls]]


class VmAuth(Server):
    """One address before several servers; those that are down are passed over."""

    NAME = "vmauth"
    READY = "/health"

    def __init__(self, *urls):
        super().__init__()
        self.urls = urls

    def argv(self):
        config = self.directory / "auth.yml"
        config.write_text(json.dumps({"users": [
            {"username": "reader", "password": "secret", "url_prefix": list(self.urls)}]}))
        return ["vmauth", f"-httpListenAddr=127.0.0.1:{self.port}", f"-auth.config={config}",
                "-loggerLevel=WARN"]


class ScriptedReceiver:
    """Answers each POST as `answer(request)` says: a status, or a status and headers.

    Keeps what came, as (path, headers, body).
    """

    def __init__(self, answer=lambda request: 204):
        self.requests = []
        self.answer = answer
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = (self.path, dict(self.headers), body)
                outer.requests.append(request)
                result = outer.answer(request)
                status, headers = result if isinstance(result, tuple) else (result, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a peer that is gone is no error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,),
                                        daemon=True)

    def url(self):
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def config(directory, *targets):
    """A configuration file with targets of remote write; JSON is YAML."""
    path = pathlib.Path(directory) / f"tallyd-{time.monotonic_ns()}.yml"
    path.write_text(json.dumps({"push": {"remote-write": list(targets)}}))
    return f"--config.file={path}"
