"""The catalog: what is declared holds, what is not is refused, folded or named, and all is counted."""

import os
import pathlib
import signal
import socket
import subprocess
import threading
import unittest

from harness import OPENMETRICS, TEXT, Daemon, Prometheus, needs, run_tallyd, scratch, wait_for

CATALOG = """
service: shop
mode: %s
labels:
  kind: {values: [new, old]}
metrics:
- name: shop_orders_total
  type: counter
  help: Orders.
  sources: ["orders.*"]
  labels: {kind: {from: $1}}
- name: shop_depth
  type: gauge
  help: Entries that wait.
  sources: [depth]
- name: shop_wait_seconds
  type: histogram
  help: Waiting.
  sources: [wait]
  labels: {op: {values: [read, write]}}
  buckets: [1, 2, 5]
- name: shop_users_total
  type: counter
  help: Logins.
  labels: {tenant: {max: 3}}
"""

BAD = """service: shop
mode: enforce
labels:
  id: {help: Which.}
metrics:
- name: shop_orders
  type: counter
  help: Orders.
- name: shop_wait_ms
  type: histogram
  help: Waiting.
  unit: ms
  labels: [id]
  buckets: [5, 1]
- name: shop_depth
  type: gauge
  help: Depth.
  unit: bytes
- name: shop_depth
  type: gauge
  help: Again.
  bucket: [1]
"""


class CatalogFile:
    def __init__(self, directory, text, name="catalog.yaml"):
        self.path = pathlib.Path(directory) / name
        self.write(text)

    def write(self, text):
        self.path.write_text(text)

    @property
    def flag(self):
        return f"--catalog.file={self.path}"


class CatalogCase(unittest.TestCase):
    def setUp(self):
        self.scratch = scratch()
        self.directory = self.scratch.__enter__()

    def tearDown(self):
        self.scratch.__exit__(None, None, None)

    def catalog(self, text, name="catalog.yaml"):
        return CatalogFile(self.directory, text, name)

    def send(self, daemon, *lines):
        before = daemon.ledger().received
        daemon.send_udp(*lines)
        daemon.settle(received=before + len(lines))
        return daemon.scrape()

    def violations(self, daemon):
        by_kind = daemon.scrape(path="/-/metrics").by_label("tallyd_catalog_violations_total", "kind")
        return {kind: count for kind, count in by_kind.items() if count}


class RefusalTest(CatalogCase):
    """A broken catalog ends the start with 2 and says everything that is wrong with it."""

    EXPECTED = (
        (4, "labels.id"),
        (6, "metrics.shop_orders.name: is a counter's, which ends in _total"),
        (12, 'metrics.shop_wait_ms.unit: "ms" is no base unit; write seconds'),
        (13, "metrics.shop_wait_ms.labels.id: has no bound"),
        (14, "metrics.shop_wait_ms.buckets: do not ascend: 1 follows 5"),
        (18, "metrics.shop_depth.unit: bytes is not the name's suffix"),
        (19, "metrics.shop_depth.name: is declared at"),
        (22, "metrics.shop_depth.bucket: is no key here; did you mean buckets?"),
    )

    def check(self, output, path):
        last = 0
        for line, text in self.EXPECTED[1:]:
            at = output.find(f"{path}:{line}: {text}")
            self.assertGreaterEqual(at, last, f"{line}: {text}\n{output}")
            last = at

    def test_start(self):
        file = self.catalog(BAD)
        for flags in ((file.flag,), ("--check-config", file.flag)):
            code, out, err = run_tallyd(*flags)
            self.assertEqual(code, 2, err)
            output = (out + err).replace("\\u000a", "\n").replace('\\"', '"')
            self.check(output, file.path)

    def test_two_files_claim_one_name(self):
        first = self.catalog(CATALOG % "warn", "a.yaml")
        second = self.catalog(CATALOG % "warn", "b.yaml")
        code, out, err = run_tallyd("--check-config", first.flag, second.flag)
        self.assertEqual(code, 2)
        self.assertIn(f"{second.path}:7: metrics.shop_orders_total.name: is declared at {first.path}:7",
                      (out + err).replace("\\u000a", "\n"))

    def test_a_file_that_is_not_there(self):
        code, out, err = run_tallyd(f"--catalog.file={self.directory}/none.yaml")
        self.assertEqual(code, 2)
        self.assertIn("none.yaml", out + err)

    def test_check_config_says_what_is_declared(self):
        code, out, err = run_tallyd("--check-config", self.catalog(CATALOG % "enforce").flag)
        self.assertEqual(code, 0, err)
        for line in ("metrics                    4", "series from the start      5",
                     "series inside all bounds   at most 8", "mode                       enforce",
                     "declared series"):
            self.assertIn(line, out)


