"""C: connections, and frames on them."""

import array
import contextlib
import errno
import os
import pathlib
import random
import resource
import socket
import struct
import subprocess
import sys
import time

from bar import Skipped, scenario
from harness import SLOWNESS, scratch, wait_for
from lines import cpu, send_all
from rig import Rig


def frame(text):
    return struct.pack("<I", len(text)) + text


def stream(rig, seconds=10):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A connect that may wait does so while more of them are queued than are taken.
    patience = struct.pack("ll", int(seconds * SLOWNESS), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    connection.connect(str(rig.directory / "s"))
    connection.settimeout(seconds * SLOWNESS)
    return connection


def closed(connection):
    """Whether the other side hangs up in time."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def descriptors_of_ours(count):
    """Room for so many descriptors in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], count), max(before[1], count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@scenario("C1")
def slow_loris(run):
    count = 1000
    with Rig(run, "--statsd.idle-timeout=1s") as rig, descriptors_of_ours(count + 500), \
            contextlib.ExitStack() as stack:
        load = rig.start_load(None)
        before = rig.samples_per_second(1)
        slow = [stack.enter_context(stream(rig)) for _ in range(count)]
        end = time.monotonic() + 1.5 * SLOWNESS
        while time.monotonic() < end:  # a byte each now and then, of a frame that never ends
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"\x40"[:1] if time.monotonic() < end - 1 else b"\0")
            time.sleep(0.3)
        rig.recovered(before)  # others are as fast as before, while these are there
        run.check("R", all(closed(connection) for connection in slow), "every one is hung up on")
        rig.finish_load(load)
        rig.sent += count  # each one frame that was begun and never ended
        ledger = rig.counted()
        run.check("T", ledger.reasons == {"truncated": count}, f"{ledger.reasons}")
        rig.quiet_log()
        rig.alive()
        rig.bounded()


