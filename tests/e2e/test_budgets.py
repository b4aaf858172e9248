"""Budgets: past a bound samples fold, exactly, and everybody can see where, why and whose."""

import contextlib
import re
import subprocess
import unittest

import test_senders
from harness import Daemon, away_from_a_turn, needs, scratch, wait_for
from test_senders import Child, top

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@contextlib.contextmanager
def daemon_with_top(*flags):
    """A daemon that can be asked and sent to over UNIX sockets, and their folder."""
    with scratch() as directory:
        with Daemon(f"--admin.socket={directory}/admin.sock",
                    f"--statsd.listen-unixgram={directory}/gram.sock",
                    f"--statsd.listen-unixseqpacket={directory}/packet.sock", *flags) as daemon:
            yield daemon, directory


def own(daemon):
    return daemon.scrape(path="/-/metrics")


def refused(daemon):
    counts = own(daemon).by_label("tallyd_refused_series_total", "reason")
    return {reason: count for reason, count in counts.items() if count}


def over(path):
    """{family: what top says of it}, once the reporter has looked."""
    return wait_for("a family over budget", lambda: {
        row["family"]: row for row in top(path)["budgets"]["over"]})


def folds(daemon):
    return daemon.logged("a family folds for want of room")


class FoldingTest(unittest.TestCase):
    def settle(self, daemon, received):
        """All is applied, and what is scraped is what a strict scraper takes."""
        ledger = daemon.settle(received=received)
        self.assertEqual((ledger.received, ledger.applied, ledger.lost), (received, received, 0))
        return daemon.scrape()

    def test_a_family_folds_by_the_label_that_explodes(self):
        with daemon_with_top("--series.family-limit=100", "--shards=2") as (daemon, directory):
            daemon.send_udp(*(f"quiet:1|c|#n:{i}" for i in range(20)))
            daemon.send_udp(*(f"loud:1|c|#id:{i},zone:{'ab'[i % 2]}" for i in range(1000)))
            scrape = self.settle(daemon, 1020)
            self.assertEqual(scrape.total("loud"), 1000)
            self.assertEqual(scrape.by_label("loud", "zone"), {"a": 500, "b": 500})
            overflow = scrape.by_label("loud", "id")["__overflow__"]
            self.assertEqual(overflow, 900)
            self.assertEqual(len(scrape.series("loud")), 102)
            self.assertEqual(set(scrape.series("quiet").values()), {1})
            self.assertEqual(scrape.value("tallyd_folded_samples_total"), 900)
            # Known series go on, folded ones stay folded.
            daemon.send_udp(*(f"loud:1|c|#id:{i},zone:{'ab'[i % 2]}" for i in range(1000)))
            scrape = self.settle(daemon, 2020)
            self.assertEqual(scrape.by_label("loud", "id")["__overflow__"], 1800)
            self.assertEqual(set(v for k, v in scrape.series("loud").items()
                                 if dict(k)["id"] != "__overflow__"), {2})

            metrics = own(daemon)
            self.assertEqual(metrics.value("tallyd_folded_families"), 1)
            self.assertEqual(metrics.value("tallyd_family_series_limit"), 100)
            self.assertEqual(set(refused(daemon)), {"family"})
            self.assertGreaterEqual(refused(daemon)["family"], 900)
            row = over(directory / "admin.sock")["loud"]
            self.assertEqual((row["of"], row["label"], row["sender"], row["limit"]),
                             ("family", "id", "unknown", 100))
            self.assertEqual(row["series"], 102)
            families = {f["name"]: f for f in top(directory / "admin.sock")["families"]}
            self.assertEqual(families["quiet"]["limit"], 100)
            self.assertEqual(len(folds(daemon)), 1, folds(daemon))
            for part in ("loud", "label=id", "sender=unknown", "bound=family"):
                self.assertIn(part, folds(daemon)[0])

    def test_names_without_end_fold_outside(self):
        with Daemon("--series.limit=50", "--shards=2") as daemon:
            daemon.send_udp("known:1|c")
            self.settle(daemon, 1)
            away_from_a_turn(4)
            # The counters take all places; the others may be another shard's, and be in before them.
            daemon.send_udp(*(f"nc{i}:3|c" for i in range(100)))
            self.settle(daemon, 101)
            for letter, value in (("g", "7|g"), ("t", "20|ms"), ("s", "x|s")):
                daemon.send_udp(*(f"n{letter}{i}:{value}" for i in range(100)))
            daemon.send_udp("known:1|c")
            scrape = self.settle(daemon, 402)
            daemon.scrape(accept=OPENMETRICS)
            self.assertEqual(scrape.value("known"), 2)
            counters = sum(v for (name, _), v in scrape.samples.items()
                           if re.fullmatch(r"nc\d+", name))
            self.assertEqual(counters + scrape.value("tallyd_overflow_total"), 300)
            self.assertEqual(scrape.value("tallyd_overflow_gauge"), 7)
            self.assertEqual(scrape.value("tallyd_overflow_histogram_count"), 100)
            self.assertEqual(scrape.value("tallyd_overflow_set"), 1)
            self.assertEqual(set(refused(daemon)), {"series"})
            self.assertEqual(own(daemon).value("tallyd_folded_families"), 4)
            wait_for("the log", lambda: len(folds(daemon)) == 4)
            self.assertTrue(all("label=all" in line for line in folds(daemon)))

    def test_a_greedy_sender_folds_and_a_modest_one_does_not(self):
        with daemon_with_top("--series.sender-limit=20", "--shards=1") as (daemon, directory):
            admin = directory / "admin.sock"
            with Child("gram", directory) as greedy, Child("gram", directory) as modest:
                for child, first, count in ((greedy, 0, 100), (modest, 1000, 10)):
                    for i in range(first, first + count):
                        child.send(f"made:1|c|#id:{i}")
                scrape = self.settle(daemon, 110)
                self.assertEqual(scrape.total("made"), 110)
                self.assertEqual(scrape.by_label("made", "id")["__overflow__"], 80)
                self.assertTrue(all(scrape.value("made", id=str(i)) == 1
                                    for i in range(1000, 1010)))
                self.assertEqual(refused(daemon), {"sender": 80})
                row = over(admin)["made"]
                self.assertEqual((row["of"], row["label"], row["series"], row["limit"]),
                                 ("sender", "id", 20, 20))
                self.assertEqual(row["folded"], 80)
                wait_for("its name", lambda: "python" in over(admin)["made"]["sender"])
                self.assertIn(f"pid {greedy.pid} ", over(admin)["made"]["sender"])
                rows = test_senders.senders(admin)
                folded = {pid: row["folded"] for (_, pid, _), row in rows.items() if pid}
                self.assertEqual(folded, {greedy.pid: 80, modest.pid: 0})
                self.assertIn(f"pid {greedy.pid}", folds(daemon)[0])
                code, out, error = test_senders.tallyctl_top(admin, "--once", "--interval=0")
                self.assertEqual(code, 0, error)
                self.assertRegex(out, rf"sender +id +pid {greedy.pid}")

    def test_the_sender_is_told_whichever_shard_has_it(self):
        """The same number is another sender in another shard."""
        with daemon_with_top("--series.family-limit=5", "--shards=4") as (daemon, directory):
            with Child("packet", directory) as first, Child("packet", directory) as second, \
                    Child("packet", directory) as third:
                children = (first, second, third)
                for name, child in enumerate(children):
                    for i in range(20):
                        child.send(f"f{name}:1|c|#id:{i}")
                self.settle(daemon, 60)
                rows = wait_for("all of them", lambda: (
                    lambda found: found if len(found) == 3 else None)(over(
                        directory / "admin.sock")))
                for name, child in enumerate(children):
                    self.assertIn(f"pid {child.pid}", rows[f"f{name}"]["sender"])

    def test_bytes_of_labels_are_bounded(self):
        with Daemon("--series.label-bytes=10000", "--shards=2") as daemon:
            daemon.send_udp(*(f"long:1|c|#id:{i:03}{'x' * 200}" for i in range(200)))
            scrape = self.settle(daemon, 200)
            self.assertEqual(scrape.total("long"), 200)
            overflow = scrape.by_label("long", "id")["__overflow__"]
            self.assertEqual(overflow + len(scrape.series("long")) - 1, 200)
            self.assertGreater(overflow, 100)
            metrics = own(daemon)
            self.assertEqual(metrics.value("tallyd_label_bytes_limit"), 10000)
            self.assertGreater(metrics.value("tallyd_label_bytes"), 5000)
            self.assertEqual(set(refused(daemon)), {"label_bytes"})

    def test_a_reload_keeps_folding(self):
        with Daemon("--series.family-limit=10", "--shards=1", "--web.enable-lifecycle") as daemon:
            lines = [f"f:1|c|#id:{i}" for i in range(50)]
            daemon.send_udp(*lines)
            self.settle(daemon, 50)
            for turn in range(1, 4):
                self.assertEqual(daemon.get("/-/reload", method="POST").status, 200)
                daemon.send_udp(*lines)
                scrape = self.settle(daemon, 50 * (turn + 1))
                self.assertEqual(len(scrape.series("f")), 11)
                self.assertEqual(scrape.value("f", id="__overflow__"), 40 * (turn + 1))
                self.assertEqual(scrape.value("f", id="3"), turn + 1)


