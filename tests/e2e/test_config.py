"""What flags and configuration file make of the daemon: dialects, files, the check, the relay."""

import collections
import contextlib
import re
import socket
import struct
import subprocess
import threading
import time
import unittest

from harness import (OPENMETRICS, SLOWNESS, TEXT, Daemon, free_port, needs, run_tallyd, scratch,
                     tally_load, wait_for)

CLEAN, USAGE = 0, 2


def send_unix(path, payload, kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_UNIX, kind) as sender:
        sender.connect(str(path))
        sender.sendall(payload)


class DialectTest(unittest.TestCase):
    def test_each_listener_reads_signed_gauges_in_its_dialect(self):
        with scratch() as directory:
            paths = {kind: directory / kind for kind in ("unixgram", "unixstream", "unixseqpacket")}
            listen = [("udp", "127.0.0.1:0"), ("udp", "127.0.0.1:0?dialect=dogstatsd"),
                      ("tcp", "127.0.0.1:0?dialect=dogstatsd")]
            listen += [(kind, f"{path}?dialect=dogstatsd") for kind, path in paths.items()]
            with Daemon("--shards=2", listen=listen) as daemon:
                daemon.send_udp("statsd_udp:10|g\nstatsd_udp:-5|g\nstatsd_udp:-5|g")
                daemon.send_udp("dog_udp:10|g\ndog_udp:-5|g\ndog_udp:-5|g", index=1)
                with socket.create_connection(("127.0.0.1", daemon.port("tcp"))) as sender:
                    sender.sendall(b"dog_tcp:10|g\ndog_tcp:-5|g\n")
                send_unix(paths["unixgram"], b"dog_gram:10|g\ndog_gram:-5|g")
                framed = b"dog_stream:10|g\ndog_stream:-5|g"
                send_unix(paths["unixstream"], struct.pack("<I", len(framed)) + framed,
                          socket.SOCK_STREAM)
                send_unix(paths["unixseqpacket"], b"dog_packet:10|g\ndog_packet:-5|g",
                          socket.SOCK_SEQPACKET)
                daemon.settle(received=14)
                shown = daemon.scrape()
                self.assertEqual(shown.value("statsd_udp"), 0)
                for name in ("dog_udp", "dog_tcp", "dog_gram", "dog_stream", "dog_packet"):
                    self.assertEqual(shown.value(name), -5, name)

    def test_one_line_on_two_listeners(self):
        listen = (("udp", "127.0.0.1:0?dialect=statsd"), ("udp", "127.0.0.1:0"))
        with Daemon("--statsd.dialect=dogstatsd", "--shards=1", listen=listen) as daemon:
            daemon.send_udp("x:-5|g", index=1)
            daemon.settle(received=1)
            daemon.send_udp("x:-5|g", index=1)
            daemon.settle(received=2)
            self.assertEqual(daemon.scrape().value("x"), -5)
            daemon.send_udp("x:-5|g", index=0)
            daemon.settle(received=3)
            self.assertEqual(daemon.scrape().value("x"), -10)


class ConfigFileTest(unittest.TestCase):
    def test_a_file_says_what_flags_say_and_the_command_line_wins(self):
        with scratch() as directory:
            config = directory / "tallyd.yaml"
            config.write_text("""
                statsd:
                  listen-udp:
                    - {address: "127.0.0.1:0", dialect: dogstatsd}
                  listen-tcp: []
                  listen-unixgram: statsd.sock   # beside this file
                web: {listen-address: "127.0.0.1:0", telemetry-path: /file}
                series: {limit: 77}
                """.replace("\n                ", "\n"))
            # Given on the command line, these are not what the file says.
            flags = (f"--config.file={config}", "--web.telemetry-path=/metrics")
            with Daemon(*flags, listen=(("tcp", "127.0.0.1:0"),)) as daemon:
                # The harness switches UDP off on the command line.
                self.assertNotIn("udp", daemon.addresses)
                self.assertEqual(daemon.addresses["unixgram"], [str(directory / "statsd.sock")])
                send_unix(directory / "statsd.sock", b"a:1|c")
                daemon.settle(received=1)
                shown = daemon.scrape()
                self.assertEqual(shown.value("a"), 1)
                self.assertEqual(shown.value("tallyd_series_limit"), 77)

    def test_what_is_wrong_is_named_with_file_and_line(self):
        with scratch() as directory:
            config = directory / "tallyd.yaml"
            config.write_text("series:\n  limit: many\nmerge:\n  intervall: 1s\n")
            for flags in ((), ("--check-config",)):
                code, out, errors = run_tallyd(f"--config.file={config}", *flags)
                self.assertEqual((code, out), (USAGE, ""))
                self.assertIn(f"{config}:4: unknown key merge.intervall", errors)
                self.assertIn("did you mean merge.interval?", errors)
            config.write_text("series:\n  limit: many\nmerge:\n  interval: 1\n")
            code, _, errors = run_tallyd(f"--config.file={config}")
            self.assertEqual(code, USAGE)
            self.assertIn(f"{config}:2: series.limit=many: not a number", errors)
            self.assertIn(f"{config}:4: merge.interval=1: not a duration", errors)


