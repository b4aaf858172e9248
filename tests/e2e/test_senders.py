"""Who sends: by the kernel's word alone, counted exactly, and shown by tallyctl top."""

import array
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import unittest

from harness import BIN, SLOWNESS, Daemon, scratch, wait_for

NOBODY = 65534
AS_ROOT = os.geteuid() == 0


def tallyctl_top(path, *flags, seconds=20, env=None):
    done = subprocess.run(
        [str(BIN / "tallyctl"), "top", f"--socket={path}", *flags],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds * SLOWNESS,
        check=False, env=env)
    return done.returncode, done.stdout, done.stderr


def top(path):
    """One report, at once."""
    code, out, error = tallyctl_top(path, "--once", "--json", "--interval=0")
    assert code == 0, error
    return json.loads(out)


def senders(path):
    return {(row["kind"], row["pid"], row.get("uid")): row for row in top(path)["senders"]}


@contextlib.contextmanager
def daemon_of_senders(*flags):
    """A daemon with every kind of UNIX socket, open to all users, and their folder."""
    with scratch() as directory:
        os.chmod(directory, 0o755)
        with Daemon(
            f"--admin.socket={directory}/admin.sock",
            f"--statsd.listen-unixgram={directory}/gram.sock",
            f"--statsd.listen-unixstream={directory}/stream.sock",
            f"--statsd.listen-unixseqpacket={directory}/packet.sock",
            "--statsd.unixsocket-mode=777", "--shards=2", *flags,
        ) as daemon:
            yield daemon, directory


# A sender that is a process of its own: reads a line, sends it in the way asked for, says so.
CHILD = r"""
import os, socket, struct, sys
kind, path, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
kinds = {"gram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET}
s = socket.socket(socket.AF_UNIX, kinds[kind])
s.connect(path)
print("ready", flush=True)
for text in sys.stdin:
    data = text.rstrip("\n").replace(";", "\n").encode()
    s.sendall(struct.pack("<I", len(data)) + data if kind == "stream" else data)
    print("sent", flush=True)
"""


class Child:
    def __init__(self, kind, directory, uid=0):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", CHILD, kind, f"{directory}/{kind}.sock", str(uid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.popen.stdout.readline() == "ready\n"

    @property
    def pid(self):
        return self.popen.pid

    def send(self, text):
        self.popen.stdin.write(text + "\n")
        self.popen.stdin.flush()
        assert self.popen.stdout.readline() == "sent\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        try:
            self.popen.wait(10 * SLOWNESS)
        finally:
            self.popen.kill()
            self.popen.wait()
            self.popen.stdout.close()


