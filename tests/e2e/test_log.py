"""The log: whoever reads it, or does not, costs the data path nothing (reliability F9)."""

import fcntl
import json
import os
import re
import signal
import socket
import time
import unittest

from harness import Daemon, free_port, scratch, wait_for

CLEAN = 0
# One logfmt pair: a bare value, or a string as JSON has it.
PAIR = re.compile(r'([A-Za-z0-9_.]+)=([^\s"=]+|"(?:[^"\\]|\\.)*")(?: |$)')


def parse_logfmt(line):
    """{name: value} of a line that is logfmt to its last byte."""
    fields, at = {}, 0
    while at < len(line):
        pair = PAIR.match(line, at)
        if pair is None:
            raise AssertionError(f"not logfmt from byte {at}: {line!r}")
        name, value = pair.groups()
        fields[name] = json.loads(value) if value.startswith('"') else value
        at = pair.end()
    return fields


class StderrPipe:
    """A named pipe as a daemon's standard error, read only when a test says so."""

    def __init__(self, directory):
        self.path = directory / "stderr"
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.wrapper = ("sh", "-c", f'exec "$0" "$@" 2>"{self.path}"')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def fill(self):
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        try:
            while True:
                os.write(self.fd, b"." * 4096)
        except BlockingIOError:
            pass

    def read(self):
        parts = []
        try:
            while part := os.read(self.fd, 1 << 16):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode()


def started(wrapper, *flags, env=None):
    """A daemon whose ready line is nobody's to read, on ports that were free."""
    udp, web = free_port(socket.SOCK_DGRAM), free_port()
    daemon = Daemon(*flags, listen=(("udp", f"127.0.0.1:{udp}"),), web=f"127.0.0.1:{web}",
                    wrapper=wrapper, expect_ready=False, env=env)
    daemon.addresses = {"udp": [f"127.0.0.1:{udp}"], "http": [f"127.0.0.1:{web}"]}

    def ready():
        try:
            return daemon.get("/-/ready").status == 200
        except OSError:
            return False

    try:
        wait_for("/-/ready", ready)
    except BaseException:
        daemon.close()
        raise
    return daemon


def suppressed(daemon):
    return daemon.scrape(path="/-/metrics").by_label("tallyd_log_suppressed_lines_total", "reason")


def reloads(daemon):
    return sum(daemon.scrape(path="/-/metrics").by_label(
        "tallyd_config_reloads_total", "outcome").values())


def reload_many(daemon, times):
    """Each reload is a line of one kind."""
    for done in range(1, times + 1):
        daemon.process.popen.send_signal(signal.SIGHUP)
        wait_for("a reload", lambda done=done: reloads(daemon) >= done, interval=0.005)


