"""Whatever targets do, ingest loses nothing, memory stays, and other targets get everything.

One tallyd pushes to a Pushgateway, to a Prometheus by remote write, and to two servers for each way
of being bad, one for each kind of push. They are good at first, turn bad while samples come in, and
get better. TALLYD_BAD_TARGET_SECONDS says how long they are bad: 6 s if it does not.
"""

import json
import os
import pathlib
import random
import socket
import string
import threading
import time
import unittest

from bad_server import BadServer, Certificates, FickleServer, LeavingServer, answer
from harness import BIN, SLOWNESS, Daemon, needs, scratch, tally_load, wait_for
from receivers import PrometheusReceiver
from test_pushgateway import Pushgateway, with_group

SECONDS = float(os.environ.get("TALLYD_BAD_TARGET_SECONDS", "6"))
WARM_UP = 3
STRETCH = 1.5  # at the beginning and at the end, in which memory is looked at
RATE = int(50_000 / SLOWNESS)
POISON = b"zqxjkvbwpy"

# What bad targets are sent: little of it can be compressed, so that a body that is not given back
# shows.
BULK_SERIES = 600
BULK_LABEL = 1_500
# Less than two of the bodies. Under a sanitizer, freed memory is kept for a while.
MAX_GROWTH = int(BULK_SERIES * BULK_LABEL * 1.5 if SLOWNESS == 1 else 256 << 20)


def poisoned(server, connection):
    """500 for ever on what holds one series; all else is taken."""
    for _, _, body in server.each_request(connection):
        connection.sendall(answer("500 Internal Server Error" if POISON in body else "200 OK"))


def always(*arguments):
    return lambda: FickleServer(BadServer.always(*arguments))


def behaving(behaviour):
    return lambda: FickleServer(behaviour)


# How a target is bad: its server, and the cause of failures that tallyd counts then.
MODES = {
    "refuses": (LeavingServer, "connect"),
    "black_hole": (lambda: LeavingServer(hole=True), "connect_timeout"),
    "hangs": (behaving(BadServer.hang), "timeout"),
    "byte_a_second": (behaving(BadServer.byte_a_second), "timeout"),
    "reset": (behaving(BadServer.reset_in_the_middle), "closed"),
    "reset_in_answer": (behaving(BadServer.reset_in_the_answer), "closed"),
    "redirect": (always("301 Moved Permanently", [("Location", "http://127.0.0.1:1/")]),
                 "redirect"),
    "too_many": (always("429 Too Many Requests", [("Retry-After", "1")]), "too_many_requests"),
    "server_error": (always("500 Internal Server Error"), "server_error"),
    "poisoned": (behaving(poisoned), "server_error"),
    "endless_body": (behaving(BadServer.endless_body), "bad_answer"),
    "endless_header": (behaving(BadServer.endless_header), "bad_answer"),
    "garbage": (behaving(BadServer.garbage), "bad_answer"),
    "expired": (None, "tls"),
}
KINDS = ("pushgateway", "remote_write")
# What is counted as dropped, and why: the one series; what was in hand when the target refused.
DROPS = {"remote_write poisoned": {"rejected"}, "remote_write redirect": {"superseded"}}


class Load(threading.Thread):
    """Sends at RATE to a daemon, of 2,000 series, for so long; then `sent` is exact."""

    def __init__(self, daemon, seconds):
        super().__init__(daemon=True)
        self._port = daemon.port("udp")
        self._seconds = seconds
        self.sent = None

    def run(self):
        lines = int(RATE * self._seconds)
        if (BIN / "tally-load").exists():
            self.sent = tally_load(
                "--to", f"udp://127.0.0.1:{self._port}", "--lines", lines, "--rate", RATE,
                "--series", 2_000, seconds=self._seconds + 60)["samples"]
        else:
            self.sent = self._send(lines)

    def _send(self, lines):
        """As tally-load, as fast as Python can, up to the rate."""
        began, sent, a_datagram = time.monotonic(), 0, 25
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self._port))
            while sent < lines and time.monotonic() < began + self._seconds:
                sender.send(b"\n".join(b"load.s%d:1|c" % (i % 2_000)
                                       for i in range(sent, sent + a_datagram)))
                sent += a_datagram
                time.sleep(max(0, began + sent / RATE - time.monotonic()))
        return sent


def least_memory(daemon, seconds):
    """In bytes. The least counts: what a rendering takes for a moment is no growth."""
    end = time.monotonic() + seconds
    least = daemon.status_kib("RssAnon")
    while time.monotonic() < end:
        time.sleep(0.02)
        least = min(least, daemon.status_kib("RssAnon"))
    return least * 1024


def target(kind, mode):
    return f"{kind} {mode}"


@needs("prometheus", "prometheus-pushgateway", "openssl")
class BadTargetsTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(scratch())
        self.certificates = Certificates(self.directory)
        self.good = self.certificates.make("good")
        self.expired = self.certificates.make("expired", days=-1)

    def bad_servers(self):
        servers = {}
        for mode, (make, _) in MODES.items():
            for kind in KINDS:
                if mode == "poisoned" and kind == "pushgateway":
                    continue  # its group is one batch
                made = FickleServer(BadServer.hang, self.good, self.expired) \
                    if mode == "expired" else make()
                servers[kind, mode] = self.enterContext(made)
        return servers

    def options(self, kind, mode, server):
        options = {"name": target(kind, mode), "interval": "1s", "timeout": "1500ms",
                   "own_metrics": False, "families": {"include": ["bulk*"]}}
        scheme, path = "http", "/api/v1/write" if kind == "remote_write" else ""
        if mode == "expired":
            scheme = "https"
            options["tls"] = {"ca_file": str(self.certificates.authority[0])}
        options["url"] = f"{scheme}://127.0.0.1:{server.port}{path}"
        if kind == "remote_write":
            options["connections"] = 1
        return options

    def tallyd(self, servers, gateway, receiver):
        targets = {kind: [self.options(kind, mode, server)
                          for (other, mode), server in servers.items() if other == kind]
                   for kind in KINDS}
        targets["pushgateway"].append({
            "url": gateway.url, "name": "pushgateway good", "job": "j", "interval": "1s",
            "grouping": {"instance": "i"}})
        targets["remote_write"].append({
            "url": receiver.url(), "name": "remote_write good", "interval": "1s",
            "own_metrics": False, "external_labels": {"job": "j", "instance": "i"}})
        path = pathlib.Path(self.directory) / "tallyd.yaml"
        path.write_text(json.dumps({"series": {"limit": 50_000}, "push": {
            "exit-timeout": "2s", "pushgateway": targets["pushgateway"],
            "remote-write": targets["remote_write"]}}))
        return self.enterContext(
            Daemon(f"--config.file={path}", "--statsd.read-buffer=33554432"))

    def send_bulk(self, daemon):
        rng = random.Random(5)
        lines = [b"bulk:%d|c|#i:%d,noise:%s" % (i, i, "".join(rng.choices(
            string.ascii_letters + string.digits, k=BULK_LABEL)).encode())
                 for i in range(BULK_SERIES)]
        lines.append(b"bulk_" + POISON + b":1|c")
        daemon.send_udp(*lines)
        daemon.settle(received=len(lines))
        return len(lines)

    @staticmethod
    def pushes(daemon):
        """{family: {target: value}} of the families tallyd_push_*, and what they give as reasons."""
        found = {"causes": {}, "drops": {}}
        for (name, key), value in daemon.scrape(path="/-/metrics").samples.items():
            labels = dict(key)
            if not name.startswith("tallyd_push_") or "target" not in labels:
                continue
            family = found.setdefault(name.removeprefix("tallyd_push_"), {})
            family[labels["target"]] = family.get(labels["target"], 0) + value
            for label, reasons in (("cause", "causes"), ("reason", "drops")):
                if label in labels and value > 0:
                    found[reasons].setdefault(labels["target"], set()).add(labels[label])
        return found

    def all_succeed(self, daemon, names, since=None):
        before = (since or {}).get("successes_total", {})

        def missing():
            now = self.pushes(daemon)["successes_total"]
            return {name for name in names if now[name] <= before.get(name, 0)}

        wait_for("pushes to all targets", lambda: not missing(), 20, 0.2)

    def assert_exact(self, daemon, gateway, receiver):
        """What has good targets is there, all of it."""
        shown = daemon.scrape().user_samples()
        self.assertGreater(len(shown), BULK_SERIES)
        wait_for("all series at Prometheus", lambda: receiver.samples() == shown, 15, 0.3)
        expected = with_group(shown, job="j", instance="i")
        wait_for("all series at the Pushgateway",
                 lambda: gateway.samples(job="j") == expected, 15, 0.3)

    @staticmethod
    def growth(daemon):
        first = least_memory(daemon, STRETCH)
        time.sleep(max(0, SECONDS - 2 * STRETCH))
        return least_memory(daemon, STRETCH) - first

    def be_bad(self, daemon, servers):
        """(what was sent meanwhile, growth of memory, metrics before and after)"""
        load = Load(daemon, WARM_UP + SECONDS)
        load.start()
        for server in servers.values():
            server.go_bad()
        time.sleep(WARM_UP)
        before = self.pushes(daemon)
        growth = self.growth(daemon)
        after = self.pushes(daemon)
        # What grows for once, as on a busy machine, is not what grows with each attempt.
        for _ in range(2):
            if growth >= MAX_GROWTH:
                growth = self.growth(daemon)
        load.join(60 * SLOWNESS)
        self.assertIsNotNone(load.sent)
        return load.sent, growth, before, after

    def test_all_at_once(self):
        gateway = self.enterContext(Pushgateway())
        receiver = self.enterContext(PrometheusReceiver())
        servers = self.bad_servers()
        daemon = self.tallyd(servers, gateway, receiver)
        names = {target(kind, mode) for kind, mode in servers}
        received = self.send_bulk(daemon)
        self.all_succeed(daemon, names)

        sent, growth, before, after = self.be_bad(daemon, servers)
        ledger = daemon.settle(received=received + sent)
        self.assertEqual(ledger.received, received + sent)
        self.assertEqual(ledger.applied, received + sent)
        self.assertEqual((ledger.reasons, ledger.kernel_dropped), ({}, 0))
        # What one target was sent is more.
        self.assertLess(growth, MAX_GROWTH)
        for kind, mode in servers:
            name, cause = target(kind, mode), MODES[mode][1]
            with self.subTest(name):
                causes = wait_for(f"{cause} at {name}", lambda n=name, c=cause: c in (
                    found := self.pushes(daemon)["causes"].get(n, set())) and found)
                # What was under way when the server turned, and what a busy machine makes late. In
                # the moment before a black hole nobody listens.
                late = {"closed", "timeout"} | ({"connect"} if mode == "black_hole" else set())
                self.assertLessEqual(causes, {cause} | late)
                self.assertEqual(after["drops"].get(name, set()), DROPS.get(name, set()))
                successes = after["successes_total"][name] - before["successes_total"][name]
                self.assertEqual(successes > 0, mode == "poisoned")
        self.assert_exact(daemon, gateway, receiver)
        self.assertLess(daemon.log().count("\n"), 5 * len(names) + 10, daemon.log())

        for server in servers.values():
            server.go_good()
        # Whoever was redirected by remote write asks only every 30 s.
        self.all_succeed(daemon, names - {target("remote_write", "redirect")}, after)
        for server in servers.values():
            server.go_bad()
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - began, 6 * SLOWNESS)


if __name__ == "__main__":
    unittest.main()
