"""tallyctl run: what a job sends is counted under its labels, and how it ended is shown, always."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from harness import Daemon, wait_for

# Sends by each road that a client may take, then does what it is told.
CHILD = """
import os, socket, sys, time
unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
unix.connect(os.environ["DD_DOGSTATSD_SOCKET"])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((os.environ["STATSD_HOST"], int(os.environ["STATSD_PORT"])))
for i in range(int(sys.argv[1])):
    unix.send(b"rows:1|c|#table:users,job:forged\\nlast:%d|g" % i)
    udp.send(b"packets:1|c")
unix.send(b"took:0.5:0.7|h|@0.5|#a:b\\n_e{1,1}:a|b")
exec(sys.argv[2])
"""


# Sends one datagram for each of its arguments.
SEND = """
import os, socket, sys
unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
unix.connect(os.environ["STATSD_SOCKET"])
for datagram in sys.argv[1:]:
    unix.send(datagram.encode())
"""

# Sends to the UDP port while nobody reads it: TALLYD COUNT DATAGRAM [SIGNAL]. tallyd finds the signal,
# too, when it goes on.
UNREAD = """
import os, signal, socket, sys
tallyd = int(sys.argv[1])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((os.environ["STATSD_HOST"], int(os.environ["STATSD_PORT"])))
os.kill(tallyd, signal.SIGSTOP)
try:
    for _ in range(int(sys.argv[2])):
        udp.send(sys.argv[3].encode())
    for number in sys.argv[4:]:
        os.kill(tallyd, int(number))
finally:
    os.kill(tallyd, signal.SIGCONT)
"""


class JobTestBase(unittest.TestCase):
    """A daemon, and jobs that run with it."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tallyd-e2e-")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.socket = self.directory / "admin.sock"
        self.daemon = Daemon(f"--admin.socket={self.socket}", *self.more_flags())
        self.addCleanup(self.daemon.close)

    def more_flags(self):
        return ()

    def command(self, *command, flags=(), admin=None):
        return [str(harness.BIN / "tallyctl"), "run", "--job=nightly", "--instance=a",
                f"--socket={admin or self.socket}", *flags, "--", *map(str, command)]

    def run_job(self, *command, flags=(), admin=None, **keywords):
        return subprocess.run(
            self.command(*command, flags=flags, admin=admin), capture_output=True, check=False,
            timeout=30 * harness.SLOWNESS, **keywords)

    def child(self, count, then="pass"):
        return sys.executable, "-c", CHILD, count, then

    def scrape(self):
        time.sleep(0.15)  # a scrape may be answered with a snapshot that is this old
        return self.daemon.scrape()

    def ended(self, scrape, name):
        return scrape.value(f"tallyd_job_{name}", job="nightly", instance="a")