def memory_bounds(report):
    """By kind of series: the bytes of --check-config, without and with what peers can add."""
    table = report.split("By the kind of series, together and total:\n")[1].split("\n\n")[0]
    numbers = {line.split()[0]: re.findall(r"(\d+) bytes", line) for line in table.splitlines()}
    return {kind: tuple(map(int, pair)) for kind, pair in numbers.items()}


class CheckTest(unittest.TestCase):
    def test_the_report_says_what_was_asked_for(self):
        code, out, errors = run_tallyd(
            "--check-config", "--shards=3", "--series.limit=12345", "--limit.line-bytes=777",
            "--limit.name-bytes=66", "--limit.tags=55", "--limit.label-bytes=44", "--series.ttl=5m",
            "--statsd.listen-udp=127.0.0.1:1?dialect=dogstatsd", "--no-statsd.parse-librato-tags",
            "--statsd.relay.address=no-such-host.invalid:9", "--statsd.relay.packet-length=333")
        self.assertEqual((code, errors), (CLEAN, ""))
        for name, value in (("udp", "127.0.0.1:1 (dogstatsd)"), ("shards", "3"),
                            ("series", "at most 12345"), ("line", "at most 777 bytes"),
                            ("name", "at most 66 bytes"), ("tags of a line", "at most 55"),
                            ("labels of a line", "at most 44 bytes"), ("series ttl", "5m"),
                            ("tags", "dogstatsd, influxdb, signalfx"),
                            ("relay", "no-such-host.invalid:9"),
                            ("relay packet", "at most 333 bytes")):
            self.assertRegex(out, rf"(?m)^  {re.escape(name)} +{re.escape(value)}$")

    def test_parts_add_up(self):
        _, out, _ = run_tallyd("--check-config", "--series.limit=1000", "--shards=2")
        parts = out.split("Worst-case memory: ")[1].split("\n\n")[0].splitlines()[1:]
        sizes = {part[:28].strip(): int(re.search(r"(\d+) bytes", part)[1]) for part in parts}
        for line in parts:
            size, mib = re.search(r"(\d+) bytes +([\d.]+) MiB", line).groups()
            self.assertAlmostEqual(int(size) / 2**20, float(mib), delta=0.06)
        total = sizes.pop("total")
        together = sizes.pop("together")
        self.assertEqual(sum(sizes.values()), total)
        self.assertLess(together, total)
        self.assertEqual(max(memory_bounds(out).values()), (together, total))

    def test_the_mapping_file_is_read_too(self):
        with scratch() as directory:
            mapping = directory / "mapping.yml"
            mapping.write_text("""
                mappings:
                - {match: "a.*", name: "a_${1}"}
                - {match: "b.*", name: "b", timer_type: summary}
                - {match: "c(.*)", match_type: regex, name: "c"}
                """)
            config = directory / "tallyd.yaml"
            config.write_text("statsd: {mapping-config: mapping.yml}\n")
            code, out, errors = run_tallyd("--check-config", f"--config.file={config}")
            self.assertEqual(code, CLEAN, errors)
            self.assertRegex(out, r"(?m)^  rules +3 \(2 glob, 1 regex\)$")
            self.assertIn("summaries", memory_bounds(out))
            self.assertRegex(errors, rf"(?m)^tallyd: warning: {mapping}:4: .*timer_type")
            self.assertRegex(out, r"(?m)^  warnings +1$")
            self.assertGreater(int(re.search(r"mapping rules +(\d+)", out)[1]), 1000)

            mapping.write_text("mappings:\n- match: a..b\n  name: a\n- match: c\n  name: 1c\n")
            code, out, errors = run_tallyd("--check-config", f"--config.file={config}")
            self.assertEqual((code, out), (USAGE, ""))
            self.assertIn(f"{mapping}:2: ", errors)
            self.assertIn(f"{mapping}:5: ", errors)

            code, _, errors = run_tallyd("--check-config", f"--statsd.mapping-config={directory}/no")
            self.assertEqual(code, USAGE)
            self.assertIn(f"{directory}/no", errors)

    def test_more_bounds_are_more_memory(self):
        with scratch() as directory:
            mapping = directory / "mapping.yml"
            bounds = ", ".join(map(str, range(1, 101)))
            mapping.write_text(
                f"mappings: [{{match: a, name: a, histogram_options: {{buckets: [{bounds}]}}}}]")
            flag = f"--statsd.mapping-config={mapping}"
            _, plain, _ = run_tallyd("--check-config")
            code, more, errors = run_tallyd("--check-config", flag)
            self.assertEqual(code, CLEAN, errors)
            plain, more = memory_bounds(plain), memory_bounds(more)
            self.assertGreater(more["histograms"][0], 2 * plain["histograms"][0])
            self.assertLess(more["counters"][0], 1.1 * plain["counters"][0])

    def test_it_binds_nothing_and_leaves_nothing(self):
        with scratch() as directory:
            flags = (f"--statsd.listen-unixgram={directory}/gram", "--check-config")
            with Daemon() as daemon:
                code, _, errors = run_tallyd(
                    *flags, f"--statsd.listen-udp=127.0.0.1:{daemon.port('udp')}")
            self.assertEqual((code, errors), (CLEAN, ""))
            self.assertEqual(list(directory.iterdir()), [])

    def test_memory_stays_below_what_was_printed(self):
        """In every kind: a full daemon, all series in all shards, rendered in every format."""
        limit = 20_000
        flags = (f"--series.limit={limit}", "--shards=2", "--merge.interval=100ms")
        values = {"counters": "1|c", "gauges": "1|g", "sets": "x|s", "histograms": "0.25|h",
                  "summaries": "0.25|h"}
        directory = self.enterContext(scratch())
        summaries = directory / "summaries.yml"
        summaries.write_text("defaults: {observer_type: summary}\n")
        for kind, value in values.items():
            rules = (f"--statsd.mapping-config={summaries}",) if kind == "summaries" else ()
            code, report, errors = run_tallyd("--check-config", *flags, *rules)
            self.assertEqual(code, CLEAN, errors)
            bounds = memory_bounds(report)
            with self.subTest(kind), Daemon(*flags, *rules) as daemon:
                self.fill(daemon, limit, value)
                for accept in (TEXT, OPENMETRICS):
                    for coding in ("identity", "gzip"):
                        answer = daemon.get("/metrics", accept=accept, timeout=60,
                                            headers={"Accept-Encoding": coding})
                        self.assertEqual(answer.status, 200)
                resident = daemon.status_kib("VmHWM") << 10
                self.assertLess(resident, bounds[kind][0], report)

    def fill(self, daemon, series, value):
        """Every series under a name of its own and 256 bytes of text, from many ports."""
        with contextlib.ExitStack() as stack:
            senders = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                       for _ in range(8)]
            for sender in senders:
                sender.connect(("127.0.0.1", daemon.port("udp")))
            for begin in range(0, series, 50):
                lines = [f"{f'm{i}':n<64}:{value}|#{'host:':h<94},{'zone:':z<94}"
                         for i in range(begin, begin + 50)]
                for sender in senders:
                    sender.send("\n".join(lines).encode())
                daemon_at_ease = 0.002 * SLOWNESS
                time.sleep(daemon_at_ease)
        ledger = daemon.settle(received=8 * series, seconds=60)
        self.assertEqual((ledger.applied, ledger.lost), (8 * series, 0))
        self.assertEqual(daemon.scrape(path="/-/metrics").value("tallyd_series"), series)


