"""F: the host, its clock and its disks."""

import os
import resource
import subprocess
import time

from bar import Skipped, scenario
from harness import BIN, SLOWNESS, Daemon, have, scratch
from held_by import held_by
from lines import send_all
from rig import Rig
from targets import to


@scenario("F1")
def ahead(run):
    held_by(run, "ART", "test_remote_write_clock.ClockTest.test_a_step_of_the_wall_clock_suspends")


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
        load = rig.start_load(4, rate=int(20_000 / SLOWNESS))
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

