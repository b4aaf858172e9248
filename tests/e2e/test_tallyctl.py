"""tallyctl against a running daemon: captures, explanations, the admin socket; and alone."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
import unittest

from harness import BIN, SLOWNESS, Daemon, run_tallyd, scratch, wait_for


def tallyctl(*arguments, seconds=20, text=None):
    """Runs tallyctl to its end: (exit code, standard output, standard error)."""
    done = subprocess.run(
        [str(BIN / "tallyctl"), *[str(argument) for argument in arguments]],
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds * SLOWNESS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def ask(path, target, method="GET"):
    """A raw request on the admin socket: (status, header, body)."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20 * SLOWNESS)
        client.connect(str(path))
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: tallyd\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    header, _, body = answer.partition(b"\r\n\r\n")
    return int(header.split()[1]), header.decode(), body


@contextlib.contextmanager
def admin_daemon(*flags, **keywords):
    """A daemon with an admin socket, and the socket's path."""
    with scratch() as directory:
        path = directory / "admin.sock"
        with Daemon(f"--admin.socket={path}", *flags, **keywords) as daemon:
            yield daemon, path


class Sender(threading.Thread):
    """Sends numbered lines at a steady rate until stopped."""

    def __init__(self, daemon, per_datagram=1, pause=0.002):
        super().__init__(daemon=True)
        self._tallyd = daemon
        self._per_datagram = per_datagram
        self._pause = pause
        self._ended = threading.Event()
        self.sent = []

    def run(self):
        number = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self._tallyd.port()))
            while not self._ended.wait(self._pause):
                lines = [f"cap.n:{number + i}|g" for i in range(self._per_datagram)]
                sender.send("\n".join(lines).encode())
                self.sent += lines
                number += self._per_datagram

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(10)


class AdminSocketTest(unittest.TestCase):
    def test_it_is_the_owners_alone_and_goes_with_the_daemon(self):
        with admin_daemon() as (daemon, path):
            mode = os.stat(path)
            self.assertTrue(stat.S_ISSOCK(mode.st_mode))
            self.assertEqual(stat.S_IMODE(mode.st_mode), 0o600)
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(path.exists())

    def test_a_second_instance_is_refused_and_a_dead_socket_is_not(self):
        with admin_daemon() as (daemon, path):
            flags = ("--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=",
                     "--web.listen-address=127.0.0.1:0", f"--admin.socket={path}")
            code, _, error = run_tallyd(*flags)
            self.assertEqual(code, 3, error)
            self.assertIn(str(path), error)
            self.assertEqual(ask(path, "/explain?line=a:1%7Cc")[0], 200)
            daemon.stop(signal.SIGKILL)
            self.assertTrue(path.exists())
            with Daemon(f"--admin.socket={path}"):
                self.assertEqual(ask(path, "/explain?line=a:1%7Cc")[0], 200)

    def test_systemd_says_where_it_belongs(self):
        with scratch() as directory:
            env = {**os.environ, "RUNTIME_DIRECTORY": f"{directory}:/nowhere"}
            with Daemon(env=env) as daemon:
                self.assertTrue((directory / "admin.sock").exists())
                daemon.stop()
            with Daemon("--admin.socket=", env=env):
                self.assertFalse((directory / "admin.sock").exists())

    def test_what_it_does_not_understand_it_refuses(self):
        with admin_daemon() as (_, path):
            self.assertEqual(ask(path, "/")[0], 404)
            self.assertEqual(ask(path, "/explain")[0], 400)
            self.assertEqual(ask(path, "/explain?line=%zz")[0], 400)
            self.assertEqual(ask(path, "/explain?line=a&dialect=etsy")[0], 400)
            self.assertEqual(ask(path, "/explain?line=a", method="POST")[0], 405)
            for bad in ("seconds=0", "seconds=3601", "seconds=x", "bytes=0", "bytes=-1"):
                self.assertEqual(ask(path, f"/capture?{bad}")[0], 400, bad)
            self.assertEqual(ask(path, "/" + "x" * 300_000)[0], 431)
            self.assertEqual(ask(path, "/explain?line=" + "%41" * 65_535)[0], 200)

    def test_idle_connections_are_few_and_short(self):
        with admin_daemon() as (daemon, path):
            idle = []
            for _ in range(40):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(path))
                idle.append(client)
            daemon.send_udp("a:1|c")
            daemon.settle(received=1)

            def free():
                with contextlib.suppress(OSError, IndexError):
                    return ask(path, "/explain?line=a")[0] == 200
                return False

            wait_for("the idle connections to be closed", free, 15)
            for client in idle:
                client.close()


