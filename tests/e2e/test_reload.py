"""The mapping file, and reading it again under way: nothing is lost, and a broken one changes nothing."""

import os
import pathlib
import signal
import subprocess
import threading
import time
import unittest

from harness import BIN, SLOWNESS, Daemon, scratch, tally_load
from test_conservation import ConservationTest

RULES = """
mappings:
- match: "app.*.requests"
  name: requests
  help: Requests by service.
  labels: {service: "$1"}
- match: "app.*.took"
  name: took_seconds
  observer_type: %s
  %s
  labels: {service: "$1"}
- match: "debug.*"
  action: drop
  name: unused
"""
HISTOGRAM = ("histogram", "histogram_options: {buckets: [1, 2]}")
BROKEN = "mappings:\n- match: 'a.*'\n  nmae: oops\n"


class MappingFile:
    def __init__(self, directory, text):
        self.path = pathlib.Path(directory) / "mapping.yaml"
        self.write(text)

    def write(self, text):
        self.path.write_text(text)

    @property
    def flag(self):
        return f"--statsd.mapping-config={self.path}"


class ReloadTest(unittest.TestCase):
    def setUp(self):
        self.scratch = scratch()
        self.file = MappingFile(self.scratch.__enter__(), RULES % HISTOGRAM)

    def tearDown(self):
        self.scratch.__exit__(None, None, None)

    def reload(self, daemon, status=200):
        answer = daemon.get("/-/reload", method="POST")
        self.assertEqual(answer.status, status, answer.body)
        return answer.body.decode()

    def send(self, daemon, *lines):
        before = daemon.ledger().received
        daemon.send_udp(*lines)
        daemon.settle(received=before + len(lines))
        return daemon.scrape()

    def test_the_file_is_used(self):
        with Daemon(self.file.flag) as daemon:
            scrape = self.send(daemon, "app.web.requests:2|c", "app.web.took:1500|ms", "debug.x:1|c")
            self.assertEqual(scrape.value("requests", service="web"), 2)
            self.assertEqual(scrape.value("took_seconds_bucket", service="web", le="2"), 1)
            self.assertEqual(scrape.value("took_seconds_count", service="web"), 1)
            self.assertEqual(daemon.ledger().reasons, {"mapping_drop": 1})

    def test_new_rules(self):
        with Daemon(self.file.flag, "--web.enable-lifecycle") as daemon:
            self.send(daemon, "app.web.requests:2|c", "app.web.took:1500|ms", "other:1|c")
            self.file.write(RULES % ("histogram", "histogram_options: {buckets: [5]}"))
            self.reload(daemon)
            scrape = self.send(
                daemon, "app.web.requests:3|c", "app.web.took:1500|ms", "other:1|c", "debug.x:1|c"
            )
            self.assertEqual(scrape.value("requests", service="web"), 5, "the same series goes on")
            self.assertEqual(scrape.value("other"), 2)
            self.assertEqual(scrape.value("took_seconds_count", service="web"), 1, "new buckets")
            self.assertEqual(scrape.value("took_seconds_bucket", service="web", le="5"), 1)
            self.file.write(RULES % ("summary", ""))
            self.reload(daemon)
            scrape = self.send(daemon, "app.web.took:1500|ms")
            self.assertEqual(scrape.value("took_seconds_count", service="web"), 1)
            median = scrape.value("took_seconds", service="web", quantile="0.5")
            self.assertAlmostEqual(median, 1.5, delta=0.02)

    def test_hangup_reloads(self):
        with Daemon(self.file.flag) as daemon:
            self.send(daemon, "x:1|c")
            self.file.write("mappings: [{match: x, name: renamed}]\n")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.logged('msg="reloaded"')
            scrape = self.send(daemon, "x:1|c")
            self.assertEqual((scrape.value("x"), scrape.value("renamed")), (1, 1))

    def test_a_broken_file_changes_nothing(self):
        with Daemon(self.file.flag, "--web.enable-lifecycle") as daemon:
            self.send(daemon, "app.web.requests:2|c")
            self.file.write(BROKEN)
            said = self.reload(daemon, status=500)
            self.assertIn("mapping.yaml:3", said)
            self.assertIn("nmae", said)
            scrape = self.send(daemon, "app.web.requests:1|c", "debug.x:1|c")
            self.assertEqual(scrape.value("requests", service="web"), 3)
            self.assertEqual(scrape.value("tallyd_config_last_reload_successful"), 0)
            self.assertEqual(daemon.ledger().reasons, {"mapping_drop": 1})
            self.file.path.unlink()
            self.assertIn("mapping.yaml", self.reload(daemon, status=500))
            self.file.write(RULES % HISTOGRAM)
            self.reload(daemon)
            self.assertEqual(daemon.scrape().value("tallyd_config_last_reload_successful"), 1)

    def test_it_does_not_start_with_a_broken_file(self):
        self.file.write(BROKEN)
        ended = subprocess.run(
            [BIN / "tallyd", self.file.flag, "--statsd.listen-udp=127.0.0.1:0",
             "--statsd.listen-tcp=", "--web.listen-address="],
            capture_output=True, text=True, timeout=20 * SLOWNESS, check=False,
        )
        self.assertEqual(ended.returncode, 2)
        self.assertIn("mapping.yaml:3", ended.stderr + ended.stdout)