@scenario("C2")
def announced_lengths(run):
    lengths = (2**16 + 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
    rounds = 20
    with Rig(run) as rig:
        before = rig.daemon.status_kib("VmRSS")
        size = rig.daemon.status_kib("VmSize")
        for length in lengths * rounds:
            with stream(rig) as connection:
                connection.sendall(frame(b"good:1|c") + struct.pack("<I", length) + b"x" * 100)
                run.check("C", closed(connection), f"hangs up on {length}")
        for length in (0, 1):
            with stream(rig) as connection:
                connection.sendall(struct.pack("<I", length) + b"x" * length + frame(b"good:1|c"))
        with stream(rig) as connection:  # eight bytes, as of 2^63
            connection.sendall(struct.pack("<Q", 2**63) + frame(b"good:1|c"))
        bad = len(lengths) * rounds
        ledger = wait_for("the account", lambda: (
            lambda found: found if found.at_rest() and found.reasons.get("too_long", 0) > bad
            else None)(rig.daemon.ledger()))
        rig.daemon.settle()
        run.check("C", rig.daemon.scrape().value("good") == bad + 2,
                  f"{rig.daemon.scrape().value('good')} of {bad + 2} good frames")
        run.check("T", ledger.reasons == {"too_long": bad + 1, "malformed_line": 1},
                  f"{ledger.reasons}")
        run.check("B", rig.daemon.status_kib("VmRSS") - before < 8192, "no memory for what is announced")
        run.check("B", rig.daemon.status_kib("VmSize") - size < 1 << 20, "nor address space")
        rig.alive()
        rig.bounded()


DYING_PEER = """
import os, socket, struct, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.connect(sys.argv[1])
line = b"dying:1|c"
peer.sendall((struct.pack("<I", len(line)) + line) * 10 + struct.pack("<I", 100) + b"half")
os.kill(os.getpid(), 9)
"""


@scenario("C3")
def dies_in_a_frame(run):
    with Rig(run) as rig:
        for _ in range(5):
            subprocess.run([sys.executable, "-c", DYING_PEER, str(rig.directory / "s")], check=False,
                           timeout=20 * SLOWNESS)
        for _ in range(5):
            with stream(rig) as connection:
                connection.sendall(frame(b"dying:1|c") * 10 + struct.pack("<I", 100) + b"half")
                connection.shutdown(socket.SHUT_WR)  # one half closed is as closed
                run.check("C", closed(connection), "hangs up")
        rig.sent += 10 * 11
        ledger = rig.counted()
        run.check("C", ledger.reasons == {"truncated": 10} and ledger.applied == 100, f"{ledger}")
        rig.recovered()
        rig.alive()


@scenario("C4")
def more_connections_than_descriptors(run):
    count = 20_000 if run.full else 2_000
    with descriptors_of_ours(10_000), \
            Rig(run, wrapper=("prlimit", "--nofile=64:64")) as rig, contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.connect(str(rig.directory / "s"))
                stack.enter_context(connection)
            except BlockingIOError:  # the backlog is full too: such a one is no connection
                connection.close()
        begin, spent = time.monotonic(), cpu(rig)
        rig.sent += send_all(rig, [b"meanwhile:1|c"] * 100)
        rig.daemon.scrape()
        time.sleep(1)
        share = (cpu(rig) - spent) / (time.monotonic() - begin)
        run.check("R", share < 0.5, f"does not spin on accept: {share:.0%} of a CPU")
        told = [line for line in rig.daemon.log().splitlines() if "descriptor" in line]
        refused = rig.daemon.scrape(path="/-/metrics")
        run.check("T", bool(told) or any("paused" in key[0] for key in refused.samples),
                  "the log or a metric says why nobody is accepted")
        rig.quiet_log()
        rig.alive()
        stack.close()

        def again():
            with stream(rig) as connection:
                connection.sendall(frame(b"again:1|c"))
            return rig.daemon.scrape().value("again")
        run.check("R", wait_for("a connection again", again, 5, 0.2) >= 1, "accepts again")
        rig.bounded()


@scenario("C6")
def another_protocol(run):
    hellos = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500,
              b"\x7fELF" + b"\0" * 60, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n"]
    with Rig(run) as rig:
        for hello in hellos:
            with stream(rig) as connection:
                connection.sendall(hello)
                connection.shutdown(socket.SHUT_WR)
                run.check("C", closed(connection), f"hangs up on {hello[:8]}")
        ledger = wait_for("the account", lambda: (
            lambda found: found if found.received >= len(hellos) and found.at_rest() else None)(
                rig.daemon.ledger()))
        run.check("C", ledger.applied == 0, f"{ledger}")
        run.check("T", ledger.reasons.get("too_long", 0) + ledger.reasons.get("truncated", 0) ==
                  len(hellos), f"{ledger.reasons}")
        rig.alive()


@scenario("C8")
def never_reads(run):
    """We never reply, so nothing can pile up; HTTP's part is D1."""
    with Rig(run) as rig:
        before = rig.daemon.status_kib("VmRSS")
        peers = [stream(rig) for _ in range(50)]
        for peer in peers:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            peer.sendall(frame(b"deaf:1|c") * 1000)
        rig.sent += 50_000
        rig.counted()
        run.check("B", rig.daemon.status_kib("VmRSS") - before < 16384, "memory")
        for peer in peers:
            peer.close()
        rig.recovered()
        rig.alive()
        rig.bounded()


def holds(pid, file):
    """How many descriptors of a process are of this open file."""
    folder = pathlib.Path(f"/proc/{pid}/fd")
    found = 0
    for descriptor in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            status = os.stat(descriptor)
            found += (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino)
    return found


def pass_with(connection, body, rights):
    """Sends, once fewer descriptors than this user may have so are under way."""
    def done():
        try:
            return connection.sendmsg([body], rights)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            return 0
    wait_for("descriptors to arrive", done, interval=0.002)


@scenario("C9")
def passes_descriptors(run):
    """A file that nobody else has is passed, so that what is counted is what was passed: how many
    connections wait to be read is another matter, and depends on who is quicker."""
    passed = os.memfd_create("passed")
    file = os.fstat(passed)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed] * 200))]
    count = 300
    with Rig(run) as rig, contextlib.closing(os.fdopen(passed)):
        sent = 0
        most = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as packets:
            packets.connect(str(rig.directory / "g"))
            for _ in range(count):
                pass_with(packets, b"passed:1|c", rights)
                sent += 1
                most = max(most, holds(rig.daemon.pid, file))
        for _ in range(count):
            with stream(rig) as connection:
                pass_with(connection, frame(b"passed:1|c"), rights)
                sent += 1
                most = max(most, holds(rig.daemon.pid, file))
        with stream(rig) as connection:  # one that stays, and all with every message
            for _ in range(count):
                pass_with(connection, frame(b"passed:1|c"), rights)
                sent += 1
            rig.sent = sent
            ledger = rig.daemon.settle(received=sent)
            most = max(most, holds(rig.daemon.pid, file))
        run.check("B", most == 0, f"{most} of the descriptors that were passed are held")
        run.check("T", ledger.applied == sent, f"what came with them is applied: {ledger}")
        rig.alive()
        rig.bounded()


