"""Remote write to Debian's Prometheus and VictoriaMetrics: all series, exactly, whatever happens."""

import pathlib
import re
import time
import unittest

from harness import (BIN, SLOWNESS, Daemon, Timeout, have, needs, run_tallyd, scratch, tally_load,
                     wait_for)
from line_tables import same
from receivers import PrometheusReceiver, ScriptedReceiver, VictoriaMetrics, config

LINES = [b"app.requests:%d|c|#site:shop,code:200\napp.depth:%d|g\napp.took:%d|ms|#site:a\"b\\c"
         % (i, i, i * 7) for i in range(100)] + [b"app.users:u%d|s" % i for i in range(10)]


def emit(daemon, lines=tuple(LINES)):
    before = daemon.ledger().received
    daemon.send_udp(*lines)
    return daemon.settle(before + sum(line.count(b"\n") + 1 for line in lines))


class RemoteWriteCase(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(scratch())

    def enterContext(self, context):  # of Python 3.11, for those that have 3.10
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def tallyd(self, *targets, flags=(), **keywords):
        targets = [{"interval": "500ms", **target} for target in targets]
        return self.enterContext(
            Daemon("--shards=2", config(self.directory, *targets), *flags, **keywords))

    def assert_same_series(self, receiver, daemon, seconds=15):
        """Waits until the receiver shows all that a scrape shows, and nothing else."""
        shown = daemon.scrape().user_samples()
        self.assertGreater(len(shown), 0)
        stored = {}

        def equal():
            stored.clear()
            stored.update(receiver.samples())
            return set(stored) == set(shown) and all(
                same(stored[key], value) for key, value in shown.items())

        try:
            wait_for("all series at the receiver", equal, seconds, 0.2)
        except Timeout:
            self.assertEqual(stored, shown)

    def push(self, daemon, name, **labels):
        """The sum of one of the families tallyd_push_*, over the labels not said."""
        series = daemon.scrape(path="/-/metrics").series(name)
        return sum(value for found, value in series.items()
                   if set(labels.items()) <= set(found))

    def assert_account(self, daemon):
        ledger = daemon.ledger()
        self.assertTrue(ledger.at_rest(), ledger)
        self.assertEqual(ledger.kernel_dropped, 0)


@needs("prometheus")
class PrometheusTest(RemoteWriteCase):
    def test_all_series(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "external_labels": {"site": "outer"}})
        emit(daemon)
        shown = {}
        for (name, labels), value in daemon.scrape().user_samples().items():
            own = dict(labels)
            own.setdefault("site", "outer")  # a series' own label wins
            shown[(name, tuple(sorted(own.items())))] = value
        wait_for("all series", lambda: receiver.samples() == shown, 15, 0.2)
        jobs = {labels["job"] for labels, _ in receiver.query('{job!=""}')}
        self.assertEqual(jobs, {"tallyd"})
        # The daemon's own account comes too.
        self.assertGreater(receiver.value("sum(tallyd_received_samples_total)"), 0)
        self.assertEqual(self.push(daemon, "tallyd_push_dropped_total"), 0)
        self.assert_account(daemon)

    def test_what_does_not_go(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "own_metrics": False,
                              "families": {"include": ["app_*"], "exclude": ["app_took"]}})
        emit(daemon)
        wait_for("series", lambda: len(receiver.samples()) == 3, 15, 0.2)
        self.assertEqual({name for name, _ in receiver.samples()},
                         {"app_requests", "app_depth", "app_users"})
        self.assertEqual(receiver.query('{__name__=~"tallyd_.*"}'), [])

    def test_killed_and_started_again(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url()})
        emit(daemon)
        self.assert_same_series(receiver, daemon)
        receiver.kill()
        emit(daemon)
        wait_for("failures", lambda: self.push(daemon, "tallyd_push_failures_total") > 3)
        self.assertIn("does not take data", daemon.get("/-/ready").body.decode())
        emit(daemon)
        receiver.start()
        self.assert_same_series(receiver, daemon, 30)
        self.assertEqual(self.push(daemon, "tallyd_push_dropped_total", reason="rejected"), 0)
        self.assertEqual(self.push(daemon, "tallyd_push_dropped_total", reason="too_old"), 0)
        self.assertEqual(daemon.get("/-/ready").body.decode().strip(), "tallyd is ready.")
        self.assert_account(daemon)

    def test_receiver_switched_off(self):
        receiver = self.enterContext(PrometheusReceiver(receives=False))
        daemon = self.tallyd({"url": receiver.url(), "name": "main"})
        ready = wait_for("the refusal", lambda: "refused" in (
            text := daemon.get("/-/ready").body.decode()) and text)
        self.assertIn("remote_write main: refused: status 404", ready)
        self.assertIn("remote-write-receiver", ready, "the answer that names the flag")
        requests = self.push(daemon, "tallyd_push_failures_total")
        time.sleep(2)
        self.assertEqual(self.push(daemon, "tallyd_push_failures_total"), requests)
        emit(daemon)
        self.assert_account(daemon)

    def test_a_series_that_leaves_ends(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url()}, flags=("--series.ttl=1s",))
        daemon.send_udp(b"gone:1|c")
        wait_for("the series", lambda: receiver.value("gone") == 1, 15, 0.1)
        wait_for("its end", lambda: receiver.query("gone") == [], 15, 0.2)

    def test_a_clean_stop_tells_the_last_values_and_ends_all_series(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "interval": "60s"})
        wait_for("the first round", lambda: self.push(
            daemon, "tallyd_push_last_success_timestamp_seconds") > 0)
        emit(daemon, [b"last:42|c"])
        self.assertEqual(daemon.stop(), 0)
        now = time.time()
        self.assertEqual(receiver.query("last", now + 1), [])
        self.assertEqual([value for _, value in receiver.query("max_over_time(last[1m])")], [42])

    def test_a_clean_stop_may_leave_the_series(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "interval": "60s", "on_exit": "keep"})
        wait_for("the first round", lambda: self.push(
            daemon, "tallyd_push_last_success_timestamp_seconds") > 0)
        emit(daemon, [b"last:42|c"])
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(receiver.value("last"), 42)

    def test_version_2_falls_back(self):
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "protocol": "2.0"})
        emit(daemon)
        self.assert_same_series(receiver, daemon)
        self.assertIn("does not know remote write 2.0", daemon.log())

    def test_what_another_sender_spoils_is_found_and_left_out(self):
        """A series that somebody else wrote with a later timestamp is out of order for us."""
        receiver = self.enterContext(PrometheusReceiver())
        later = self.tallyd({"url": receiver.url(), "interval": "200ms", "external_labels": {
            "instance": "x"}, "families": {"include": ["spoilt"]}, "own_metrics": False,
                             "on_exit": "keep"})
        emit(later, [b"spoilt:1|c"])
        wait_for("the other's series", lambda: receiver.value("spoilt") == 1, 15, 0.1)
        # Answers of 400 come for batches that hold a sample older than the other's last.
        daemon = self.tallyd({"url": receiver.url(), "external_labels": {"instance": "x"},
                              "own_metrics": False})
        emit(daemon, [b"spoilt:9|c", *LINES])
        stored = lambda: {key: value for key, value in receiver.samples().items()
                          if key[0] != "spoilt"}
        shown = {key: value for key, value in daemon.scrape().user_samples().items()
                 if key[0] != "spoilt"}
        wait_for("the others", lambda: stored() == shown, 20, 0.2)


