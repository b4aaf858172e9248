"""Start, flags, exit codes, signals, and what happens to samples at the end."""

import re
import signal
import socket
import time
import unittest

from harness import BIN, Daemon, run_tallyd, stopped, wait_for

CLEAN, FAILURE, USAGE, IN_USE = 0, 1, 2, 3


class FlagTest(unittest.TestCase):
    def test_version(self):
        code, out, _ = run_tallyd("--version")
        self.assertEqual(code, CLEAN)
        self.assertRegex(out, r"^tallyd, version \d+\.\d+\.\d+ \(revision: [0-9a-f]+\)\n"
                              r"  compiler: +(gcc|clang) .+\n$")

    def test_help_names_every_flag_of_the_contract(self):
        code, out, _ = run_tallyd("--help")
        self.assertEqual(code, CLEAN)
        out = out.replace("--[no-]", "--")
        for flag in ("statsd.listen-udp", "statsd.listen-tcp", "statsd.listen-unixgram",
                     "statsd.listen-unixstream", "statsd.listen-unixseqpacket",
                     "statsd.unixsocket-mode", "statsd.mapping-config", "statsd.read-buffer",
                     "web.listen-address", "web.telemetry-path", "web.enable-lifecycle",
                     "web.max-requests", "merge.interval", "shards", "check-config", "log.level",
                     "log.format", "version"):
            self.assertIn("--" + flag, out)

    def test_check_config(self):
        code, _, errors = run_tallyd("--check-config")
        self.assertEqual((code, errors), (CLEAN, ""))
        code, _, errors = run_tallyd("--check-config", "--merge.interval=soon")
        self.assertEqual(code, USAGE)
        self.assertIn("merge.interval", errors)

    def test_wrong_flags(self):
        for flag in ("--no.such.flag", "--statsd.listen-udp=nonsense", "--shards=-1", "--shards=x",
                     "--web.max-requests=0", "--log.level=loud", "--log.format=xml",
                     "--statsd.unixsocket-mode=999", "--web.telemetry-path=metrics",
                     "--statsd.read-buffer=-5", "--statsd.listen-udp=127.0.0.1:99999", "word"):
            with self.subTest(flag):
                code, _, errors = run_tallyd(flag)
                self.assertEqual(code, USAGE, errors)
                self.assertTrue(errors.strip())
                self.assertLess(len(errors), 2000)

    def test_nothing_to_listen_on(self):
        code, _, errors = run_tallyd("--statsd.listen-udp=", "--statsd.listen-tcp=")
        self.assertEqual(code, USAGE, errors)

    def test_flags_without_meaning_here_are_taken_with_one_line_each(self):
        flags = ("--statsd.cache-size=1000", "--statsd.cache-type=lru",
                 "--statsd.event-queue-size=10000", "--statsd.event-flush-threshold=1000",
                 "--statsd.event-flush-interval=200ms")
        with Daemon(*flags) as daemon:
            for flag in flags:
                name = flag.split("=")[0].lstrip("-")
                lines = [line for line in daemon.log().splitlines() if name in line]
                self.assertEqual(len(lines), 1, name)

    def test_a_flag_may_stand_apart_from_its_value(self):
        with Daemon("--log.level", "debug", "--merge.interval", "100ms") as daemon:
            self.assertEqual(daemon.get("/-/ready").status, 200)

    def test_json_log(self):
        import json

        with Daemon("--log.format=json", listen=(("udp", "127.0.0.1:0"),)) as daemon:
            for line in daemon.log().splitlines():
                json.loads(line)

    def test_defaults_are_loopback_only(self):
        code, out, _ = run_tallyd("--check-config")
        self.assertEqual(code, CLEAN)
        for address in re.findall(r"\S+:\d{4,5}\b", out):
            self.assertTrue(address.startswith(("127.0.0.1:", "[::1]:")), address)
        for port in ("8125", "9125", "9102"):
            self.assertIn("127.0.0.1:" + port, out)

    def test_a_hundred_shards_work(self):
        with Daemon("--shards=100") as daemon:
            for _ in range(50):
                daemon.send_udp("hundred:1|c")
            daemon.settle(received=50)
            self.assertEqual(daemon.scrape().value("hundred"), 50)
            self.assertEqual(daemon.stop(), CLEAN)

    def test_quiet_at_the_info_level(self):
        """No log line per packet, however bad."""
        with Daemon() as daemon:
            before = len(daemon.log().splitlines())
            daemon.send_udp(*["rubbish"] * 500)
            daemon.settle(received=500)
            self.assertLess(len(daemon.log().splitlines()) - before, 5)


