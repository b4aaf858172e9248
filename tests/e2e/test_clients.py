"""Real clients of five languages send; each value is checked at the scrape."""

import math
import socket
import subprocess
import unittest

from harness import CLIENTS, SLOWNESS, Daemon, away_from_a_turn, needs, scratch

HAVE_NODE_MODULES = (CLIENTS / "node_modules/hot-shots").is_dir()
needs_node = unittest.skipUnless(HAVE_NODE_MODULES, "needs `npm ci` in tests/e2e/clients")


class ClientTest(unittest.TestCase):
    def setUp(self):
        away_from_a_turn(4)

    def send(self, *argv):
        """Runs a client to its end; it must not complain."""
        done = subprocess.run(
            [str(word) for word in argv], cwd=CLIENTS, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=30 * SLOWNESS, check=False,
        )
        self.assertEqual((done.returncode, done.stderr.strip()), (0, ""), argv)

    def check(self, scrape, want):
        for (name, *labels), value in want.items():
            shown = scrape.value(name, **dict(labels))
            self.assertIsNotNone(shown, f"{name}{labels} is missing")
            self.assertTrue(math.isclose(shown, value, abs_tol=1e-12), (name, labels, shown, value))


class HotShotsTest(ClientTest):
    ENV = ("env", "test")
    SHOP = (("country", "de"), ENV, ("site", "shop"))
    WANT = {
        ("hot_orders", ENV): 5,
        ("hot_orders", *SHOP): 1,
        ("hot_depth", ENV): 10.5,
        ("hot_checkout_count", ENV): 1,
        ("hot_checkout_sum", ENV): 0.25,
        ("hot_checkout_bucket", ENV, ("le", "0.1")): 0,
        ("hot_checkout_bucket", ENV, ("le", "0.25")): 1,
        ("hot_checkout_sum", ENV, ("site", "shop")): 0.75,
        ("hot_size_count", ENV): 2,
        ("hot_size_sum", ENV): 10,
        ("hot_visitors", ENV): 3,
        ("hot_left", ENV): 2,
        ("hot_right", ENV): 2,
    }
    SAMPLES = 17

    def over(self, protocol, listen, where):
        with Daemon(listen=(listen,)) as daemon:
            self.send("node", "send_hot_shots.js", protocol, where(daemon))
            ledger = daemon.settle(received=self.SAMPLES)
            self.assertEqual(ledger.received, self.SAMPLES)
            self.assertEqual(ledger.reasons, {"negative_counter": 1})
            self.assertEqual(ledger.repairs, {})
            self.check(daemon.scrape(), self.WANT)

    @needs_node
    def test_udp(self):
        self.over("udp", ("udp", "127.0.0.1:0"), lambda d: d.port("udp"))

    @needs_node
    def test_tcp(self):
        self.over("tcp", ("tcp", "127.0.0.1:0"), lambda d: d.port("tcp"))

    @needs_node
    def test_unix_datagrams(self):
        with scratch() as directory:
            path = directory / "statsd.sock"
            self.over("uds", ("unixgram", path), lambda _: path)


class NodeStatsdTest(ClientTest):
    @needs_node
    def test_udp(self):
        with Daemon() as daemon:
            self.send("node", "send_node_statsd.js", daemon.port("udp"))
            ledger = daemon.settle(received=11)
            self.assertEqual((ledger.received, ledger.reasons), (11, {}))
            self.check(daemon.scrape(), {
                ("node_orders",): 5,
                ("node_tagged", ("site", "shop"), ("country", "de")): 2,
                ("node_depth",): 12.5,
                ("node_checkout_count",): 1,
                ("node_checkout_sum",): 0.25,
                ("node_size_sum",): 3,
                ("node_visitors",): 2,
                ("node_left",): 2,
                ("node_right",): 2,
            })


class PythonTest(ClientTest):
    WANT = {
        ("py_orders",): 5,
        ("py_depth",): 10.5,
        ("py_below",): -3,
        ("py_checkout_count",): 2,
        ("py_checkout_sum",): 1,
        ("py_visitors",): 2,
        ("py_left",): 2,
        ("py_right",): 2,
        ("py_block_count",): 1,
    }

    def over(self, kind):
        with Daemon(listen=((kind, "127.0.0.1:0"),)) as daemon:
            # The system's Python: the one that Debian's package belongs to.
            self.send("/usr/bin/python3", "send_python.py", kind, daemon.port(kind))
            ledger = daemon.settle(received=16)
            self.assertEqual((ledger.received, ledger.reasons), (16, {"negative_counter": 1}))
            self.check(daemon.scrape(), self.WANT)

    def test_udp(self):
        self.over("udp")

    def test_tcp(self):
        self.over("tcp")


class RubyTest(ClientTest):
    @needs("/usr/bin/ruby")
    def test_udp(self):
        with Daemon() as daemon:
            self.send("/usr/bin/ruby", "send_ruby.rb", daemon.port("udp"))
            ledger = daemon.settle(received=12)
            self.assertEqual((ledger.received, ledger.reasons), (12, {"negative_counter": 1}))
            self.check(daemon.scrape(), {
                ("ruby_orders",): 5,
                ("ruby_depth",): 12.5,
                ("ruby_checkout_count",): 1,
                ("ruby_checkout_sum",): 0.25,
                ("ruby_block_count",): 1,
                ("ruby_visitors",): 2,
                ("ruby_Module_name",): 1,
                ("ruby_left",): 2,
                ("ruby_right",): 2,
            })


class PerlTest(ClientTest):
    @needs("/usr/bin/perl")
    def test_udp(self):
        with Daemon() as daemon:
            self.send("/usr/bin/perl", "send_perl.pl", daemon.port("udp"))
            ledger = daemon.settle(received=10)
            self.assertEqual((ledger.received, ledger.reasons), (10, {"negative_counter": 1}))
            self.check(daemon.scrape(), {
                ("perl_orders",): 5,
                ("perl_left",): 1,
                ("perl_right",): 1,
                ("perl_depth",): 12.5,
                ("perl_many",): 7,
                ("perl_checkout_count",): 1,
                ("perl_checkout_sum",): 0.25,
                ("perl_sampled",): 2,
            })


class ShellTest(ClientTest):
    """What people type: bash's /dev/udp, and printf into a TCP socket."""

    def test_dev_udp(self):
        with Daemon() as daemon:
            for _ in range(3):
                self.send("bash", "-c", f"echo 'shell.up:1|c' >/dev/udp/127.0.0.1/{daemon.port()}")
            daemon.settle(received=3)
            self.assertEqual(daemon.scrape().value("shell_up"), 3)

    def test_tcp_by_hand_without_a_last_line_feed(self):
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5) as connection:
                connection.sendall(b"a:1|c\r\na:2|c\na:3|c")
            daemon.settle(received=3)
            self.assertEqual(daemon.scrape().value("a"), 6)


if __name__ == "__main__":
    unittest.main()
