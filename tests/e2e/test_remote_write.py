"""Remote write to Debian's Prometheus and VictoriaMetrics: all series, exactly, whatever happens."""

import pathlib
import subprocess
import time
import unittest

from harness import BIN, SLOWNESS, http_request, needs, tally_load, wait_for
from receivers import PrometheusReceiver, VictoriaMetrics
from remote_write_case import LINES, RemoteWriteCase, emit
from test_push_listener import push_port


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

    def test_what_was_pushed_and_what_is_known_of_jobs_goes_too(self):
        receiver = self.enterContext(PrometheusReceiver())
        admin = pathlib.Path(self.directory) / "admin.sock"
        daemon = self.tallyd(
            {"url": receiver.url(), "own_metrics": False, "families": {"exclude": ["hidden*"]}},
            flags=("--push.listen-address=127.0.0.1:0", f"--admin.socket={admin}",
                   "--push.instance=here"))
        port = push_port(daemon)
        body = b"""# TYPE done counter
done{of="pages"} 3
# TYPE took histogram
took_bucket{le="1"} 2
took_sum 9.5
took_count 4
# TYPE spent summary
spent{quantile="0.5"} 7
spent_sum 8
spent_count 2
level -1.5
hidden 1
"""
        path = "/metrics/job/import"
        self.assertEqual(http_request(port, path, "PUT", body=body).status, 200)
        # A group without an instance is told from those of other hosts.
        group = 'job="import",instance="here"'
        for series, value in ((f'done{{of="pages",{group}}}', 3), (f"level{{{group}}}", -1.5),
                              (f'took_bucket{{le="1",{group}}}', 2), (f"took_sum{{{group}}}", 9.5),
                              (f'took_bucket{{le="+Inf",{group}}}', 4),
                              (f'spent{{quantile="0.5",{group}}}', 7),
                              (f"spent_count{{{group}}}", 2)):
            wait_for(series, lambda s=series, v=value: receiver.value(s) == v, 15, 0.2)
        self.assertGreater(receiver.value(f"push_time_seconds{{{group}}}"), time.time() - 600)
        self.assertEqual(receiver.query("hidden"), [])
        done = subprocess.run(
            [BIN / "tallyctl", "run", "--job=nightly", f"--socket={admin}", "--", "sh", "-c",
             "exit 3"], check=False, timeout=30 * SLOWNESS)
        self.assertEqual(done.returncode, 3)
        exit_code = 'tallyd_job_exit_code{job="nightly",instance="here"}'
        wait_for("the job", lambda: receiver.value(exit_code) == 3, 15, 0.2)
        self.assertEqual(receiver.query("tallyd_received_samples_total"), [], "the daemon's own")
        http_request(port, path, "DELETE")
        wait_for("the end of the group", lambda: receiver.query("done") == [], 15, 0.2)
        self.assertEqual(self.push(daemon, "tallyd_push_dropped_total"), 0)

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
        daemon.logged("does not know remote write 2.0")

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
        daemon.logged("takes no native histograms")
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
        lines = int(100_000 / SLOWNESS)
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


if __name__ == "__main__":
    unittest.main()
