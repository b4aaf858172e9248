"""tallyd under a service manager: sockets handed in and kept, restarts under load, what it says."""

import os
import pathlib
import signal
import socket
import struct
import threading
import time
import unittest

import harness
from harness import SLOWNESS, wait_for
from supervisor import Supervisor

# The whole of it, when asked for: 20 restarts in a minute at 50,000 samples/s.
LONG = os.environ.get("TALLYD_E2E_LONG") == "1"
QUIET = ("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=")
WEB = "--web.listen-address=127.0.0.1:0"


def udp_socket(port=0, shared=False):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    one.bind(("127.0.0.1", port))
    return one


def tcp_socket():
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.bind(("127.0.0.1", 0))
    one.listen(64)
    return one


def unix_socket(kind, path):
    one = socket.socket(socket.AF_UNIX, kind)
    one.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        one.listen(64)
    return one


def address(one):
    return "{}:{}".format(*one.getsockname())


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


class SupervisedTest(unittest.TestCase):
    def supervise(self, *flags, **keywords):
        supervisor = Supervisor(*flags, **keywords)
        self.addCleanup(supervisor.close)
        return supervisor

    def counter(self, supervisor, name, value, seconds=10):
        wait_for(
            f"{name} = {value}",
            lambda: supervisor.scrape().value(name) == value,
            seconds,
            0.1,
        )


class ActivationTest(SupervisedTest):
    def test_each_kind_of_socket(self):
        supervisor = self.supervise(store=0)
        where = pathlib.Path(supervisor.directory)
        udp, tcp, web = udp_socket(), tcp_socket(), tcp_socket()
        kinds = {"unixgram": socket.SOCK_DGRAM, "unixstream": socket.SOCK_STREAM,
                 "unixseqpacket": socket.SOCK_SEQPACKET}
        unix = {name: unix_socket(kind, where / name) for name, kind in kinds.items()}
        supervisor.sockets = [("tallyd.socket", one) for one in (udp, tcp, web, *unix.values())]
        supervisor.flags = (
            f"--statsd.listen-udp={address(udp)}",
            f"--statsd.listen-tcp={address(tcp)}",
            *[f"--statsd.listen-{name}={where / name}" for name in kinds],
            f"--web.listen-address={address(web)}",
        )
        # What is sent before there is anybody is not lost.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"udp:1|c", udp.getsockname())
        sent = socket.create_connection(tcp.getsockname())
        self.addCleanup(sent.close)
        sent.sendall(b"tcp:1|c\n")
        for name, kind in kinds.items():
            sender = socket.socket(socket.AF_UNIX, kind)
            self.addCleanup(sender.close)
            sender.connect(str(where / name))
            line = f"{name}:1|c".encode()
            sender.sendall(frame(line) if name == "unixstream" else line)

        supervisor.start()
        for name in ("udp", "tcp", *kinds):
            with self.subTest(name):
                self.counter(supervisor, name, 1)

        # A socket that belongs to somebody else is left as it is: the next life reads on.
        self.assertEqual(supervisor.end(), 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"udp:1|c", udp.getsockname())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"unixgram:1|c", str(where / "unixgram"))
        supervisor.start()
        self.counter(supervisor, "udp", 1)
        self.counter(supervisor, "unixgram", 1)
        for name in kinds:
            self.assertTrue((where / name).is_socket(), name)

    def test_a_group_of_sockets_is_read_by_several_shards(self):
        first = udp_socket(shared=True)
        group = [first] + [udp_socket(first.getsockname()[1], shared=True) for _ in range(2)]
        supervisor = self.supervise(
            f"--statsd.listen-udp={address(first)}", "--statsd.listen-tcp=", WEB, "--shards=2",
            sockets=[("tallyd.socket", one) for one in group], store=0)
        supervisor.start()
        for _ in range(64):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"a:1|c", first.getsockname())
        self.counter(supervisor, "a", 64)

    def test_what_no_listener_takes_is_named(self):
        stranger = udp_socket()
        supervisor = self.supervise(*QUIET, WEB, sockets=[("strange.socket", stranger)])
        life = supervisor.spawn()
        self.assertEqual(life.wait(), 2)
        self.assertIn("strange.socket", life.log())
        self.assertIn(address(stranger), life.log())