@needs("prometheus")
class NativeTest(RemoteWriteCase):
    TIMES = [b"app.took:%d|ms" % ms for ms in range(1, 201)]

    def test_native_histograms(self):
        receiver = self.enterContext(PrometheusReceiver(native=True))
        daemon = self.tallyd({"url": receiver.url(), "histograms": "native"})
        emit(daemon, self.TIMES)
        wait_for("the histogram", lambda: receiver.value("histogram_count(app_took)") == 200, 15,
                 0.2)
        self.assertAlmostEqual(receiver.value("histogram_sum(app_took)"), 20.1, places=6)
        median = receiver.value("histogram_quantile(0.5, app_took)")
        self.assertAlmostEqual(median, 0.1, delta=0.01)
        self.assertEqual(receiver.query("app_took_count"), [])

    def test_both_forms(self):
        receiver = self.enterContext(PrometheusReceiver(native=True))
        daemon = self.tallyd({"url": receiver.url(), "histograms": "both"})
        emit(daemon, self.TIMES)
        wait_for("the histogram", lambda: receiver.value("histogram_count(app_took)") == 200, 15,
                 0.2)
        self.assertEqual(receiver.value("app_took_count"), 200)

    def test_a_receiver_without_them_gets_classic_ones(self):
        """It answers 500 for ever."""
        receiver = self.enterContext(PrometheusReceiver())
        daemon = self.tallyd({"url": receiver.url(), "histograms": "native"})
        emit(daemon, [*self.TIMES, *LINES])
        self.assert_same_series(receiver, daemon, 20)
        self.assertIn("takes no native histograms", daemon.log())
        self.assertGreater(self.push(daemon, "tallyd_push_dropped_total", reason="rejected"), 0)
        self.assert_account(daemon)