class Sink:
    """A UDP server that keeps the lines that come."""

    def __init__(self, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        so_rcvbufforce = 33
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 64 << 20)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind((host, 0))
        self.socket.settimeout(0.05)
        port = self.socket.getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.packets = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.socket.close()

    def _receive(self):
        while not self._ended.is_set():
            try:
                self.packets.append(self.socket.recv(70_000))
            except TimeoutError:
                pass

    def lines(self):
        return [line for packet in list(self.packets) for line in packet.split(b"\n") if line]

    def kernel_dropped(self):
        so_meminfo, drops = 55, 8
        info = self.socket.getsockopt(socket.SOL_SOCKET, so_meminfo, 36)
        return struct.unpack("9I", info)[drops]


class Relayed:
    """The account of a relay, read from one scrape."""

    def __init__(self, daemon):
        shown = daemon.scrape(path="/-/metrics")
        self.packets, self.lines, self.long, self.dropped = (
            shown.total(f"tallyd_relay_{name}_total")
            for name in ("packets", "lines", "long_lines", "dropped_lines"))

    @property
    def all(self):
        return self.lines + self.long + self.dropped

    def __repr__(self):
        return (f"{self.lines:.0f} lines in {self.packets:.0f} packets, {self.long:.0f} long, "
                f"{self.dropped:.0f} dropped")


