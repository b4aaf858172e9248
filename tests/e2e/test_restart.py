"""Restarts: counters, histograms, gauges and sets go on, and the account with them."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import Daemon, OPENMETRICS, away_from_a_turn, free_port, run_tallyd, wait_for

STATE_REFUSED = 4


class RestartCase(unittest.TestCase):
    def setUp(self):
        self.state = tempfile.mkdtemp(prefix="tallyd-state-")
        self.addCleanup(shutil.rmtree, self.state, ignore_errors=True)
        self.udp = free_port(socket.SOCK_DGRAM)

    def start(self, *flags, listen=None, **more):
        """A daemon with the state directory, on the same port each time."""
        listen = listen or (("udp", f"127.0.0.1:{self.udp}"),)
        return Daemon(f"--state.directory={self.state}", *flags, listen=listen, **more)

    def state_file(self):
        return pathlib.Path(self.state, "state")

    def send_all_kinds(self, daemon):
        """Six samples and a bad line; what is shown of them, and the account."""
        daemon.send_udp("c:3|c|#a:b\ng:12.5|g\nt:100|ms\nt:250|ms|@0.5\ns:x|s\ns:y|s\nbad")
        daemon.settle(received=7)
        return daemon.scrape(OPENMETRICS), daemon.ledger()

    def assert_goes_on(self, daemon, before, ledger):
        """Another process shows what the one before did, and has its account."""
        after = daemon.scrape(OPENMETRICS)
        for name in ("c_total", "c", "g", "s"):
            self.assertEqual(after.by_label(name, "a"), before.by_label(name, "a"), name)
        for name in ("t_count", "t_sum"):
            self.assertEqual(after.value(name), before.value(name), name)
        self.assertEqual(after.by_label("t_bucket", "le"), before.by_label("t_bucket", "le"))
        again = daemon.ledger()
        self.assertEqual((again.received, again.applied, again.reasons),
                         (ledger.received, ledger.applied, ledger.reasons))


def assert_grows(test, seen, scrape):
    """Of the load's series nothing is less than it was in `seen`, which takes the new values."""
    now = {"load": scrape.total("load"), "count": scrape.total("lat_count"),
           "sum": scrape.total("lat_sum")}
    for le, value in scrape.by_label("lat_bucket", "le").items():
        now["le " + le] = value
    for name, value in seen.items():
        test.assertGreaterEqual(now.get(name, 0), value, name)
    seen.update(now)


class GracefulTest(RestartCase):
    def test_all_kinds_go_on(self):
        away_from_a_turn(8)
        with self.start() as daemon:
            before, ledger = self.send_all_kinds(daemon)
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.state_file().stat().st_mode & 0o777, 0o600)
        with self.start() as daemon:
            self.assert_goes_on(daemon, before, ledger)
            daemon.send_udp("c:1|c|#a:b\ng:+1|g\nt:100|ms\ns:y|s\ns:z|s")
            daemon.settle(received=12)
            scrape = daemon.scrape()
            self.assertEqual(scrape.total("c"), 4)
            self.assertEqual(scrape.value("g"), 13.5)
            self.assertEqual(scrape.value("t_count"), 4)
            self.assertEqual(scrape.value("s"), 3)
            own = daemon.scrape(path="/-/metrics")
            self.assertEqual(own.by_label("tallyd_state_loaded_series", "as")["shown"], 4)

    def test_five_restarts_under_load_never_go_down(self):
        """The sender counts what the kernel took; no datagram is sent while nobody has the port."""
        sent = 0
        seen = {}
        for turn in range(5):
            with self.start("--shards=2", "--merge.interval=100ms") as daemon:
                assert_grows(self, seen, daemon.scrape())
                stop = threading.Event()
                counts = []

                def send():
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                        sender.connect(("127.0.0.1", self.udp))
                        n = 0
                        while not stop.is_set() and n < 20_000:
                            sender.send(b"load:1|c|#i:%d\nlat:%d|ms" % (n % 50, n % 700))
                            n += 1
                            if n % 100 == 0:
                                time.sleep(0.005)
                        counts.append(n)

                sender = threading.Thread(target=send)
                sender.start()
                for _ in range(4):
                    time.sleep(0.1)
                    assert_grows(self, seen, daemon.scrape())
                stop.set()
                sender.join()
                sent += 2 * counts[0]
                # What is in the receive buffer is taken in before the end.
                self.assertEqual(daemon.stop(), 0)
        with self.start("--shards=1") as daemon:
            ledger = daemon.ledger()
            scrape = daemon.scrape()
            self.assertEqual(ledger.kernel_dropped, 0, ledger)
            self.assertEqual(ledger.received, sent, ledger)
            self.assertEqual(ledger.applied, sent, ledger)
            self.assertEqual(scrape.total("load"), sent / 2)
            self.assertEqual(scrape.value("lat_count"), sent / 2)
            assert_grows(self, seen, scrape)

    def test_a_checkpoint_is_written_while_it_runs(self):
        with self.start("--state.interval=100ms", "--merge.interval=20ms") as daemon:
            daemon.send_udp("c:5|c")
            daemon.settle(received=1)
            writes = daemon.scrape(path="/-/metrics").value("tallyd_state_writes_total")
            wait_for("two more writes", lambda: daemon.scrape(path="/-/metrics").value(
                "tallyd_state_writes_total") >= writes + 2)
            daemon.stop(signal.SIGKILL)
        with self.start() as daemon:
            self.assertIn("complete=no", daemon.log())
            self.assertEqual(daemon.scrape().value("c"), 5)
            self.assertTrue(daemon.ledger().at_rest())