class NotifyTest(SupervisedTest):
    def test_ready_status_stopping(self):
        supervisor = self.supervise("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=", WEB)
        supervisor.start()
        # Ready means that a scrape is answered at once.
        self.assertIn("tallyd_build_info", supervisor.scrape().families)
        wait_for("a status with rates", lambda: any(
            "samples/s" in text for text in supervisor.said("STATUS")), 15)
        self.assertEqual(supervisor.end(), 0)
        self.assertEqual(supervisor.said("STOPPING"), ["1"])
        self.assertTrue(supervisor.said("EXTEND_TIMEOUT_USEC"))

    def test_reload_says_when_it_began_and_ended(self):
        supervisor = self.supervise(*QUIET, WEB)
        mapping = pathlib.Path(supervisor.directory) / "mapping.yaml"
        mapping.write_text("mappings: []\n")
        supervisor.flags += (f"--statsd.mapping-config={mapping}",)
        life = supervisor.start()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        life.popen.send_signal(signal.SIGHUP)
        wait_for("the end of the reload", lambda: supervisor.said("READY") == ["1", "1"])
        began = int(supervisor.said("MONOTONIC_USEC")[0])
        self.assertGreaterEqual(began, before)
        self.assertLessEqual(began, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        self.assertEqual(supervisor.said("RELOADING"), ["1"])
        # A broken file changes nothing, and the reload ends all the same.
        mapping.write_text("mappings: [\n")
        life.popen.send_signal(signal.SIGHUP)
        wait_for("the end of the second", lambda: len(supervisor.said("READY")) == 3)
        self.assertIn("not reloaded", supervisor.said("STATUS")[-1])

    def test_without_a_manager_nothing_is_missed(self):
        with harness.Daemon() as daemon:
            daemon.send_udp("a:1|c")
            daemon.settle(1)


class WatchdogTest(SupervisedTest):
    def test_a_live_merger_is_fed_and_a_wedged_one_is_not(self):
        seconds = 1.5 * SLOWNESS
        supervisor = self.supervise(*QUIET, WEB, "--merge.interval=60s", watchdog=seconds)
        life = supervisor.start()
        # The merger has nothing to do for a minute, and is alive.
        time.sleep(2.5 * seconds)
        self.assertFalse(supervisor.missed)
        self.assertTrue(life.running())
        merger = thread_named(life.pid, "merger")
        with HeldThread(merger):
            wait_for("the watchdog", lambda: supervisor.missed, 4 * seconds / SLOWNESS)
        self.assertEqual(life.wait(), -signal.SIGABRT)


class RestartTest(SupervisedTest):
    def test_own_sockets_are_kept(self):
        supervisor = self.supervise(
            "--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=127.0.0.1:0", WEB, "--shards=2")
        life = supervisor.start()
        first = supervisor.addresses()
        self.assertEqual(
            sorted(name.split(".")[2] for name in supervisor.stored_names() if "listener" in name),
            ["http", "tcp", "udp", "udp"])
        # Killed, so that nothing is done at the end; what is queued then is not lost.
        self.assertEqual(supervisor.end(signal.SIGKILL), -signal.SIGKILL)
        host, port = first["udp"][0].rsplit(":", 1)
        for _ in range(100):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"a:1|c", (host, int(port)))
        life = supervisor.start()
        self.assertEqual(supervisor.addresses(), first)
        self.counter(supervisor, "a", 100)

    def test_a_path_that_is_gone_is_bound_anew_and_nothing_is_lost(self):
        supervisor = self.supervise(*QUIET, WEB)
        path = f"{supervisor.directory}/statsd.sock"
        supervisor.flags += (f"--statsd.listen-unixgram={path}",)
        supervisor.start()
        self.assertEqual(supervisor.end(), 0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"a:1|c", path)
        os.unlink(path)
        supervisor.start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"a:1|c", path)
        self.counter(supervisor, "a", 2)

    def test_a_path_that_goes_later_is_bound_anew_as_in_the_first_life(self):
        supervisor = self.supervise(*QUIET, WEB)
        path = f"{supervisor.directory}/statsd.sock"
        supervisor.flags += (f"--statsd.listen-unixgram={path}",)
        supervisor.start()
        self.assertEqual(supervisor.end(), 0)
        supervisor.start()
        os.unlink(path)
        wait_for("the path", lambda: os.path.exists(path))
        supervisor.life.logged("it is bound anew", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"a:1|c", path)
        self.counter(supervisor, "a", 1)
        # The next life gets this one, and no other.
        self.assertEqual(supervisor.end(), 0)
        self.assertEqual(sum("unixgram" in name for name in supervisor.stored_names()), 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"a:1|c", path)
        supervisor.start()
        self.counter(supervisor, "a", 1)  # without a state it counts anew

    def test_a_listener_that_is_no_more_is_given_up(self):
        supervisor = self.supervise(WEB, "--statsd.listen-udp=127.0.0.1:0")
        supervisor.start("--statsd.listen-tcp=127.0.0.1:0")
        supervisor.end()
        self.assertTrue(any("listener.tcp" in name for name in supervisor.stored_names()))
        supervisor.start("--statsd.listen-tcp=")
        supervisor.end()
        self.assertFalse(any("listener.tcp" in name for name in supervisor.stored_names()))
        self.assertIn("serves no listener any more", supervisor.life.log())

    def test_connections_go_on_with_what_was_begun(self):
        supervisor = self.supervise("--statsd.listen-udp=", "--statsd.listen-tcp=127.0.0.1:0", WEB)
        paths = {name: f"{supervisor.directory}/{name}" for name in ("unixstream", "unixseqpacket")}
        supervisor.flags += tuple(f"--statsd.listen-{name}={path}" for name, path in paths.items())
        life = supervisor.start()
        tcp_port = supervisor.addresses()["tcp"][0]
        tcp = socket.create_connection(("127.0.0.1", int(tcp_port.rsplit(":", 1)[1])))
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(paths["unixstream"])
        packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packets.connect(paths["unixseqpacket"])
        for one in (tcp, stream, packets):
            self.addCleanup(one.close)
        whole = frame(b"stream:1|c")
        tcp.sendall(b"tcp:1|c\ntc")
        stream.sendall(whole + whole[:2])  # within the length
        packets.send(b"packets:1|c")
        for name in ("tcp", "stream", "packets"):
            self.counter(supervisor, name, 1)

        self.assertEqual(supervisor.restart(), 0)

        tcp.sendall(b"p:1|c\nt")
        stream.sendall(whole[2:] + whole[:9])  # within the frame
        packets.send(b"packets:1|c")
        for name in ("tcp", "stream", "packets"):
            self.counter(supervisor, name, 1)
        self.assertEqual(supervisor.restart(), 0)
        tcp.sendall(b"cp:1|c\n")
        stream.sendall(whole[9:])
        for name in ("tcp", "stream"):
            self.counter(supervisor, name, 1)
        ledger = harness.Ledger(supervisor.scrape())
        self.assertEqual(ledger.lost, 0)
        # A peer that goes while nobody reads leaves what it sent.
        stream.sendall(whole)
        supervisor.end()
        stream.sendall(whole)
        stream.close()
        supervisor.start()
        self.counter(supervisor, "stream", 1)
        wait_for("its end to be seen", lambda: supervisor.scrape().by_label(
            "tallyd_closed_connections_total", "reason").get("peer") == 1)

    def test_a_start_that_fails_leaves_the_connections_to_the_next(self):
        supervisor = self.supervise("--statsd.listen-udp=", "--statsd.listen-tcp=127.0.0.1:0", WEB)
        supervisor.start()
        port = supervisor.addresses()["tcp"][0].rsplit(":", 1)[1]
        taken = socket.create_server(("127.0.0.1", 0))
        stream = socket.create_connection(("127.0.0.1", int(port)))
        for one in (taken, stream):
            self.addCleanup(one.close)
        stream.sendall(b"a:1|c\na:")
        self.counter(supervisor, "a", 1)
        self.assertEqual(supervisor.end(), 0)
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        for kind in ("statsd.listen-tcp", "web.listen-address", "push.listen-address"):
            with self.subTest(kind):
                life = supervisor.spawn(f"--{kind}={in_use}")
                self.assertEqual(life.wait(), 3, life.log())
        supervisor.start()
        stream.sendall(b"1|c\n")
        self.counter(supervisor, "a", 1)

    def test_a_start_that_fails_leaves_datagrams_and_paths_to_the_next(self):
        supervisor = self.supervise("--statsd.listen-tcp=", "--statsd.listen-udp=127.0.0.1:0", WEB)
        path = f"{supervisor.directory}/statsd.sock"
        supervisor.flags += (f"--statsd.listen-unixgram={path}",)
        supervisor.start()
        host, port = supervisor.addresses()["udp"][0].rsplit(":", 1)
        self.assertEqual(supervisor.end(), 0)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        taken = socket.create_server(("127.0.0.1", 0))
        for one in (udp, unix, taken):
            self.addCleanup(one.close)
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        rounds = ("web.listen-address", "push.listen-address", "statsd.listen-tcp")
        for kind in rounds:
            with self.subTest(kind):
                udp.sendto(b"by_udp:1|c", (host, int(port)))
                unix.sendto(b"by_path:1|c", path)
                life = supervisor.spawn(f"--{kind}={in_use}")
                self.assertEqual(life.wait(), 3, life.log())
        supervisor.start()
        self.counter(supervisor, "by_udp", len(rounds))
        self.counter(supervisor, "by_path", len(rounds))

    def test_restarts_under_load_lose_nothing(self):
        restarts, seconds = (20, 60.0) if LONG else (4, 8.0)
        rate = 50_000 / SLOWNESS
        supervisor = self.supervise("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=", WEB,
                                    "--shards=2")
        gram, stream = f"{supervisor.directory}/gram", f"{supervisor.directory}/stream"
        supervisor.flags += (f"--statsd.listen-unixgram={gram}", f"--statsd.listen-unixstream={stream}")
        life = supervisor.start()
        udp = supervisor.addresses()["udp"][0]
        host, port = udp.rsplit(":", 1)
        senders = [
            Sender(socket.AF_INET, socket.SOCK_DGRAM, (host, int(port)), rate / 3),
            Sender(socket.AF_UNIX, socket.SOCK_DGRAM, gram, rate / 3),
            Sender(socket.AF_UNIX, socket.SOCK_STREAM, stream, rate / 3),
        ]
        for sender in senders:
            sender.start()
        begun = time.monotonic()
        for number in range(1, restarts + 1):
            pause = begun + number * seconds / (restarts + 1) - time.monotonic()
            time.sleep(max(0.2, pause))
            self.assertEqual(supervisor.restart(), 0)
        time.sleep(0.5)
        for sender in senders:
            sender.stop()
        lives = supervisor.lives
        self.assertEqual(supervisor.end(), 0)
        accounts = [one.stopped() for one in lives]
        received = sum(one["received_samples"] for one in accounts)
        for one in accounts:
            self.assertEqual(one["received_samples"], one["applied_samples"] + one["dropped_samples"])
        kernel = sum(one["kernel_dropped_datagrams"] for one in accounts)
        sent = sum(sender.samples for sender in senders)
        self.assertEqual([sender.error for sender in senders], [None] * 3)
        self.assertEqual(received + kernel * Sender.LINES, sent)
        self.assertEqual(sum(one["dropped_samples"] for one in accounts), 0)
        self.assertGreater(sent, 0.5 * rate * seconds)
        print(f"    {restarts} restarts: sent {sent} = received {received} + {kernel} dropped "
              f"datagrams of {Sender.LINES}, {sent / (time.monotonic() - begun):.0f} samples/s")


class Sender(threading.Thread):
    """Sends units of LINES samples at a rate; counts what the kernel took."""

    LINES = 25

    def __init__(self, family, kind, target, per_second):
        super().__init__(daemon=True)
        self._socket = socket.socket(family, kind)
        self._target = target
        self._stream = kind == socket.SOCK_STREAM
        self._unix = family == socket.AF_UNIX
        self._interval = self.LINES / per_second
        self._stopping = threading.Event()
        self.samples = 0
        self.error = None
        if self._unix:
            self._socket.connect(target)

    def run(self):
        payload = b"\n".join(b"load.%d:1|c" % i for i in range(self.LINES))
        due = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._send(payload)
                self.samples += self.LINES
                due += self._interval
                time.sleep(max(0, due - time.monotonic()))
        except OSError as error:
            self.error = error
        finally:
            self._socket.close()

    def _send(self, payload):
        if not self._unix:
            self._socket.sendto(payload, self._target)
        elif not self._stream:
            self._socket.send(payload)  # waits for room
        else:
            # In two pieces, so that many a restart finds a frame begun.
            whole = frame(payload)
            self._socket.sendall(whole[:7])
            time.sleep(self._interval / 2)
            self._socket.sendall(whole[7:])

    def stop(self):
        self._stopping.set()
        self.join(10 * SLOWNESS)
        if self.is_alive():
            raise harness.Timeout("a sender does not end")


def thread_named(pid, name):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"no thread {name}")


class HeldThread:
    """Holds one thread of a child, as a debugger does, until the child ends or this does."""

    ATTACH, DETACH = 16, 17

    def __init__(self, thread):
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._thread = thread

    def _ptrace(self, request):
        return self._libc.ptrace(request, self._thread, 0, 0)

    def __enter__(self):
        if self._ptrace(self.ATTACH) != 0:
            raise unittest.SkipTest("a thread cannot be held here")
        os.waitpid(self._thread, 0x40000000)  # __WALL
        return self

    def __exit__(self, *_):
        if self._ptrace(self.DETACH) != 0:
            os.waitpid(self._thread, 0x40000000)  # it ended


if __name__ == "__main__":
    unittest.main()
