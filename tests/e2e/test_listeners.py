"""Listeners: what they refuse to start on, and what senders cannot do to them."""

import os
import signal
import socket
import struct
import threading
import time
import unittest

from harness import SLOWNESS, Daemon, free_port, run_tallyd, scratch, wait_for

IN_USE = 3


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


def connect_unix(path, kind=socket.SOCK_STREAM):
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(5 * SLOWNESS)
    connection.connect(str(path))
    return connection


def raise_send_buffer(sender):
    """As far as one datagram of 240,000 bytes needs; skips where that is not allowed."""
    so_sndbufforce = 32
    try:
        sender.setsockopt(socket.SOL_SOCKET, so_sndbufforce, 1 << 20)
    except PermissionError:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 300_000:
        raise unittest.SkipTest("needs a larger net.core.wmem_max, or CAP_NET_ADMIN")


def start_on(kind, path):
    """Starts on one path, alone, and runs to the end: only for what must be refused."""
    return run_tallyd("--statsd.listen-udp=", "--statsd.listen-tcp=", "--web.listen-address=",
                      f"--statsd.listen-{kind}={path}")


UNIX_KINDS = ("unixgram", "unixstream", "unixseqpacket")


class SocketPathTest(unittest.TestCase):
    def assert_refused(self, kind, path):
        code, _, errors = start_on(kind, path)
        self.assertEqual(code, IN_USE, errors)
        self.assertIn(str(path), errors)

    def test_a_file_is_left_alone(self):
        for kind in UNIX_KINDS:
            with self.subTest(kind), scratch() as directory:
                path = directory / "precious"
                path.write_text("data")
                self.assert_refused(kind, path)
                self.assertEqual(path.read_text(), "data")

    def test_a_directory_is_left_alone(self):
        for kind in UNIX_KINDS:
            with self.subTest(kind), scratch() as directory:
                path = directory / "directory"
                path.mkdir()
                self.assert_refused(kind, path)
                self.assertTrue(path.is_dir())

    def test_a_symbolic_link_is_left_alone(self):
        for kind in UNIX_KINDS:
            for target in ("nowhere", "file", "socket"):
                with self.subTest(kind=kind, target=target), scratch() as directory:
                    (directory / "file").write_text("data")
                    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
                        stale.bind(str(directory / "socket"))
                    path = directory / "link"
                    path.symlink_to(directory / target)
                    self.assert_refused(kind, path)
                    self.assertTrue(path.is_symlink())
                    self.assertTrue((directory / "socket").exists())

    def test_a_stale_socket_is_taken_over(self):
        for kind, type_ in (("unixgram", socket.SOCK_DGRAM), ("unixstream", socket.SOCK_STREAM),
                            ("unixseqpacket", socket.SOCK_SEQPACKET)):
            with self.subTest(kind), scratch() as directory:
                path = directory / "stale.sock"
                with socket.socket(socket.AF_UNIX, type_) as stale:
                    stale.bind(str(path))
                with Daemon(listen=((kind, path),)) as daemon:
                    with connect_unix(path, type_) as sender:
                        sender.send(frame(b"a:1|c") if kind == "unixstream" else b"a:1|c")
                    daemon.settle(received=1)
                    self.assertEqual(daemon.scrape().value("a"), 1)

    def test_a_stale_socket_of_another_type_is_not_mistaken_for_a_free_path(self):
        with scratch() as directory:
            path = directory / "other.sock"
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as alive:
                alive.bind(str(path))
                alive.listen(1)
                self.assert_refused("unixgram", path)
            self.assertTrue(path.exists())

    def test_a_live_socket_is_not_taken(self):
        for kind in UNIX_KINDS:
            with self.subTest(kind), scratch() as directory:
                path = directory / "live.sock"
                with Daemon(listen=((kind, path),)) as first:
                    self.assert_refused(kind, path)
                    self.assertTrue(path.exists())
                    self.assertTrue(first.process.running())

    def test_what_crashed_leaves_a_socket_that_the_next_takes(self):
        with scratch() as directory:
            path = directory / "crashed.sock"
            listen = (("unixgram", path),)
            with Daemon(listen=listen) as first:
                first.stop(signal.SIGKILL)
                self.assertTrue(path.exists())
            with Daemon(listen=listen) as second:
                with connect_unix(path, socket.SOCK_DGRAM) as sender:
                    sender.send(b"a:1|c")
                second.settle(received=1)

    def test_beside_the_saved_state(self):
        with scratch() as directory:
            kinds = ("unixgram", "unixstream")
            listen = [(kind, directory / kind) for kind in kinds]
            with Daemon(f"--state.directory={directory}", f"--admin.socket={directory}/admin",
                        listen=listen) as daemon:
                (directory / "unixgram").unlink()
                wait_for("a new socket", (directory / "unixgram").exists)
                self.assertEqual(daemon.stop(), 0)

    def test_the_mode_of_the_socket(self):
        with scratch() as directory:
            path = directory / "mode.sock"
            with Daemon("--statsd.unixsocket-mode=722", listen=(("unixgram", path),)):
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o722)

    @unittest.skipIf(os.geteuid() != 0, "needs root, which may give files away")
    def test_the_group_alone_may_send(self):
        with scratch() as directory:
            directory.chmod(0o755)
            group = 54321
            kinds = {"unixgram": socket.SOCK_DGRAM, "unixstream": socket.SOCK_STREAM}
            listen = [(kind, directory / kind) for kind in kinds]
            with Daemon(f"--statsd.unixsocket-group={group}", "--statsd.unixsocket-mode=660",
                        listen=listen):
                for kind, path in listen:
                    self.assertEqual(os.stat(path).st_gid, group)
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
                    for gid, lets_in in ((group, True), (54322, False)):
                        child = os.fork()
                        if child == 0:
                            code = 2
                            try:
                                os.setgroups([])
                                os.setgid(gid)
                                os.setuid(65534)
                                socket.socket(socket.AF_UNIX, kinds[kind]).connect(str(path))
                                code = 0
                            except PermissionError:
                                code = 1
                            finally:
                                os._exit(code)
                        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                        self.assertEqual(code, 0 if lets_in else 1, (kind, gid))

    def test_a_directory_that_is_not_there(self):
        code, _, errors = start_on("unixgram", "/nonexistent/directory/x.sock")
        self.assertNotEqual(code, 0)
        self.assertIn("/nonexistent/directory/x.sock", errors)

    def test_a_path_that_is_too_long(self):
        with scratch() as directory:
            code, _, errors = start_on("unixgram", directory / ("x" * 120))
            self.assertIn(code, (2, IN_USE), errors)