class CrashTest(RestartCase):
    def setUp(self):
        super().setUp()
        self.memory = tempfile.mkdtemp(prefix="tallyd-shards-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.memory, ignore_errors=True)

    def start(self, *flags, **more):
        return super().start(f"--state.memory-directory={self.memory}", *flags, **more)

    def test_nothing_that_was_applied_is_lost(self):
        """No state was saved since: the numbers come from the shards' memories alone."""
        away_from_a_turn(8)
        with self.start("--shards=2", "--state.interval=1h") as daemon:
            before, ledger = self.send_all_kinds(daemon)
            daemon.stop(signal.SIGKILL)
        with self.start("--shards=1") as daemon:
            self.assertIn("ended without notice", daemon.log())
            self.assert_goes_on(daemon, before, ledger)
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(os.listdir(self.memory), [], "the saved state has it all")

    def test_five_crashes_under_load(self):
        seen = {}
        stop = threading.Event()

        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", self.udp))
                n = 0
                while not stop.is_set():
                    n += 1
                    try:
                        sender.send(b"load:1|c|#i:%d\nlat:%d|ms" % (n % 50, n % 700))
                    except ConnectionRefusedError:
                        pass  # nobody has the port just now
                    if n % 100 == 0:
                        time.sleep(0.005)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(5):
                with self.start("--shards=2", "--state.interval=200ms",
                                "--merge.interval=50ms") as daemon:
                    for _ in range(4):
                        assert_grows(self, seen, daemon.scrape())
                        time.sleep(0.1)
                    daemon.stop(signal.SIGKILL)
        finally:
            stop.set()
            sender.join()
        with self.start() as daemon:
            daemon.settle()
            ledger, scrape = daemon.ledger(), daemon.scrape()
            assert_grows(self, seen, scrape)
            counted = scrape.total("load") + scrape.total("lat_count")
            crashed = ledger.dropped.get("crash", 0)
            self.assertEqual(ledger.received, ledger.applied + crashed, ledger)
            self.assertGreater(counted, 1000)
            self.assertGreaterEqual(counted, ledger.applied)
            self.assertLessEqual(counted, ledger.applied + crashed)


class FullMemoryTest(RestartCase):
    """A tmpfs without room costs what a full table costs, and never the process."""

    SERIES = 6000  # of 1.5 KiB each, which is more than there is room for

    def setUp(self):
        super().setUp()
        self.memory = tempfile.mkdtemp(prefix="tallyd-shards-")
        self.addCleanup(os.rmdir, self.memory)
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", self.memory],
                               capture_output=True, check=False)
        if mount.returncode != 0:
            raise unittest.SkipTest("needs root that may mount")
        self.addCleanup(subprocess.run, ["umount", "-l", self.memory], check=True)

    def start(self, *flags, **more):
        return super().start(f"--state.memory-directory={self.memory}", "--shards=1", *flags,
                             **more)

    def counted(self, daemon):
        scrape = daemon.scrape()
        return scrape.total("h_count") + scrape.total("tallyd_overflow_histogram_count")

    def test_what_has_no_room_is_refused_and_a_crash_is_survived(self):
        with self.start("--state.interval=1h") as daemon:
            self.assertEqual(len(os.listdir(self.memory)), 1)
            for first in range(0, self.SERIES, 50):
                daemon.send_udp("\n".join(f"h:1|ms|#i:{i}" for i in range(first, first + 50)))
                if first % 1000 == 0:
                    daemon.settle(received=first + 50)
            ledger = daemon.settle(received=self.SERIES)
            self.assertGreater(ledger.applied, 1000)
            self.assertGreater(ledger.folded + ledger.dropped.get("series_limit", 0), 1000)
            self.assertEqual(ledger.applied + ledger.dropped.get("series_limit", 0), self.SERIES)
            counted = self.counted(daemon)
            self.assertEqual(counted, ledger.applied)
            daemon.stop(signal.SIGKILL)
        # There is no room for another memory beside this one: the process does without.
        with self.start() as daemon:
            daemon.logged("the shards' memories cannot be kept", "room")
            self.assertEqual(self.counted(daemon), counted)
            self.assertEqual(daemon.ledger().applied, counted)
            wait_for("the first saving", lambda: not os.listdir(self.memory))
            self.assertEqual(daemon.stop(), 0)
        with self.start() as daemon:
            self.assertEqual(len(os.listdir(self.memory)), 1)
            self.assertEqual(daemon.ledger().applied, counted)
            self.assertEqual(daemon.stop(), 0)