class ExplainTest(unittest.TestCase):
    MAPPING = """
defaults: {observer_type: histogram}
mappings:
- match: "api.*.time.p99"
  name: p99
- match: "api.*.time"
  name: api_time
  labels: {route: "${1}"}
"""

    def test_offline_it_reads_the_mapping_file(self):
        with scratch() as directory:
            mapping = directory / "rules.yml"
            mapping.write_text(self.MAPPING)
            code, text, _ = tallyctl("explain", "--mapping", mapping, "api.login.time:250|ms")
            self.assertEqual(code, 0)
            self.assertIn(f'{mapping}:6  "api.*.time" -> "api_time"', text)
            self.assertIn('series    api_time{route="login"}', text)
            self.assertIn("rule-unreachable-there", text)
            code, text, _ = tallyctl("explain", "--json", "--mapping", mapping, "a:-1|c", "b:1|c")
            self.assertEqual(code, 1)
            first, second = [json.loads(line) for line in text.splitlines()]
            self.assertEqual(first["samples"][0]["reason"], "negative_counter")
            self.assertEqual(second["samples"][0]["series"], "b")

    def test_flags_change_the_reading(self):
        _, text, _ = tallyctl("explain", "--json", "--dialect=dogstatsd", "g:-3|g")
        self.assertEqual(json.loads(text)["samples"][0]["meaning"], "sets the gauge to -3")
        _, text, _ = tallyctl("explain", "--json", "--no-parse-influxdb-tags", "a,k=v:1|c")
        self.assertEqual(json.loads(text)["samples"][0]["series"], "a_k_v")
        _, text, _ = tallyctl("explain", "--json", "--ignore-container-id", "a:1|c|c:x")
        self.assertEqual(json.loads(text)["samples"][0]["series"], "a")

    def test_usage_is_two(self):
        for arguments in ([], ["explain"], ["explain", "--dialect=x", "a:1|c"], ["nothing"],
                          ["explain", "--mapping=/nowhere", "a:1|c"],
                          ["explain", "--mapping=a", "--socket=b", "a:1|c"],
                          ["capture"], ["capture", "--seconds=0", "x"], ["migrate"]):
            self.assertEqual(tallyctl(*arguments)[0], 2, arguments)
        self.assertEqual(tallyctl("--help")[0], 0)

    def test_help_fits_eighty_columns(self):
        for command in ([], ["explain"], ["capture"], ["migrate"], ["migrate", "check"]):
            for line in tallyctl(*command, "--help")[1].splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_a_running_daemon_knows_types_series_and_its_present_rules(self):
        with scratch() as directory:
            mapping = directory / "rules.yml"
            mapping.write_text(self.MAPPING)
            with admin_daemon(f"--statsd.mapping-config={mapping}", "--series.limit=1000") as (
                    daemon, path):
                daemon.send_udp("x:1|c\napi.a.time:1|ms")
                daemon.settle(received=2)
                wait_for("the merge", lambda: daemon.scrape().value("tallyd_series") == 2)
                code, text, _ = tallyctl("explain", "--socket", path, "--json", "x:1|g",
                                         "api.login.time:250|ms")
                self.assertEqual(code, 1)
                gauge, timer = [json.loads(line) for line in text.splitlines()]
                self.assertEqual(gauge["budget"], {"series": 2, "limit": 1000})
                self.assertEqual(gauge["samples"][0]["family_type"], "counter")
                self.assertEqual(gauge["samples"][0]["reason"], "type_conflict")
                self.assertEqual(timer["samples"][0]["rule"]["line"], 6)
                # Asking changes nothing.
                self.assertEqual(daemon.ledger().received, 2)

                mapping.write_text(self.MAPPING.replace("api_time", "renamed"))
                os.kill(daemon.pid, signal.SIGHUP)
                daemon.logged("reloaded")
                code, text, _ = tallyctl("explain", "--socket", path, "api.login.time:250|ms")
                self.assertEqual(code, 0)
                self.assertIn('renamed{route="login"}', text)

    def test_a_running_daemon_knows_its_dialect(self):
        with admin_daemon(listen=(("udp", "127.0.0.1:0?dialect=dogstatsd"),)) as (_, path):
            _, text, _ = tallyctl("explain", "--socket", path, "--json", "g:-3|g")
            self.assertEqual(json.loads(text)["dialect"], "dogstatsd")
            _, text, _ = tallyctl("explain", "--socket", path, "--json", "--dialect=statsd",
                                  "g:-3|g")
            self.assertEqual(json.loads(text)["dialect"], "statsd")

    def test_without_a_daemon_it_says_so(self):
        code, _, error = tallyctl("explain", "--socket", "/nowhere/admin.sock", "a:1|c")
        self.assertEqual(code, 1)
        self.assertIn("/nowhere/admin.sock", error)