@scenario("C10")
def frames_split_anywhere(run):
    body = b"".join(frame(line) for line in (
        b"split:1|c", b"split:2|c\nsplit:3|c", b"g:5|g|#a:b", b"h:0.5|h", b"rubbish", b""))
    rng = random.Random(run.seed)
    with Rig(run) as rig:
        def send(parts):
            with stream(rig) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
                for part in parts:
                    connection.sendall(part)
                    if len(parts) < 5:
                        time.sleep(0.001)
        for i in range(1, len(body)):
            send((body[:i], body[i:]))
        for _ in range(20):
            send([body[i:i + 1] for i in range(len(body))])
        send([body * 10_000])
        for _ in range(50):
            cuts = sorted(rng.sample(range(1, len(body) * 20), 30))
            many = body * 20
            send([many[a:b] for a, b in zip([0, *cuts], [*cuts, len(many)])])
        bodies = len(body) - 1 + 20 + 10_000 + 1000
        rig.sent += bodies * 6
        ledger = rig.counted()
        scrape = rig.daemon.scrape()
        run.check("C", scrape.value("split") == 6 * bodies and scrape.value("h_count") == bodies
                  and ledger.reasons == {"malformed_line": bodies}, f"{ledger} of {bodies}")
        rig.alive()


@scenario("C11")
def mutated_frames(run):
    """Through sockets; tests/fuzz has the targets that see the inside."""
    rng = random.Random(run.seed)
    good = [frame(line) for line in (b"m:1|c", b"m:1|c|#a:b", b"m2:3|ms|@0.1", b"m:x|c")]
    seconds = 3600 if run.full else 2
    with Rig(run, "--statsd.idle-timeout=500ms") as rig:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body = bytearray(b"".join(rng.choices(good, k=20)))
            for _ in range(rng.randrange(4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            with stream(rig) as connection, contextlib.suppress(OSError):
                connection.sendall(body)
        ledger = rig.daemon.settle()
        run.check("C", ledger.at_rest() and ledger.received > 1000, f"{ledger}")
        # Whatever may be wrong with bytes; not what needs rules, a catalog, a list or a crash.
        run.check("C", not set(ledger.reasons) & {"mapping_drop", "undeclared", "unauthorized", "crash"},
                  f"{ledger.reasons}")
        run.note(f"{ledger}")
        rig.daemon.scrape()
        rig.alive()


# Sends datagrams and frames as another user than those that may.
STRANGER = """
import os, socket, struct, sys
directory, uid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as packets:
    packets.connect(directory + "/g")
    for _ in range(count):
        packets.send(b"stranger:1|c\\nstranger:1|c")
line = b"stranger:1|c"
for _ in range(count // 10):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(20)
        stream.connect(directory + "/s")
        try:
            stream.sendall(struct.pack("<I", len(line)) + line)
            if stream.recv(1) != b"":
                sys.exit(3)
        except OSError:
            pass  # closed before it could be written to
"""


@scenario("C5")
def no_permission(run):
    if os.geteuid() != 0:
        raise Skipped("needs root, to send as others")
    count = 2000
    stranger = 4712
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(scratch())
        os.chmod(directory, 0o755)
        mine = f"?allow_uids={os.geteuid()}"
        rig = stack.enter_context(Rig(run, "--statsd.unixsocket-mode=777", listen=(
            ("udp", "127.0.0.1:0"), ("unixgram", f"{directory}/g{mine}"),
            ("unixstream", f"{directory}/s{mine}"))))
        rig.directory = directory
        load = rig.start_load(4)
        child = subprocess.run(
            [sys.executable, "-c", STRANGER, str(directory), str(stranger), str(count)],
            check=False, timeout=120 * SLOWNESS)
        run.check("C", child.returncode == 0, f"refused, and not more: {child.returncode}")
        rig.finish_load(load)
        rig.sent += 2 * count
        ledger = rig.counted()
        run.check("C", ledger.reasons == {"unauthorized": 2 * count}, f"{ledger.reasons}")
        closed_ones = rig.own("tallyd_closed_connections_total", reason="unauthorized")
        run.check("T", closed_ones == count // 10, f"{closed_ones} connections")
        run.check("C", not rig.daemon.scrape().series("stranger"),
                  "nothing of it is shown")
        wait_for("a line", lambda: f"uid={stranger} pid=" in rig.daemon.log())
        rig.quiet_log()
        rig.alive()