@unittest.skipUnless(AS_ROOT, "needs root, to send as others")
class AllowedUsersTest(unittest.TestCase):
    ALLOWED = 4711
    OTHER = 4712

    @contextlib.contextmanager
    def daemon(self, **keywords):
        with scratch() as directory:
            os.chmod(directory, 0o755)
            listen = [(kind, f"{directory}/{name}.sock?allow_uids={self.ALLOWED}") for kind, name in (
                ("unixgram", "gram"), ("unixstream", "stream"), ("unixseqpacket", "packet"))]
            with Daemon("--statsd.unixsocket-mode=777", "--shards=2", listen=listen,
                        **keywords) as daemon:
                yield daemon, directory

    def test_whom_a_user_namespace_hides_is_refused_and_that_is_said(self):
        unshare = ("unshare", "--user", "--map-root-user")
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no user namespaces here")
        with self.daemon(wrapper=unshare) as (daemon, directory):
            self.assertIn("allow_uids refuses the others", daemon.log())
            with Child("gram", directory, self.ALLOWED) as child:
                child.send("a:1|c")
            self.assertEqual(daemon.settle(received=1).reasons, {"unauthorized": 1})

    def test_who_is_on_the_list_counts_and_nobody_else(self):
        with self.daemon() as (daemon, directory), contextlib.ExitStack() as stack:
            for kind in ("gram", "stream", "packet"):
                stack.enter_context(Child(kind, directory, self.ALLOWED)).send("a:1|c;b:1|c")
            daemon.settle(received=6)
            gram = stack.enter_context(Child("gram", directory, self.OTHER))
            for _ in range(50):
                gram.send("a:1|c;b:1|c;nonsense|c|#uid:4711")  # what the payload claims is text
            ledger = daemon.settle(received=6 + 150)
            self.assertEqual(ledger.reasons, {"unauthorized": 150})
            self.assertEqual(ledger.applied, 6)
            self.assertEqual(daemon.scrape().value("a"), 3)

    def test_a_connection_is_closed_unread(self):
        with self.daemon() as (daemon, directory):
            for number, kind in enumerate(("stream", "packet"), 1):
                # Root is not on the list either.
                type_ = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET}[kind]
                with socket.socket(socket.AF_UNIX, type_) as connection:
                    connection.settimeout(10 * SLOWNESS)
                    connection.connect(f"{directory}/{kind}.sock")
                    with contextlib.suppress(OSError):
                        connection.sendall(b"\5\0\0\0a:1|c")
                        self.assertEqual(connection.recv(1), b"")
                wait_for("the count", lambda: daemon.scrape(path="/-/metrics").value(
                    "tallyd_closed_connections_total", reason="unauthorized") == number)
            self.assertEqual(daemon.ledger().received, 0)

    def test_a_flood_is_named_in_few_lines(self):
        with self.daemon() as (daemon, directory), Child("gram", directory, self.OTHER) as child:
            for _ in range(500):
                child.send("a:1|c")
            daemon.settle(received=500)
            lines = daemon.logged("allow_uids")
            self.assertLessEqual(len(lines), 2)
            self.assertIn(f"uid={self.OTHER} pid={child.pid}", lines[0])
            self.assertIn(f"{directory}/gram.sock", lines[0])

    def test_a_claim_of_a_privileged_process_is_the_kernels_word(self):
        """Root may say that it is another, and only such a process may."""
        with self.daemon() as (daemon, directory):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                claim = struct.pack("iII", os.getpid(), self.ALLOWED, self.ALLOWED)
                sender.connect(f"{directory}/gram.sock")
                sender.sendmsg([b"a:1|c"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)])
                sender.send(b"a:1|c")
            ledger = daemon.settle(received=2)
            self.assertEqual((ledger.applied, ledger.reasons), (1, {"unauthorized": 1}))