def lines_of(path):
    """The lines of a capture, and its trailer."""
    lines = path.read_text().split("\n")
    assert lines[-1] == "", lines[-1]
    return lines[:-2], lines[-2]


class CaptureTest(unittest.TestCase):
    def test_it_records_what_comes_in_and_ends_in_time(self):
        with admin_daemon() as (daemon, path), Sender(daemon, per_datagram=3) as sender:
            file = path.parent / "capture.txt"
            began = time.monotonic()
            code, out, error = tallyctl("capture", "--socket", path, f"--seconds={int(2 * SLOWNESS)}", file)
            took = time.monotonic() - began
            self.assertEqual((code, out), (0, ""))
            lines, trailer = lines_of(file)
            self.assertGreaterEqual(took, 1.9)
            self.assertLess(took, 2 + 5 * SLOWNESS)
            self.assertRegex(trailer, r"^# tallyd capture: \d+ lines, \d+ bytes in [\d.]+ s, "
                                      r"0 lines dropped, ended by time$")
            self.assertIn(f"{len(lines)} lines", error)
            self.assertGreater(len(lines), 100)
            # One sender stays with one shard: every line from the first to the last, in order.
            first = sender.sent.index(lines[0])
            self.assertEqual(lines, sender.sent[first:first + len(lines)])
            self.assertEqual(stat.S_IMODE(os.stat(file).st_mode), 0o600)
            self.assertEqual(list(path.parent.glob("capture.txt.*")), [])

    def test_all_transports_and_what_cannot_be_parsed(self):
        with scratch() as sockets:
            gram = sockets / "gram.sock"
            listen = (("udp", "127.0.0.1:0"), ("tcp", "127.0.0.1:0"), ("unixgram", str(gram)))
            with admin_daemon(listen=listen) as (daemon, path):
                file = path.parent / "capture.txt"
                result = []
                recorder = threading.Thread(target=lambda: result.append(
                    tallyctl("capture", "--socket", path, f"--seconds={int(3 * SLOWNESS)}", file)))
                recorder.start()
                time.sleep(1 * SLOWNESS)
                daemon.send_udp("udp:1|c\r\n\nno colon")
                with socket.create_connection(("127.0.0.1", daemon.port("tcp"))) as tcp:
                    tcp.sendall(b"tcp:1|c\nsplit")
                    time.sleep(0.1)
                    tcp.sendall(b".tcp:1|c\n")
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
                    unix.sendto(b"unix:1|c\n\xff:1|c", str(gram))
                recorder.join(20 * SLOWNESS)
                self.assertEqual(result[0][0], 0, result[0][2])
                text = file.read_bytes()
                for line in (b"udp:1|c\r\n\nno colon\n", b"tcp:1|c\n", b"split.tcp:1|c\n",
                             b"unix:1|c\n\xff:1|c\n"):
                    self.assertIn(line, text)

    def test_it_is_bounded_in_bytes(self):
        with admin_daemon() as (daemon, path), Sender(daemon, per_datagram=20):
            file = path.parent / "capture.txt"
            code, _, error = tallyctl("capture", "--socket", path, "--seconds=30", "--bytes=5000",
                                      file)
            self.assertEqual(code, 0, error)
            lines, trailer = lines_of(file)
            self.assertIn("ended by bytes", trailer)
            size = sum(len(line) + 1 for line in lines)
            self.assertLessEqual(size, 5000)
            self.assertGreater(size, 4900)

    def test_an_interrupt_ends_it_and_keeps_the_file(self):
        with admin_daemon() as (daemon, path), Sender(daemon):
            file = path.parent / "capture.txt"
            with subprocess.Popen([str(BIN / "tallyctl"), "capture", "--socket", str(path),
                                   "--seconds=60", str(file)], stderr=subprocess.PIPE) as recorder:
                time.sleep(1 * SLOWNESS)
                recorder.send_signal(signal.SIGINT)
                _, error = recorder.communicate(timeout=10 * SLOWNESS)
                self.assertEqual(recorder.returncode, 0, error)
            lines, trailer = lines_of(file)
            self.assertIn("ended by client", trailer)
            self.assertGreater(len(lines), 0)

    def test_only_one_at_a_time_and_the_next_after_its_client_died(self):
        with admin_daemon() as (daemon, path), Sender(daemon):
            with subprocess.Popen([str(BIN / "tallyctl"), "capture", "--socket", str(path),
                                   "--seconds=60", str(path.parent / "one")]) as first:
                time.sleep(1 * SLOWNESS)
                code, _, error = tallyctl("capture", "--socket", path, path.parent / "two")
                self.assertEqual(code, 1)
                self.assertIn("Another capture is running", error)
                self.assertFalse((path.parent / "two").exists())
                first.kill()
            self.assertFalse((path.parent / "one").exists())

            def again():
                return tallyctl("capture", "--socket", path, "--seconds=1",
                                path.parent / "three")[0] == 0

            wait_for("the next capture", again, 20)

    def test_when_the_daemon_ends_there_is_no_file(self):
        with admin_daemon() as (daemon, path), Sender(daemon):
            file = path.parent / "capture.txt"
            with subprocess.Popen([str(BIN / "tallyctl"), "capture", "--socket", str(path),
                                   "--seconds=60", str(file)], stderr=subprocess.PIPE) as recorder:
                time.sleep(1 * SLOWNESS)
                daemon.stop(signal.SIGKILL)
                _, error = recorder.communicate(timeout=10 * SLOWNESS)
                self.assertEqual(recorder.returncode, 1)
            self.assertIn(b"tallyd ended", error)
            self.assertEqual(list(path.parent.glob("capture.txt*")), [])

    def test_a_client_that_does_not_read_slows_nobody(self):
        with admin_daemon() as (daemon, path):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /capture?seconds=60&bytes=1000000000 HTTP/1.1\r\n\r\n")
                self.assertTrue(client.recv(12).startswith(b"HTTP/1.1 200"))
                datagram = b"\n".join([b"slow:1|c|#k:" + b"v" * 80] * 500)
                with socket.create_connection(("127.0.0.1", daemon.port("http"))):
                    pass
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.connect(("127.0.0.1", daemon.port()))
                    for _ in range(400):
                        sender.send(datagram)
                        time.sleep(0.001)

                def all_in():
                    ledger = daemon.ledger()
                    arrived = ledger.datagrams + ledger.kernel_dropped
                    return ledger if arrived >= 400 and ledger.at_rest() else None

                ledger = wait_for("all lines", all_in, 20)
                self.assertEqual(ledger.received, ledger.datagrams * 500)
                self.assertEqual(ledger.applied, ledger.received)

                # What the reader did not take, the socket's buffer and the ring did not hold.
                def dropped():
                    scrape = daemon.scrape(path="/-/metrics")
                    return scrape.value("tallyd_capture_dropped_lines_total")

                client.shutdown(socket.SHUT_WR)
                text = b""
                client.settimeout(20 * SLOWNESS)
                while chunk := client.recv(1 << 20):
                    text += chunk
                lines = text.partition(b"\r\n\r\n")[2].split(b"\n")
                self.assertTrue(lines[-2].startswith(b"# tallyd capture: "), lines[-2])
                recorded = len(lines) - 2
                self.assertIn(f"{recorded} lines".encode(), lines[-2])
                self.assertGreater(dropped(), 0)
                self.assertEqual(recorded + dropped(), ledger.received)