class SignalTest(unittest.TestCase):
    def test_term_and_int_end_cleanly(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(sig), Daemon() as daemon:
                self.assertEqual(daemon.stop(sig, seconds=5), CLEAN)

    def test_hup_goes_on(self):
        with Daemon() as daemon:
            daemon.send_udp("a:1|c")
            daemon.settle(received=1)
            daemon.process.popen.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            daemon.send_udp("a:1|c")
            daemon.settle(received=2)
            self.assertEqual(daemon.scrape().value("a"), 2)
            self.assertEqual(daemon.scrape().value("tallyd_config_last_reload_successful"), 1)

    def test_term_ends_with_idle_connections_open(self):
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            senders = [socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5)
                       for _ in range(10)]
            scraper = socket.create_connection(("127.0.0.1", daemon.port("http")), 5)
            scraper.sendall(b"GET /metrics HTTP/1.1\r\n")
            self.assertEqual(daemon.stop(seconds=10), CLEAN)
            for connection in (*senders, scraper):
                connection.close()

    def test_a_second_term_quits_now(self):
        with Daemon() as daemon:
            daemon.process.popen.send_signal(signal.SIGTERM)
            daemon.process.popen.send_signal(signal.SIGTERM)
            self.assertIsNotNone(daemon.process.wait(3))

    def test_what_was_sent_before_term_is_counted(self):
        """The last line of the log has the account: TERM drains the sockets first."""
        with Daemon("--statsd.read-buffer=8388608") as daemon:
            # Stopped, it cannot have read them when TERM arrives.
            with stopped(daemon.pid):
                daemon.send_udp(*["drain:1|c"] * 500)
                daemon.process.popen.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(), CLEAN)
            account = final_account(daemon.log())
            self.assertEqual(account.get("received_samples"), 500, daemon.log())
            self.assertEqual(account.get("applied_samples"), 500, daemon.log())

    def test_term_during_a_flood(self):
        with Daemon() as daemon:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", daemon.port("udp")))
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    sender.send(b"flood:1|c")
                daemon.process.popen.send_signal(signal.SIGTERM)
                end = time.monotonic() + 10
                while daemon.process.running() and time.monotonic() < end:
                    try:
                        sender.send(b"flood:1|c")
                    except ConnectionRefusedError:
                        break
            self.assertEqual(daemon.process.wait(5), CLEAN)


def final_account(log):
    """{name: number} of the log's last line."""
    lines = log.strip().splitlines()
    return {name: int(value) for name, value in re.findall(r"(\w+)=\"?(\d+)\b", lines[-1])}


class ReadinessTest(unittest.TestCase):
    def test_ready_is_logged_once_with_all_addresses(self):
        listen = (("udp", "127.0.0.1:0"), ("udp", "[::1]:0"), ("tcp", "127.0.0.1:0"))
        with Daemon(listen=listen) as daemon:
            self.assertEqual(len(daemon.addresses["udp"]), 2)
            self.assertEqual(len(daemon.addresses["tcp"]), 1)
            for kind in ("udp", "tcp", "http"):
                for address in daemon.addresses[kind]:
                    self.assertNotEqual(address.rsplit(":", 1)[1], "0")

    def test_starts_at_once(self):
        start = time.monotonic()
        with Daemon() as daemon:
            self.assertLess(time.monotonic() - start, 3)
            wait_for("healthy", lambda: daemon.get("/-/healthy").status == 200)


class TallyctlTest(unittest.TestCase):
    def explain(self, line):
        import subprocess

        done = subprocess.run([str(BIN / "tallyctl"), "explain", line], capture_output=True,
                              text=True, timeout=10, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_a_good_line(self):
        code, text = self.explain("page.views:3|c|@0.5|#site:shop")
        self.assertEqual(code, CLEAN, text)
        self.assertIn("page_views", text)
        self.assertIn("shop", text)
        self.assertIn("6", text)

    def test_a_bad_line_names_the_reason(self):
        for line, reason in (("nothing", "malformed_line"), ("a:x|c", "bad_value"),
                             ("a:1|zz", "bad_type"), ("a:-1|c", "negative_counter"),
                             ("a:1|c|#__name__:x", "bad_label"), ("tallyd_x:1|c", "type_conflict")):
            with self.subTest(line):
                _, text = self.explain(line)
                self.assertIn(reason, text)


if __name__ == "__main__":
    unittest.main()