class IdentityTest(unittest.TestCase):
    def test_each_way_to_send_is_told_by_the_kernel(self):
        with daemon_of_senders() as (daemon, directory), contextlib.ExitStack() as stack:
            admin = directory / "admin.sock"
            children = {kind: stack.enter_context(Child(kind, directory))
                        for kind in ("gram", "stream", "packet")}
            sent = {"gram": 3, "stream": 5, "packet": 7}
            for kind, count in sent.items():
                for _ in range(count):
                    # What the payload says of a sender is about the sample, not about who sends.
                    children[kind].send(f"{kind}.n:1|c|#pid:1,uid:0|c:in-1234;nonsense")
            daemon.send_udp("udp.n:1|c")
            daemon.settle(received=2 * sum(sent.values()) + 1)
            uid = os.geteuid()
            # Names come a moment later.
            wait_for("names", lambda: all(
                row["command"] for row in top(admin)["senders"] if row["kind"] == "process"))
            report = top(admin)
            rows = senders(admin)
            for kind, count in sent.items():
                row = rows[("process", children[kind].pid, uid)]
                self.assertEqual(row["samples"], 2 * count, kind)
                self.assertEqual(row["dropped"], count, kind)
                self.assertEqual(row["datagrams"], count, kind)
                self.assertEqual(row["series_made"], 1, kind)
                self.assertEqual(row["gid"], os.getegid())
                self.assertTrue(row["command"].startswith("python"), row)
            self.assertEqual(rows[("unknown", 0, None)]["samples"], 1)
            self.assertEqual(report["sender_count"], 3)
            self.assertEqual(len(report["senders"]), 4)
            # Exactly what was sent, whoever looks.
            self.assertEqual(report["received"], 2 * sum(sent.values()) + 1)
            self.assertEqual(report["received"], report["applied"] + report["dropped"])
            self.assertEqual(sum(row["samples"] for row in report["senders"]), report["received"])
            self.assertEqual(sum(row["dropped"] for row in report["senders"]), report["dropped"])
            self.assertEqual({row["reason"]: row["count"] for row in report["drops"]
                              if row["count"]}, {"malformed_line": sum(sent.values())})
            self.assertEqual({row["name"]: row["samples"] for row in report["listeners"]
                              if row["samples"]},
                             {f"unixgram:{directory}/gram.sock": 6,
                              f"unixstream:{directory}/stream.sock": 10,
                              f"unixseqpacket:{directory}/packet.sock": 14,
                              f"udp:127.0.0.1:{daemon.port()}": 1})
            wait_for("the merge", lambda: {row["name"] for row in top(admin)["families"]} ==
                     {"gram_n", "stream_n", "packet_n", "udp_n"})

    @unittest.skipUnless(AS_ROOT, "other users can only be played by root")
    def test_users_are_told_apart(self):
        with daemon_of_senders() as (daemon, directory), contextlib.ExitStack() as stack:
            for kind in ("gram", "stream", "packet"):
                child = stack.enter_context(Child(kind, directory, NOBODY - 1))
                child.send("a:1|c|#uid:0")
                other = stack.enter_context(Child(kind, directory, 12345))
                other.send("a:1|c;a:1|c")
                rows = wait_for(
                    "both", lambda a=child.pid, b=other.pid: (
                        lambda rows: {a, b} <= {row[1] for row in rows} and rows)(
                            senders(directory / "admin.sock")))
                self.assertEqual(rows[("process", child.pid, NOBODY - 1)]["samples"], 1)
                self.assertEqual(rows[("process", other.pid, 12345)]["samples"], 2)
                self.assertEqual(rows[("process", other.pid, 12345)]["gid"], 12345)
            daemon.settle(received=9)

    @unittest.skipUnless(AS_ROOT, "to give up rights one must have them")
    def test_a_claim_that_the_kernel_refuses_is_not_sent(self):
        with daemon_of_senders() as (daemon, directory):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                refused = b"sent"
                try:
                    os.setgroups([])
                    os.setgid(12345)
                    os.setuid(12345)
                    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                        sender.connect(f"{directory}/gram.sock")
                        claim = struct.pack("iII", 1, 0, 0)
                        control = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)]
                        try:
                            sender.sendmsg([b"forged:1|c"], control)
                        except PermissionError:
                            refused = b"refused"
                        sender.send(b"honest:1|c")
                finally:
                    os.write(write, refused)
                    os._exit(0)
            os.close(write)
            try:
                self.assertEqual(os.read(read, 100), b"refused")
            finally:
                os.close(read)
                os.waitpid(child, 0)
            daemon.settle(received=1)
            rows = senders(directory / "admin.sock")
            self.assertEqual(rows[("process", child, 12345)]["samples"], 1)
            self.assertNotIn(("process", 1, 0), rows)

    def test_descriptors_that_come_along_are_not_kept(self):
        with daemon_of_senders() as (daemon, directory):
            descriptors = pathlib.Path(f"/proc/{daemon.pid}/fd")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(f"{directory}/gram.sock")
                sender.send(b"a:1|c")
                daemon.settle(received=1)
                before = len(list(descriptors.iterdir()))
                for _ in range(50):
                    passed = array.array("i", [0, 1, 2])
                    sender.sendmsg([b"a:1|c"],
                                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())])
            daemon.settle(received=51)
            wait_for("no more descriptors", lambda: len(list(descriptors.iterdir())) <= before)
            row = senders(directory / "admin.sock")[("process", os.getpid(), os.geteuid())]
            self.assertEqual(row["samples"], 51)

    def test_it_can_be_switched_off(self):
        with daemon_of_senders("--no-statsd.sender-identity") as (daemon, directory):
            with Child("gram", directory) as gram, Child("stream", directory) as stream:
                gram.send("a:1|c")
                stream.send("a:1|c")
                daemon.settle(received=2)
            report = top(directory / "admin.sock")
            self.assertEqual([(row["kind"], row["samples"]) for row in report["senders"]],
                             [("unknown", 2)])
            self.assertEqual(report["sender_count"], 0)

    @unittest.skipUnless(AS_ROOT, "thousands of users can only be played by root")
    def test_more_senders_than_there_is_room_for(self):
        count = 5000
        with daemon_of_senders() as (daemon, directory):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(f"{directory}/gram.sock")
                for uid in range(1, count + 1):
                    claim = struct.pack("iII", os.getpid(), uid, uid)
                    sender.sendmsg([b"a:1|c"],
                                   [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)])
            daemon.settle(received=count)
            report = top(directory / "admin.sock")
            self.assertEqual(report["received"], count)
            self.assertEqual(sum(row["samples"] for row in report["senders"]), count)
            others = [row for row in report["senders"] if row["kind"] == "others"]
            self.assertEqual(report["sender_count"], 4094)
            self.assertEqual(others[0]["samples"], count - 4094)
            # And it is bounded what is asked for.
            code, out, _ = tallyctl_top(directory / "admin.sock", "--once", "--interval=0")
            self.assertEqual(code, 0)
            self.assertIn("SENDER (4094)", out)


