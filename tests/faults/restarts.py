"""A, F: ends without notice, restarts, and the state that outlives them."""

import contextlib
import ctypes
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time

from bar import Skipped, scenario
from harness import BIN, SLOWNESS, Daemon, Ledger, have, run_tallyd, scratch, stopped, wait_for
from held_by import held_by
from kept import SHARDS, Kept
from rig import RATE, SANITIZER, Load
from streams import frame
from test_systemd import HeldThread, thread_named

STATE_REFUSED = 4
DATAGRAMS_A_CALL = 64  # the most that a shard takes from the kernel at once
QUIET = ("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=", "--web.listen-address=127.0.0.1:0")


@scenario("A1")
def killed(run):
    """Datagrams alone: what a stream's peer had sent to a process that is no more, it knows."""
    kills = 10 if run.full else 3
    with Kept(run) as kept:
        load = kept.start_load(("udp", "unixgram"))
        before = kept.samples_per_second(1)
        for _ in range(kills):
            time.sleep(0.5)
            kept.scrape()
            run.check("A", kept.supervisor.end(signal.SIGKILL) == -signal.SIGKILL, "killed")
            begin = time.monotonic()
            kept.supervisor.start()
            took = time.monotonic() - begin
            run.check("A", took < SLOWNESS, f"back after {took:.2f} s")
            run.check("T", kept.life.logged("ended without notice"), "says how the last life ended")
            recovered = kept.scrape().by_label("tallyd_state_recovered_cells", "as")
            run.check("T", recovered.get("taken", 0) + recovered.get("saved", 0) > 0,
                      f"{recovered}; {kept.life.log()[-1500:]}")
        kept.recovered(before)
        sent = sum(account["samples"] for account in kept.finish_load(load).values())
        # Each shard may have had a call's worth in hand, which nobody has counted.
        in_hand = kills * SHARDS * DATAGRAMS_A_CALL * Load.LINES
        ledger = kept.settle(sent - in_hand)
        crashed = ledger.dropped.get("crash", 0)
        missing = sent - ledger.received - ledger.kernel_dropped * Load.LINES
        run.check("C", 0 <= missing <= in_hand, f"{missing:.0f} of {sent} missing: {ledger}")
        run.check("C", ledger.received == ledger.applied + crashed and crashed <= in_hand, f"{ledger}")
        kept.shows(load, exact=missing == crashed == 0)
        run.note(f"{sent} sent, {kills} times killed: {missing:.0f} in hand, {crashed:.0f} as crash")
    what_the_kernel_holds(run)


def what_the_kernel_holds(run):
    """Exact: nobody reads when it is killed, so nothing is in hand."""
    with Kept(run) as kept:
        kept.send_udp(*[b"held:1|c"] * 100)
        kept.settle(100)
        with stopped(kept.life.pid):
            kept.send_udp(*[b"held:1|c"] * 1000)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as packets:
                packets.connect(f"{kept.directory}/g")
                packets.setblocking(False)
                queued = 0
                with contextlib.suppress(BlockingIOError):
                    while queued < 1000:
                        packets.send(b"held:1|c")
                        queued += 1
            kept.supervisor.end(signal.SIGKILL)
        kept.supervisor.start()
        ledger = kept.settle(1100 + queued)
        shown = kept.scrape().value("held")
        run.check("C", queued > 0 and shown == ledger.applied == ledger.received == 1100 + queued,
                  f"{shown:.0f} of {1100 + queued}: {ledger}")


CORE_PATTERN = pathlib.Path("/proc/sys/kernel/core_pattern")
MAX_CORE_BYTES = 256 << 20


def want_core(life):
    """Lets a life leave a core file, but not one that fills the disk."""
    _, hard = resource.prlimit(life.pid, resource.RLIMIT_CORE)
    resource.prlimit(life.pid, resource.RLIMIT_CORE, (MAX_CORE_BYTES, hard))


