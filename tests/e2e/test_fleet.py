"""Three tallyds write through vmagent into two nodes; one address answers for all, throughout."""

import base64
import contextlib
import json
import threading
import time
import unittest
import urllib.parse

from harness import SLOWNESS, Daemon, http_request, needs, scratch, wait_for
from receivers import VictoriaMetrics, VmAgent, VmAuth, config

HOSTS = 3


class Asker(threading.Thread):
    """Asks vmauth a question again and again, and keeps what was answered.

    vmauth 1.79 takes the nodes in turn and does not look whether they are up: who is answered 502
    asks again.
    """

    TRIES = 4

    def __init__(self, ask):
        super().__init__(daemon=True)
        self._ask = ask
        self._ended = threading.Event()
        self.answers = []
        self.errors = []

    def run(self):
        while not self._ended.wait(0.2):
            for attempt in range(self.TRIES):
                try:
                    self.answers.append(self._ask())
                    break
                except Exception as error:  # pylint: disable=broad-except
                    if attempt + 1 == self.TRIES:
                        self.errors.append(repr(error))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(20)


@needs("victoria-metrics", "vmagent", "vmauth")
class FleetTest(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        directory = stack.enter_context(scratch())
        self.nodes = [stack.enter_context(VictoriaMetrics()) for _ in range(2)]
        self.agent = stack.enter_context(VmAgent(*[node.url() for node in self.nodes]))
        self.auth = stack.enter_context(VmAuth(*[node.url("") for node in self.nodes]))
        self.hosts = [
            stack.enter_context(Daemon("--shards=1", config(directory, {
                "url": self.agent.url(), "interval": "500ms",
                "external_labels": {"instance": f"host{i}"}})))
            for i in range(HOSTS)]
        self.sent = 0

    def send(self):
        """To each host another number, for two sites."""
        for number, host in enumerate(self.hosts, 1):
            host.send_udp(*[b"requests:%d|c|#site:%s\ntook:%d|ms" % (number, site, number * 100)
                            for site in (b"a", b"b")])
            self.sent += number * 2

    def ask(self, expression, server=None):
        """The value of an expression, through vmauth."""
        server = server or self.auth
        fields = urllib.parse.urlencode({"query": expression})
        token = base64.b64encode(b"reader:secret").decode()
        answer = http_request(server.port, f"/api/v1/query?{fields}",
                              headers={"Authorization": f"Basic {token}"})
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.body[:200]!r}")
        rows = json.loads(answer.body)["data"]["result"]
        return float(rows[0]["value"][1]) if rows else None

    def everywhere(self, servers, expression="sum(requests)", expected=None):
        expected = self.sent if expected is None else expected

        def exact():
            for node in self.nodes:
                with contextlib.suppress(OSError):
                    http_request(node.port, "/internal/force_flush")
            return all(self.ask(expression, server) == expected for server in servers)

        wait_for(f"{expression} = {expected}", exact, 30, 0.2)

    def test_the_fleet_is_summed_exactly_while_a_node_dies_and_comes_back(self):
        self.send()
        self.everywhere([self.auth, *self.nodes])
        # Histograms of one layout add up too, bucket by bucket.
        self.everywhere([self.auth], "sum(took_count)", 2 * HOSTS)
        self.everywhere([self.auth], 'sum(took_bucket{le="0.25"})', 4)
        self.everywhere([self.auth], "count(count by (instance) (requests))", HOSTS)

        first, second = self.nodes
        with Asker(lambda: self.ask("count(requests)")) as asker:
            first.kill()
            self.send()
            self.everywhere([second])
            time.sleep(2 * SLOWNESS)
            self.send()
            self.everywhere([second])
            began = time.time()
            first.start()
            self.everywhere([first, second])
            self.everywhere([self.auth])
        self.assertEqual(asker.errors, [])
        self.assertGreater(len(asker.answers), 10)
        # vmagent kept what the node missed: it has samples of the time when it was away.
        self.assertGreater(self.ask(f"sum(count_over_time(requests[{int(time.time() - began + 2)}s]))",
                                    first), 0)
        for host in self.hosts:
            ledger = host.ledger()
            self.assertTrue(ledger.at_rest(), ledger)
            dropped = host.scrape(path="/-/metrics").total("tallyd_push_dropped_total")
            self.assertEqual(dropped, 0, "vmagent took everything")


if __name__ == "__main__":
    unittest.main()