class JobTest(JobTestBase):
    def test_a_job_is_counted_whole(self):
        done = self.run_job(*self.child(500), flags=["--grouping=zone=eu"])
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        scrape = self.scrape()
        labels = {"job": "nightly", "instance": "a", "zone": "eu"}
        self.assertEqual(scrape.value("rows", table="users", **labels), 500)
        self.assertEqual(scrape.value("last", **labels), 499)
        self.assertEqual(scrape.value("packets", **labels), 500)
        self.assertEqual(scrape.value("took_count", a="b", **labels), 4)
        self.assertEqual(scrape.value("tallyd_job_success", **labels), 1)
        self.assertEqual(scrape.value("tallyd_job_running", **labels), 0)
        ledger = self.daemon.ledger()
        self.assertTrue(ledger.at_rest())
        self.assertEqual((ledger.received, ledger.lost), (1502, 0))
        self.assertEqual(ledger.events.get("event"), 1)
        own = self.daemon.scrape(path="/-/metrics")
        self.assertEqual(own.value("tallyd_job_sessions_total", result="success"), 1)
        self.assertEqual(own.value("tallyd_job_sessions"), 0)
        self.assertEqual(list(self.directory.glob("*.job-*")), [])

    def test_a_job_that_lives_for_a_moment_and_dies_by_a_signal(self):
        began = time.time()
        kill = "import signal; os.kill(os.getpid(), signal.SIGKILL)"
        done = self.run_job(*self.child(3, kill))
        self.assertEqual(done.returncode, 137)
        scrape = self.scrape()
        self.assertEqual(scrape.value("rows", table="users", job="nightly", instance="a"), 3)
        self.assertEqual(self.ended(scrape, "exit_code"), 137)
        self.assertEqual(self.ended(scrape, "success"), 0)
        self.assertIsNone(self.ended(scrape, "last_success_timestamp_seconds"))
        self.assertAlmostEqual(self.ended(scrape, "started_timestamp_seconds"), began,
                               delta=5 * harness.SLOWNESS)

    def test_a_job_that_crashes_is_counted_whole(self):
        for number in (signal.SIGSEGV, signal.SIGABRT):
            with self.subTest(number.name):
                # Without a core file, which some machines would be slow to write.
                crash = ("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
                         f"os.kill(os.getpid(), {int(number)})")
                done = self.run_job(*self.child(50, crash), flags=[f"--grouping=by={number.name}"])
                self.assertEqual(done.returncode, 128 + number)
                scrape = self.scrape()
                labels = {"job": "nightly", "instance": "a", "by": number.name}
                self.assertEqual(scrape.value("rows", table="users", **labels), 50)
                self.assertEqual(scrape.value("packets", **labels), 50)
                self.assertEqual(scrape.value("tallyd_job_exit_code", **labels), 128 + number)
                self.assertEqual(scrape.value("tallyd_job_running", **labels), 0)

    def test_a_failure_keeps_the_time_of_the_last_success(self):
        self.assertEqual(self.run_job("true").returncode, 0)
        success = self.ended(self.scrape(), "last_success_timestamp_seconds")
        self.assertAlmostEqual(success, time.time(), delta=5 * harness.SLOWNESS)
        self.assertEqual(self.run_job("sh", "-c", "sleep 0.2; exit 7").returncode, 7)
        scrape = self.scrape()
        self.assertEqual(self.ended(scrape, "last_success_timestamp_seconds"), success)
        self.assertEqual(self.ended(scrape, "exit_code"), 7)
        self.assertGreaterEqual(self.ended(scrape, "duration_seconds"), 0.2)
        self.assertEqual(self.run_job("/nowhere/command").returncode, 127)
        self.assertEqual(self.run_job("/").returncode, 126)

    def test_standard_streams_are_the_commands(self):
        done = self.run_job("sh", "-c", "cat; echo err >&2", input=b"in\n")
        self.assertEqual((done.stdout, done.stderr), (b"in\n", b"err\n"))

    def start(self, then):
        process = subprocess.Popen(
            self.command(*self.child(2, then)), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        pid = int(process.stdout.readline())
        return process, pid

    def test_signals_reach_the_command(self):
        process, _ = self.start(
            "import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(9))\n"
            "print(os.getpid(), flush=True)\ntime.sleep(20)")
        self.assertEqual(self.ended(self.scrape(), "running"), 1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(10 * harness.SLOWNESS), 9)
        self.assertEqual(self.ended(self.scrape(), "exit_code"), 9)

    def test_tallyctl_is_killed(self):
        process, pid = self.start("print(os.getpid(), flush=True)\ntime.sleep(20)")
        try:
            process.kill()
            process.wait()
            wait_for("the end", lambda: self.ended(self.daemon.scrape(), "running") == 0)
            scrape = self.scrape()
            self.assertEqual(self.ended(scrape, "exit_code"), -1)
            self.assertEqual(self.ended(scrape, "success"), 0)
            self.assertEqual(scrape.value("rows", table="users", job="nightly", instance="a"), 2)
            own = self.daemon.scrape(path="/-/metrics")
            self.assertEqual(own.value("tallyd_job_sessions_total", result="lost"), 1)
        finally:
            os.kill(pid, signal.SIGKILL)

    def test_time_to_live(self):
        self.run_job("true", flags=["--ttl=500ms"])
        self.assertEqual(self.ended(self.scrape(), "success"), 1)
        wait_for("the group to go", lambda: self.ended(self.scrape(), "success") is None, 5)

    def test_series_go_with_their_job(self):
        self.run_job(*self.child(4), flags=["--ttl=1s"])
        job = {"job": "nightly", "instance": "a"}
        self.assertEqual(self.scrape().value("rows", table="users", **job), 4)
        wait_for("the series to go", lambda: not any(
            ("job", "nightly") in labels for _, labels in self.scrape().samples), 20)
        own = self.daemon.scrape(path="/-/metrics")
        self.assertEqual(own.value("tallyd_series"), 0, "they take no room in the budget")
        self.assertTrue(self.daemon.ledger().at_rest())

    def test_lines_of_all_kinds_are_the_jobs(self):
        self.run_job(sys.executable, "-c", SEND, "influx,t=x:1|c\nlibrato#t=x:2|c",
                     "signalfx[t=x]:3|c", "several:1|c:2|c", "packed:1:2:3|h", "rated:1|c|@0.5",
                     "contained:1|c|c:id")
        scrape = self.scrape()
        job = {"job": "nightly", "instance": "a"}
        for value, name in enumerate(("influx", "librato", "signalfx"), 1):
            self.assertEqual(scrape.value(name, t="x", **job), value)
        self.assertEqual(scrape.value("several", **job), 3)
        self.assertEqual(scrape.value("packed_count", **job), 3)
        self.assertEqual(scrape.value("rated", **job), 2)
        self.assertEqual(scrape.value("contained", container_id="id", **job), 1)
        ledger = self.daemon.ledger()
        self.assertEqual((ledger.received, ledger.lost), (10, 0))

    def test_what_the_kernel_drops_is_counted(self):
        count = 4000
        self.run_job(sys.executable, "-c", UNREAD, self.daemon.pid, count,
                     "flood:1|c|#" + "x" * 1300)
        own = self.daemon.scrape(path="/-/metrics")
        dropped = own.value("tallyd_kernel_dropped_datagrams_total", listener="jobs:sessions")
        received = own.value("tallyd_received_datagrams_total", listener="jobs:sessions")
        self.assertGreater(dropped, 0)
        self.assertEqual(received + dropped, count)
        self.assertEqual(self.scrape().value("flood", job="nightly", instance="a"), received)

    def test_without_a_daemon(self):
        nobody = self.directory / "nobody.sock"
        done = self.run_job("sh", "-c", "exit 5", admin=nobody)
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"the command runs without it", done.stderr)
        done = self.run_job("touch", self.directory / "ran", admin=nobody, flags=["--require"])
        self.assertEqual((done.returncode, (self.directory / "ran").exists()), (1, False))

    def test_what_is_refused(self):
        for flags in (["--grouping=a"], ["--grouping=a=b,c"], ["--grouping=__a=b"], ["--ttl=x"]):
            with self.subTest(flags):
                done = self.run_job("true", flags=[*flags, "--require"])
                self.assertIn(done.returncode, (1, 2))
                self.assertIn(b"tallyctl: ", done.stderr)

    def test_the_daemon_stops_under_a_job(self):
        process, pid = self.start("print(os.getpid(), flush=True)\ntime.sleep(1)")
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(process.wait(20 * harness.SLOWNESS), 0)
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())

    def test_many_jobs_at_once(self):
        processes = [
            subprocess.Popen([str(harness.BIN / "tallyctl"), "run", f"--job=j{i}",
                              f"--socket={self.socket}", "--", *map(str, self.child(20))])
            for i in range(10)
        ]
        self.assertEqual([process.wait(30 * harness.SLOWNESS) for process in processes], [0] * 10)
        scrape = self.scrape()
        for i in range(10):
            self.assertEqual(scrape.value("rows", table="users", job=f"j{i}"), 20)
        ledger = self.daemon.ledger()
        self.assertEqual((ledger.received, ledger.lost), (10 * 62, 0))


