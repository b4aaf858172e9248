"""F: the host, its clock and its disks."""

import os
import pathlib
import resource
import subprocess
import time

from bar import Skipped, scenario
from harness import BIN, SLOWNESS, Daemon, have, scratch, stopped, tally_load, wait_for
from held_by import held_by
from lines import send_all
from receivers import PrometheusReceiver, config
from rig import Rig
from targets import to


@scenario("F1")
def ahead(run):
    held_by(run, "ART", "test_remote_write_clock.ClockTest.test_a_step_of_the_wall_clock_suspends")


def faked(directory):
    """The environment of a daemon whose wall clock the file there shifts, and that file."""
    libraries = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime*.so.1"))
    if not libraries:
        raise Skipped("needs libfaketime")
    shift = directory / "clock"
    shift.write_text("+0")
    return {**os.environ, "LD_PRELOAD": str(libraries[0]), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(shift), "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}, shift


@scenario("F2")
def back_and_far_away(run):
    """Nothing that was sent has a time that is wrong, or earlier than one before; what is alive by
    the monotonic clock stays."""
    if not have("prometheus"):
        raise Skipped("needs prometheus")
    with scratch() as directory, PrometheusReceiver() as receiver:
        env, shift = faked(directory)
        began = time.time()
        with Rig(run, config(directory, {
                "url": receiver.url(), "interval": "500ms"}), "--series.ttl=1h", env=env) as rig:
            def send():
                rig.sent += send_all(rig, [b"clock:1|c"])
            send()
            wait_for("the first sample", lambda: receiver.value("clock") == 1, 15)
            for step in ("-1h", "-50y", "+80y"):
                shift.write_text(step)
                send()
                time.sleep(1.5)
                run.check("A", rig.daemon.scrape().value("clock") == rig.sent, f"{step}: shown")

            def suspended():
                own = rig.daemon.scrape(path="/-/metrics").samples.items()
                return [1 for (name, _), value in own if name == "tallyd_push_clock_suspended" and value]
            run.check("T", wait_for("a metric that says it", suspended), "pushes are suspended")
            shift.write_text("+0")
            try:
                wait_for("the rest", lambda: receiver.value("clock") == rig.sent, 20)
                run.check("R", True, "")
            except AssertionError as late:
                run.check("R", False, str(late))
            span = int(time.time() - began) + 10
            stored = receiver.value(f"count_over_time(clock[{span}s])")
            ever = receiver.value(f"count_over_time(clock[{60 * 366}d] offset -30d)")
            run.check("T", ever is None or ever == stored or ever - stored <= 2,
                      f"{ever} samples at any time, {stored} while this ran")
            rig.alive()


@scenario("F3")
def asleep(run):
    with scratch() as directory:
        env, shift = faked(directory)
        with Rig(run, "--series.ttl=1m", env=env) as rig:
            rig.sent += send_all(rig, [b"stays:1|c"])
            rig.counted()
            merges = rig.own("tallyd_merge_duration_seconds_count")
            with stopped(rig.daemon.pid):
                time.sleep(30 if run.full else 2)
                shift.write_text("+8h")
            time.sleep(0.5)
            merged = rig.own("tallyd_merge_duration_seconds_count") - merges
            run.check("R", merged <= 10, f"no storm of merges: {merged:.0f}")
            run.check("R", rig.daemon.scrape().value("stays") == 1, "the wall clock ends no series")
            rig.recovered()
            rig.alive()


@scenario("F7")
def just_above_the_ceiling(run):
    """The memory controller ends who takes more than it may; names come without end meanwhile."""
    controller = pathlib.Path("/sys/fs/cgroup/memory")
    if os.geteuid() != 0 or not (controller / "memory.limit_in_bytes").exists():
        raise Skipped("needs root and the memory controller of cgroups, version 1")
    limit = 100_000 if run.full else 5_000
    flags = (f"--series.limit={limit}", f"--series.sender-limit={limit}", "--shards=2")
    group = controller / f"tallyd-faults-{os.getpid()}"
    group.mkdir()
    try:
        wrapper = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"')
        with Rig(run, *flags, wrapper=wrapper) as rig:
            ceiling = int(rig.ceiling() * 1.2)
            (group / "memory.limit_in_bytes").write_text(str(ceiling))
            for kind, series in (("mixed", "20:0:80"), ("more", "50:20:30")):
                rig.sent += tally_load(
                    "--to", rig.urls()["unixstream"], "--wait", f"--series={limit * 5}",
                    f"--mix={series}", "--tags=2", f"--prefix={kind}", "--once-each=1")["samples"]
                rig.daemon.scrape(timeout=60)
            rig.counted(seconds=60)
            failures = int((group / "memory.failcnt").read_text())
            peak = int((group / "memory.max_usage_in_bytes").read_text())
            run.note(f"{peak >> 20} MiB of {ceiling >> 20}")
            run.check("B", failures == 0 and peak < ceiling, f"{failures} failures, {peak} bytes")
            rig.alive()
            rig.bounded()
    finally:
        wait_for("the group to be empty", lambda: not (group / "cgroup.procs").read_text().strip())
        group.rmdir()


@scenario("F8")
def no_memory(run):
    """An address space that is too small is refused at the start; later, the process ends with a
    word on the standard error, and what it answered until then was whole."""
    code, _, errors = limited(("prlimit", "--as=60000000"))
    run.check("T", code not in (0, None) and errors.strip() != "", f"{code} {errors[:300]}")


def limited(wrapper, *flags):
    done = subprocess.run([*wrapper, str(BIN / "tallyd"), "--statsd.listen-udp=127.0.0.1:0",
                           "--statsd.listen-tcp=", "--web.listen-address=127.0.0.1:0", *flags],
                          capture_output=True, text=True, timeout=20 * SLOWNESS, check=False,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


@scenario("F9")
def nobody_reads_the_log(run):
    held_by(run, "ACT", *(f"test_log.{name}" for name in (
        "BlockedLogTest.test_a_full_pipe_stops_nothing",
        "BlockedLogTest.test_lines_that_waited_are_read_later",
        "BlockedLogTest.test_a_full_disk_is_counted")))


@scenario("F10")
def no_threads(run):
    if os.geteuid() != 0 or not have("setpriv"):
        raise Skipped("needs root and setpriv: root itself has no such limit")
    # A user who has no other process; how many threads the shards need is more than that.
    code, _, errors = limited(("prlimit", "--nproc=3", "setpriv", "--reuid=64123", "--regid=64123",
                               "--clear-groups"), "--shards=8")
    run.check("T", code == 1 and "thread" in errors, f"{code} {errors[:400]}")
    with scratch() as directory:
        # Looking names up takes a thread of its own each time: later there are none.
        with Rig(run, to(directory, lost="http://no-such-host.invalid:9091")) as rig:
            resource.prlimit(rig.daemon.pid, resource.RLIMIT_NPROC, (1, 1))
            rig.sent += send_all(rig, [b"a:1|c"] * 100)
            time.sleep(1)
            rig.counted()
            rig.alive()


@scenario("F11")
def no_privileges(run):
    if os.geteuid() != 0 or not have("setpriv"):
        raise Skipped("needs root and setpriv")
    wrapper = ("setpriv", "--reuid=64124", "--regid=64124", "--clear-groups", "--no-new-privs",
               "--bounding-set=-all", "--inh-caps=-all")
    with Daemon("--shards=2", "--statsd.read-buffer=67108864", wrapper=wrapper) as daemon:
        daemon.send_udp("a:1|c")
        ledger = daemon.settle(received=1)
        run.check("A", ledger.applied == 1 and daemon.process.running(), f"{ledger}")
        told = [line for line in daemon.log().splitlines() if "receive buffer" in line]
        run.check("T", len(told) == 1, f"says what it could not have: {daemon.log()[:600]}")


@scenario("F12")
def one_cpu(run):
    with Rig(run, "--shards=64", wrapper=("taskset", "-c", "0")) as rig:
        load = rig.start_load(None, rate=int(20_000 / SLOWNESS))
        before = rig.samples_per_second(1)
        rig.recovered(before)
        rig.finish_load(load)
        ledger = rig.counted()
        run.check("T", ledger.lost == 0, f"{ledger}")
        rig.alive()


@scenario("F14")
def a_smaller_buffer(run):
    asked = 1 << 30
    with Rig(run, f"--statsd.read-buffer={asked}",
             wrapper=("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
             if have("setpriv") else ()) as rig:
        scrape = rig.daemon.scrape(path="/-/metrics")
        granted = [value for (name, _), value in scrape.samples.items()
                   if "receive_buffer" in name and "asked" not in name]
        run.check("T", granted and min(granted) < asked, f"a gauge of what was granted: {granted}")
        run.check("T", any("receive buffer" in line for line in rig.daemon.log().splitlines()),
                  f"and a warning: {rig.daemon.log()[:500]}")