class ModeTest(CatalogCase):
    LINES = (
        "orders.new:2|c",           # as declared
        "orders.odd:3|c",           # a value outside its set
        "orders.old:4|c|#id:7",     # a label that is not declared
        "wait:1500|ms",             # a label is missing
        "other:1|c",                # not declared
        "other:1|c",
        "depth:5|c",                # another type
        "shop_wait_seconds_count:1|c",
    )

    def test_enforce(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            scrape = self.send(daemon, *self.LINES)
            ledger = daemon.ledger()
            self.assertEqual(ledger.received, 8)
            self.assertEqual(ledger.applied, 4)
            self.assertEqual(ledger.reasons, {"undeclared": 2, "type_conflict": 2})
            self.assertEqual(ledger.folded, 3)
            self.assertTrue(ledger.at_rest())
            self.assertEqual(scrape.value("shop_orders_total", kind="new"), 2)
            self.assertEqual(scrape.value("shop_orders_total", kind="__overflow__"), 3)
            self.assertEqual(scrape.value("shop_orders_total", kind="old"), 4)
            self.assertEqual(scrape.value("shop_wait_seconds_count", op="__overflow__"), 1)
            self.assertFalse([name for name, _ in scrape.samples if name == "other"])
            wait_for("the counts", lambda: self.violations(daemon) == {
                "label_value": 1, "undeclared_label": 1, "missing_label": 1,
                "undeclared_metric": 1, "type": 2}, 5)

    def test_warn(self):
        with Daemon(self.catalog(CATALOG % "warn").flag) as daemon:
            scrape = self.send(daemon, *self.LINES)
            ledger = daemon.ledger()
            self.assertEqual(ledger.applied, 6)
            self.assertEqual(ledger.reasons, {"type_conflict": 2})
            self.assertEqual(ledger.folded, 0)
            self.assertEqual(scrape.value("shop_orders_total", kind="odd"), 3)
            self.assertEqual(scrape.value("shop_orders_total", kind="old", id="7"), 4)
            self.assertEqual(scrape.value("other"), 2)
            self.assertEqual(scrape.value("shop_wait_seconds_count"), 1)

            for what in ('kind=undeclared_metric metric=other sender=unknown',
                         'kind=undeclared_label metric=shop_orders_total label=id sender=unknown',
                         'kind=label_value metric=shop_orders_total label=kind sender=unknown',
                         'kind=missing_label metric=shop_wait_seconds label=op sender=unknown',
                         'kind=type metric=shop_depth sender=unknown'):
                daemon.logged(what)

    def test_the_sender_is_named(self):
        path = f"{self.directory}/in.sock"
        with Daemon(self.catalog(CATALOG % "warn").flag, listen=(("unixgram", path),)) as daemon:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"other:1|c", path)
                daemon.logged(f"pid {os.getpid()} ", f"uid {os.getuid()}")

    def test_open(self):
        with Daemon(self.catalog(CATALOG % "open").flag) as daemon:
            scrape = self.send(daemon, *self.LINES)
            self.assertEqual(daemon.ledger().reasons, {"type_conflict": 2})
            self.assertEqual(scrape.value("shop_orders_total", kind="odd"), 3)
            self.assertEqual(scrape.value("other"), 2)

    def test_a_flood_of_undeclared_names_is_refused_and_the_log_stays_short(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            lines = [f"x{i}:1|c" for i in range(2000)]
            self.send(daemon, *("\n".join(lines[i:i + 100]) for i in range(0, 2000, 100)))
            ledger = daemon.settle(received=2000)
            self.assertEqual(ledger.reasons, {"undeclared": 2000})
            wait_for("the counts", lambda: self.violations(daemon) == {"undeclared_metric": 2000}, 5)
            self.assertLess(daemon.log().count("undeclared_metric"), 100)


class TypeTest(CatalogCase):
    def test_the_declared_type_wins_whoever_comes_first(self):
        for mode in ("open", "warn", "enforce"):
            with Daemon(self.catalog(CATALOG % mode).flag) as daemon:
                scrape = self.send(daemon, "depth:1|c", "depth:1|ms", "shop_depth:3|s", "depth:7|g")
                self.assertEqual(daemon.ledger().reasons, {"type_conflict": 3})
                self.assertEqual(scrape.value("shop_depth"), 7)

    def test_buckets_given_as_integers(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            scrape = self.send(daemon, "wait:1500|ms|#op:read", "wait:2|h|#op:read")
            for bound, count in (("1", 0), ("2", 2), ("5", 2), ("+Inf", 2)):
                self.assertEqual(scrape.value("shop_wait_seconds_bucket", op="read", le=bound), count)


class ReloadTest(CatalogCase):
    def test_catalog_and_mapping_are_one_whole(self):
        file = self.catalog(CATALOG % "enforce")
        with Daemon(file.flag, "--web.enable-lifecycle") as daemon:
            self.send(daemon, "other:1|c", "orders.new:1|c")
            file.write(CATALOG % "enforce" + "- {name: other_total, type: counter, help: O., "
                       "sources: [other]}\n")
            self.assertEqual(daemon.get("/-/reload", method="POST").status, 200)
            scrape = self.send(daemon, "other:1|c", "orders.new:1|c")
            self.assertEqual(scrape.value("other_total"), 1)
            self.assertEqual(scrape.value("shop_orders_total", kind="new"), 2)
            self.assertEqual(daemon.ledger().reasons, {"undeclared": 1})
            file.write(BAD)
            answer = daemon.get("/-/reload", method="POST")
            self.assertNotEqual(answer.status, 200)
            self.assertIn(f"{file.path}:14: ".encode(), answer.body)
            daemon.process.popen.send_signal(signal.SIGHUP)
            scrape = self.send(daemon, "other:1|c", "orders.new:1|c", "more:1|c")
            self.assertEqual(scrape.value("other_total"), 2)
            self.assertEqual(scrape.value("shop_orders_total", kind="new"), 3)
            self.assertEqual(daemon.ledger().reasons, {"undeclared": 2})


class FromTheStartTest(CatalogCase):
    SERIES = (
        ("shop_orders_total", {"kind": "new"}),
        ("shop_orders_total", {"kind": "old"}),
        ("shop_depth", {}),
        ("shop_wait_seconds_count", {"op": "read"}),
        ("shop_wait_seconds_sum", {"op": "write"}),
        ("shop_wait_seconds_bucket", {"op": "read", "le": "5"}),
        ("shop_wait_seconds_bucket", {"op": "write", "le": "+Inf"}),
    )

    def test_declared_series_are_there_before_any_sample(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            for accept in (TEXT, OPENMETRICS):
                scrape = daemon.scrape(accept=accept)
                for name, labels in self.SERIES:
                    self.assertEqual(scrape.value(name, **labels), 0, (name, labels))
                self.assertFalse([name for name, _ in scrape.samples if "users" in name],
                                 "a label that cannot be listed")
            scrape = self.send(daemon, "orders.new:2|c", "wait:1|ms|#op:read")
            self.assertEqual(scrape.value("shop_orders_total", kind="new"), 2)
            self.assertEqual(scrape.value("shop_orders_total", kind="old"), 0)
            self.assertEqual(scrape.value("shop_wait_seconds_count", op="read"), 1)

    @needs("promtool")
    def test_promtool_finds_nothing(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            body = daemon.get("/metrics", accept=TEXT).body
            done = subprocess.run(["promtool", "check", "metrics"], input=body,
                                  capture_output=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    @needs("prometheus")
    def test_prometheus_stays_up(self):
        with Daemon(self.catalog(CATALOG % "enforce").flag) as daemon:
            with Prometheus({"shop": daemon.port("http")}) as prometheus:
                wait_for("up", lambda: prometheus.value('up{job="shop"}') == 1, 20)
                wait_for("a series at 0",
                         lambda: prometheus.value('shop_orders_total{kind="old"}') == 0, 20)

    def test_a_reload_declares_anew(self):
        file = self.catalog(CATALOG % "enforce")
        with Daemon(file.flag, "--web.enable-lifecycle") as daemon:
            file.write(CATALOG.replace("[new, old]", "[new, used]") % "enforce")
            self.assertEqual(daemon.get("/-/reload", method="POST").status, 200)

            def shown():
                samples = daemon.scrape().samples
                return {dict(labels).get("kind") for name, labels in samples
                        if name == "shop_orders_total"}

            wait_for("the new series", lambda: shown() == {"new", "used"})


class ObservedTest(CatalogCase):
    OBSERVED = """
service: shop
mode: enforce
metrics:
- name: shop_queue
  type: gauge
  help: Entries of a queue.
  labels: {queue: {values: [file, socket]}}
  observed:
  - {file: %(directory)s/depth, interval: 100ms, timeout: 100ms, labels: {queue: file}}
  - {socket: %(directory)s/queue.sock, query: "depth\\n", interval: 100ms, timeout: 100ms, labels: {queue: socket}}
"""

    def setUp(self):
        super().setUp()
        self.file = self.catalog(self.OBSERVED % {"directory": self.directory})
        self.depth = pathlib.Path(self.directory) / "depth"

    def failures(self, daemon):
        return daemon.scrape(path="/-/metrics").by_label("tallyd_observed_failures_total", "reason")

    def values(self, daemon):
        return {dict(labels)["queue"]: value for (name, labels), value
                in daemon.scrape().samples.items() if name == "shop_queue"}

    def test_a_file_and_a_socket(self):
        self.depth.write_text("7 entries\n")
        asked = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(f"{self.directory}/queue.sock")
            server.listen()

            def serve():
                while True:
                    try:
                        peer, _ = server.accept()
                    except OSError:
                        return
                    with peer:
                        asked.append(peer.recv(100))
                        peer.sendall(b"depth 42\n")

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                with Daemon(self.file.flag) as daemon:
                    wait_for("both", lambda: self.values(daemon) == {"file": 7, "socket": 42})
                    self.assertEqual(set(asked), {b"depth\n"})
                    self.depth.write_text("8\n")
                    wait_for("the next value", lambda: self.values(daemon).get("file") == 8)
                    daemon.send_udp("shop_queue:1|g|#queue:file")
                    daemon.settle(received=1)
                    self.assertEqual(daemon.ledger().reasons, {"type_conflict": 1})
                    self.assertEqual(self.values(daemon)["file"], 8)
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    def test_a_source_that_fails_shows_nothing_and_is_counted(self):
        self.depth.write_text("7\n")
        with Daemon(self.file.flag) as daemon:
            wait_for("the file", lambda: self.values(daemon) == {"file": 7})
            self.assertGreater(self.failures(daemon)["cannot_connect"], 0)
            self.depth.unlink()
            os.mkfifo(self.depth)
            wait_for("no old value", lambda: self.values(daemon) == {})
            wait_for("the count", lambda: self.failures(daemon)["no_regular_file"] > 0)
            self.depth.unlink()
            self.depth.write_text("9\n")
            wait_for("a new value", lambda: self.values(daemon) == {"file": 9})


if __name__ == "__main__":
    unittest.main()