class LostPathTest(unittest.TestCase):
    """The file of a socket goes away while we serve it."""

    def own(self, daemon, name):
        return daemon.scrape(path="/-/metrics").value(name)

    def rebound(self, daemon, times):
        wait_for("a new socket", lambda: self.own(daemon, "tallyd_rebound_sockets_total") == times)

    def test_a_removed_path_is_bound_anew(self):
        kinds = {"unixgram": socket.SOCK_DGRAM, "unixstream": socket.SOCK_STREAM,
                 "unixseqpacket": socket.SOCK_SEQPACKET}
        with scratch() as directory:
            listen = [(kind, directory / kind) for kind in kinds]
            with Daemon("--statsd.unixsocket-mode=711", listen=listen) as daemon:
                sent = 0
                for number, (kind, path) in enumerate(listen, 1):
                    sample = frame(b"a:1|c") if kind == "unixstream" else b"a:1|c"
                    with connect_unix(path, kinds[kind]) as former:
                        path.unlink()
                        former.send(sample)
                        self.rebound(daemon, number)
                        self.assertEqual(os.stat(path).st_mode & 0o777, 0o711)
                        with connect_unix(path, kinds[kind]) as fresh:
                            fresh.send(sample)
                            former.send(sample)  # is still read
                            sent += 3
                            daemon.settle(received=sent)
                    daemon.logged(f"listener={kind}:{path}")
                self.assertEqual(daemon.ledger().applied, sent)
                self.assertEqual(self.own(daemon, "tallyd_lost_sockets"), 0)
                self.assertEqual(daemon.stop(), 0)
                self.assertEqual(list(directory.iterdir()), [])  # the new files go with the daemon

    def test_who_took_the_place_is_left_alone(self):
        with scratch() as directory:
            path = directory / "taken.sock"
            with Daemon(listen=(("unixgram", path),)) as daemon:
                path.unlink()
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                    other.bind(str(path))
                    wait_for("a lost socket", lambda: self.own(daemon, "tallyd_lost_sockets") == 1)
                    self.assertEqual(self.own(daemon, "tallyd_rebound_sockets_total"), 0)
                    with connect_unix(path, socket.SOCK_DGRAM) as sender:
                        sender.send(b"for the other")
                        self.assertEqual(other.recv(100), b"for the other")
                    daemon.logged("cannot be bound anew")
                self.rebound(daemon, 1)  # the other is gone, and its file is a dead socket's
                self.assertEqual(self.own(daemon, "tallyd_lost_sockets"), 0)
                with connect_unix(path, socket.SOCK_DGRAM) as sender:
                    sender.send(b"a:1|c")
                daemon.settle(received=1)

    def test_again_and_again_leaves_no_descriptors(self):
        with scratch() as directory:
            path = directory / "often.sock"
            with Daemon(listen=(("unixstream", path),)) as daemon:
                for number in range(1, 5):
                    path.unlink()
                    self.rebound(daemon, number)
                    with connect_unix(path) as sender:
                        sender.send(frame(b"a:1|c"))
                    daemon.settle(received=number)
                sockets = [os.readlink(fd.path) for fd in os.scandir(f"/proc/{daemon.pid}/fd")]
                # HTTP, the path and its former; a scrape may be about to close.
                self.assertLessEqual(sum(name.startswith("socket:") for name in sockets), 5)


