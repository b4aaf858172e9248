"""Native histograms: Debian's Prometheus, with the feature and without it, scrapes protobuf."""

import bisect
import contextlib
import json
import math
import random
import socket
import time
import unittest
import urllib.parse

from harness import Daemon, Prometheus, http_request, needs, wait_for
from line_tables import same
from test_prometheus import Emitter

PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
WIDE = 3000
OVERFLOW = 1.7976931348623157e308
ZERO_THRESHOLD = 2.938735877055719e-39


def spread(rng, n, sigma):
    """Values as they are sent and as they are read."""
    return [float(f"{math.exp(rng.gauss(-2, sigma)):.9g}") for _ in range(n)]


RNG = random.Random(20)
VALUES = {
    # Within a factor of 100,000, of 1e9, and of what doubles hold.
    "lab.took": spread(RNG, 4000, 1),
    "lab.ranging": spread(RNG, 4000, 3),
    "lab.anything": spread(RNG, 400, 60),
    # 0, what counts as zero, what is below, and infinity.
    "lab.odd": [-5.0, -1e-12, 0.0, 1e-300, -1e-39, 3.0, 4.0, 5.0, 6.0, math.inf],
    "lab.one": [0.25],
}
# These come in two parts with scrapes between them.
PACED = (spread(RNG, 500, 0.5), [10 * value for value in spread(RNG, 1000, 0.5)])


def exposed(name):
    return name.replace(".", "_")


def send(port, name, values):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for first in range(0, len(values), 20):
            lines = [f"{name}:{value:.9g}|h" for value in values[first : first + 20]]
            sender.send("\n".join(lines).encode())
            time.sleep(0.0005)


def exact_quantile(values, q):
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


class NativePrometheus(Prometheus):
    def query(self, expression, at=None):
        """As in the base class; rows that are native histograms are left out."""
        return [(labels, value) for labels, value in super().query(expression, at)
                if value is not None]

    @staticmethod
    def _value(row):
        return float(row["value"][1]) if "value" in row else None

    def histogram(self, expression, at):
        """The one native histogram that an expression gives: {count, sum, buckets}, as floats."""
        query = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"})
        answer = json.loads(http_request(self.port, f"/api/v1/query?{query}").body)
        rows = answer["data"]["result"]
        if len(rows) != 1 or "histogram" not in rows[0]:
            raise AssertionError(f"{expression}: {answer}")
        found = rows[0]["histogram"][1]
        return {
            "count": float(found["count"]),
            "sum": float(found["sum"]),
            "buckets": [
                (float(low), float(high), float(count))
                for _, low, high, count in found.get("buckets", [])
            ],
        }


@needs("prometheus")
class NativeHistogramsTest(unittest.TestCase):
    """Three daemons, one for each form, get the same; a Prometheus with the feature scrapes all of
    them, one without it scrapes two."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            enter = cls.stack.enter_context
            cls.began = time.time()
            cls.daemons = {
                "native": enter(Daemon("--shards=2", "--web.native-histograms=native")),
                "both": enter(Daemon("--shards=2")),
                "classic": enter(
                    Daemon("--shards=2", "--web.native-histograms=classic",
                           "--web.created-timestamps")
                ),
            }
            ports = {form: daemon.port("http") for form, daemon in cls.daemons.items()}
            cls.native = enter(NativePrometheus(ports, "--enable-feature=native-histograms"))
            cls.plain = enter(Prometheus({form: ports[form] for form in ("both", "classic")}))
            for prometheus, forms in ((cls.native, ports), (cls.plain, ("both", "classic"))):
                for form in forms:
                    wait_for(f"the first scrape of {form}",
                             lambda p=prometheus, f=form: p.value(f'up{{job="{f}"}}') == 1, 30, 0.2)
            cls.started = time.time()
            cls.send_all()
            # Two scrapes see the final values.
            time.sleep(3)
            cls.ended = time.time()
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def send_all(cls):
        emitters = []
        for daemon in cls.daemons.values():
            # Nonsense of all kinds, all the time.
            emitters.append(cls.stack.enter_context(Emitter(daemon.port("udp"))))
        for daemon in cls.daemons.values():
            port = daemon.port("udp")
            send(port, "lab.paced", PACED[0])
            for name, values in VALUES.items():
                # By two sockets, so that both shards may have a cell.
                send(port, name, values[::2])
                send(port, name, values[1::2])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", port))
                for i in range(0, WIDE, 20):
                    lines = [b"lab.wide_total:%d|c|#i:%d" % (n, n) for n in range(i, i + 20)]
                    sender.send(b"\n".join(lines))
                    time.sleep(0.0005)
        time.sleep(2.5)
        for daemon in cls.daemons.values():
            send(daemon.port("udp"), "lab.paced", PACED[1])
        for emitter in emitters:
            emitter.stop()
        for daemon in cls.daemons.values():
            daemon.settle()

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def each_native(self):
        for form in ("native", "both"):
            for name, values in VALUES.items():
                yield f'{exposed(name)}{{job="{form}"}}', values

    def test_up_throughout(self):
        window = int(self.ended - self.started)
        for prometheus, forms in ((self.native, 3), (self.plain, 2)):
            rows = prometheus.query(f"min_over_time(up[{window}s])", self.ended)
            self.assertEqual([value for _, value in rows], [1] * forms)
            for target in prometheus.targets():
                self.assertEqual((target["health"], target["lastError"]), ("up", ""))

    def test_count_and_sum(self):
        for series, values in self.each_native():
            self.assertEqual(self.native.value(f"histogram_count({series})", self.ended),
                             len(values), series)
            total = self.native.value(f"histogram_sum({series})", self.ended)
            self.assertTrue(
                total == sum(values) or math.isclose(total, sum(values), rel_tol=1e-9), series)

    def test_every_value_is_in_its_bucket(self):
        """The buckets that Prometheus shows hold exactly the values that were sent."""
        for series, values in self.each_native():
            ordered = sorted(values)
            found = self.native.histogram(series, self.ended)
            self.assertEqual(found["count"], len(values))
            self.assertEqual(sum(count for _, _, count in found["buckets"]), len(values))
            self.assertLessEqual(len(found["buckets"]), 161)  # and that of zero
            for low, high, count in found["buckets"]:
                if low >= ZERO_THRESHOLD:
                    within = bisect.bisect_right(ordered, high) - bisect.bisect_right(ordered, low)
                elif high > 0:
                    within = sum(-high <= value <= high for value in values)
                else:
                    within = sum(value < -ZERO_THRESHOLD for value in values)
                self.assertEqual(count, within, (series, low, high))

    def test_quantiles_are_within_a_bucket(self):
        for form in ("native", "both"):
            for name in ("lab.took", "lab.ranging", "lab.anything"):
                series = f'{exposed(name)}{{job="{form}"}}'
                buckets = self.native.histogram(series, self.ended)["buckets"]
                factor = min(high / low for low, high, _ in buckets if low > 0)
                for q in (0.01, 0.25, 0.5, 0.9, 0.99, 0.999):
                    with self.subTest(f"{form} {name} {q}"):
                        shown = self.native.value(f"histogram_quantile({q}, {series})", self.ended)
                        exact = exact_quantile(VALUES[name], q)
                        if exact <= ZERO_THRESHOLD:
                            self.assertLessEqual(abs(shown), ZERO_THRESHOLD)
                            continue
                        self.assertLessEqual(shown / exact, factor * 1.000001)
                        self.assertGreaterEqual(shown / exact, 1 / factor / 1.000001)

    def test_the_resolution_is_what_the_range_allows(self):
        for name, factor in (("lab.took", 2 ** (1 / 8)), ("lab.ranging", 2 ** (1 / 4)),
                             ("lab.anything", 2 ** 4)):
            buckets = self.native.histogram(f'{exposed(name)}{{job="both"}}', self.ended)["buckets"]
            shown = min(high / low for low, high, _ in buckets if low > 0)
            self.assertLessEqual(shown, factor * 1.0001, name)

    def test_odd_values(self):
        series = 'lab_odd{job="both"}'
        # Two of ten are below zero: a quantile among them is not known.
        self.assertTrue(math.isnan(
            self.native.value(f"histogram_quantile(0.1, {series})", self.ended)))
        self.assertAlmostEqual(
            self.native.value(f"histogram_quantile(0.4, {series})", self.ended), 0, places=30)
        self.assertAlmostEqual(
            self.native.value(f"histogram_quantile(0.7, {series})", self.ended), 4, delta=0.4)
        buckets = self.native.histogram(series, self.ended)["buckets"]
        self.assertEqual(buckets[0], (-math.inf, -OVERFLOW, 2))
        self.assertEqual(buckets[-1], (OVERFLOW, math.inf, 1))

    def test_rate(self):
        window = int(self.ended - self.began) + 1
        for form in ("native", "both"):
            rate = f'rate(lab_paced{{job="{form}"}}[{window}s])'
            for q in (0.1, 0.5, 0.9):
                shown = self.native.value(f"histogram_quantile({q}, {rate})", self.ended)
                self.assertAlmostEqual(shown / exact_quantile(PACED[1], q), 1, delta=0.1)
            average = self.native.value(
                f"histogram_sum({rate}) / histogram_count({rate})", self.ended)
            self.assertAlmostEqual(average / (sum(PACED[1]) / len(PACED[1])), 1, places=6)

    def test_fraction(self):
        series = 'lab_took{job="both"}'
        values = VALUES["lab.took"]
        for bound in (2 ** -4, 2 ** -3, 1):  # bounds of every schema
            shown = self.native.value(f"histogram_fraction(0, {bound}, {series})", self.ended)
            exact = sum(value <= bound for value in values) / len(values)
            self.assertAlmostEqual(shown, exact, places=9)

    def test_classic_where_it_is_asked_for(self):
        """In classic form there is no native histogram; in the others there are no le series."""
        for form in ("native", "both"):
            self.assertEqual(
                self.native.query(f'lab_took_bucket{{job="{form}"}}', self.ended), [])
        for prometheus, form in ((self.native, "classic"), (self.plain, "both"),
                                 (self.plain, "classic")):
            with self.subTest(f"{form} {prometheus is self.native}"):
                values = VALUES["lab.took"]
                self.assertEqual(
                    prometheus.value(f'lab_took_count{{job="{form}"}}', self.ended), len(values))
                rows = prometheus.query(f'lab_took_bucket{{job="{form}"}}', self.ended)
                shown = {float(labels["le"]): value for labels, value in rows}
                exact = {
                    bound: sum(value <= bound for value in values)
                    for bound in (.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, math.inf)
                }
                self.assertEqual(shown, exact)
                self.assertEqual(
                    prometheus.query(f'histogram_count(lab_took{{job="{form}"}})', self.ended), [])

    def test_a_family_of_many_pages(self):
        for prometheus, form in ((self.native, "native"), (self.native, "classic"),
                                 (self.plain, "both")):
            rows = prometheus.query(f'lab_wide_total{{job="{form}"}}', self.ended)
            self.assertEqual({int(labels["i"]): value for labels, value in rows},
                             {i: i for i in range(WIDE)})

    def test_everything_else_is_as_in_text(self):
        """All that is no histogram came as protobuf as it comes as text."""
        shown = self.daemons["native"].scrape()
        histograms = {
            name for name, family in shown.families.items() if family.type == "histogram"
        }

        def of_histogram(name):
            return name.removesuffix("_bucket").removesuffix("_sum").removesuffix(
                "_count") in histograms

        expected = {
            key: value for key, value in shown.user_samples().items() if not of_histogram(key[0])
        }
        ours = "tallyd_.*|process_.*|up|scrape_.*"
        stored = {}
        for labels, value in self.native.query(
                f'{{job="native",__name__!~"{ours}"}}', self.ended):
            name = labels.pop("__name__")
            for extra in ("job", "instance"):
                labels.pop(extra)
            stored[(name, tuple(sorted(labels.items())))] = value
        self.assertEqual(set(stored), set(expected))
        for key, value in expected.items():
            self.assertTrue(same(stored[key], value), (key, stored[key], value))

    def test_own_metrics(self):
        for form in ("native", "both", "classic"):
            difference = self.native.value(
                f'sum(tallyd_received_samples_total{{job="{form}"}})'
                f' - sum(tallyd_applied_samples_total{{job="{form}"}})'
                f' - sum(tallyd_dropped_samples_total{{job="{form}"}})', self.ended)
            self.assertEqual(difference, 0)
            self.assertGreater(self.native.value(
                f'tallyd_merge_duration_seconds_count{{job="{form}"}}', self.ended), 0)

    def test_created_lines(self):
        """Off they are not there; on, Prometheus stores them as series."""
        self.assertEqual(self.plain.query('lab_took_created{job="both"}', self.ended), [])
        for name in ("lab_took", "lab_odd"):
            created = self.plain.value(f'{name}_created{{job="classic"}}', self.ended)
            self.assertGreaterEqual(created, math.floor(self.began))
            self.assertLessEqual(created, self.ended)
        rows = self.plain.query('lab_wide_created{job="classic"}', self.ended)
        self.assertEqual(len(rows), WIDE)
        self.assertEqual(self.native.query("lab_took_created", self.ended), [])

    def test_negotiation(self):
        port = self.daemons["both"].port("http")
        for accept, expected in (
            (PROTOBUF, "application/vnd.google.protobuf; "
                       "proto=io.prometheus.client.MetricFamily; encoding=delimited"),
            ("application/vnd.google.protobuf", "text/plain; version=0.0.4; charset=utf-8"),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ):
            answer = http_request(port, "/metrics", headers={"Accept": accept})
            self.assertEqual((answer.status, answer.content_type), (200, expected))
        zipped = http_request(
            port, "/metrics", headers={"Accept": PROTOBUF, "Accept-Encoding": "gzip"})
        self.assertEqual(zipped.headers["content-encoding"], "gzip")
        self.assertLess(len(zipped.raw_body), len(zipped.body) / 3)


if __name__ == "__main__":
    unittest.main()
