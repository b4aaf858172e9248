"""What a host's programs send over a day: lines of every type, some of them wrong, in bursts and silences.

Each sender counts what the kernel took from it: that is what must be accounted for.
"""

import random
import socket
import struct
import threading
import time

LINES = 10  # of each unit, so that a datagram that the kernel dropped says how many

# Each costs the daemon a dropped sample and nothing else.
BAD_LINES = (b"soak.bad", b"soak.bad:1", b"soak.bad:|c", b"soak.bad:x|c", b":1|c", b"soak.bad:1|q")

BRIEF_NAMES = 2000  # they come, expire and come back
UNITS = 64  # made beforehand, sent in turn


class Unit:
    """LINES lines, and what they come to: how many are bad, and by how much soak_hits grows."""

    def __init__(self, rng, transport, bad_share):
        self.bad = 0
        self.hits = 0
        lines = []
        for _ in range(LINES):
            if rng.random() < bad_share:
                self.bad += 1
                lines.append(rng.choice(BAD_LINES))
            else:
                lines.append(self._good(rng, transport))
        self.payload = b"\n".join(lines)

    def _good(self, rng, transport):
        kind = rng.choices(("hits", "sampled", "gauge", "change", "timer", "histogram",
                            "distribution", "set"), (30, 10, 15, 5, 20, 10, 5, 5))[0]
        series = b"#route:r%d,via:%s" % (rng.randrange(60), transport)
        if kind == "hits":
            by = rng.randrange(1, 10)
            self.hits += by
            return b"soak.hits:%d|c|%s" % (by, series)
        if kind == "sampled":
            return b"soak.sampled:1|c|@0.1|%s" % series
        if kind == "gauge":
            return b"soak.level:%d|g|%s" % (rng.randrange(1000), series)
        if kind == "change":
            return b"soak.change:%+d|g|%s" % (rng.choice((-1, 1)), series)
        if kind == "timer":
            return b"soak.took:%.3f|ms|%s" % (rng.lognormvariate(3, 1), series)
        if kind == "histogram":
            return b"soak.size:%d|h|%s" % (int(rng.lognormvariate(6, 2)), series)
        if kind == "distribution":
            return b"soak.wait:%.4f|d|%s" % (rng.expovariate(10), series)
        return b"soak.users:u%d|s|%s" % (rng.randrange(5000), series)


class Pace:
    """How fast to send now: the same for all senders. Bursts and silences come by the seed."""

    def __init__(self, seed, rate):
        self._rng = random.Random(f"pace {seed}")
        self._rate = rate
        self._until = 0.0
        self._factor = 1.0
        self._lock = threading.Lock()

    def units_per_second(self):
        with self._lock:
            now = time.monotonic()
            if now >= self._until:
                self._factor, seconds = self._rng.choices(
                    ((1.0, 20), (5.0, 1), (0.0, 3)), (8, 1, 1))[0]
                self._until = now + seconds * self._rng.uniform(0.5, 1.5)
            return self._rate * self._factor / LINES


class Sender(threading.Thread):
    """Sends units over one transport until it is stopped. connect() gives a fresh socket."""

    TICK = 0.02

    def __init__(self, transport, connect, pace, seed, share, bad_share=0.02):
        super().__init__(daemon=True)
        self.transport = transport
        self.samples = 0
        self.units = 0
        self.bad = 0
        self.hits = 0
        self.error = None
        self._connect = connect
        self._pace = pace
        self._share = share
        self._ended = threading.Event()
        self._paused = threading.Event()
        self._idle = threading.Event()
        rng = random.Random(f"{transport} {seed}")
        self._ready_made = [Unit(rng, transport.encode(), bad_share) for _ in range(UNITS)]
        self._brief = rng.randrange(BRIEF_NAMES)
        self._socket = connect()

    def run(self):
        due = 0.0
        before = time.monotonic()
        try:
            while not self._ended.is_set():
                time.sleep(self.TICK)
                now = time.monotonic()
                if self._paused.is_set():
                    self._idle.set()
                    before = now
                    continue
                # What was missed for long is not made up for.
                due += min(now - before, 1.0) * self._pace.units_per_second() * self._share
                before = now
                while due >= 1 and not self._ended.is_set():
                    due -= 1
                    self._send_next()
        except OSError as error:
            self.error = f"{self.transport}: {error!r}"
        finally:
            self._idle.set()
            self._socket.close()

    def _send_next(self):
        if self.units % 20 == 19:
            # Of a family whose series go after a while.
            self._brief = (self._brief + 1) % BRIEF_NAMES
            payload = b"\n".join([b"soak.brief.%s.n%d:1|c" %
                                  (self.transport.encode(), self._brief)] * LINES)
            bad = hits = 0
        else:
            unit = self._ready_made[self.units % UNITS]
            payload, bad, hits = unit.payload, unit.bad, unit.hits
        self._send(payload)
        self.units += 1
        self.samples += LINES
        self.bad += bad
        self.hits += hits

    def _send(self, payload):
        self._socket.send(payload)

    def pause(self):
        """Returns once nothing more is sent."""
        self._idle.clear()
        self._paused.set()
        self._idle.wait(60)

    def resume(self):
        self._paused.clear()

    def stop(self):
        self._ended.set()
        self.join(60)
        if self.is_alive():
            self.error = f"{self.transport}: hangs in a send"


class StreamSender(Sender):
    """Frames, many of them in two pieces."""

    def _send(self, payload):
        frame = struct.pack("<I", len(payload)) + payload
        cut = self.units % 11 if self.units % 3 == 0 else 0
        if cut:
            self._socket.sendall(frame[:cut])
            time.sleep(0.001)
        self._socket.sendall(frame[cut:])

    def connect_again(self):
        """While it is paused."""
        self._socket.close()
        self._socket = self._connect()


def connected(family, kind, address):
    one = socket.socket(family, kind)
    one.connect(address)
    return one
