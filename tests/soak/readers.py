"""Who reads during a soak: scrapers of each kind, the slow and the rude among them."""

import contextlib
import os
import random
import socket
import struct
import threading
import time

import exposition
from harness import OPENMETRICS, TEXT, http_request

PROTOBUF = ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
            "encoding=delimited")


class Monotonic:
    """What must never go down. Samples of series that expire are not among it."""

    NAMES = ("soak_hits", "soak_sampled", "soak_took_count", "soak_size_count", "soak_wait_count")

    def __init__(self):
        self._seen = {}
        self.errors = []

    def look(self, scrape):
        for name in self.NAMES:
            for labels, value in scrape.series(name).items():
                key = (name, labels)
                if value < self._seen.get(key, 0):
                    self.errors.append(f"{name}{labels}: {value} after {self._seen[key]}")
                self._seen[key] = value


class Scrapers(threading.Thread):
    """One scrape after the other, of changing kinds; how long each took is kept.

    `port` gives the present port, or None while there is nobody to ask.
    """

    PARSE_EACH = 8  # reading them costs more than making them

    def __init__(self, port, seed, seconds_between):
        super().__init__(daemon=True)
        self._port = port
        self._rng = random.Random(f"scrapers {seed}")
        self._between = seconds_between
        self._ended = threading.Event()
        self.took = []  # (when, seconds), of those that read as fast as they can
        self.done = {}
        self.errors = []
        self.monotonic = Monotonic()

    def run(self):
        kinds = ("text", "openmetrics", "protobuf", "gzip", "slow", "aborted")
        while not self._ended.wait(self._between * self._rng.uniform(0.5, 1.5)):
            kind = self._rng.choices(kinds, (6, 3, 3, 3, 0.5, 1))[0]
            port = self._port()
            if port is None:
                continue
            try:
                getattr(self, f"_{kind}")(port)
                self.done[kind] = self.done.get(kind, 0) + 1
            except (OSError, AssertionError, exposition.ParseError) as error:
                # Cut by a restart: who asks again is served.
                if self._port() == port:
                    self.errors.append(f"{kind}: {error!r}")

    def stop(self):
        self._ended.set()
        self.join(60)

    def _ask(self, port, **headers):
        begin = time.monotonic()
        answer = http_request(port, "/metrics", headers=headers, timeout=30)
        self.took.append((begin, time.monotonic() - begin))
        if answer.status != 200:
            raise AssertionError(f"status {answer.status}")
        return answer

    def _read(self, answer):
        if len(self.took) % self.PARSE_EACH == 0:
            self.monotonic.look(exposition.parse(answer.body, "openmetrics" in answer.content_type))

    def _text(self, port):
        self._read(self._ask(port, Accept=TEXT))

    def _openmetrics(self, port):
        answer = self._ask(port, Accept=OPENMETRICS)
        if not answer.body.endswith(b"# EOF\n"):
            raise AssertionError("no end")
        # Names of counters differ from those of the text.
        if len(self.took) % self.PARSE_EACH == 0:
            exposition.parse(answer.body, True)

    def _protobuf(self, port):
        answer = self._ask(port, Accept=PROTOBUF)
        if "protobuf" not in answer.content_type or not answer.body:
            raise AssertionError(answer.content_type)

    def _gzip(self, port):
        self._read(self._ask(port, **{"Accept": TEXT, "Accept-Encoding": "gzip"}))

    @contextlib.contextmanager
    def _connection(self, port, path="/metrics"):
        with socket.socket() as connection:
            connection.settimeout(30)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
            yield connection

    def _slow(self, port):
        with self._connection(port) as connection:
            for _ in range(20):
                connection.recv(256)
                if self._ended.wait(0.1):
                    return

    def _aborted(self, port):
        with self._connection(port) as connection:
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Watch(threading.Thread):
    """Memory, descriptors and threads of the daemon, every so often: (when, pid, RSS bytes,
    descriptors, threads)."""

    def __init__(self, pid, seconds_between):
        super().__init__(daemon=True)
        self._pid = pid
        self._between = seconds_between
        self._ended = threading.Event()
        self.seen = []

    def run(self):
        while not self._ended.wait(self._between):
            pid = self._pid()
            with contextlib.suppress(OSError, IndexError, TypeError):
                self.seen.append((time.monotonic(), pid, *look_at(pid)))

    def stop(self):
        self._ended.set()
        self.join(60)


def look_at(pid):
    """(RSS bytes, descriptors, threads)"""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    return (pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")),
            len(os.listdir(f"/proc/{pid}/task")))