class ReloadUnderLoadTest(ConservationTest):
    RELOADS = 100

    def reload_while(self, daemon, file, texts, sending):
        """Reloads one text after the other, over and over; returns how often it took one."""
        taken = 0
        for i in range(self.RELOADS):
            text = texts[i % len(texts)]
            file.write(text)
            status = daemon.get("/-/reload", method="POST", timeout=30).status
            self.assertEqual(status, 500 if text == BROKEN else 200)
            taken += status == 200
            if sending.is_alive():
                time.sleep(0.03 * SLOWNESS)
        return taken

    def test_no_series_is_disturbed(self):
        lines = int(600_000 / SLOWNESS)
        with scratch() as directory:
            file = MappingFile(directory, RULES % HISTOGRAM)
            with Daemon(file.flag, "--web.enable-lifecycle", "--statsd.read-buffer=8388608",
                        "--shards=2") as daemon:
                account = {}
                expectation = pathlib.Path(directory) / "expect.jsonl"

                def send():
                    account.update(tally_load(
                        "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--lines", lines,
                        "--rate", int(100_000 / SLOWNESS), "--senders", 4, "--series", 3000,
                        "--tags", 3, "--mix", "60:0:40:0", "--sample-rates", 0.2,
                        "--expect", expectation,
                    ))

                sending = threading.Thread(target=send)
                sending.start()
                other = RULES % ("summary", "")
                taken = self.reload_while(
                    daemon, file, [RULES % HISTOGRAM, BROKEN, other, "mappings: []\n"], sending)
                sending.join()
                self.assertGreater(taken, 50)
                ledger = daemon.settle(received=account["samples"])
                self.assert_nothing_lost(account, ledger)
                self.assert_series_match(daemon.scrape(), expectation)

    def test_samples_go_to_one_of_the_names(self):
        first = "mappings: [{match: 'k.*', name: first, labels: {key: '$1'}}]\n"
        second = "mappings: [{match: 'k.*', name: second, labels: {key: '$1'}}]\n"
        with scratch() as directory:
            file = MappingFile(directory, first)
            with Daemon(file.flag, "--web.enable-lifecycle", "--statsd.read-buffer=8388608",
                        "--shards=2") as daemon:
                sent = 0
                stop = threading.Event()

                def send():
                    nonlocal sent
                    while not stop.is_set():
                        daemon.send_udp(*(f"k.{i % 50}:1|c" for i in range(sent, sent + 500)))
                        sent += 500
                        time.sleep(0.01)

                sending = threading.Thread(target=send)
                sending.start()
                self.reload_while(daemon, file, [second, BROKEN, first], sending)
                stop.set()
                sending.join()
                ledger = daemon.settle(received=sent)
                self.assertEqual((ledger.applied, ledger.lost), (sent, 0))
                scrape = daemon.scrape()
                self.assertEqual(scrape.total("first") + scrape.total("second"), sent)
                self.assertGreater(scrape.total("first"), 0)
                self.assertGreater(scrape.total("second"), 0)


if __name__ == "__main__":
    unittest.main()
