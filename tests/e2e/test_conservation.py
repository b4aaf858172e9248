"""Every sample is accounted for, on every transport, and every series shows its exact total."""

import json
import math
import pathlib
import socket
import time
import unittest

from harness import SLOWNESS, Daemon, Scraper, away_from_a_turn, scratch, stopped, tally_load
from exposition import parse_labels, split_sample

LINES = int(200_000 / SLOWNESS)
BUCKET = "_bucket"


def read_expectation(path):
    """{(name, labels): value} as a scrape shows it, and {(name_sum, labels)} of inexact sums."""
    exact, sums = {}, {}
    for line in pathlib.Path(path).read_text().splitlines():
        total = json.loads(line)
        name, label_text, _ = split_sample(total["series"] + " ")
        labels = parse_labels(label_text, line)
        if total["type"] != "histogram":
            exact[(name, labels)] = total["value"]
            continue
        exact[(name + "_count", labels)] = total["count"]
        sums[(name + "_sum", labels)] = total["sum"]
        for bound, count in total["buckets"].items():
            key = tuple(sorted((*labels, ("le", bound))))
            exact[(name + BUCKET, key)] = count
    return exact, sums


class ConservationTest(unittest.TestCase):
    def assert_series_match(self, scrape, expectation_path):
        exact, sums = read_expectation(expectation_path)
        shown = scrape.user_samples()
        self.assertEqual(set(shown), set(exact) | set(sums), "the series shown")
        wrong = [(key, shown[key], want) for key, want in exact.items() if shown[key] != want]
        self.assertEqual(wrong[:5], [], f"{len(wrong)} series differ")
        for key, want in sums.items():
            self.assertTrue(math.isclose(shown[key], want, rel_tol=1e-9), (key, shown[key], want))

    def assert_nothing_lost(self, account, ledger):
        self.assertEqual(account["refused_total"]["packets"], 0)
        self.assertEqual(ledger.kernel_dropped, 0)
        self.assertEqual(ledger.truncated, 0)
        self.assertEqual(ledger.reasons, {})
        self.assertEqual(ledger.received, account["samples"])
        self.assertEqual(ledger.applied, account["samples"])

    def run_load(self, daemon, url, *flags, lines=LINES, rate=200_000):
        """Sends at a rate that leaves nothing behind, and checks the account and every series."""
        with scratch() as directory:
            expectation = directory / "expect.jsonl"
            account = tally_load(
                "--to", url, "--lines", lines, "--rate", int(rate / SLOWNESS),
                "--expect", expectation, *flags,
            )
            ledger = daemon.settle(received=account["samples"])
            self.assert_nothing_lost(account, ledger)
            self.assert_series_match(daemon.scrape(), expectation)
            return account, ledger


class TransportTest(ConservationTest):
    """One test a transport: mixed types, tags, packing, sample rates and gauge changes."""

    MIXED = ("--series", 2000, "--tags", 3, "--mix", "55:20:20:5", "--packing", 2,
             "--sample-rates", 0.2, "--gauge-deltas", 0.3)

    def mixed(self, kind, value, url):
        away_from_a_turn(6)
        with Daemon("--statsd.read-buffer=8388608", listen=((kind, value),)) as daemon:
            self.run_load(daemon, url(daemon), *self.MIXED)
            self.assertEqual(daemon.stop(), 0)

    def test_udp4(self):
        self.mixed("udp", "127.0.0.1:0", lambda d: f"udp://127.0.0.1:{d.port('udp')}")

    def test_udp6(self):
        self.mixed("udp", "[::1]:0", lambda d: f"udp://[::1]:{d.port('udp')}")

    def test_tcp(self):
        self.mixed("tcp", "127.0.0.1:0", lambda d: f"tcp://127.0.0.1:{d.port('tcp')}")

    def test_tcp6(self):
        self.mixed("tcp", "[::1]:0", lambda d: f"tcp://[::1]:{d.port('tcp')}")

    def unix(self, kind):
        with scratch() as directory:
            path = directory / "statsd.sock"
            away_from_a_turn(6)
            with Daemon(listen=((kind, path),)) as daemon:
                self.run_load(daemon, f"{kind}://{path}", *self.MIXED, "--wait")
                self.assertEqual(daemon.stop(), 0)
            self.assertFalse(path.exists(), "the socket is removed at the end")

    def test_unixgram(self):
        self.unix("unixgram")

    def test_unixstream(self):
        self.unix("unixstream")

    def test_unixseqpacket(self):
        self.unix("unixseqpacket")


class ShardTest(ConservationTest):
    """The same from several senders, whose sockets the kernel spreads over the shards."""

    def shards(self, count):
        with Daemon(f"--shards={count}", "--statsd.read-buffer=8388608") as daemon:
            url = f"udp://127.0.0.1:{daemon.port('udp')}"
            self.run_load(daemon, url, "--series", 3000, "--tags", 4, "--senders", 8)

    def test_one_shard(self):
        self.shards(1)

    def test_two_shards(self):
        self.shards(2)

    def test_four_shards(self):
        self.shards(4)

    def test_several_transports_into_the_same_series(self):
        with scratch() as directory:
            listen = (("udp", "127.0.0.1:0"), ("tcp", "127.0.0.1:0"),
                      ("unixgram", directory / "g.sock"), ("unixstream", directory / "s.sock"),
                      ("unixseqpacket", directory / "q.sock"))
            with Daemon("--shards=2", listen=listen) as daemon:
                urls = (f"udp://127.0.0.1:{daemon.port('udp')}",
                        f"tcp://127.0.0.1:{daemon.port('tcp')}",
                        f"unixgram://{directory}/g.sock", f"unixstream://{directory}/s.sock",
                        f"unixseqpacket://{directory}/q.sock")
                counters = ("--series", 500, "--mix", "75:0:25", "--lines", int(20_000 / SLOWNESS),
                            "--rate", 100_000, "--wait")
                sent = 0
                for url in urls:
                    expectation = directory / "expect.jsonl"
                    sent += tally_load("--to", url, *counters, "--expect", expectation)["samples"]
                ledger = daemon.settle(received=sent)
                self.assertEqual((ledger.received, ledger.applied), (sent, sent))
                exact, _ = read_expectation(expectation)
                shown = daemon.scrape().user_samples()
                wrong = [key for key, want in exact.items() if shown[key] != want * len(urls)]
                self.assertEqual(wrong, [])