@needs("victoria-metrics")
class VictoriaMetricsTest(RemoteWriteCase):
    def test_all_series(self):
        receiver = self.enterContext(VictoriaMetrics())
        daemon = self.tallyd({"url": receiver.url()})
        emit(daemon)
        self.assert_same_series(receiver, daemon, 20)
        self.assertEqual(self.push(daemon, "tallyd_push_dropped_total"), 0)

    def test_version_2_falls_back(self):
        receiver = self.enterContext(VictoriaMetrics())
        daemon = self.tallyd({"url": receiver.url(), "protocol": "2.0"})
        emit(daemon)
        self.assert_same_series(receiver, daemon, 20)

    @unittest.skipUnless((BIN / "tally-load").exists(), "needs tally-load")
    def test_many_series_and_a_restart_under_load(self):
        receiver = self.enterContext(VictoriaMetrics())
        daemon = self.tallyd({"url": receiver.url(), "interval": "1s"})
        lines = int(200_000 / SLOWNESS)
        account = tally_load("--to", f"udp://127.0.0.1:{daemon.port()}", "--lines", lines,
                             "--rate", int(50_000 / SLOWNESS), "--series", 5_000)
        receiver.kill()
        more = tally_load("--to", f"udp://127.0.0.1:{daemon.port()}", "--lines", lines,
                          "--rate", int(50_000 / SLOWNESS), "--series", 5_000)
        receiver.start()
        daemon.settle(account["samples"] + more["samples"])
        self.assert_same_series(receiver, daemon, 30)
        self.assert_account(daemon)
        self.assertEqual(daemon.ledger().received, account["samples"] + more["samples"])


class ScriptedTest(RemoteWriteCase):
    def test_headers(self):
        receiver = self.enterContext(ScriptedReceiver())
        self.tallyd({"url": receiver.url(), "headers": {"X-Scope-OrgID": "team"}})
        wait_for("requests", lambda: len(receiver.requests) > 3)
        for path, headers, _ in receiver.requests:
            self.assertEqual(path, "/api/v1/write")
            self.assertEqual(headers["Content-Type"], "application/x-protobuf")
            self.assertEqual(headers["Content-Encoding"], "snappy")
            self.assertEqual(headers["X-Prometheus-Remote-Write-Version"], "0.1.0")
            self.assertEqual(headers["X-Scope-OrgID"], "team")
            self.assertTrue(headers["User-Agent"].startswith("tallyd"))

    def test_waits_as_long_as_it_is_asked_to(self):
        receiver = self.enterContext(ScriptedReceiver(lambda _: (429, {"Retry-After": "3"})))
        daemon = self.tallyd({"url": receiver.url()})
        wait_for("a request", lambda: receiver.requests)
        time.sleep(2.5)
        self.assertEqual(len(receiver.requests), 1)
        receiver.answer = lambda _: 204
        wait_for("success", lambda: self.push(
            daemon, "tallyd_push_last_success_timestamp_seconds") > 0)

    def test_a_redirect_is_no_success(self):
        other = self.enterContext(ScriptedReceiver())
        receiver = self.enterContext(ScriptedReceiver(lambda _: (301, {"Location": other.url()})))
        daemon = self.tallyd({"url": receiver.url()})
        wait_for("the refusal", lambda: "refused: status 301" in daemon.get(
            "/-/ready").body.decode())
        self.assertEqual(other.requests, [])

    def test_a_batch_that_fails_for_ever_is_bisected(self):
        """A series whose name is in the body makes a 500; all else is taken."""
        names = [b"fam%d:1|c" % i for i in range(400)]
        poison = b"fam123"
        taken = set()

        def answer(request):
            families = set(re.findall(rb"fam\d+", unsnappy(request[2])))
            if poison in families:
                return 500
            taken.update(families)
            return 204

        receiver = self.enterContext(ScriptedReceiver(answer))
        daemon = self.tallyd({"url": receiver.url(), "interval": "5s"})
        daemon.send_udp(*names)
        wait_for("the culprit", lambda: self.push(
            daemon, "tallyd_push_dropped_total", reason="rejected") > 0, 20)
        wait_for("all others", lambda: len(taken) >= 399, 20)
        self.assertIn("fam123", daemon.log())
        self.assert_account(daemon)

    def test_a_dead_target_costs_neither_samples_nor_memory(self):
        daemon = self.tallyd({"url": "http://127.0.0.1:1/api/v1/write", "interval": "200ms"})
        lines = [b"series%d:1|c" % i for i in range(2_000)]
        emit(daemon, lines)
        time.sleep(1)
        before = daemon.status_kib("VmRSS")
        for _ in range(10):
            emit(daemon, lines)
            time.sleep(0.3)
        self.assertLess(daemon.status_kib("VmRSS"), before * 1.1 + 4_096)
        self.assertGreater(self.push(daemon, "tallyd_push_failures_total", cause="connect"), 3)
        self.assert_account(daemon)
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - began, 8 * SLOWNESS)

    def test_version_2_where_it_is_known(self):
        """Such a receiver says what it wrote. It is sent 2.0 on and on."""
        def answer(request):
            if "write.v2" not in request[1]["Content-Type"]:
                return 204
            return 204, {"X-Prometheus-Remote-Write-Samples-Written": "100000",
                         "X-Prometheus-Remote-Write-Histograms-Written": "0",
                         "X-Prometheus-Remote-Write-Exemplars-Written": "0"}

        receiver = self.enterContext(ScriptedReceiver(answer))
        daemon = self.tallyd({"url": receiver.url(), "protocol": "2.0"})
        wait_for("requests", lambda: len(receiver.requests) > 6)
        versions = [headers["X-Prometheus-Remote-Write-Version"]
                    for _, headers, body in receiver.requests if len(body) > 1]
        self.assertEqual(set(versions), {"2.0.0"})
        self.assertGreater(self.push(daemon, "tallyd_push_stored_series_total"), 0)