def wait_for_relayed(daemon, lines):
    seen = []

    def settled():
        seen[:] = [Relayed(daemon)]
        return seen[0] if seen[0].all >= lines else None

    return wait_for(f"{lines} lines accounted for by the relay; {seen}", settled, 10)


class RelayTest(unittest.TestCase):
    def test_lines_of_every_listener_arrive_as_they_came_within_a_second(self):
        with scratch() as directory, Sink() as sink:
            gram = directory / "gram"
            listen = (("udp", "127.0.0.1:0"), ("tcp", "127.0.0.1:0"), ("unixgram", gram))
            flag = f"--statsd.relay.address={sink.address}"
            with Daemon(flag, "--shards=2", listen=listen) as daemon:
                daemon.send_udp(b"a:1|c\nno metric\n\n\xff:1|c|#\x00x:y", b"")
                send_unix(gram, b"b:1|g\n")
                with socket.create_connection(("127.0.0.1", daemon.port("tcp"))) as sender:
                    sender.sendall(b"c:1|c\nd")
                    time.sleep(0.1)
                    sender.sendall(b":1|c\ne:1|c")
                sent_at = time.monotonic()
                want = [b"a:1|c", b"no metric", b"\xff:1|c|#\x00x:y", b"b:1|g", b"c:1|c", b"d:1|c",
                        b"e:1|c"]
                wait_for("all lines", lambda: len(sink.lines()) >= len(want), 5, 0.01)
                self.assertLess(time.monotonic() - sent_at, 1.5 * SLOWNESS)
                self.assertEqual(sorted(sink.lines()), sorted(want))
                self.assertLess(sink.lines().index(b"c:1|c"), sink.lines().index(b"d:1|c"))
                relayed = wait_for_relayed(daemon, len(want))
                self.assertEqual((relayed.lines, relayed.long, relayed.dropped), (7, 0, 0))
                self.assertEqual(relayed.packets, len(sink.packets))

    def test_what_is_pending_at_the_end_is_sent(self):
        with Sink("::1") as sink:
            with Daemon(f"--statsd.relay.address={sink.address}") as daemon:
                daemon.send_udp("a:1|c")
                daemon.settle(received=1)
                self.assertEqual(daemon.stop(), CLEAN)
            wait_for("the line", lambda: sink.lines() == [b"a:1|c"])

    def test_packets_keep_to_their_length_and_longer_lines_are_counted(self):
        with Sink() as sink:
            flags = (f"--statsd.relay.address={sink.address}", "--statsd.relay.packet-length=50")
            with Daemon(*flags) as daemon:
                for length in range(10, 100):
                    daemon.send_udp(f"{'x' * (length - 4)}:1|c\ny:1|c")
                relayed = wait_for_relayed(daemon, 180)
                self.assertEqual((relayed.lines, relayed.long), (180 - 49, 49))
                self.assertLessEqual(max(map(len, sink.packets)), 50)
                self.assertIn(50, map(len, sink.packets))
                self.assertEqual(len(sink.lines()), relayed.lines)

    def test_under_load_every_line_is_relayed_or_counted(self):
        with Sink() as sink:
            with Daemon(f"--statsd.relay.address={sink.address}", "--shards=2") as daemon:
                account = tally_load(
                    "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--lines", 300_000,
                    "--rate", int(150_000 / SLOWNESS), "--series", 1000, "--senders", 4)
                ledger = daemon.settle(received=account["samples"])
                self.assertEqual((ledger.applied, ledger.kernel_dropped), (account["samples"], 0))
                relayed = wait_for_relayed(daemon, account["lines"])
                self.assertEqual(relayed.all, account["lines"], relayed)
                self.assertEqual(relayed.long, 0)
                self.assertGreater(relayed.lines, 0)
                if sink.kernel_dropped() == 0:
                    wait_for("all lines", lambda: len(sink.packets) >= relayed.packets)
                    self.assertEqual(len(sink.lines()), relayed.lines)
                names = collections.Counter(line[:5] for line in sink.lines())
                self.assertEqual(set(names), {b"load."}, "lines are cut or joined wrongly")

    def test_a_dead_target_costs_no_sample(self):
        target = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        with Daemon(f"--statsd.relay.address={target}", "--shards=2") as daemon:
            account = tally_load(
                "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--lines", 300_000,
                "--rate", int(150_000 / SLOWNESS), "--series", 1000, "--senders", 4)
            ledger = daemon.settle(received=account["samples"])
            self.assertEqual((ledger.applied, ledger.kernel_dropped), (account["samples"], 0))
            relayed = wait_for_relayed(daemon, account["lines"])
            self.assertEqual(relayed.all, account["lines"], relayed)
            self.assertEqual((relayed.lines, relayed.packets), (0, 0))

    def test_a_target_that_does_not_read_costs_no_sample(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full:
            full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            full.bind(("127.0.0.1", 0))
            target = f"127.0.0.1:{full.getsockname()[1]}"
            with Daemon(f"--statsd.relay.address={target}", "--shards=2") as daemon:
                account = tally_load(
                    "--to", f"udp://127.0.0.1:{daemon.port('udp')}", "--lines", 100_000,
                    "--rate", int(150_000 / SLOWNESS), "--series", 1000)
                ledger = daemon.settle(received=account["samples"])
                self.assertEqual((ledger.applied, ledger.kernel_dropped), (account["samples"], 0))
                relayed = wait_for_relayed(daemon, account["lines"])
                self.assertEqual(relayed.all, account["lines"], relayed)

    def test_a_target_without_an_address_costs_nothing_but_what_is_relayed(self):
        with Daemon("--statsd.relay.address=no-such-host.invalid:1") as daemon:
            daemon.send_udp("a:1|c", "b:1|c")
            relayed = wait_for_relayed(daemon, 2)
            self.assertEqual((relayed.lines, relayed.dropped), (0, 2))
            self.assertEqual(daemon.settle(received=2).applied, 2)
            daemon.logged("until there is a way", "no-such-host.invalid:1")
            self.assertEqual(daemon.stop(), 0)

    @needs("promtool")
    def test_promtool_finds_nothing_in_the_metrics_of_a_relay(self):
        with Daemon("--statsd.relay.address=127.0.0.1:9") as daemon:
            body = daemon.get("/-/metrics").body
        self.assertIn(b"tallyd_relay_lines_total", body)
        done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                              timeout=20 * SLOWNESS, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))

    def test_without_a_relay_there_are_no_metrics_of_one(self):
        with Daemon() as daemon:
            self.assertNotIn(b"tallyd_relay", daemon.get("/-/metrics").body)


if __name__ == "__main__":
    unittest.main()
