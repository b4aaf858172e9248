"""Other servers for StatsD lines, started so that the same faults can be done to them."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

from harness import Process, free_port, http_request, wait_for


class Peer:
    """A running server. `root` is where its package was unpacked, or / where it is installed."""

    name = ""
    scrape_path = None  # none: it has a port for questions instead
    has_tags = False
    # Its own counter of lines that it refused, if it has one.
    counts_errors = False

    def __init__(self, root, directory):
        self.root = pathlib.Path(root)
        self.directory = pathlib.Path(directory) / self.name
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.port = free_port(socket.SOCK_DGRAM)
        self.web = free_port()
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.process.kill()

    def start(self):
        libraries = ":".join(str(path) for path in self.root.glob("usr/lib/*-linux-gnu"))
        env = dict(os.environ, DISABLE_TELEMETRY="1")
        if self.root != pathlib.Path("/"):
            env["LD_LIBRARY_PATH"] = libraries
        self.process = Process(self.command(), self.directory / "stderr", env=env)
        wait_for(f"{self.name}", self.answers, 20)

    def command(self):
        raise NotImplementedError

    def answers(self):
        if not self.process.running():
            raise AssertionError(f"{self.name} ended: {self.process.log()[-800:]}")
        with contextlib.suppress(OSError, AssertionError):
            return self.body() is not None
        return False

    def body(self, timeout=20):
        """All it has to show, as bytes."""
        answer = http_request(self.web, self.scrape_path, timeout=timeout)
        if answer.status != 200:
            raise AssertionError(f"{self.name}: {answer.status}")
        return answer.body

    def request(self):
        """Bytes that ask for the body."""
        return f"GET {self.scrape_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    def counter(self, name):
        """The sum it shows of a counter, or None."""
        found = re.search(self.pattern(name), self.body().decode(errors="replace"), re.M)
        return float(found[1]) if found else None

    def pattern(self, name):
        raise NotImplementedError

    def errors(self):
        """How many lines it says that it refused; None if it does not say."""

    def valid(self):
        """What is wrong with the text that it shows; empty if nothing is."""
        lint = subprocess.run(["promtool", "check", "metrics"], input=self.body(), timeout=60,
                              capture_output=True, check=False)
        return lint.stderr.decode()[-200:] if lint.returncode == 1 else ""

    # ---- from outside ----

    def kernel_dropped(self):
        for line in pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == self.port:
                return int(fields[-1])
        return 0

    def rss(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def send(self, datagrams, pause_every=20):
        """Sends with pauses, so that a receive buffer of the usual size holds them. Returns how many
        of them the kernel then dropped nonetheless."""
        before = self.kernel_dropped()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.port))
            for number, datagram in enumerate(datagrams, 1):
                with contextlib.suppress(ConnectionRefusedError):
                    sender.send(datagram)
                if number % pause_every == 0:
                    time.sleep(0.002)
        return self.kernel_dropped() - before

    def shows(self, name, value, seconds=30):
        """Waits until the counter is so much; returns what it showed last, since what is not sent any
        more may not be shown any more."""
        seen = [None]

        def enough():
            now = self.counter(name)
            seen[0] = seen[0] if now is None else now
            return now == value
        with contextlib.suppress(AssertionError, OSError):
            wait_for(name, enough, seconds, 0.2)
        return seen[0]


class Collectd(Peer):
    name = "collectd"
    scrape_path = "/metrics"

    def command(self):
        file = self.directory / "conf"
        file.write_text(f"""
Hostname "h"
BaseDir "{self.directory}"
PIDFile "{self.directory}/pid"
PluginDir "{self.root}/usr/lib/collectd"
TypesDB "{self.root}/usr/share/collectd/types.db"
Interval 1
LoadPlugin statsd
LoadPlugin write_prometheus
<Plugin statsd>
  Host "127.0.0.1"
  Port "{self.port}"
</Plugin>
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "{self.web}"
</Plugin>
""")
        return [self.root / "usr/sbin/collectd", "-f", "-C", file]

    def pattern(self, name):
        return rf'^collectd_statsd_derive_total{{statsd="{re.escape(name)}",.*?}} (\S+)'


class Netdata(Peer):
    name = "netdata"
    scrape_path = "/api/v1/allmetrics?format=prometheus&source=as-collected"
    has_tags = True  # which it leaves out
    counts_errors = True

    def command(self):
        for folder in ("etc", "cache", "lib", "log", "web", "plugins"):
            (self.directory / folder).mkdir(exist_ok=True)
        file = self.directory / "conf"
        folders = {"config": "etc", "stock config": "etc", "cache": "cache", "lib": "lib", "log": "log",
                   "web": "web", "plugins": "plugins"}
        off = ("proc", "diskspace", "cgroups", "tc", "idlejitter", "apps", "checks", "go.d", "python.d",
               "charts.d", "node.d", "timex", "enable running new plugins")
        file.write_text("\n".join([
            "[global]", "run as user = root" if os.geteuid() == 0 else "", "[db]", "mode = ram",
            "update every = 1", "retention = 600", "[directories]",
            *(f"{what} = {self.directory}/{where}" for what, where in folders.items()),
            "[web]", f"bind to = 127.0.0.1:{self.web}", "[plugins]", *(f"{what} = no" for what in off),
            "netdata monitoring = yes", "statsd = yes", "[ml]", "enabled = no", "[health]",
            "enabled = no", "[cloud]", "enabled = no", "[statsd]", f"default port = {self.port}",
            "bind to = udp:127.0.0.1", "update every (flushInterval) = 1", ""]))
        return [self.root / "usr/sbin/netdata", "-D", "-c", file, "-P", self.directory / "pid"]

    def pattern(self, name):
        return rf'^netdata_statsd_\S+_counter_total{{chart="statsd_{re.escape(name)}[._]counter",.*?}} (\S+)'

    def errors(self):
        return sum(float(value) for value in re.findall(
            r'^netdata_netdata_statsd_events_total{.*dimension="(?:errors|unknown)"} (\S+)',
            self.body().decode(errors="replace"), re.M))


class Statsd(Peer):
    """It keeps what came since the last flush; without flushes its counters are sums."""

    name = "statsd"
    counts_errors = True

    def command(self):
        file = self.directory / "conf.js"
        file.write_text(f"""{{ port: {self.port}, address: "127.0.0.1", mgmt_port: {self.web},
  mgmt_address: "127.0.0.1", flushInterval: 3600000, backends: [] }}""")
        return ["node", self.root / "node_modules/statsd/stats.js", file]

    def ask(self, question, timeout=20):
        with socket.create_connection(("127.0.0.1", self.web), timeout=timeout) as connection:
            connection.sendall(question + b"\n")
            answer = b""
            while not answer.rstrip().endswith(b"END"):
                part = connection.recv(1 << 16)
                if not part:
                    break
                answer += part
        return answer

    def body(self, timeout=20):
        return self.ask(b"counters", timeout)

    def request(self):
        return b"counters\n"

    def pattern(self, name):
        return rf"^\s*(?:\{{ )?'?{re.escape(name)}'?: ([\d.eE+-]+|NaN|Infinity|-Infinity)"

    def errors(self):
        found = re.search(rb"messages.bad_lines_seen: (\d+)", self.ask(b"stats"))
        return float(found[1]) if found else None

    def valid(self):
        return "" if self.body().rstrip().endswith(b"END") else "no end"
