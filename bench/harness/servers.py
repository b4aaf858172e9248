"""The programs that receive a load: the floors, and tallyd."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from harness import machine

READY_SECONDS = 30


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One fresh process on its own CPU, with a UDP or a UNIX datagram socket for the load."""

    @staticmethod
    def takes(transport):
        return transport in ("udp", "unixgram")

    def __init__(self, options, transport):
        self.options = options
        self.folder = tempfile.TemporaryDirectory(prefix="tally-bench-")
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.path = str(pathlib.Path(self.folder.name) / "load.sock")
        self.transport = transport
        self.url = f"unixgram://{self.path}" if transport == "unixgram" else self.udp_url
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(options.server_cpu), *self.command()],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.wait_until_ready()

    @property
    def udp_url(self):
        return f"udp://127.0.0.1:{self.udp_port}"

    @property
    def pid(self):
        return self.process.pid

    def binary(self, name):
        return str(pathlib.Path(self.options.bin) / name)

    def is_ready(self):
        self.errors.seek(0)
        return "ready" in self.errors.read()

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.errors.seek(0)
                raise RuntimeError(f"{self.command()[0]} is not ready: {self.errors.read()}")
            time.sleep(0.02)

    def received_lines(self):
        """Lines taken in and counted so far, or None where only the end tells."""
        return None

    def kernel_drops(self):
        return machine.udp_drops(self.udp_port) if self.transport == "udp" else 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            output, _ = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
            self.errors.close()
            self.folder.cleanup()
        return output

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.stop()


class Floor(Server):
    """A program of bench/floor."""

    program = ""
    extra = ()

    def command(self):
        return [
            self.binary(self.program),
            f"--listen={self.url}",
            f"--receive-buffer={self.options.read_buffer}",
            *self.extra,
        ]

    def stop(self):
        return json.loads(super().stop())


class FloorReceive(Floor):
    program = "floor-receive"


class FloorReceiveQueued(Floor):
    program = "floor-receive"
    extra = ("--queued", "--idle-ms=200", f"--receive-buffer={1 << 30}")

    def command(self):
        return [self.binary(self.program), f"--listen={self.url}", *self.extra]


class FloorIngest(Floor):
    program = "floor-ingest"


class FloorIngestResting(Floor):
    """Wakes up for what came in 2 ms, rather than for each datagram."""

    program = "floor-ingest"
    extra = ("--rest-us=2000",)

    @staticmethod
    def takes(transport):
        # The queue of a UNIX datagram socket holds ten or so: its senders would be refused.
        return transport == "udp"


class Tallyd(Server):
    def __init__(self, options, transport):
        self.http_port = free_port(socket.SOCK_STREAM)
        super().__init__(options, transport)

    def command(self):
        return [
            self.binary("tallyd"),
            f"--statsd.listen-udp=127.0.0.1:{self.udp_port}",
            "--statsd.listen-tcp=",
            f"--statsd.listen-unixgram={self.path}",
            f"--statsd.read-buffer={self.options.read_buffer}",
            f"--web.listen-address=127.0.0.1:{self.http_port}",
            f"--shards={self.options.shards}",
            *self.options.tallyd_flag,
        ]

    def is_ready(self):
        try:
            return self.get("/-/ready")[0] == 200
        except OSError:
            return False

    def get(self, path, headers=None):
        """Status, length of the body, seconds to its end, and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=120)
        start = time.perf_counter()
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - start
        connection.close()
        return response.status, len(body), seconds, body

    def get_in_pieces(self, path, headers):
        """Status, length of the body, seconds to the answer's first byte and to its last.

        The body is not kept: the price of its memory would be in the figures.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=120)
        start = time.perf_counter()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        first = time.perf_counter() - start
        size = 0
        while piece := response.read(1 << 20):
            size += len(piece)
        last = time.perf_counter() - start
        connection.close()
        return response.status, size, first, last

    def own_metric(self, name):
        """The sum over all label values of one of its own metrics."""
        total = 0.0
        for line in self.get("/-/metrics")[3].decode().splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                total += float(line.rpartition(" ")[2])
        return total

    def received_lines(self):
        return int(self.own_metric("tallyd_applied_samples_total"))

    def lost_samples(self):
        return int(self.own_metric("tallyd_dropped_samples_total"))


SERVERS = {
    "floor-receive": FloorReceive,
    "floor-ingest": FloorIngest,
    "floor-ingest-resting": FloorIngestResting,
    "tallyd": Tallyd,
}


def available(options):
    """Those whose program is built, in the order in which they are run."""
    programs = {"tallyd": "tallyd", "floor-receive": "floor-receive"}
    return [
        name
        for name in SERVERS
        if os.access(pathlib.Path(options.bin) / programs.get(name, "floor-ingest"), os.X_OK)
    ]