class MigrateCheckTest(unittest.TestCase):
    def test_a_capture_of_a_running_daemon_is_replayed(self):
        with admin_daemon() as (daemon, path):
            file = path.parent / "capture.txt"
            recorder = threading.Thread(
                target=lambda: tallyctl("capture", "--socket", path, f"--seconds={int(2 * SLOWNESS)}", file))
            recorder.start()
            time.sleep(1 * SLOWNESS)
            daemon.send_udp("a:1|c\nb:1:2|c\nt:5|ms")
            recorder.join(20 * SLOWNESS)
            code, text, _ = tallyctl("migrate", "check", "--json", "/dev/null", file)
            self.assertEqual(code, 1)
            report = json.loads(text)
            self.assertEqual(report["lines"], 3)
            self.assertEqual([finding["category"] for finding in report["differences"]],
                             ["packed", "default-observer"])

    def test_exit_codes(self):
        with scratch() as directory:
            mapping = directory / "rules.yml"
            mapping.write_text("defaults: {observer_type: histogram}\n")
            same = directory / "same.txt"
            same.write_text("a:1|c\nt:1|ms\n")
            self.assertEqual(tallyctl("migrate", "check", mapping, same)[0], 0)
            code, text, _ = tallyctl("migrate", "check", mapping, "-", text="a:1:2|c\n")
            self.assertEqual(code, 1)
            self.assertIn("packed", text)
            self.assertEqual(tallyctl("migrate", "check", directory / "none", same)[0], 2)
            self.assertEqual(tallyctl("migrate", "check", mapping, directory / "none")[0], 2)
            mapping.write_text("mappings: [{match: a, nome: b}]\n")
            code, text, _ = tallyctl("migrate", "check", mapping, same)
            self.assertEqual(code, 1)
            self.assertIn("mapping-refused", text)

    def test_no_line_of_the_report_is_wider_than_the_terminal(self):
        lines = "a:1:2|c\nb:1|c|c:x\nx]y[:1|c\nq:1|s\nt:1|ms|@0.3\n_sc|db|0|d:1600|h:web\n"
        code, text, _ = tallyctl("migrate", "check", "/dev/null", "-", text=lines)
        self.assertEqual(code, 1)
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_memory_does_not_grow_with_the_capture(self):
        with scratch() as directory:
            file = directory / "long.txt"
            with open(file, "w", encoding="ascii") as out:
                for number in range(200_000):
                    out.write(f"a.b{number % 1000}:{number}|c|#k:v{number % 50}\n")
                out.write("x" * 5_000_000 + ":1|c\n")
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c",
                 "import resource, subprocess, sys\n"
                 "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
                 "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                 str(BIN / "tallyctl"), "migrate", "check", "/dev/null", str(file)],
                capture_output=True, text=True, timeout=120 * SLOWNESS, check=True)
            code, kib = done.stdout.split()
            self.assertEqual(code, "1")
            if SLOWNESS == 1:
                self.assertLess(int(kib), 64 * 1024)


if __name__ == "__main__":
    unittest.main()
