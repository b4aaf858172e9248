"""Series over shards and over time: one total whoever counts it, limits, expiry, and coming back."""

import contextlib
import socket
import threading
import time
import unittest

from harness import SLOWNESS, Daemon, away_from_a_turn, wait_for


class ManySockets:
    """Senders that the kernel spreads over the shards by their ports."""

    def __init__(self, daemon, count):
        self._stack = contextlib.ExitStack()
        self.sockets = []
        for _ in range(count):
            sender = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.connect(("127.0.0.1", daemon.port("udp")))
            self.sockets.append(sender)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def send(self, text):
        for sender in self.sockets:
            sender.send(text.encode())


class ShardsTest(unittest.TestCase):
    def setUp(self):
        away_from_a_turn(3)

    def test_all_shards_add_to_one_series(self):
        with Daemon("--shards=4") as daemon, ManySockets(daemon, 40) as senders:
            for _ in range(10):
                senders.send("one:1|c|#a:b\nhist:20|ms\nset:x|s\none:1:2|c|#a:b")
            daemon.settle(received=2000)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("one", a="b"), 1600)
            self.assertEqual(scrape.value("hist_count"), 400)
            self.assertAlmostEqual(scrape.value("hist_sum"), 8)
            self.assertEqual(scrape.value("set"), 1)

    def test_members_of_a_set_are_distinct_over_shards(self):
        with Daemon("--shards=4") as daemon, ManySockets(daemon, 40) as senders:
            for index, sender in enumerate(senders.sockets):
                for member in range(index, index + 10):
                    sender.send(f"people:{member}|s".encode())
            daemon.settle(received=400)
            self.assertEqual(daemon.scrape().value("people"), 49)

    def test_a_family_has_one_type_whoever_comes_first(self):
        kinds = ("1|c", "1|g", "1|ms", "1|s")
        names = 50
        with Daemon("--shards=4") as daemon, ManySockets(daemon, 40) as senders:
            for name in range(names):
                for index, sender in enumerate(senders.sockets):
                    sender.send(f"mixed{name}:{kinds[(index + name) % 4]}".encode())
            ledger = daemon.settle(received=names * 40)
            self.assertEqual(ledger.applied, names * 10)
            self.assertEqual(ledger.reasons, {"type_conflict": names * 30})
            for name in range(names):
                shown = {n for n, _ in daemon.scrape().samples if n.startswith(f"mixed{name}")}
                self.assertTrue(shown)

    def test_spellings_of_one_series_share_it(self):
        with Daemon("--shards=2") as daemon, ManySockets(daemon, 8) as senders:
            senders.send("a.b:1|c|#x:1,y:2\na_b:1|c|#y:2,x:1\na-b:1|c|#y:2|#x:1")
            daemon.settle(received=24)
            self.assertEqual(daemon.scrape().value("a_b", x="1", y="2"), 24)
            self.assertEqual(daemon.scrape().value("tallyd_series"), 1)