class AddressTest(unittest.TestCase):
    def test_a_second_instance_names_the_address(self):
        for kind in ("udp", "tcp"):
            with self.subTest(kind), Daemon(listen=((kind, "127.0.0.1:0"),)) as first:
                address = f"127.0.0.1:{first.port(kind)}"
                other = "tcp" if kind == "udp" else "udp"
                code, _, errors = run_tallyd(
                    f"--statsd.listen-{kind}={address}", f"--statsd.listen-{other}=",
                    "--web.listen-address=127.0.0.1:0")
                self.assertEqual(code, IN_USE, errors)
                self.assertIn(address, errors)
                self.assertTrue(first.process.running())

    def test_a_second_instance_names_the_http_address(self):
        with Daemon() as first:
            address = f"127.0.0.1:{first.port('http')}"
            code, _, errors = run_tallyd("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=",
                                         f"--web.listen-address={address}")
            self.assertEqual(code, IN_USE, errors)
            self.assertIn(address, errors)

    def test_two_shards_do_not_let_a_second_instance_in(self):
        # SO_REUSEPORT is for our own shards only.
        port = free_port(socket.SOCK_DGRAM)
        flags = ("--shards=2", "--statsd.listen-tcp=", "--web.listen-address=127.0.0.1:0")
        with Daemon("--shards=2", listen=(("udp", f"127.0.0.1:{port}"),)):
            code, _, errors = run_tallyd(f"--statsd.listen-udp=127.0.0.1:{port}", *flags)
            self.assertEqual(code, IN_USE, errors)

    def test_another_programs_port_is_refused(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            code, _, errors = run_tallyd(f"--statsd.listen-udp={address}", "--statsd.listen-tcp=",
                                         "--web.listen-address=127.0.0.1:0")
            self.assertEqual(code, IN_USE, errors)
            self.assertIn(address, errors)

    def test_an_address_that_is_not_ours(self):
        code, _, errors = run_tallyd("--statsd.listen-udp=192.0.2.1:8125", "--statsd.listen-tcp=",
                                     "--web.listen-address=127.0.0.1:0")
        self.assertIn(code, (2, IN_USE), errors)
        self.assertIn("192.0.2.1:8125", errors)


class DatagramTest(unittest.TestCase):
    def test_empty_datagrams_are_not_the_end(self):
        with scratch() as directory:
            listen = (("udp", "127.0.0.1:0"), ("unixgram", directory / "g.sock"))
            with Daemon("--statsd.read-buffer=4194304", listen=listen) as daemon:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.connect(("127.0.0.1", daemon.port("udp")))
                    for _ in range(1000):
                        sender.send(b"")
                    sender.send(b"udp:1|c")
                with connect_unix(directory / "g.sock", socket.SOCK_DGRAM) as sender:
                    for _ in range(1000):
                        sender.send(b"")
                    sender.send(b"unix:1|c")
                ledger = daemon.settle(received=2)
                self.assertEqual(ledger.datagrams, 2002)
                self.assertEqual((ledger.received, ledger.reasons), (2, {}))
                scrape = daemon.scrape()
                self.assertEqual((scrape.value("udp"), scrape.value("unix")), (1, 1))

    def test_an_empty_packet_of_a_seqpacket_socket_is_not_the_end(self):
        with scratch() as directory:
            path = directory / "q.sock"
            with Daemon(listen=(("unixseqpacket", path),)) as daemon:
                with connect_unix(path, socket.SOCK_SEQPACKET) as sender:
                    sender.send(b"a:1|c")
                    sender.send(b"")
                    sender.send(b"a:1|c")
                    daemon.settle(received=2)

    def test_a_datagram_over_the_buffer_is_counted_as_truncated(self):
        # Of 11 bytes each, so that no power of two cuts between two of them.
        lines = b"\n".join(b"cut.it:1|c" for _ in range(22_000))
        for kind, type_ in (("unixgram", socket.SOCK_DGRAM),
                            ("unixseqpacket", socket.SOCK_SEQPACKET)):
            with self.subTest(kind), scratch() as directory:
                path = directory / "big.sock"
                with Daemon(listen=((kind, path),)) as daemon:
                    with connect_unix(path, type_) as sender:
                        raise_send_buffer(sender)
                        sender.send(lines)
                        sender.send(b"whole:1|c")
                        wait_for("both", lambda: daemon.scrape().value("whole"))
                    ledger = daemon.settle()
                    self.assertEqual(ledger.truncated, 1)
                    self.assertEqual(ledger.reasons, {"truncated": 1})
                    # Complete lines count.
                    self.assertEqual(daemon.scrape().value("cut_it"), ledger.applied - 1)
                    self.assertGreater(ledger.applied, 5000)

    def test_buffers_are_exported_as_asked_and_as_granted(self):
        with Daemon("--statsd.read-buffer=65536") as daemon:
            names = {name for name, _ in daemon.scrape(path="/-/metrics").samples}
            buffers = [name for name in names if "buffer" in name]
            self.assertGreaterEqual(len(buffers), 2, sorted(names))


class StreamTest(unittest.TestCase):
    LINES = [b"s1:1|c", b"s1:2|c\ns2:5|g", b"", b"s3:100|ms|#a:b"]

    def check_lines(self, daemon, times):
        daemon.settle(received=4 * times)
        scrape = daemon.scrape()
        self.assertEqual(scrape.value("s1"), 3 * times)
        self.assertEqual(scrape.value("s2"), 5)
        self.assertEqual(scrape.value("s3_count", a="b"), times)
        self.assertEqual(daemon.ledger().reasons, {})

    def test_frames_split_at_every_byte(self):
        stream = b"".join(frame(line) for line in self.LINES)
        with scratch() as directory:
            path = directory / "s.sock"
            with Daemon(listen=(("unixstream", path),)) as daemon:
                with connect_unix(path) as sender:
                    for byte in stream:
                        sender.send(bytes([byte]))
                        time.sleep(0.001)
                self.check_lines(daemon, 1)

    def test_frames_split_once_at_each_place(self):
        stream = b"".join(frame(line) for line in self.LINES)
        with scratch() as directory:
            path = directory / "s.sock"
            with Daemon(listen=(("unixstream", path),)) as daemon:
                for cut in range(len(stream)):
                    with connect_unix(path) as sender:
                        sender.sendall(stream[:cut])
                        time.sleep(0.002)
                        sender.sendall(stream[cut:])
                self.check_lines(daemon, len(stream))

    def test_lines_split_once_at_each_place(self):
        stream = b"s1:1|c\r\ns1:2|c\ns2:5|g\n\ns3:100|ms|#a:b\n"
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            for cut in range(len(stream)):
                with socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5) as sender:
                    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sender.sendall(stream[:cut])
                    time.sleep(0.002)
                    sender.sendall(stream[cut:])
            self.check_lines(daemon, len(stream))

    def assert_closed(self, connection):
        connection.settimeout(10 * SLOWNESS)
        try:
            self.assertEqual(connection.recv(1), b"", "the connection is closed")
        except ConnectionResetError:
            pass

    def test_huge_announced_lengths_close_the_connection(self):
        with scratch() as directory:
            path = directory / "s.sock"
            with Daemon(listen=(("unixstream", path),)) as daemon:
                before = daemon.status_kib("VmRSS")
                lengths = (2**31, 2**32 - 1, 2**31 - 1, 2**24)
                for times, length in enumerate(lengths * 5, 1):
                    with connect_unix(path) as sender:
                        sender.sendall(frame(b"before:1|c") + struct.pack("<I", length) + b"x" * 50)
                        self.assert_closed(sender)
                    ledger = daemon.settle(received=2 * times)
                    self.assertEqual(ledger.reasons, {"too_long": times})
                self.assertEqual(daemon.scrape().value("before"), 20)
                self.assertLess(daemon.status_kib("VmRSS") - before, 8192)

    def test_a_line_over_the_limit_closes_the_connection(self):
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5) as sender:
                sender.sendall(b"before:1|c\n")
                with self.assertRaises(OSError):
                    for _ in range(2000):
                        sender.sendall(b"x" * 65536)
                        time.sleep(0.001)
            ledger = daemon.settle(received=2)
            self.assertEqual(ledger.reasons, {"too_long": 1})
            self.assertEqual(daemon.scrape().value("before"), 1)

    def test_idle_partial_frames_time_out(self):
        with scratch() as directory:
            path = directory / "s.sock"
            listen = (("unixstream", path), ("tcp", "127.0.0.1:0"))
            with Daemon("--statsd.idle-timeout=500ms", listen=listen) as daemon:
                with connect_unix(path) as framed, socket.create_connection(
                    ("127.0.0.1", daemon.port("tcp")), 5
                ) as lines, connect_unix(path) as idle:
                    framed.sendall(frame(b"a:1|c") + b"\x10\x00\x00\x00half")
                    lines.sendall(b"a:1|c\nhalf a line")
                    self.assert_closed(framed)
                    self.assert_closed(lines)
                    # One that is merely quiet, between frames, stays.
                    idle.sendall(frame(b"b:1|c"))
                    time.sleep(1)
                    idle.sendall(frame(b"b:1|c"))
                    wait_for("both", lambda: daemon.scrape().value("b") == 2)
                ledger = daemon.settle()
                self.assertEqual(daemon.scrape().value("a"), 2)
                self.assertEqual(ledger.reasons, {"truncated": 2})

    def test_a_trickle_does_not_keep_a_partial_frame_alive(self):
        with scratch() as directory:
            path = directory / "s.sock"
            with Daemon("--statsd.idle-timeout=500ms", listen=(("unixstream", path),)) as daemon:
                with connect_unix(path) as sender:
                    sender.sendall(struct.pack("<I", 60_000))
                    end = time.monotonic() + 10 * SLOWNESS
                    with self.assertRaises(OSError):
                        while time.monotonic() < end:
                            sender.sendall(b"x")
                            time.sleep(0.1)
                        self.fail("a byte now and then kept the frame open")
                self.assertTrue(daemon.process.running())

    def test_a_cut_off_frame_is_one_truncated_sample(self):
        with scratch() as directory:
            path = directory / "s.sock"
            with Daemon(listen=(("unixstream", path),)) as daemon:
                with connect_unix(path) as sender:
                    sender.sendall(frame(b"a:1|c") + frame(b"a:1|c")[:-2])
                ledger = daemon.settle(received=2)
                self.assertEqual(ledger.reasons, {"truncated": 1})
                self.assertEqual(daemon.scrape().value("a"), 1)

    def test_many_connections_at_once(self):
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            senders = [socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5)
                       for _ in range(200)]
            for sender in senders:
                sender.sendall(b"many:1|c\n")
            daemon.settle(received=200)
            for sender in senders:
                sender.close()
            self.assertEqual(daemon.scrape().value("many"), 200)

            def closed():
                return len(os.listdir(f"/proc/{daemon.pid}/fd")) < 60

            wait_for("the descriptors back", closed)

    def test_a_connect_flood_against_few_descriptors(self):
        wrapper = ("prlimit", "--nofile=48:48")
        with scratch() as directory:
            listen = (("tcp", "127.0.0.1:0"), ("unixstream", directory / "s.sock"),
                      ("udp", "127.0.0.1:0"))
            with Daemon("--shards=1", listen=listen, wrapper=wrapper) as daemon:
                senders = []
                for _ in range(150):
                    sender = socket.socket()
                    sender.settimeout(1)
                    try:
                        sender.connect(("127.0.0.1", daemon.port("tcp")))
                    except OSError:
                        pass
                    senders.append(sender)
                # Others are served all the while, and it does not spin.
                daemon.send_udp("udp:1|c")
                before = cpu_seconds(daemon.pid)
                time.sleep(2)
                self.assertLess(cpu_seconds(daemon.pid) - before, 1.0, "spins on accept")
                for sender in senders:
                    sender.close()
                wait_for("UDP", lambda: daemon.scrape().value("udp") == 1)

                def counted():
                    with socket.create_connection(("127.0.0.1", daemon.port("tcp")), 5) as sender:
                        sender.sendall(b"again:1|c\n")
                    return daemon.scrape().value("again")

                wait_for("TCP again", counted, interval=0.2)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class SlowSenderTest(unittest.TestCase):
    def test_connections_come_and_go_while_lines_count(self):
        with Daemon(listen=(("tcp", "127.0.0.1:0"),)) as daemon:
            port = daemon.port("tcp")

            def visit():
                for _ in range(50):
                    with socket.create_connection(("127.0.0.1", port), 5) as sender:
                        sender.sendall(b"visit:1|c\n")

            threads = [threading.Thread(target=visit) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            daemon.settle(received=400)
            self.assertEqual(daemon.scrape().value("visit"), 400)


if __name__ == "__main__":
    unittest.main()