class EndedDaemonTest(JobTestBase):
    """Nothing that a job has sent is lost when tallyd ends, and its job is known to have ended."""

    def more_flags(self):
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        return (f"--state.directory={state}",)

    def test_what_is_queued_is_counted_whatever_it_is(self):
        count = 500  # far more than a batch
        self.run_job(sys.executable, "-c", UNREAD, self.daemon.pid, count, "left:1|c",
                     int(signal.SIGTERM))
        self.assertEqual(self.daemon.process.wait(), 0)
        self.daemon = Daemon(f"--admin.socket={self.socket}", *self.more_flags())
        self.addCleanup(self.daemon.close)
        scrape = self.scrape()
        self.assertEqual(scrape.value("left", job="nightly", instance="a"), count)
        self.assertEqual(self.ended(scrape, "running"), 0)
        self.assertEqual(self.ended(scrape, "exit_code"), -1)
        ledger = self.daemon.ledger()
        self.assertEqual((ledger.received, ledger.applied, ledger.lost), (count, count, 0))


class MappedJobTest(JobTestBase):
    """The session's labels win over those that a mapping rule sets."""

    def more_flags(self):
        mapping = self.directory / "mapping.yaml"
        mapping.write_text("""
mappings:
- match: "work.*"
  name: work
  ttl: 90s
  labels: {job: theirs, part: $1, zone: mapped}
""")
        return (f"--statsd.mapping-config={mapping}", "--no-statsd.parse-dogstatsd-tags")

    def test_the_jobs_labels_win(self):
        self.run_job(sys.executable, "-c", SEND, "work.a:1|c", "work.a:2|c")
        self.assertEqual(
            self.scrape().value("work", job="nightly", instance="a", part="a", zone="mapped"), 3)
        own = self.daemon.scrape(path="/-/metrics")
        self.assertEqual(own.value("tallyd_repaired_total", reason="overridden_label"), 2)


if __name__ == "__main__":
    unittest.main()