class BlockedLogTest(unittest.TestCase):
    def check_ingest(self, daemon):
        """Sends lines while reloads write log lines, and finds each of them in the account."""
        sent = 0
        for _ in range(20):
            daemon.send_udp(*["blocked:1|c"] * 50)
            sent += 50
            daemon.process.popen.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        ledger = daemon.settle(datagrams=sent)
        self.assertEqual(ledger.datagrams + ledger.kernel_dropped, sent)
        self.assertEqual(daemon.scrape().value("blocked"), ledger.applied)

    def check_end(self, daemon):
        start = time.monotonic()
        self.assertEqual(daemon.stop(seconds=5), CLEAN)
        return time.monotonic() - start

    def test_a_full_pipe_stops_nothing(self):
        with scratch() as directory, StderrPipe(directory) as stderr:
            stderr.fill()
            with started(stderr.wrapper) as daemon:
                self.check_ingest(daemon)
                reload_many(daemon, 40)
                lines = suppressed(daemon)
                self.assertGreaterEqual(lines["rate_limited"], 30)
                self.assertEqual(lines["write_failed"], 0)
                self.check_end(daemon)

    def test_lines_that_waited_are_read_later(self):
        with scratch() as directory, StderrPipe(directory) as stderr:
            stderr.fill()
            with started(stderr.wrapper) as daemon:
                reload_many(daemon, 3)
                text = []

                def read():
                    text.append(stderr.read())
                    return "".join(text).count('msg="reloaded"') == 3

                wait_for("the lines", read)
                self.assertIn('msg="ready"', "".join(text))
                self.assertEqual(set(suppressed(daemon).values()), {0})
                self.check_end(daemon)

    def test_a_full_disk_is_counted(self):
        with started(("sh", "-c", 'exec "$0" "$@" 2>/dev/full')) as daemon:
            self.check_ingest(daemon)
            wait_for("the count", lambda: suppressed(daemon)["write_failed"] >= 2)
            self.check_end(daemon)

    def test_a_reader_that_went_away_is_counted(self):
        with scratch() as directory:
            stderr = StderrPipe(directory)
            with started(stderr.wrapper) as daemon:
                os.close(stderr.fd)
                self.check_ingest(daemon)
                wait_for("the count", lambda: suppressed(daemon)["write_failed"] >= 2)
                self.check_end(daemon)

    def test_ten_lines_of_a_kind_a_minute(self):
        with Daemon() as daemon:
            reload_many(daemon, 25)
            wait_for("the count", lambda: suppressed(daemon)["rate_limited"] == 15)
            wait_for("the lines", lambda: daemon.log().count('msg="reloaded"') == 10)
            self.assertEqual(daemon.stop(), CLEAN)
            self.assertEqual(daemon.log().count('msg="reloaded"'), 10)
            self.assertEqual(daemon.log().count('msg="stopped"'), 1)


class FormTest(unittest.TestCase):
    FLAGS = ("--statsd.cache-size=5", "--series.limit=1000", "--statsd.read-buffer=1073741824")

    def lines(self, *flags):
        with Daemon(*self.FLAGS, *flags) as daemon:
            reload_many(daemon, 2)
            self.assertEqual(daemon.stop(), CLEAN)
            return daemon.log().splitlines()

    def check(self, records):
        for record in records:
            self.assertRegex(record["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(record["level"], ("debug", "info", "warn", "error"))
        messages = [record["msg"] for record in records]
        self.assertIn("ready", messages)
        self.assertEqual(messages[-1], "stopped")
        self.assertRegex(records[messages.index("ready")]["http"], r"^127\.0\.0\.1:\d+$")

    def test_logfmt_parses(self):
        self.check([parse_logfmt(line) for line in self.lines()])

    def test_json_parses(self):
        self.check([json.loads(line) for line in self.lines("--log.format=json")])

    def test_a_level_leaves_out_those_below(self):
        with scratch() as directory, StderrPipe(directory) as stderr:
            with started(stderr.wrapper, "--log.level=error") as daemon:
                reload_many(daemon, 1)
                self.assertEqual(daemon.stop(), CLEAN)
            self.assertEqual(stderr.read(), "")


class JournalTest(unittest.TestCase):
    def log_of_a_run(self, journal_stream):
        with scratch() as directory, StderrPipe(directory) as stderr:
            what = os.fstat(stderr.fd)
            env = {**os.environ,
                   "JOURNAL_STREAM": journal_stream.format(dev=what.st_dev, ino=what.st_ino)}
            mapping = directory / "mapping.yaml"
            mapping.write_text("mappings: []\n")
            with started(stderr.wrapper, f"--statsd.mapping-config={mapping}", env=env) as daemon:
                mapping.write_text("mappings: {\n")
                reload_many(daemon, 1)
                self.assertEqual(daemon.stop(), CLEAN)
            return stderr.read().splitlines()

    def test_lines_have_their_priority(self):
        lines = self.log_of_a_run("{dev}:{ino}")
        self.assertTrue(lines)
        priorities = {"<7>": "debug", "<6>": "info", "<4>": "warn", "<3>": "error"}
        for line in lines:
            self.assertEqual(parse_logfmt(line[3:])["level"], priorities[line[:3]])
        self.assertEqual({line[:3] for line in lines}, {"<6>", "<3>"})

    def test_a_stderr_that_is_elsewhere_has_none(self):
        for line in self.log_of_a_run("{dev}:1"):
            self.assertTrue(line.startswith("ts="), line)


if __name__ == "__main__":
    unittest.main()