class OnceTest(unittest.TestCase):
    def test_rates_are_those_of_the_interval(self):
        with daemon_of_senders() as (daemon, directory):
            admin = directory / "admin.sock"
            with Child("gram", directory) as child:
                child.send("a:1|c")
                daemon.settle(received=1)
                running = subprocess.Popen(
                    [str(BIN / "tallyctl"), "top", f"--socket={admin}", "--once", "--json",
                     "--interval=2s"], stdout=subprocess.PIPE, text=True)
                time.sleep(0.5)
                for _ in range(100):
                    child.send("a:1|c;b:x|g")
                out, _ = running.communicate(timeout=20 * SLOWNESS)
            report = json.loads(out)
            seconds = report["interval_seconds"]
            self.assertGreaterEqual(seconds, 2)
            self.assertAlmostEqual(report["received_per_second"] * seconds, 200, places=3)
            self.assertAlmostEqual(report["dropped_per_second"] * seconds, 100, places=3)
            row = report["senders"][0]
            self.assertAlmostEqual(row["samples_per_second"] * seconds, 200, places=3)
            self.assertAlmostEqual(row["dropped_per_second"] * seconds, 100, places=3)

    def test_text_is_plain_and_says_the_same(self):
        with daemon_of_senders() as (daemon, directory):
            admin = directory / "admin.sock"
            self.assertEqual(stat.S_IMODE(os.stat(admin).st_mode), 0o600)
            daemon.send_udp("api.calls:1|c|#route:a\napi.calls:1|c|#route:b\nbroken")
            daemon.settle(received=3)
            wait_for("the merge", lambda: top(admin)["series"] == 2)
            code, out, error = tallyctl_top(admin, "--once", "--interval=0", "--sort=name")
            self.assertEqual((code, error), (0, ""))
            self.assertIn("received 3 = applied 2 + dropped 1", out)
            self.assertIn("FAMILY (1)", out)
            self.assertRegex(out, r"(?m)^ +2 +100000 +- +- +counter +api_calls$")
            self.assertRegex(out, r"(?m)^ +- +1 +dropped +malformed_line$")
            self.assertNotIn("\x1b", out)

    def test_what_cannot_be_is_said(self):
        with scratch() as directory:
            code, out, error = tallyctl_top(directory / "none.sock", "--once")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("none.sock", error)
            code, _, error = tallyctl_top(directory / "none.sock", "--sort=colour")
            self.assertEqual(code, 2)
            self.assertIn("rate, total, series", error)
            code, _, _ = tallyctl_top(directory / "none.sock", "--json")
            self.assertEqual(code, 2)
            code, _, _ = tallyctl_top(directory / "none.sock", "--interval=1ms")
            self.assertEqual(code, 2)
            # A daemon that takes the connection and says nothing.
            with socket.socket(socket.AF_UNIX) as mute:
                mute.bind(str(directory / "mute.sock"))
                mute.listen()
                code, _, error = tallyctl_top(directory / "mute.sock", "--once")
                self.assertEqual(code, 1)
                self.assertIn("does not answer", error)

    def test_the_request_is_checked(self):
        with daemon_of_senders() as (_, directory):
            for bad in ("families=0", "senders=x", "families=10001"):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(20 * SLOWNESS)
                    client.connect(f"{directory}/admin.sock")
                    client.sendall(f"GET /top?{bad} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
                    self.assertIn(b" 400 ", client.recv(1000), bad)


class Terminal:
    """tmux with a shell in it, of which nothing outlives the test."""

    def __init__(self, directory, width, height, env=None):
        self._socket = f"{directory}/tmux"
        self._env = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
        self._env.pop("TMUX", None)
        self.run("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
                 "env PS1=prompt: sh")
        wait_for("the shell", lambda: "prompt:" in self.screen())

    def run(self, *arguments):
        return subprocess.run(["tmux", "-S", self._socket, *arguments], env=self._env, check=True,
                              capture_output=True, text=True, timeout=10 * SLOWNESS).stdout

    def screen(self, *flags):
        return self.run("capture-pane", "-p", *flags)

    def keys(self, *keys):
        self.run("send-keys", *keys)

    def resize(self, width, height):
        self.run("resize-window", "-x", str(width), "-y", str(height))

    def wait(self, what, holds):
        return wait_for(f"{what}, on\n{self.screen()}",
                        lambda: (lambda text: holds(text) and text)(self.screen()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("kill-server")


@unittest.skipUnless(shutil.which("tmux"), "there is no tmux")
class LiveTest(unittest.TestCase):
    def setUp(self):
        self._stack = contextlib.ExitStack()
        self.addCleanup(self._stack.close)
        self.daemon, self.directory = self._stack.enter_context(daemon_of_senders())
        lines = [f"fam{i}.calls:1|c|#k:{k}" for i in range(9) for k in range(i + 1)]
        for first in range(0, len(lines), 10):
            self.daemon.send_udp("\n".join(lines[first:first + 10]))
        self.daemon.send_udp("broken")
        self.child = self._stack.enter_context(Child("gram", self.directory))
        self.child.send("long." + "x" * 300 + ":1|c;evil.\x1b[2J:1|c")
        self.daemon.settle(received=len(lines) + 3)

    def start(self, width, height, prefix="", **keywords):
        terminal = self._stack.enter_context(
            Terminal(self.directory, width, height, **keywords))
        terminal.keys(f"{prefix}{BIN}/tallyctl top --socket={self.directory}/admin.sock"
                      " --interval=200ms; echo ended with $?", "Enter")
        terminal.wait("the view", lambda text: "q quit" in text and "FAMILY (11)" in text)
        return terminal

    def assert_given_back(self, terminal):
        terminal.wait("the prompt", lambda text: "prompt:" in text and "q quit" not in text)
        terminal.keys("stty -a | grep icanon", "Enter")
        terminal.wait("stty", lambda text: " icanon" in text and " echo " in text)
        self.assertEqual(terminal.run("display-message", "-p", "#{alternate_on} #{cursor_flag}")
                         .split(), ["0", "1"])

    def test_at_80_columns(self):
        terminal = self.start(80, 24)
        text = terminal.wait("rates", lambda text: "received 0" in text)
        lines = text.rstrip("\n").split("\n")
        self.assertEqual(len(lines), 24)
        self.assertTrue(lines[0].startswith("tallyd "))
        self.assertIn("received 48 = applied", lines[1])
        self.assertTrue(lines[23].startswith("q quit"))
        for title in ("SENDER (1)", "LISTENER (", "REASON"):
            self.assertIn(title, text)
        self.assertNotIn("COMMAND", text)
        self.assertRegex(text, rf" {self.child.pid} +{os.geteuid()} ")
        self.assertIn("malformed_line", text)
        # What is too long is cut within, nothing wraps, and the last column has its last letter.
        self.assertRegex(text, r"unixgram:\S+\.\.\S+gram\.sock\n")
        terminal.keys("Tab")
        terminal.wait("a long name", lambda text: re.search(r"(?m)counter  long_x+\.\.x+$", text))
        terminal.keys("q")
        terminal.wait("the end", lambda text: "ended with 0" in text)
        self.assert_given_back(terminal)

    def test_at_200_columns_after_a_resize(self):
        terminal = self.start(80, 24)
        terminal.resize(200, 40)
        text = terminal.wait("the wide view", lambda text: "COMMAND" in text and
                             text.rstrip("\n").count("\n") == 39)
        self.assertIn("DATAGRAMS/s", text)
        self.assertRegex(text, r"python3?\S* +python")
        terminal.resize(80, 10)
        terminal.wait("the small view", lambda text: "COMMAND" not in text and
                      text.rstrip("\n").count("\n") == 9 and "q quit" in text)
        terminal.keys("q")
        self.assert_given_back(terminal)

    def test_keys(self):
        terminal = self.start(100, 30)

        def first_family(text):
            rows = text.split("FAMILY (11)\n")[1].split("\n")
            return rows[0].split()[-1]

        terminal.keys("s")
        terminal.wait("by series", lambda text: "by series" in text and
                      first_family(text) == "fam8_calls")
        terminal.keys("n")
        terminal.wait("by name", lambda text: first_family(text).startswith("evil"))
        terminal.keys("j")
        terminal.wait("one down", lambda text: first_family(text) == "fam0_calls")
        terminal.keys("Down", "Down")
        terminal.wait("two more", lambda text: first_family(text) == "fam2_calls")
        terminal.keys("g")
        terminal.wait("the top", lambda text: first_family(text).startswith("evil"))
        terminal.keys("1")
        terminal.wait("no families", lambda text: "FAMILY" not in text and "SENDER" in text)
        terminal.keys("1")
        terminal.wait("families", lambda text: "FAMILY" in text)
        terminal.keys("Tab", "Tab")
        terminal.wait("senders alone", lambda text: "SENDER" in text and "FAMILY" not in text and
                      "LISTENER" not in text)
        terminal.keys("a")
        terminal.wait("all", lambda text: "LISTENER" in text and "FAMILY" in text)
        terminal.keys("?")
        terminal.wait("the help", lambda text: "Ctrl-C" in text)
        terminal.keys("?")
        terminal.wait("no help", lambda text: "Ctrl-C" not in text)
        terminal.keys("p")
        terminal.wait("a pause", lambda text: "\npaused" in text)
        self.child.send("late:1|c")
        self.daemon.settle(received=49)
        terminal.keys("t")
        text = terminal.wait("the order", lambda text: "by total" in text)
        self.assertIn("received 48 =", text)
        terminal.keys("p")
        terminal.wait("the rest", lambda text: "received 49 =" in text)

    def test_without_colour(self):
        for env, coloured in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
            with self.subTest(env=env), contextlib.ExitStack() as stack:
                directory = stack.enter_context(scratch())
                terminal = stack.enter_context(Terminal(directory, 80, 24, env=env))
                terminal.keys(f"{BIN}/tallyctl top --socket={self.directory}/admin.sock", "Enter")
                terminal.wait("the view", lambda text: "q quit" in text)
                styled = wait_for("the screen", lambda: terminal.screen("-e"))
                self.assertEqual("\x1b[" in styled, coloured, styled)
                self.assertNotIn("\x1b[2J", styled)

    def test_signals_give_the_terminal_back(self):
        for name in ("INT", "TERM", "HUP", "QUIT", "SEGV", "ABRT"):
            with self.subTest(signal=name), contextlib.ExitStack() as stack:
                directory = stack.enter_context(scratch())
                terminal = stack.enter_context(Terminal(directory, 80, 24))
                # No core files; the shell tells the pid of what it starts.
                terminal.keys("ulimit -c 0; sh -c 'echo $$ > "
                              f"{directory}/pid; exec {BIN}/tallyctl top --socket="
                              f"{self.directory}/admin.sock'; echo ended with $?", "Enter")
                terminal.wait("the view", lambda text: "q quit" in text)
                os.kill(int((directory / "pid").read_text()), getattr(signal, "SIG" + name))
                # A shell says no more after Ctrl-C; a sanitizer has its own way to die.
                if name != "INT" and SLOWNESS == 1:
                    end = f"ended with {128 + getattr(signal, 'SIG' + name)}\n"
                    terminal.wait(end, lambda text, end=end: end in text)
                self.assert_given_back(terminal)

    def test_a_daemon_that_goes_and_comes_is_followed(self):
        terminal = self.start(80, 24)
        self.daemon.stop()
        terminal.wait("trouble", lambda text: "cannot reach tallyd" in text)
        terminal.keys("q")
        self.assert_given_back(terminal)

    def test_ctrl_z_and_back(self):
        terminal = self.start(80, 24)
        terminal.keys("C-z")
        terminal.wait("the shell", lambda text: "q quit" not in text and "prompt:" in text)
        terminal.keys("fg", "Enter")
        terminal.wait("the view", lambda text: "q quit" in text and "FAMILY (11)" in text)
        terminal.keys("q")
        self.assert_given_back(terminal)


if __name__ == "__main__":
    unittest.main()