def unsnappy(block):
    """A snappy block as its bytes; of the format's description."""
    size, at, shift = 0, 0, 0
    while True:
        byte = block[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    out = bytearray()
    while at < len(block):
        tag = block[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(block[at:at + extra], "little")
                at += extra
            out += block[at:at + length + 1]
            at += length + 1
            continue
        if kind == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at]
            at += 1
        else:
            length = (tag >> 2) + 1
            width = 2 if kind == 2 else 4
            offset = int.from_bytes(block[at:at + width], "little")
            at += width
        for _ in range(length):
            out.append(out[-offset])
    assert len(out) == size
    return bytes(out)


@unittest.skipUnless(have("prometheus", "faketime"), "needs prometheus and faketime")
class ClockTest(RemoteWriteCase):
    def test_a_step_of_the_wall_clock_suspends(self):
        receiver = self.enterContext(PrometheusReceiver())
        stamp = pathlib.Path(self.directory) / "clock"
        stamp.write_text("+0")
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime*.so.1"))
        daemon = self.tallyd({"url": receiver.url()}, env={
            "PATH": "/usr/bin:/bin", "LD_PRELOAD": str(library), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(stamp), "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
        emit(daemon)
        self.assert_same_series(receiver, daemon)
        stamp.write_text("+10d")
        wait_for("the suspension", lambda: self.push(daemon, "tallyd_push_clock_suspended") == 1)
        emit(daemon)
        time.sleep(4)
        self.assertEqual(self.push(daemon, "tallyd_push_clock_suspended"), 1)
        self.assertIn("suspended", daemon.get("/-/ready").body.decode())
        future = receiver.query("app_depth", time.time() + 10 * 24 * 3600)
        self.assertEqual(future, [], "nothing from the future")
        stamp.write_text("+0")
        wait_for("the end of it", lambda: self.push(daemon, "tallyd_push_clock_suspended") == 0)
        self.assert_same_series(receiver, daemon)
        self.assert_account(daemon)


class ConfigTest(RemoteWriteCase):
    def refused(self, *targets):
        code, _, error = run_tallyd("--check-config", config(self.directory, *targets))
        self.assertEqual(code, 2)
        return error

    def test_each_slip_is_named(self):
        url = "http://127.0.0.1:9090/api/v1/write"
        error = self.refused(
            {"url": "http://127.0.0.1:9090"},
            {"url": url, "protocol": "3.0"},
            {"url": url, "histograms": "all"},
            {"url": url, "external_labels": {"le": "1"}},
            {"url": url, "headers": {"Content-Type": "x"}},
            {"url": url, "on_exit": "delete"},
            {"url": url, "maxage": "5m"},
            {"interval": "5s"})
        for slip in ("has no path", "not 1.0 or 2.0", "not classic or native or both",
                     "external_labels.le", "headers.Content-Type", "not stale or keep",
                     "did you mean max_age?", "has no url"):
            self.assertIn(slip, error)

    def test_two_targets_of_one_name(self):
        url = "http://127.0.0.1:9090/api/v1/write"
        self.assertIn("two targets", self.refused({"url": url}, {"url": url}))

    def test_the_flag(self):
        receiver = self.enterContext(ScriptedReceiver())
        self.enterContext(Daemon(f"--push.remote-write-url={receiver.url()}",
                                 "--push.interval=500ms"))
        wait_for("a request", lambda: receiver.requests)

    def test_the_report(self):
        code, report, _ = run_tallyd("--check-config", config(
            self.directory, {"url": "http://127.0.0.1:9090/api/v1/write", "name": "main"}))
        self.assertEqual(code, 0)
        self.assertIn("remote write", report)


if __name__ == "__main__":
    unittest.main()
