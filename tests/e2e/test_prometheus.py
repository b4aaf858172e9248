"""Debian's Prometheus scrapes a working tallyd, as OpenMetrics and as text 0.0.4."""

import contextlib
import functools
import socket
import threading
import time
import unittest

import test_dialects
import test_torture
from harness import (OPENMETRICS, TEXT, AcceptProxy, Daemon, Prometheus, away_from_a_turn,
                     http_request, needs, wait_for)
from line_tables import same

SECONDS = 16


class Emitter(threading.Thread):
    """Ten times a second: requests, durations whose distribution is known, and vandalism."""

    # Milliseconds; uniform over the buckets 50..100 ms (half) and 100..250 ms (half).
    TIMES = (60, 70, 80, 90, 95, 110, 130, 150, 200, 240)

    def __init__(self, port):
        super().__init__(daemon=True)
        self._port = port
        self._ended = threading.Event()
        self.ticks = 0
        tables = [*test_torture.TABLES.values(), *test_dialects.TABLES.values()]
        self.vandalism = [line.text for table in tables for line in table]

    def run(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self._port))
            while not self._ended.wait(0.1):
                sender.send(b"app.requests:3|c|#site:shop\napp.depth:%d|g" % self.ticks)
                sender.send(b"\n".join(b"app.took:%d|ms" % ms for ms in self.TIMES))
                first = self.ticks * 8 % len(self.vandalism)
                for line in self.vandalism[first : first + 8]:
                    sender.send(line)
                self.ticks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._ended.set()
        self.join(10)


def for_each_job(test):
    """Runs a test once a job, with the label matcher that selects it."""

    @functools.wraps(test)
    def run(self):
        for job in self.jobs:
            with self.subTest(job):
                test(self, f'job="{job}"')

    return run


@needs("prometheus")
class PrometheusTest(unittest.TestCase):
    """One run of Prometheus with three jobs: as it is, forced to 0.0.4, forced to OpenMetrics."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            enter = cls.stack.enter_context
            cls.daemon = enter(Daemon("--shards=2"))
            http = cls.daemon.port("http")
            cls.text = enter(AcceptProxy(http, TEXT))
            cls.openmetrics = enter(AcceptProxy(http, OPENMETRICS))
            cls.jobs = {"plain": http, "text": cls.text.port, "openmetrics": cls.openmetrics.port}
            cls.prometheus = enter(Prometheus(cls.jobs))
            for job in cls.jobs:
                wait_for(f"the first scrape of {job}",
                         lambda j=job: cls.prometheus.value(f'up{{job="{j}"}}') == 1, 30, 0.2)
            cls.emitter = enter(Emitter(cls.daemon.port("udp")))
            cls.started = time.time()
            time.sleep(SECONDS)
            cls.emitter.stop()
            away_from_a_turn(5)
            cls.daemon.settle()
            cls.final = cls.daemon.scrape()
            # Two more scrapes see the final values.
            time.sleep(2.5)
            cls.ended = time.time()
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    @for_each_job
    def test_up_throughout(self, job):
        window = int(self.ended - self.started) - 1
        self.assertEqual(
            self.prometheus.value(f"min_over_time(up{{{job}}}[{window}s])", self.ended), 1)
        scrapes = self.prometheus.value(
            f"count_over_time(up{{{job}}}[{window}s])", self.ended)
        self.assertGreaterEqual(scrapes, window - 2)
        for target in self.prometheus.targets():
            self.assertEqual((target["health"], target["lastError"]), ("up", ""))

    @for_each_job
    def test_values(self, job):
        self.assertEqual(
            self.prometheus.value(f'app_requests{{{job},site="shop"}}', self.ended),
            self.emitter.ticks * 3)
        self.assertEqual(
            self.prometheus.value(f"app_depth{{{job}}}", self.ended), self.emitter.ticks - 1)
        self.assertEqual(
            self.prometheus.value(f"app_took_count{{{job}}}", self.ended),
            self.emitter.ticks * len(Emitter.TIMES))

    @for_each_job
    def test_every_series_arrived(self, job):
        """All that a scrape shows is in Prometheus, under the same name, with the same value."""
        stored = {}
        ours = "tallyd_.*|process_.*|up|scrape_.*"
        rows = self.prometheus.query(f'{{{job},__name__!~"{ours}"}}', self.ended)
        for labels, value in rows:
            name = labels.pop("__name__")
            for extra in ("job", "instance"):
                labels.pop(extra)
            stored[(name, tuple(sorted(labels.items())))] = value
        shown = self.final.user_samples()
        self.assertEqual(set(stored), set(shown))
        for key, value in shown.items():
            self.assertTrue(same(stored[key], value), (key, stored[key], value))

    @for_each_job
    def test_increase(self, job):
        """increase() over the steady middle: 30 a second, as Prometheus extrapolates it."""
        middle = self.started + SECONDS - 1
        for name, rate in (("app_requests", 30), ("app_took_count", 100)):
            increase = self.prometheus.value(f"sum(increase({name}{{{job}}}[10s]))", middle)
            self.assertAlmostEqual(increase / (rate * 10), 1, delta=0.12)

    @for_each_job
    def test_histogram_quantile(self, job):
        """Half of the times are in (50, 100] ms, half in (100, 250] ms: exact at the bound."""
        middle = self.started + SECONDS - 1

        def quantile(q):
            return self.prometheus.value(
                f"histogram_quantile({q}, sum by (le) (rate(app_took_bucket{{{job}}}[10s])))",
                middle)

        self.assertAlmostEqual(quantile(0.5), 0.1, delta=0.005)
        self.assertAlmostEqual(quantile(0.25), 0.075, delta=0.005)
        self.assertAlmostEqual(quantile(0.75), 0.175, delta=0.01)

    @for_each_job
    def test_average(self, job):
        average = self.prometheus.value(
            f"app_took_sum{{{job}}} / app_took_count{{{job}}}", self.ended)
        self.assertAlmostEqual(average, sum(Emitter.TIMES) / len(Emitter.TIMES) / 1000, places=9)

    @for_each_job
    def test_the_account_is_in_prometheus(self, job):
        difference = self.prometheus.value(
            f"sum(tallyd_received_samples_total{{{job}}})"
            f" - sum(tallyd_applied_samples_total{{{job}}})"
            f" - sum(tallyd_dropped_samples_total{{{job}}})", self.ended)
        self.assertEqual(difference, 0)
        self.assertGreater(
            self.prometheus.value(f"sum(tallyd_dropped_samples_total{{{job}}})", self.ended), 0)

    @for_each_job
    def test_nothing_was_refused_in_part(self, job):
        wait_for("samples", lambda j=job: self.prometheus.value(
            f"scrape_samples_scraped{{{j}}} - scrape_samples_post_metric_relabeling{{{j}}}") == 0)
        for name in ("prometheus_target_scrapes_sample_duplicate_timestamp_total",
                     "prometheus_target_scrapes_sample_out_of_order_total",
                     "prometheus_target_scrapes_sample_out_of_bounds_total"):
            counted = self.own_metric(name)
            self.assertEqual(counted, 0, name)

    def own_metric(self, name):
        body = http_request(self.prometheus.port, "/metrics").body.decode()
        for line in body.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None


if __name__ == "__main__":
    unittest.main()
