"""In the steady state nothing stands between a socket and a cell: no futex, no new memory.

strace counts the calls of each thread while 10,000 known series are written to.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

from harness import SLOWNESS, Daemon, Process, scratch, tally_load

RECEIVING = ("recvmmsg", "recvmsg", "recvfrom", "read")
SERIES = 10_000
SECONDS = 4


def can_trace():
    if not shutil.which("strace"):
        return False
    try:
        done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True,
                              timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def threads(pid):
    """{thread id: name}."""
    return {
        int(task.name): (task / "comm").read_text().strip()
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
    }


def calls_by_thread(directory, prefix):
    """{thread id: {call: times}} of `strace -ff -o prefix`."""
    counted = {}
    for path in pathlib.Path(directory).glob(prefix + ".*"):
        counts = counted.setdefault(int(path.suffix[1:]), {})
        for call in re.findall(r"^(\w+)\(", path.read_text(), re.M):
            counts[call] = counts.get(call, 0) + 1
    return counted


@unittest.skipUnless(can_trace(), "needs strace, and to be allowed to trace")
@unittest.skipIf(SLOWNESS > 1, "sanitizers allocate and wait on their own")
class SteadyStateTest(unittest.TestCase):
    def trace(self, daemon, url, directory):
        """Calls of interest of each thread, while the load runs."""
        tracer = Process(
            ["strace", "-qq", "-ff", "-p", daemon.pid, "-o", directory / "calls", "-e",
             "trace=futex,mmap,munmap,mremap,brk,madvise,write,recvmmsg,recvmsg,recvfrom,read"],
            directory / "strace.log")
        try:
            time.sleep(0.5)
            account = tally_load("--to", url, "--series", SERIES, "--tags", 4, "--rate", 50_000,
                                 "--seconds", SECONDS, "--senders", 4, "--wait")
        finally:
            # SIGINT makes strace let go.
            tracer.stop(signal.SIGINT)
        return account, calls_by_thread(directory, "calls")

    def steady(self, listen, url_of):
        with scratch() as directory, Daemon(
            "--shards=2", "--statsd.read-buffer=8388608", listen=listen(directory)
        ) as daemon:
            url = url_of(daemon, directory)
            known = tally_load("--to", url, "--series", SERIES, "--tags", 4, "--once-each", 2,
                               "--rate", 100_000, "--senders", 4, "--wait")
            daemon.settle(received=known["samples"])
            # Each shard is to know every series: twice more, from other sockets.
            sent = known["samples"]
            for seed in (2, 3, 4):
                more = tally_load("--to", url, "--series", SERIES, "--tags", 4, "--once-each", 1,
                                  "--rate", 100_000, "--senders", 4 + seed, "--wait")
                sent += more["samples"]
            daemon.settle(received=sent)
            names = threads(daemon.pid)
            shards = [thread for thread, name in names.items() if "shard" in name]
            self.assertEqual(len(shards), 2, names)
            account, calls = self.trace(daemon, url, directory)
            ledger = daemon.settle(received=sent + account["samples"])
            self.assertEqual(ledger.reasons, {})
            received = 0
            for thread in shards:
                counts = calls.get(thread, {})
                received += sum(counts.get(call, 0) for call in RECEIVING)
                with self.subTest(thread=names[thread], counts=counts):
                    self.assertLessEqual(counts.get("futex", 0), 5)
                    self.assertEqual(counts.get("mmap", 0), 0)
                    self.assertEqual(counts.get("munmap", 0), 0)
                    self.assertEqual(counts.get("brk", 0), 0)
                    self.assertEqual(counts.get("write", 0), 0)
            self.assertGreater(received, 100, "the trace saw the shards at work")

    def test_udp(self):
        self.steady(lambda _: (("udp", "127.0.0.1:0"),),
                    lambda d, _: f"udp://127.0.0.1:{d.port('udp')}")

    def test_unix_datagrams(self):
        self.steady(lambda directory: (("unixgram", directory / "g.sock"),),
                    lambda _, directory: f"unixgram://{directory}/g.sock")

    def test_tcp(self):
        self.steady(lambda _: (("tcp", "127.0.0.1:0"),),
                    lambda d, _: f"tcp://127.0.0.1:{d.port('tcp')}")


class MemoryTest(unittest.TestCase):
    def test_memory_stays_while_known_series_count(self):
        with Daemon("--statsd.read-buffer=8388608") as daemon:
            url = f"udp://127.0.0.1:{daemon.port('udp')}"
            sent = 0
            before = 0
            for round_ in range(4):
                account = tally_load("--to", url, "--series", 5000, "--tags", 4, "--lines",
                                     int(200_000 / SLOWNESS), "--rate", int(200_000 / SLOWNESS))
                sent += account["samples"]
                daemon.settle(received=sent)
                for _ in range(5):
                    daemon.scrape()
                if round_ == 1:
                    before = daemon.status_kib("VmRSS")
            self.assertLess(daemon.status_kib("VmRSS") - before, 4096)

    def test_descriptors_stay(self):
        with Daemon() as daemon:
            daemon.scrape()
            before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
            for _ in range(100):
                daemon.scrape()
            self.assertLessEqual(len(os.listdir(f"/proc/{daemon.pid}/fd")), before + 2)


if __name__ == "__main__":
    unittest.main()
