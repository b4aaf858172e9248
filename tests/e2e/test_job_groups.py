"""Jobs under tallyctl run have groups of their own in Debian's Pushgateway, for as long as they may."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import harness
from harness import Daemon, needs, scratch, wait_for
from test_pushgateway import Pushgateway, config, push_metric

CHILD = """
import os, socket, sys, time
unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
unix.connect(os.environ["STATSD_SOCKET"])
for i in range(int(sys.argv[1])):
    unix.send(b"rows:1|c|#table:users\\nlast:%d|g\\ntook:250|ms" % i)
exec(sys.argv[2])
"""
SLEEP = "print(os.getpid(), flush=True)\ntime.sleep(30)"


@needs("prometheus-pushgateway")
class JobGroupsTest(unittest.TestCase):
    def setUp(self):
        directory = self.enterContext(scratch())
        self.directory = pathlib.Path(directory)
        self.gateway = self.enterContext(Pushgateway())

    def enterContext(self, context):  # pylint: disable=invalid-name
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def daemon(self, *flags, **target):
        target = {"url": self.gateway.url, "name": "gw", "job": "main", "interval": "500ms",
                  "grouping": {"instance": "host"}, **target}
        return Daemon(f"--admin.socket={self.directory / 'admin.sock'}",
                      config(self.directory, [target]), *flags)

    def argv(self, count, then="pass", ttl="1h", job="nightly"):
        return [str(harness.BIN / "tallyctl"), "run", f"--job={job}", "--instance=a/b",
                "--grouping=zone=eu", f"--ttl={ttl}", f"--socket={self.directory / 'admin.sock'}",
                "--", sys.executable, "-c", CHILD, str(count), then]

    def run_job(self, *arguments, **keywords):
        done = subprocess.run(self.argv(*arguments, **keywords), capture_output=True, check=False,
                              timeout=30 * harness.SLOWNESS)
        return done.returncode

    def start_job(self, *arguments, **keywords):
        process = subprocess.Popen(self.argv(*arguments, **keywords), stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        return process, int(process.stdout.readline())

    def group(self, job="nightly"):
        """{name or (name, table or le): value} of what the gateway has of the job."""
        values = {}
        for (name, labels), value in self.gateway.samples(job=job).items():
            rest = dict(labels)
            self.assertEqual([rest.pop(key) for key in ("job", "instance", "zone")],
                             [job, "a/b", "eu"])
            values[(name, *rest.values()) if rest else name] = value
        return values

    def wait_for_end(self, exit_code, job="nightly"):
        wait_for("the job's end at the gateway",
                 lambda: self.group(job).get("tallyd_job_exit_code") == exit_code, 20)
        return self.group(job)

    def wait_until_gone(self):
        wait_for("the group to be gone",
                 lambda: b'job="nightly"' not in harness.http_request(
                     self.gateway.port, "/metrics").body, 20)

    def assert_sent(self, group, count):
        self.assertEqual(group[("rows", "users")], count)
        self.assertEqual(group["last"], count - 1)
        self.assertEqual(group["took_count"], count)
        self.assertEqual(group["took_sum"], count * 0.25)
        self.assertEqual(group[("took_bucket", "+Inf")], count)

    def test_a_job_is_at_the_gateway_whole_and_goes_in_time(self):
        # The target's own beat comes too late for all this: the end of the job is what counts.
        with self.daemon(interval="1h") as daemon:
            daemon.send_udp(b"others:5|c")
            self.assertEqual(self.run_job(300, ttl="3s"), 0)
            group = self.wait_for_end(0)
            self.assert_sent(group, 300)
            self.assertEqual(group["tallyd_job_success"], 1)
            self.assertEqual(group["tallyd_job_running"], 0)
            self.assertAlmostEqual(group["tallyd_job_last_success_timestamp_seconds"], time.time(),
                                   delta=10 * harness.SLOWNESS)
            self.assertNotIn("others", group)
            self.wait_until_gone()
            wait_for("the group to be forgotten",
                     lambda: push_metric(daemon, "tallyd_push_job_groups", target="gw") == 0)

    def test_the_targets_own_group_leaves_the_jobs_series_out(self):
        with self.daemon() as daemon:
            daemon.send_udp(b"rows:5|c|#table:users")
            self.run_job(3)
            self.assert_sent(self.wait_for_end(0), 3)
            rows = {(("instance", "host"), ("job", "main"), ("table", "users")): 5}
            wait_for("the target's own group", lambda: {
                labels: value for (name, labels), value in self.gateway.samples(job="main").items()
                if name == "rows"} == rows)
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual({name for name, _ in self.gateway.samples(job="main")}, {"rows"})
        self.assert_sent(self.group(), 3)

    def test_a_job_with_the_targets_labels_goes_with_its_group(self):
        with self.daemon(job="nightly", grouping={"zone": "eu", "instance": "a/b"}) as daemon:
            self.run_job(3)
            own = {"job": "nightly", "instance": "a/b", "zone": "eu", "exported_job": "nightly",
                   "exported_instance": "a/b", "exported_zone": "eu"}
            wait_for("the job's series in the target's group",
                     lambda: self.gateway.samples(**own, table="users"))
            self.assertEqual(list(self.gateway.samples(**own, table="users").values()), [3])
            self.assertEqual(push_metric(daemon, "tallyd_push_job_groups", target="gw"), 0)

    def test_a_job_is_pushed_while_it_runs_and_when_it_is_killed(self):
        with self.daemon():
            process, pid = self.start_job(7, SLEEP, ttl="3s")
            wait_for("the running job at the gateway", lambda: self.group().get("last") == 6)
            self.assertEqual(self.group()["tallyd_job_running"], 1)
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(process.wait(20 * harness.SLOWNESS), 137)
            self.assert_sent(self.wait_for_end(137), 7)
            self.wait_until_gone()

    def test_tallyctl_is_killed(self):
        with self.daemon(interval="1h"):
            process, pid = self.start_job(9, SLEEP, ttl="3s")
            try:
                process.kill()
                process.wait()
                group = self.wait_for_end(-1)
                self.assert_sent(group, 9)
                self.assertEqual(group["tallyd_job_success"], 0)
                self.wait_until_gone()
            finally:
                os.kill(pid, signal.SIGKILL)

    def test_a_gateway_that_was_away_gets_the_group_when_it_is_back(self):
        with self.daemon() as daemon:
            self.gateway.process.kill()
            self.assertEqual(self.run_job(4), 0)
            wait_for("a failure", lambda: push_metric(
                daemon, "tallyd_push_failures_total", target="gw", cause="connect") > 0)
            self.gateway.start()
            self.assert_sent(wait_for("the group", lambda: self.reached_group(), 30), 4)

    def reached_group(self):
        try:
            group = self.group()
        except OSError:
            return None
        return group if "tallyd_job_exit_code" in group else None

    def test_a_job_that_runs_when_tallyd_ends_is_pushed_or_deleted(self):
        # More than once: the end is a race of timers, renderings and requests.
        for on_exit in 4 * ("keep", "delete"):
            with self.subTest(on_exit), self.daemon(interval="1h", on_exit=on_exit) as daemon:
                process, pid = self.start_job(5, SLEEP, job=on_exit)
                self.assertEqual(daemon.stop(), 0)
                os.kill(pid, signal.SIGKILL)
                process.wait(20 * harness.SLOWNESS)
                if on_exit == "keep":
                    self.assert_sent(self.group("keep"), 5)
                    self.assertEqual(self.group("keep")["tallyd_job_exit_code"], -1)
                else:
                    wait_for("the group to be gone", lambda: self.group("delete") == {})

    def restarted(self):
        """A daemon that goes on where the one before it was."""
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        return self.daemon(f"--state.directory={state}", interval="1h")

    def shown(self, daemon, name):
        return daemon.scrape().value(f"tallyd_job_{name}", job="nightly", instance="a/b", zone="eu")

    def test_what_is_known_of_a_job_outlives_tallyd(self):
        with self.restarted() as daemon:
            self.assertEqual(self.run_job(6), 0)
            self.wait_for_end(0)
            success = self.shown(daemon, "last_success_timestamp_seconds")
            self.assertEqual(daemon.stop(), 0)
        with self.restarted() as daemon:
            wait_for("the job", lambda: self.shown(daemon, "success") == 1)
            self.assertEqual(self.shown(daemon, "last_success_timestamp_seconds"), success)
            self.assert_sent(self.group(), 6)
            # Whose its series are is known too: the target's own group leaves them out.
            self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.gateway.samples(job="main"), {})

    def test_a_group_goes_in_time_though_tallyd_was_killed(self):
        with self.restarted() as daemon:
            # Longer than it takes to look at it and to kill tallyd.
            self.run_job(6, ttl=f"{8 if harness.SLOWNESS == 1 else 16}s")
            self.wait_for_end(0)
            wait_for("the file", lambda: b"exit_code" in self.job_file())
            daemon.stop(signal.SIGKILL)
        time.sleep(1)
        self.assert_sent(self.group(), 6)
        with self.restarted():
            self.wait_until_gone()

    def job_file(self):
        try:
            return (self.directory / "state/jobs").read_bytes()
        except FileNotFoundError:
            return b""

    def test_a_job_that_ran_when_tallyd_was_killed(self):
        """What the gateway has of it stays, though the new tallyd may know less."""
        with self.restarted() as daemon:
            process, pid = self.start_job(7, SLEEP, ttl="1h")
            wait_for("the beginning", lambda: self.group().get("tallyd_job_running") == 1)
            wait_for("the file", lambda: b"running 1" in self.job_file())
            self.gateway.put("/metrics/job/nightly/instance@base64/YS9i/zone/eu",
                             "rows 7\ntallyd_job_running 1\n")
            daemon.stop(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        process.wait(20 * harness.SLOWNESS)
        (self.directory / "state/state").unlink()
        with self.restarted() as daemon:
            group = self.wait_for_end(-1)
            self.assertEqual((group["tallyd_job_running"], group["tallyd_job_success"]), (0, 0))
            self.assertEqual(group["rows"], 7)
            self.assertEqual(self.shown(daemon, "exit_code"), -1)
            # The next run says all anew.
            self.assertEqual(self.run_job(2), 0)
            group = self.wait_for_end(0)
            self.assert_sent(group, 2)
            self.assertNotIn("rows", group)

    def test_what_is_inconsistent_is_left_out_and_filters_hold(self):
        self.gateway.put("/metrics/job/other", "# TYPE last counter\nlast 1\n")
        with self.daemon(interval="1h", families={"exclude": ["took"]}) as daemon:
            self.run_job(2)
            group = self.wait_for_end(0)
            self.assertEqual(group[("rows", "users")], 2)
            self.assertNotIn("last", group)
            self.assertNotIn("took_count", group)
            self.assertGreaterEqual(push_metric(
                daemon, "tallyd_push_dropped_total", target="gw", reason="rejected"), 1)


if __name__ == "__main__":
    unittest.main()