class RefusalTest(RestartCase):
    def save_something(self):
        with self.start() as daemon:
            daemon.send_udp("c:5|c")
            daemon.settle(received=1)
            daemon.stop()

    def test_a_damaged_state_is_set_aside(self):
        self.save_something()
        damaged = bytearray(self.state_file().read_bytes())
        damaged[len(damaged) // 2] ^= 4
        self.state_file().write_bytes(damaged)
        code, _, errors = run_tallyd(f"--state.directory={self.state}", "--state.strict",
                                     "--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=",
                                     "--web.listen-address=127.0.0.1:0")
        self.assertEqual(code, STATE_REFUSED, errors)
        self.assertIn("does not verify", errors)
        self.assertEqual(self.state_file().read_bytes(), damaged, "nothing was touched")
        with self.start() as daemon:
            self.assertIn("state.bad", daemon.log())
            self.assertEqual(daemon.ledger().received, 0)
            self.assertEqual(pathlib.Path(self.state, "state.bad").read_bytes(), damaged)
            daemon.send_udp("c:1|c")
            daemon.settle(received=1)
            daemon.stop()
        with self.start() as daemon:
            self.assertEqual(daemon.scrape().value("c"), 1)

    def test_a_second_process_does_not_get_the_directory(self):
        with self.start():
            code, _, errors = run_tallyd(f"--state.directory={self.state}",
                                         "--statsd.listen-udp=127.0.0.1:0",
                                         "--statsd.listen-tcp=",
                                         "--web.listen-address=127.0.0.1:0")
            self.assertEqual(code, 3, errors)
            self.assertIn(self.state, errors)

    def test_without_a_directory_it_runs_and_says_so(self):
        missing = f"{self.state}/missing"
        with Daemon(f"--state.directory={missing}") as daemon:
            self.assertIn("the state is not kept", daemon.log())
            own = daemon.scrape(path="/-/metrics")
            self.assertEqual(own.value("tallyd_state_enabled"), 0)
            self.assertEqual(daemon.stop(), 0)

    def test_a_state_that_cannot_be_written_is_counted_and_the_old_one_stays(self):
        self.save_something()
        old = self.state_file().read_bytes()
        pathlib.Path(self.state, "state.new").mkdir()  # where the next one should go
        with self.start("--state.interval=100ms") as daemon:
            self.assertEqual(daemon.scrape().value("c"), 5)
            wait_for("failures", lambda: daemon.scrape(path="/-/metrics").value(
                "tallyd_state_write_failures_total") >= 2)
            self.assertEqual(len(daemon.logged("cannot be saved")), 1)
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.state_file().read_bytes(), old)


if __name__ == "__main__":
    unittest.main()