def judge_core(run, directory):
    """A core file of a reasonable size, in which the merger's stack can be read."""
    if CORE_PATTERN.read_text().strip() != "core" or SLOWNESS > 1:  # a sanitizer maps terabytes
        return run.note(f"core files go to {CORE_PATTERN.read_text().strip()}: not looked at")
    cores = list(directory.glob("core*"))
    run.check("T", len(cores) == 1, f"a core file: {cores}")
    size = cores[0].stat().st_size
    run.check("T", size < MAX_CORE_BYTES, f"{size} bytes of core")
    done = subprocess.run(["gdb", "-batch", "-ex", "thread apply all backtrace", BIN / "tallyd",
                           cores[0]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=60 * SLOWNESS)
    run.check("T", "MergeThread::" in done.stdout, f"the merger's stack: {done.stdout[-2000:]}")
    run.note(f"a core file of {size >> 20} MiB")


@scenario("A6")
def a_merger_that_hangs(run):
    """A debugger holds its thread. Shards go on, the watchdog is not fed, and what they have counted
    since is there in the next life."""
    seconds = 1.5 * SLOWNESS
    with Kept(run, watchdog=seconds) as kept:
        kept.send_udp(*[b"wedged:1|c"] * 100)
        kept.settle(100)
        life = kept.life
        want_core(life)
        try:
            with HeldThread(thread_named(life.pid, "merger")):
                kept.send_udp(*[b"wedged:1|c"] * 100)
                wait_for("the watchdog", lambda: kept.supervisor.missed, 4 * seconds / SLOWNESS)
        except AssertionError:
            pass
        run.check("T", kept.supervisor.missed, "the watchdog is not fed")
        code = life.wait()
        run.check("T", code == -signal.SIGABRT, f"ended by it: {code}")
        judge_core(run, kept.directory)
        kept.supervisor.start()
        run.check("A", kept.life.running(), "back")
        ledger = kept.settle(200)
        shown = kept.scrape().value("wedged")
        run.check("R", shown == ledger.applied == 200, f"{shown:.0f} of 200: {ledger}")


@scenario("A7")
def no_cpu_left(run):
    seconds, watchdog = (60, 15) if run.full else (5, 3 * SLOWNESS)
    with Kept(run, watchdog=watchdog) as kept, contextlib.ExitStack() as stack:
        load = kept.start_load()
        before = kept.samples_per_second(1)
        busy = [subprocess.Popen(["timeout", str(seconds + 30), "sh", "-c", "while :; do :; done"])
                for _ in range(2 * (os.cpu_count() or 2))]
        for process in busy:
            stack.callback(process.wait)
            stack.callback(process.terminate)
        time.sleep(seconds)
        run.check("A", not kept.supervisor.missed and kept.life.running(), "the watchdog is fed in time")
        stack.close()
        kept.recovered(before)
        sent = sum(account["samples"] for account in kept.finish_load(load).values())
        ledger = kept.settle(sent)
        run.check("R", ledger.received + ledger.kernel_dropped * Load.LINES == sent, f"{sent}: {ledger}")


@scenario("A8")
def restarted_again_and_again(run):
    restarts, seconds = (20, 60) if run.full else (3, 5)
    rng = random.Random(run.seed)
    with Kept(run) as kept, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as half:
        half.connect(f"{kept.directory}/s")
        whole, sent = frame(b"half:1|c"), 0
        load = kept.start_load(rate=RATE * 9 // 8)  # a restart holds some up: RATE in the mean
        before = kept.samples_per_second(1)
        begun = time.monotonic()
        for number in range(1, restarts + 1):
            time.sleep(max(0.1, begun + number * (seconds - 2) / restarts - time.monotonic()))
            kept.scrape()
            cut = rng.randrange(1, len(whole))
            half.sendall(whole[:cut])
            run.check("A", kept.supervisor.end() == 0, "ends cleanly")
            run.check("A", kept.supervisor.said("STOPPING") == ["1"], "and says so")
            half.sendall(whole[cut:])  # nobody is there
            sent += 1
            kept.supervisor.start()
        kept.recovered(before)
        sent += sum(account["samples"] for account in kept.finish_load(load).values())
        ledger = kept.settle(sent)
        run.check("C", ledger.received + ledger.kernel_dropped * Load.LINES == sent,
                  f"of {sent} sent: {ledger}")
        run.check("C", ledger.received == ledger.applied, f"{ledger}")
        kept.shows(load, exact=not ledger.kernel_dropped)
        run.check("C", kept.scrape().value("half") == restarts, "frames that were begun in one life")
        run.note(f"{restarts} restarts, {sent} samples, {ledger.kernel_dropped:.0f} datagrams dropped")


# ---- the saved state ----

def keeping(directory, *flags, **keywords):
    return Daemon(f"--state.directory={directory}", *flags, **keywords)


def save_some(directory, *flags):
    """The bytes of a state: a counter of 5, a gauge, a timer and a set."""
    with keeping(directory, *flags) as daemon:
        daemon.send_udp("c:5|c|#a:b", "g:1.5|g", "t:100|ms", "s:x|s")
        daemon.settle(received=4)
        if daemon.stop() != 0:
            raise AssertionError(daemon.log())
    return (directory / "state").read_bytes()


def in_memory():
    """A directory on a tmpfs, as the memories of shards need."""
    return tempfile.TemporaryDirectory(prefix="tallyd-shards-", dir="/dev/shm")


def begins(run, directory, value, told=()):
    """Starts with this much in the counter, says these words, and counts on."""
    with keeping(directory) as daemon:
        shown = daemon.scrape().value("c", 0, a="b")
        run.check("C", shown == value, f"the counter is {shown}, not {value}")
        run.check("T", all(word in daemon.log() for word in told), f"{told}: {daemon.log()[-800:]}")
        before = daemon.ledger().received
        daemon.send_udp("c:1|c|#a:b")
        daemon.settle(received=before + 1)
        run.check("A", daemon.scrape().value("c", a="b") == value + 1, "counts on")
        run.check("A", daemon.stop() == 0 and not SANITIZER.search(daemon.log()), daemon.log()[-800:])


def refused(directory):
    """(exit code, errors) of a start that insists on the state"""
    code, _, errors = run_tallyd(f"--state.directory={directory}", "--state.strict", *QUIET)
    return code, errors


class Any:
    """Takes judgements of checks that a scenario does not list."""

    def __init__(self, run, **renamed):
        self._run, self._renamed = run, renamed

    def check(self, letter, holds, text):
        self._run.check(self._renamed.get(letter, letter), holds, text)


@scenario("A9")
def state_that_fails_the_start(run):
    """Killed at once each time it is there, so that nothing is saved in between."""
    with scratch() as directory:
        good = save_some(directory)
        bad = good[:len(good) // 2] + b"\0" * 8 + good[len(good) // 2 + 8:]
        (directory / "state").write_bytes(bad)
        for life in range(4):
            with keeping(directory, "--state.interval=1h") as daemon:
                told = "state.bad" in daemon.log()
                run.check("T", told == (life == 0), f"start {life} says it: {told}")
                daemon.stop(signal.SIGKILL)
        run.check("T", (directory / "state.bad").read_bytes() == bad, "it is kept aside")
        begins(Any(run, C="A"), directory, 0)
        begins(Any(run, C="A"), directory, 1)


def prelude(version):
    """The first 24 bytes of a state of some version, with the checksum that they must have."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    summed = b"tallyst1" + version.to_bytes(4, "little") + bytes(4)
    return summed + library.XXH3_64bits(summed, len(summed)).to_bytes(8, "little")


@scenario("A10")
def state_of_another_version(run):
    """As after a downgrade and after an upgrade, and when the other version comes back."""
    with scratch() as directory:
        good = save_some(directory)
        ours = int.from_bytes(good[8:12], "little")
        run.check("T", good[:24] == prelude(ours), "the format is what is known here")
        for other in (ours - 1, ours + 1, 2**32 - 1):
            foreign = prelude(other) + good[24:]
            (directory / "state").write_bytes(foreign)
            code, errors = refused(directory)
            run.check("T", code == STATE_REFUSED and "version" in errors and str(other) in errors,
                      f"{code} {errors}")
            run.check("T", (directory / "state").read_bytes() == foreign, "left as it is")
            begins(run, directory, 0, ("version", "state.other-version"))
            run.check("C", (directory / "state.other-version").read_bytes() == foreign, "set aside")
        (directory / "state").write_bytes(good)
        begins(run, directory, 5)


@scenario("A18")
def no_directory_for_state(run):
    held_by(run, "AT", "test_restart.RefusalTest.test_without_a_directory_it_runs_and_says_so")
    with scratch() as directory:
        wrapper = ()
        if os.geteuid() == 0:  # to whom no directory is read-only
            if not have("setpriv"):
                raise Skipped("needs setpriv")
            wrapper = ("setpriv", "--reuid=64125", "--regid=64125", "--clear-groups")
        directory.chmod(0o755)
        kept = directory / "read-only"
        kept.mkdir(0o555)
        with keeping(kept, "--state.interval=100ms", wrapper=wrapper) as daemon:
            def failures():
                return daemon.scrape(path="/-/metrics").value("tallyd_state_write_failures_total", 0)
            run.check("T", wait_for("failures", lambda: failures() >= 2), "a counter")
            run.check("T", len(daemon.logged("cannot be saved")) == 1, daemon.log()[-600:])
            daemon.send_udp("a:1|c")
            run.check("A", daemon.settle(received=1).applied == 1, "runs")
            run.check("A", daemon.stop() == 0, "and ends")


@contextlib.contextmanager
def small_disk(directory):
    """Mounts a file system of 256 KiB."""
    if os.geteuid() != 0 or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)],
            capture_output=True, check=False).returncode != 0:
        raise Skipped("needs root that may mount")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


@scenario("F4")
def a_full_disk(run):
    with scratch() as top:
        directory = top / "disk"
        directory.mkdir()
        with small_disk(directory):
            good = save_some(directory)
            with keeping(directory, "--state.interval=100ms", "--merge.interval=20ms") as daemon:
                def own(name):
                    return daemon.scrape(path="/-/metrics").value(f"tallyd_state_{name}_total", 0)
                full = directory / "full"
                with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 4096)
                saved = (directory / "state").read_bytes()
                failed = own("write_failures")
                daemon.send_udp(*(f"more.{i}:1|c" for i in range(200)))
                daemon.settle(received=204)
                run.check("T", wait_for("failures", lambda: own("write_failures") >= failed + 2),
                          "a counter")
                run.check("T", len(daemon.logged("cannot be saved")) == 1, daemon.log()[-600:])
                run.check("A", (directory / "state").read_bytes() == saved, "the old state is whole")
                run.check("A", len(saved) >= len(good) - 64, "which is one")
                full.unlink()
                written = own("writes")
                run.check("R", wait_for("a write", lambda: own("writes") > written), "tries again")
                daemon.stop(signal.SIGKILL)
            with keeping(directory) as daemon:
                scrape = daemon.scrape()
                shown = scrape.value("c", a="b"), scrape.value("more_199")
                run.check("R", shown == (5, 1), f"all of it is there: {shown} {daemon.log()}")
                run.check("A", daemon.stop() == 0, daemon.log()[-600:])


@scenario("F5")
def a_disk_that_fails(run):
    """Each call fails three times, then works. strace is the disk."""
    if not have("strace"):
        raise Skipped("needs strace")
    with scratch() as directory:
        total = 0
        for call, error, which in (("fsync", "EIO", "1..3"), ("renameat", "EIO", "1..3"),
                                   ("write", "EIO", "1..3"), ("openat", "EROFS", "3..5")):
            state = directory / call
            state.mkdir()
            save_some(state)
            # The log is written too, and the directory must be found.
            paths = [state / "state.new"] if call == "write" else [state / "state.new", state]
            wrapper = ("strace", "-D", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null",
                       *(word for path in paths for word in ("-P", str(path))), "-e", f"trace={call}",
                       "-e", f"inject={call}:error={error}:when={which}")
            with keeping(state, "--state.interval=100ms", "--merge.interval=20ms",
                         wrapper=wrapper) as daemon:
                def own(name):
                    return daemon.scrape(path="/-/metrics").value(f"tallyd_state_{name}_total", 0)
                daemon.send_udp("c:1|c|#a:b")
                try:
                    failed = wait_for("failures", lambda: own("write_failures") >= 2)
                    written = own("writes")
                    wait_for("a write after them", lambda: own("writes") > written, 15)
                except AssertionError as late:
                    failed = False
                    run.note(f"{call}: {late}; {daemon.log()[-400:]}")
                run.check("T", failed, f"{call}: counted as failed, and tried again")
                run.check("T", len(daemon.logged("cannot be saved")) == 1, f"{call}: {daemon.log()[-600:]}")
                total += own("write_failures")
                run.check("A", daemon.process.running(), f"{call}: runs")
                daemon.stop(signal.SIGKILL)
            begins(Any(run, C="A"), state, 6)
        run.note(f"{total:.0f} failed attempts")


@scenario("F6")
def garbage_for_state(run):
    """Every state that is damaged is refused; some of them are also started with, to see that all is
    well then. tests/core/merge/state_test and the fuzz target of states see the inside."""
    rng = random.Random(run.seed)
    with scratch() as directory:
        good = save_some(directory)
        file = directory / "state"

        def cut():
            return good[:rng.randrange(len(good))]

        def flipped():
            damaged = bytearray(good)
            damaged[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            return bytes(damaged)

        def blob():
            return (b"" if rng.random() < 0.5 else good[:24]) + rng.randbytes(rng.randrange(5000))
        if run.full:
            damages = [good[:length] for length in range(len(good))]
            damages += [good[:i // 8] + bytes([good[i // 8] ^ (1 << i % 8)]) + good[i // 8 + 1:]
                        for i in range(8 * len(good))]
            damages += [blob() for _ in range(10_000)]
        else:
            damages = [kind() for _ in range(int(25 / SLOWNESS)) for kind in (cut, flipped, blob)]
        wrong = []
        for damaged in damages:
            file.write_bytes(damaged)
            code, errors = refused(directory)
            if code != STATE_REFUSED or SANITIZER.search(errors) or file.read_bytes() != damaged:
                wrong.append(f"{code} {errors[-300:]}")
        run.check("A", not wrong, f"{len(wrong)} of {len(damages)}: {wrong[:3]}")
        run.note(f"{len(damages)} damaged states of {len(good)} bytes")
        for damaged in (good[:-1], good[:100], flipped(), blob(), b""):
            file.write_bytes(damaged)
            begins(Any(run, C="A"), directory, 0, ("state.bad",))
            file.unlink()
    garbage_for_memories(run, rng)


def garbage_for_memories(run, rng):
    """What a crash left behind, damaged: nothing that is in it can end the next process."""
    with scratch() as directory, in_memory() as top:
        memory = pathlib.Path(top)
        for _ in range(60 if run.full else 6):
            flags = (f"--state.memory-directory={memory}", "--shards=1")
            with keeping(directory, *flags) as daemon:
                daemon.send_udp(*(f"m.{i}:1|{kind}" for i in range(50) for kind in ("c", "ms")))
                daemon.settle()
                daemon.stop(signal.SIGKILL)
            for file in memory.iterdir():
                size = file.stat().st_size
                with file.open("r+b") as damaged:
                    used = [at for at in range(0, min(size, 1 << 20), 64)]
                    for _ in range(rng.randrange(1, 2000)):
                        damaged.seek(rng.choice(used) + rng.randrange(64))
                        damaged.write(rng.randbytes(rng.choice((1, 4, 8))))
                    if rng.random() < 0.2:
                        damaged.truncate(rng.randrange(size + 1))
            with keeping(directory, *flags) as daemon:
                daemon.send_udp("after:1|c")
                wait_for("a sample", lambda: daemon.scrape().value("after") == 1)
                run.check("A", daemon.stop() == 0, f"ends well: {daemon.log()[-500:]}")
            for file in (*memory.iterdir(), *directory.glob("state*")):
                file.unlink()


@scenario("F13")
def another_number_of_shards(run):
    """After a clean end, and after a crash."""
    with scratch() as directory, in_memory() as memory:
        sent = 0
        for turn, (shards, sig) in enumerate(((1, signal.SIGTERM), (4, signal.SIGTERM), (2, signal.SIGKILL),
                                              (5, signal.SIGKILL), (1, signal.SIGKILL), (3, signal.SIGTERM))):
            with keeping(directory, f"--shards={shards}", f"--state.memory-directory={memory}",
                         "--state.interval=1h", "--merge.interval=20ms") as daemon:
                for _ in range(20):  # each socket may be another shard's
                    daemon.send_udp(*(f"turn:1|c|#i:{i}\nlat:{i}|ms" for i in range(10)))
                sent += 200
                daemon.settle(received=2 * sent)
                scrape = daemon.scrape()
                run.check("C", scrape.total("turn") == scrape.value("lat_count") == sent,
                          f"turn {turn}: {scrape.total('turn')} of {sent}")
                run.check("C", Ledger(scrape).applied == 2 * sent, f"{Ledger(scrape)}")
                daemon.stop(sig)