class ExpiryTest(unittest.TestCase):
    def test_idle_series_leave_and_counters_go_on_when_they_come_back(self):
        with Daemon("--series.ttl=500ms") as daemon:
            daemon.send_udp("idle:5|c|#a:b", "idle.g:5|g", "idle.t:5|ms")
            daemon.settle(received=3)
            self.assertEqual(daemon.scrape().value("idle", a="b"), 5)
            wait_for("expiry", lambda: not daemon.scrape().user_samples(), 10, 0.2)
            daemon.send_udp("idle:2|c|#a:b", "idle.g:+1|g", "idle.t:1|ms")
            daemon.settle(received=6)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("idle", a="b"), 7)
            self.assertEqual(scrape.value("idle_g"), 1)
            self.assertEqual(scrape.value("idle_t_count"), 2)

    def test_the_type_of_an_expired_family_holds(self):
        with Daemon("--series.ttl=500ms") as daemon:
            daemon.send_udp("typed:5|c")
            daemon.settle(received=1)
            wait_for("expiry", lambda: not daemon.scrape().user_samples(), 10, 0.2)
            daemon.send_udp("typed:5|g")
            self.assertEqual(daemon.settle(received=2).reasons, {"type_conflict": 1})

    def test_a_counter_keeps_what_its_idle_shards_counted(self):
        """One shard goes on, the others retire their slots: the series stays, and stays whole."""
        with Daemon("--series.ttl=700ms", "--shards=4") as daemon:
            with ManySockets(daemon, 32) as senders:
                senders.send("kept:10|c\nkept.t:10|ms")
                sent = 64
                last = 0
                end = time.monotonic() + 5 * SLOWNESS
                while time.monotonic() < end:
                    senders.sockets[0].send(b"kept:1|c\nkept.t:10|ms")
                    sent += 2
                    now = daemon.scrape().value("kept", 0)
                    self.assertGreaterEqual(now, last)
                    last = now
                    time.sleep(0.1)
            daemon.settle(received=sent)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("kept"), 320 + (sent - 64) // 2)
            self.assertEqual(scrape.value("kept_t_count"), sent // 2)

    def test_a_gauge_keeps_its_value_when_the_shard_that_set_it_is_idle(self):
        with Daemon("--series.ttl=700ms", "--shards=4") as daemon:
            with ManySockets(daemon, 32) as senders:
                senders.send("level:100|g")
                daemon.settle(received=32)
                for tick in range(20):
                    senders.sockets[tick % 2].send(b"level:+1|g")
                    time.sleep(0.15)
                daemon.settle(received=52)
                self.assertEqual(daemon.scrape().value("level"), 120)

    def test_without_a_ttl_nothing_leaves(self):
        with Daemon() as daemon:
            daemon.send_udp("stay:1|c")
            daemon.settle(received=1)
            time.sleep(2.5)
            self.assertEqual(daemon.scrape().value("stay"), 1)


class LimitTest(unittest.TestCase):
    def test_samples_past_the_limit_are_folded_and_counted(self):
        with Daemon("--series.limit=100", "--shards=1") as daemon:
            daemon.send_udp(*(f"limited:1|c|#n:{i}" for i in range(300)))
            ledger = daemon.settle(received=300)
            self.assertEqual((ledger.applied, ledger.lost), (300, 0))
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("tallyd_series"), 101)
            self.assertEqual(scrape.value("tallyd_folded_samples_total"), 200)
            self.assertEqual(scrape.value("limited", n="__overflow__"), 200)
            # Those that are known go on.
            daemon.send_udp("limited:1|c|#n:0")
            self.assertEqual(daemon.settle(received=301).applied, 301)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("limited", n="0"), 2)
            self.assertEqual(scrape.value("tallyd_series_limit"), 100)

    def test_the_limit_is_for_all_shards_together(self):
        with Daemon("--series.limit=200", "--shards=4") as daemon:
            with ManySockets(daemon, 16) as senders:
                sent = 0
                for first in range(0, 2000, 20):
                    sender = senders.sockets[(first // 20) % 16]
                    sender.send("\n".join(f"all:1|c|#n:{i}" for i in range(first, first + 20)).encode())
                    sent += 20
            ledger = daemon.settle(received=sent)
            self.assertEqual((ledger.applied, ledger.lost), (sent, 0))
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("tallyd_series"), 201)
            self.assertEqual(scrape.value("all", n="__overflow__"), sent - 200)

    def test_room_comes_back_with_expiry(self):
        with Daemon("--series.limit=50", "--series.ttl=500ms", "--shards=1") as daemon:
            daemon.send_udp(*(f"first:1|c|#n:{i}" for i in range(60)))
            self.assertEqual(daemon.settle(received=60).applied, 60)
            # The overflow series stays.
            wait_for("expiry", lambda: daemon.scrape().value("tallyd_series") == 1, 10, 0.2)
            sent = 60

            def room():
                nonlocal sent
                daemon.send_udp("second:1|c|#n:1")
                sent += 1
                daemon.settle(received=sent, fresh=False)
                return daemon.scrape().series("second")

            wait_for("room", room, 10, 0.2)

    def test_long_names_do_not_grow_it_without_bound(self):
        with Daemon("--series.limit=1000", "--shards=1") as daemon:
            before = daemon.status_kib("VmRSS")
            for index in range(3000):
                daemon.send_udp(f"n{index}".encode() + b"x" * 8_000 + b":1|c")
                if index % 50 == 0:
                    daemon.settle(received=index // 2, fresh=False)
            ledger = daemon.settle()
            self.assertEqual(ledger.lost, 0)
            self.assertGreaterEqual(daemon.scrape().value("tallyd_overflow_total"), 1)
            # A thousand names of 8 kB, in the key memory, the series table and a page or two, and
            # the keys that are remembered for the time being.
            self.assertLess(daemon.status_kib("VmRSS") - before, 200_000)


class RudeScraperTest(unittest.TestCase):
    def test_scrapers_that_hang_up(self):
        with Daemon() as daemon:
            daemon.send_udp(*(f"rude:1|c|#n:{i}" for i in range(2000)))
            daemon.settle(received=2000)
            for _ in range(200):
                with socket.create_connection(("127.0.0.1", daemon.port("http")), 5) as connection:
                    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    # Closing with unread bytes resets the connection.
            # Those that are still being answered may keep us out for a moment, not for good.
            wait_for("room for a scrape", lambda: daemon.get("/metrics").status == 200)
            self.assertEqual(len(daemon.scrape().series("rude")), 2000)

    def test_requests_in_a_pipeline(self):
        with Daemon() as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port("http")), 5) as connection:
                connection.settimeout(10 * SLOWNESS)
                request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
                last = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                connection.sendall(request * 20 + last)
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
            self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 21)

    def test_idle_connections_do_not_keep_scrapes_out(self):
        with Daemon("--shards=1", wrapper=("prlimit", "--nofile=64:64")) as daemon:
            idle = []
            for _ in range(120):
                connection = socket.socket()
                connection.settimeout(1)
                with contextlib.suppress(OSError):
                    connection.connect(("127.0.0.1", daemon.port("http")))
                idle.append(connection)

            def scraped():
                with contextlib.suppress(OSError):
                    return daemon.get("/metrics", timeout=3).status == 200
                return False

            try:
                wait_for("a scrape", scraped, 30, 0.2)
            finally:
                for connection in idle:
                    connection.close()

    def test_many_scrapers_at_once(self):
        with Daemon("--web.max-requests=100") as daemon:
            daemon.send_udp(*(f"many:1|c|#n:{i}" for i in range(5000)))
            daemon.settle(received=5000)
            failures = []

            def scrape():
                try:
                    for _ in range(5):
                        if len(daemon.scrape().series("many")) != 5000:
                            failures.append("short")
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(repr(error))

            scrapers = [threading.Thread(target=scrape) for _ in range(8)]
            for thread in scrapers:
                thread.start()
            for thread in scrapers:
                thread.join()
            self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