class EvictionTest(unittest.TestCase):
    def test_idle_series_make_room_and_it_is_said(self):
        flags = ("--series.limit=50", "--series.evict-after=1s", "--series.expired-bytes=0",
                 "--shards=1")
        with Daemon(*flags) as daemon:
            daemon.send_udp(*(f"old:1|c|#n:{i}" for i in range(50)))
            daemon.settle(received=50)
            sent = 50

            def evicted():
                nonlocal sent
                daemon.send_udp(f"old:1|c|#n:new{sent}")
                sent += 1
                daemon.settle(received=sent, fresh=False)
                return own(daemon).value("tallyd_evicted_series_total")

            gone = wait_for("an eviction", evicted, 25, 0.2)
            self.assertLessEqual(gone, 5)
            said = daemon.logged("make room for others")
            self.assertRegex(said[0], rf"series={int(gone)}\b.*unchanged_for=1s.*refused=.*series:")
            ledger = daemon.settle(received=sent)
            self.assertEqual((ledger.applied, ledger.lost), (sent, 0))
            wait_for("what is forgotten",
                     lambda: own(daemon).value("tallyd_forgotten_series_total") == gone)

    @needs("promtool")
    def test_the_metrics_are_as_they_should_be(self):
        with Daemon("--series.family-limit=5") as daemon:
            daemon.send_udp(*(f"f:1|c|#id:{i}" for i in range(20)))
            daemon.settle(received=20)
            text = daemon.get("/-/metrics").body
            for name in ("refused_series_total", "evicted_series_total", "forgotten_series_total",
                         "folded_families", "family_series_limit", "label_bytes",
                         "label_bytes_limit"):
                self.assertIn(f"# TYPE tallyd_{name} ".encode(), text)
            checked = subprocess.run(["promtool", "check", "metrics"], input=text,
                                     capture_output=True, timeout=30, check=False)
            self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))


if __name__ == "__main__":
    unittest.main()
