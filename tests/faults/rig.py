"""A tallyd under load, and the looks at it from which checks are judged."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

from harness import LOAD_PROGRAM, SLOWNESS, Daemon, run_tallyd, scratch, wait_for
from test_conservation import read_expectation

RATE = int(50_000 / SLOWNESS)  # samples a second, over all transports
MAX_LOAD_SECONDS = 300
SETTLE_SECONDS = 5
SHARE_RECOVERED = 0.95
MAX_LOG_LINES = 10

SANITIZER = re.compile(r"(Address|Thread|Leak|UndefinedBehavior)Sanitizer|runtime error:")


class Load:
    """tally-load over each of these transports, with equal shares of the rate, for so many seconds;
    None is until it is finished."""

    LINES = 10  # a packet

    def __init__(self, urls, seconds, rate=RATE, series=600, mix="60:20:20"):
        self._until_finished = seconds is None
        seconds = MAX_LOAD_SECONDS if seconds is None else seconds
        self._processes = []
        self._totals = tempfile.TemporaryDirectory(prefix="tallyd-load-")
        for kind, url in urls.items():
            argv = [LOAD_PROGRAM, "--to", url, "--rate", rate // len(urls), "--seconds", seconds,
                    "--series", series, "--tags", 1, "--names", 20, "--prefix", f"load_{kind}",
                    "--mix", mix, "--lines-per-packet", self.LINES,
                    "--expect", f"{self._totals.name}/{kind}"]
            if kind != "udp":
                argv.append("--wait")
            self._processes.append((kind, subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE)))
        self._deadline = time.monotonic() + seconds * SLOWNESS + 30

    def finish(self):
        """{transport: account}, once all is sent."""
        accounts = {}
        for _, process in self._processes:
            if self._until_finished:
                process.send_signal(signal.SIGINT)
        for kind, process in self._processes:
            out, error = process.communicate(timeout=max(1, self._deadline - time.monotonic()))
            if process.returncode != 0:
                raise AssertionError(f"tally-load {kind}: {error.decode()}")
            accounts[kind] = json.loads(out)
        self._processes = []
        return accounts

    def totals(self):
        """{(name, labels): value} that a scrape must show, once it is finished."""
        totals = {}
        for path in pathlib.Path(self._totals.name).iterdir():
            totals.update(read_expectation(path)[0])
        return totals

    def stop(self):
        for _, process in self._processes:
            process.kill()
            process.communicate()
        self._processes = []
        self._totals.cleanup()


class Rig:
    """A daemon that listens on every transport, with a memory ceiling that it printed before.

    What it is sent is added to `sent` (samples) and `datagrams`, so that counted() can compare.
    """

    def __init__(self, run, *flags, **keywords):
        self.run = run
        self._stack = contextlib.ExitStack()
        self.directory = pathlib.Path(self._stack.enter_context(scratch()))
        self.flags = list(flags)
        if not any(flag.startswith("--shards") for flag in flags):
            self.flags.append("--shards=2")
        listen = keywords.pop("listen", None) or (
            ("udp", "127.0.0.1:0"), ("unixgram", str(self.directory / "g")),
            ("unixstream", str(self.directory / "s")))
        self.listen = listen
        self.daemon = self._stack.enter_context(Daemon(*self.flags, listen=listen, **keywords))
        self.sent = 0
        self.loads = []
        self.base = self.handles()
        self.log_mark = (time.monotonic(), len(self.daemon.log()))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for load in self.loads:
            load.stop()
        return self._stack.__exit__(*exception)

    def urls(self):
        return {"udp": f"udp://127.0.0.1:{self.daemon.port('udp')}",
                "unixgram": f"unixgram://{self.directory}/g",
                "unixstream": f"unixstream://{self.directory}/s"}

    # ---- load ----

    def start_load(self, seconds, **keywords):
        load = Load(self.urls(), seconds, **keywords)
        self.loads.append(load)
        return load

    def finish_load(self, load):
        accounts = load.finish()
        self.loads.remove(load)
        self.sent += sum(account["samples"] for account in accounts.values())
        return accounts

    def samples_per_second(self, seconds=0.5):
        before, begin = self.daemon.ledger().applied, time.monotonic()
        time.sleep(seconds)
        return (self.daemon.ledger().applied - before) / (time.monotonic() - begin)

    # ---- what is looked at ----

    def handles(self):
        """(descriptors, threads)"""
        return (len(os.listdir(f"/proc/{self.daemon.pid}/fd")),
                len(os.listdir(f"/proc/{self.daemon.pid}/task")))

    def ceiling(self):
        """Bytes, as --check-config prints them for these flags."""
        code, report, errors = run_tallyd("--check-config", *self.flags)
        if code != 0:
            raise AssertionError(errors)
        return int(re.search(r"(?m)^  total +(\d+) bytes", report)[1])

    # ---- judging ----

    def alive(self):
        process = self.daemon.process
        self.run.check("A", process.running(), f"running; the log ends {self.daemon.log()[-500:]}")
        self.run.check("A", not SANITIZER.search(self.daemon.log()), "no sanitizer report")

    def counted(self, exact=True, seconds=15):
        """received = applied + dropped; with `exact`, received is what was sent, less what the
        kernel says that it dropped."""
        ledger = self.daemon.settle(received=None, seconds=seconds)
        if exact and not ledger.kernel_dropped:
            ledger = self.daemon.settle(received=self.sent, seconds=seconds)
            self.run.check("C", ledger.received == self.sent,
                           f"received {ledger.received:.0f} of {self.sent} sent")
        self.run.check("C", ledger.at_rest(), f"account: {ledger}")
        return ledger

    def bounded(self, scrape_seconds=1.0):
        """Memory below the ceiling; descriptors and threads as at first; a scrape in time."""
        peak = self.daemon.status_kib("VmHWM") << 10
        limit = self.ceiling() * 1.1
        if SLOWNESS == 1:  # a sanitizer needs memory of its own
            self.run.check("B", peak <= limit, f"RSS at most {peak >> 20} MiB of {int(limit) >> 20}")

        def back():
            return all(abs(now - then) <= 2 for now, then in zip(self.handles(), self.base))
        try:
            wait_for("descriptors", back, SETTLE_SECONDS)
        except AssertionError:
            self.run.check("B", False, f"descriptors, threads {self.handles()}, at first {self.base}")
        took = self.scrape_time()
        self.run.check("B", took <= scrape_seconds * SLOWNESS, f"scrape took {took:.2f} s")

    def scrape_time(self):
        """The best of three: the machine does other things as well."""
        times = []
        for _ in range(3):
            begin = time.monotonic()
            self.daemon.get("/metrics", timeout=60)
            times.append(time.monotonic() - begin)
        return min(times)

    def recovered(self, before=None):
        """Scrapes are fine; with `before`, a load that still runs is applied as fast as then."""
        def fast_again():
            return before is None or self.samples_per_second() >= SHARE_RECOVERED * before
        try:
            wait_for("the rate", fast_again, SETTLE_SECONDS)
            self.run.check("R", True, "")
        except AssertionError:
            self.run.check("R", False, f"{self.samples_per_second():.0f} samples/s of {before:.0f}")
        self.daemon.scrape()

    def told(self, holds, text):
        self.run.check("T", holds, text)

    def quiet_log(self):
        """At most so many lines a minute since the rig began."""
        began, mark = self.log_mark
        lines = self.daemon.log()[mark:].count("\n")
        minutes = max(1.0, (time.monotonic() - began) / 60)
        self.run.check("T", lines <= MAX_LOG_LINES * minutes, f"{lines} log lines")

    def own(self, name, default=None, **labels):
        return self.daemon.scrape(path="/-/metrics").value(name, default, **labels)


def in_background(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread
