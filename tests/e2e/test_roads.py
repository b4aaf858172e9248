"""One Prometheus gets the same series over all roads at once: it scrapes tallyd, as text and as
protobuf, scrapes the Pushgateway that tallyd pushes to, and receives tallyd's remote write."""

import contextlib
import json
import math
import pathlib
import random
import re
import time
import unittest
import urllib.parse

from harness import (TEXT, AcceptProxy, Daemon, Prometheus, Timeout, away_from_a_turn, free_port,
                     http_request, needs, scratch, wait_for)
from line_tables import same
from test_pushgateway import Pushgateway

# Jobs: what comes over a road has its name.
TEXT_SCRAPE, PROTOBUF_SCRAPE, PUSHED, WRITTEN = "text", "protobuf", "pushed", "written"
CLASSIC_ROADS = (TEXT_SCRAPE, PUSHED, WRITTEN)
NATIVE_ROADS = (PROTOBUF_SCRAPE, WRITTEN)

CATALOG = """
service: shop
mode: open
metrics:
- name: shop_wait_seconds
  type: histogram
  help: Waiting.
  sources: [wait]
  labels: {op: {values: [read, write]}}
  buckets: [1, 2, 5]
- name: shop_orders_total
  type: counter
  help: Orders.
  labels: {kind: {values: [new, old]}}
"""
MAPPING = {"mappings": [{"match": "app.spent.*", "name": "app_spent", "observer_type": "summary",
                         "labels": {"by": "$1"}}]}
OWN = "tallyd_.*|process_.*|up|scrape_.*|push_time_seconds|push_failure_time_seconds"


def lines():
    rng = random.Random(7)
    made = [b"app.odd:%s|h" % text for text in
            (b"-5", b"-1e-12", b"0", b"1e-300", b"3", b"4", b"5", b"6")]
    for i in range(400):
        made.append(b"app.requests:%d|c|#code:%d,site:s%d" % (i, 200 + i % 3, i % 7))
        made.append(b"app.depth:%.9g|g|#queue:q%d" % (rng.gauss(0, 1e6), i % 11))
        made.append(b"app.took:%.9g|ms|#site:s%d" % (math.exp(rng.gauss(3, 2)), i % 5))
        made.append(b"app.spent.p%d:%.9g|ms" % (i % 3, math.exp(rng.gauss(3, 1))))
    made += [b"app.users:u%d|s" % i for i in range(30)]
    made += ["app.names:1|c|#path:/a\"b\\c,town:Żółć ☃,empty:".encode(), b"app.big:9007199254740991|c",
             b"app.rate:1|c|@0.3", b"shop_orders_total:3|c|#kind:new"]
    return made


def normal(name, labels):
    """A series as each road has it. Where Prometheus reads protobuf it writes le="1" as "1.0", also
    of what others pushed to the gateway; and it has no empty labels."""
    return name, tuple(sorted((label, float(text) if label in ("le", "quantile") else text)
                              for label, text in labels if text))


class OnePrometheus(Prometheus):
    SCRAPE_INTERVAL = "2s"  # on a busy machine a Pushgateway may take a second to answer

    def samples(self, job):
        """{(name, labels): value} of the floats of a job; native histograms are left out."""
        found = {}
        for row in self._rows(job):
            if "value" in row:
                found[self._key(row)] = float(row["value"][1])
        return found

    def histograms(self, job):
        """{(name, labels): (count, sum, buckets)} of the native histograms of a job."""
        found = {}
        for row in self._rows(job):
            if "histogram" in row:
                shown = row["histogram"][1]
                found[self._key(row)] = (float(shown["count"]), float(shown["sum"]),
                                         tuple(map(tuple, shown.get("buckets") or ())))
        return found

    def _rows(self, job):
        expression = f'{{job="{job}",__name__!~"{OWN}"}}'
        answer = http_request(
            self.port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return json.loads(answer.body)["data"]["result"]

    @staticmethod
    def _key(row):
        return normal(row["metric"]["__name__"], [
            (name, text) for name, text in row["metric"].items()
            if name not in ("job", "instance", "__name__")])


class State:
    """What tallyd shows, and what one Prometheus has of it over each road, at about one time."""

    def __init__(self, daemon, prometheus):
        scrape = daemon.scrape()
        self.shown = {normal(*key): value for key, value in scrape.user_samples().items()}
        self.families = {name for name, family in scrape.families.items()
                         if family.type == "histogram"}
        self.samples = {job: prometheus.samples(job) for job in (*CLASSIC_ROADS, PROTOBUF_SCRAPE)}
        self.histograms = {job: prometheus.histograms(job) for job in NATIVE_ROADS}

    def expected(self, job):
        if job in CLASSIC_ROADS:
            return self.shown
        return {key: value for key, value in self.shown.items()
                if re.sub("_(bucket|sum|count)$", "", key[0]) not in self.families}

    def of_histograms(self):
        """{(family, labels): (count, sum)}"""
        return {(key[0].removesuffix("_count"), key[1]):
                (value, self.shown[key[0].removesuffix("_count") + "_sum", key[1]])
                for key, value in self.shown.items()
                if key[0].removesuffix("_count") in self.families and key[0].endswith("_count")}

    def differences(self):
        found = []
        for job, stored in self.samples.items():
            expected = self.expected(job)
            found += [(job, "missing", key) for key in expected.keys() - stored.keys()]
            found += [(job, "too much", key) for key in stored.keys() - expected.keys()]
            found += [(job, key, stored[key], value) for key, value in expected.items()
                      if key in stored and not same(stored[key], value)]
        for job, stored in self.histograms.items():
            expected = self.of_histograms()
            found += [(job, "native", key, expected.get(key), stored.get(key))
                      for key in expected.keys() | stored.keys()
                      if key not in stored or key not in expected or
                      not all(map(same, stored[key][:2], expected[key]))]
        first, second = (self.histograms[job] for job in NATIVE_ROADS)
        found += [("buckets", key) for key in first if first[key] != second.get(key)]
        return found


@needs("prometheus", "prometheus-pushgateway")
class RoadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            cls.start()
            cls.started = time.time()
            cls.empty = cls.state()
            # tallyd may have begun to push before Prometheus listened.
            cls.pushes_before = cls.daemon.scrape(path="/-/metrics")
            away_from_a_turn(20)
            sent = lines()
            for first in range(0, len(sent), 50):
                cls.daemon.send_udp(*sent[first:first + 50])
                time.sleep(0.05)  # scrapes and pushes come in between
            cls.daemon.settle(received=len(sent))
            cls.full = cls.state()
            cls.daemon.send_udp(b"wait:1500|ms|#op:read")
            cls.daemon.settle(received=len(sent) + 1)
            cls.first = cls.state()
            cls.ended = time.time()
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    @classmethod
    def start(cls):
        enter = cls.stack.enter_context
        directory = pathlib.Path(enter(scratch()))
        (directory / "catalog.yaml").write_text(CATALOG)
        (directory / "mapping.yaml").write_text(json.dumps(MAPPING))
        cls.gateway = enter(Pushgateway())
        web = free_port()
        text = enter(AcceptProxy(web, TEXT))
        cls.prometheus = OnePrometheus(
            {TEXT_SCRAPE: text.port, PROTOBUF_SCRAPE: web, "gateway": cls.gateway.port},
            "--web.enable-remote-write-receiver", "--enable-feature=native-histograms")
        (directory / "tallyd.yaml").write_text(json.dumps({
            "series": {"limit": 50_000},
            "push": {
                "interval": "500ms",
                "pushgateway": [{"url": cls.gateway.url, "job": PUSHED, "own_metrics": True}],
                "remote-write": [{
                    "url": f"http://127.0.0.1:{cls.prometheus.port}/api/v1/write",
                    "histograms": "both", "external_labels": {"job": WRITTEN}}]}}))
        cls.daemon = enter(Daemon(
            "--shards=2", f"--config.file={directory}/tallyd.yaml",
            f"--catalog.file={directory}/catalog.yaml",
            f"--statsd.mapping-config={directory}/mapping.yaml", "--merge.interval=200ms",
            web=f"127.0.0.1:{web}"))
        enter(cls.prometheus)
        for job in (TEXT_SCRAPE, PROTOBUF_SCRAPE, "gateway"):
            wait_for(f"the first scrape of {job}",
                     lambda j=job: cls.prometheus.value(f'up{{job="{j}"}}') == 1, 30, 0.2)

    @classmethod
    def state(cls):
        """Once all roads have brought everything, or when it takes too long."""
        with contextlib.suppress(Timeout):
            return wait_for("equality", cls.state_if_equal, 15, 0.3)
        return State(cls.daemon, cls.prometheus)

    @classmethod
    def state_if_equal(cls):
        state = State(cls.daemon, cls.prometheus)
        return None if state.differences() else state

    def test_all_roads_bring_the_same(self):
        self.assertGreater(len(self.full.shown), 100)
        self.assertEqual({self.full.shown[key] for key in self.full.shown if key[0] == "app_big"},
                         {2**53 - 1})
        for state in (self.empty, self.full, self.first):
            self.assertEqual(state.differences(), [])

    def test_a_declared_histogram_is_there_before_its_first_sample(self):
        for op in ("read", "write"):
            key = ("shop_wait_seconds", (("op", op),))
            for job in NATIVE_ROADS:
                with self.subTest(f"{op} {job}"):
                    for state in (self.empty, self.full):
                        self.assertEqual(state.histograms[job][key], (0, 0, ()))
                    count, total, buckets = self.first.histograms[job][key]
                    self.assertEqual((count, total), (1, 1.5) if op == "read" else (0, 0))
                    self.assertEqual(len(buckets), 1 if op == "read" else 0)
            for job in CLASSIC_ROADS:
                for suffix in ("count", "sum"):
                    name = (f"shop_wait_seconds_{suffix}", (("op", op),))
                    self.assertEqual(self.empty.samples[job][name], 0)
        # It can be asked as others can: of nothing there is no quantile.
        quantile = self.prometheus.value(
            'histogram_quantile(0.5, shop_wait_seconds{job="written",op="write"})', self.ended)
        self.assertTrue(math.isnan(quantile))

    def test_up_throughout(self):
        window = int(self.ended - self.started)
        for job in (TEXT_SCRAPE, PROTOBUF_SCRAPE, "gateway"):
            self.assertEqual(self.prometheus.value(
                f'min_over_time(up{{job="{job}"}}[{window}s])', self.ended), 1, job)
        for target in self.prometheus.targets():
            self.assertEqual((target["health"], target["lastError"]), ("up", ""))
        self.assertNotIn("level=error", self.prometheus.process.log())
        pushes = self.daemon.scrape(path="/-/metrics")
        for family in ("tallyd_push_failures_total", "tallyd_push_dropped_total"):
            self.assertEqual(pushes.total(family), self.pushes_before.total(family), family)

    def test_the_account_is_the_same_everywhere(self):
        for job in (*CLASSIC_ROADS, PROTOBUF_SCRAPE):
            def total(name, j=job):
                return self.prometheus.value(f'sum(tallyd_{name}_samples_total{{job="{j}"}})')

            received = wait_for(f"the account by {job}", lambda t=total: t("received"))
            self.assertEqual(received, len(lines()) + 1)
            self.assertEqual(received, total("applied") + total("dropped"))


if __name__ == "__main__":
    unittest.main()