class OverloadTest(ConservationTest):
    """More than it can take: the kernel drops, and the account still balances to the datagram."""

    def assert_balanced(self, account, ledger):
        self.assertEqual(
            account["packets"], ledger.datagrams + ledger.kernel_dropped, f"{account} {ledger}"
        )
        self.assertTrue(ledger.at_rest())
        self.assertEqual(ledger.reasons, {})
        self.assertEqual(ledger.truncated, 0)

    def test_flat_out_into_a_tiny_buffer(self):
        with Daemon("--statsd.read-buffer=4096") as daemon:
            account = tally_load(
                "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--seconds", 3, "--series", 5000,
                "--senders", 4,
            )
            ledger = daemon.settle(datagrams=account["packets"])
            self.assertGreater(ledger.kernel_dropped, 0, "the buffer was meant to be too small")
            self.assert_balanced(account, ledger)

    def test_flat_out_with_the_default_buffer(self):
        with Daemon("--shards=2") as daemon:
            account = tally_load(
                "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--seconds", 3, "--tags", 4,
                "--senders", 4,
            )
            self.assert_balanced(account, daemon.settle(datagrams=account["packets"]))

    def test_unix_datagrams_that_find_no_room_are_refused_to_the_sender(self):
        with scratch() as directory:
            path = directory / "statsd.sock"
            with Daemon(listen=(("unixgram", path),)) as daemon:
                expectation = directory / "expect.jsonl"
                account = tally_load(
                    "--to", f"unixgram://{path}", "--seconds", 2, "--series", 2000,
                    "--packet-size", 8192, "--expect", expectation,
                )
                ledger = daemon.settle(received=account["samples"])
                # What was refused, the sender knows; of what was taken, nothing is lost.
                self.assertEqual(ledger.datagrams, account["packets"])
                self.assertEqual(ledger.applied, account["samples"])
                self.assertEqual(ledger.kernel_dropped, 0)
                self.assert_series_match(daemon.scrape(), expectation)

    def test_kernel_drops_are_seen_without_another_datagram(self):
        # The daemon sleeps (stopped) while its buffer overflows; afterwards nothing more is sent.
        with Daemon("--statsd.read-buffer=4096") as daemon:
            with stopped(daemon.pid):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.connect(("127.0.0.1", daemon.port("udp")))
                    for _ in range(2000):
                        sender.send(b"a:1|c")
            ledger = daemon.settle(datagrams=2000)
            self.assertGreater(ledger.kernel_dropped, 0)
            self.assertEqual(ledger.datagrams + ledger.kernel_dropped, 2000)
            self.assertEqual(daemon.scrape().value("a"), ledger.datagrams)


class BusyTest(ConservationTest):
    """The same exactness while others read, and while series come and go."""

    def test_while_scraping_ten_times_a_second(self):
        with Daemon("--shards=2", "--statsd.read-buffer=8388608") as daemon:
            with Scraper(daemon) as scraper:
                self.run_load(
                    daemon, f"udp://127.0.0.1:{daemon.port('udp')}", "--series", 2000, "--tags", 4,
                    "--senders", 4, lines=int(600_000 / SLOWNESS), rate=150_000,
                )
            self.assertEqual(scraper.errors, [])
            self.assertGreater(scraper.scrapes, 10 / SLOWNESS)

    def test_a_counter_never_goes_backwards_under_scrapes(self):
        with Daemon("--shards=2") as daemon:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", daemon.port("udp")))
                last = 0
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    for _ in range(50):
                        sender.send(b"up:1|c\nt:3|ms")
                    scrape = daemon.scrape()
                    now = scrape.value("up", 0)
                    self.assertGreaterEqual(now, last)
                    last = now

    def test_while_a_hundred_thousand_series_churn(self):
        series = int(20_000 / SLOWNESS)
        generations = 5
        with Daemon("--series.ttl=2s", "--statsd.read-buffer=16777216", "--shards=2") as daemon:
            with Scraper(daemon, per_second=2) as scraper:
                lines = series * 2 * generations
                account = tally_load(
                    "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--series", series,
                    "--churn", series * 2, "--lines", lines, "--rate", int(40_000 / SLOWNESS),
                    "--ring", lines,
                )
                ledger = daemon.settle(received=account["samples"])
                self.assert_nothing_lost(account, ledger)
                # All of them are gone in the end, and what they held is given back.
                end = time.monotonic() + 20 * SLOWNESS
                while daemon.scrape().value("tallyd_series") and time.monotonic() < end:
                    time.sleep(0.5)
            self.assertEqual(scraper.errors, [])
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("tallyd_series"), 0)
            self.assertEqual(scrape.user_samples(), {})
            self.assert_nothing_lost(account, daemon.ledger())
            # And the daemon counts on, from zero.
            daemon.send_udp("after.churn:3|c")
            daemon.settle(received=account["samples"] + 1)
            self.assertEqual(daemon.scrape().value("after_churn"), 3)


if __name__ == "__main__":
    unittest.main()
