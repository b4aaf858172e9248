"""The faults that tests/faults/compare does to other servers, and what is judged of them."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import time

from harness import http_request, wait_for
from lines import MUTATIONS
from scrapers import VANDALS

MIB = 1 << 20
MOST_GROWN = 64 * MIB  # by what is no sample, or by one series
FAULTS = {}


class Judge:
    """What held of one scenario: each letter held, failed, or was not to be judged."""

    def __init__(self, checks, rng):
        self.rng = rng
        self._held = dict.fromkeys(checks)
        self.texts = []

    def check(self, letter, holds, text):
        if letter not in self._held:
            return
        if not holds:
            self.texts.append(f"{letter}: {text}")
        self._held[letter] = bool(holds) and self._held[letter] is not False

    def lacks(self, letter, text):
        """Not to be judged."""
        self.texts.append(f"-{letter}: {text}")

    def note(self, text):
        self.texts.append(text)

    def broke(self, error):
        self.texts.append(f"could not go on: {error!r}"[:300])
        self._held = {letter: False for letter in self._held}

    def marks(self):
        sign = {True: "", False: "!", None: "-"}
        return " ".join(sign[held] + letter for letter, held in self._held.items())

    def share(self):
        judged = [held for held in self._held.values() if held is not None]
        return sum(judged) / len(judged) if judged else None


def fault(name):
    def register(function):
        FAULTS[name] = function
        return function
    return register


def told_of_errors(judge, peer, before, least):
    """Whether a counter of its own says how many lines it refused."""
    if not peer.counts_errors:
        return judge.check("T", False, "no counter of what it refuses; the log has a line for each")
    found = peer.errors() - before
    return judge.check("T", found >= least, f"{found:.0f} lines refused, of {least} that are none")


def errors_of(peer):
    return peer.errors() if peer.counts_errors else 0


def exact(judge, peer, name, sent):
    shown = peer.shows(name, sent)
    judge.check("C", shown == sent, f"a good line after it shows {shown} of {sent}")


def grown(judge, peer, before, most=MOST_GROWN):
    judge.check("B", peer.rss() - before <= most, f"grown by {(peer.rss() - before) // MIB} MiB")


# ---- A ----

@fault("A1")
def killed(judge, peer):
    peer.send([b"kept:1|c"] * 500)
    peer.shows("kept", 500)
    peer.process.popen.kill()
    peer.process.wait()
    peer.send([b"kept:1|c"] * 100)
    begin = time.monotonic()
    peer.start()
    judge.check("A", time.monotonic() - begin < 5, f"back after {time.monotonic() - begin:.1f} s")
    peer.send([b"kept:1|c"] * 100)
    shown = peer.shows("kept", 700, 8)
    judge.check("C", shown == 700, f"{shown} of 700: it keeps no sums, and nobody its socket, by design")
    judge.check("R", (shown or 0) >= 100, f"{shown} of the 100 after its start")
    judge.check("T", "without notice" in peer.process.log(),
                "nothing says that the life before ended without notice")


@fault("A2")
def told_to_stop(judge, peer):
    peer.send([b"last:1|c"] * 500)
    begin = time.monotonic()
    peer.process.popen.send_signal(signal.SIGTERM)
    try:
        code = peer.process.wait(10)
    except AssertionError:
        code = "still running"
    judge.check("A", code == 0, f"ends with {code} after {time.monotonic() - begin:.1f} s")
    peer.start()
    shown = peer.counter("last")
    judge.check("C", shown == 500, f"{shown} of 500 after the start: it keeps no sums, by design")
    judge.check("T", "500" in peer.process.log(), "nothing says how much it had taken in")


@fault("A5")
def stopped_for_a_while(judge, peer):
    before = peer.rss()
    peer.send([b"paused:1|c"] * 200)
    os.kill(peer.process.pid, signal.SIGSTOP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", peer.port))
        for number in range(5000):
            sender.send(b"paused:1|c")
            if number % 100 == 0:
                time.sleep(0.02)
    time.sleep(1)
    os.kill(peer.process.pid, signal.SIGCONT)
    dropped = peer.kernel_dropped()
    shown = peer.shows("paused", 5200 - dropped)
    judge.check("C", shown == 5200 - dropped, f"{shown} and {dropped} dropped of 5200")
    judge.check("T", dropped == 0, f"no metric of it says that the kernel dropped {dropped}")
    peer.send([b"after:1|c"] * 500)
    judge.check("R", peer.shows("after", 500) == 500, f"{peer.counter('after')} of 500 after it")
    grown(judge, peer, before)


# ---- B ----

@fault("B1")
def random_bytes(judge, peer):
    peer.send([b"known:1|c"] * 10)
    peer.shows("known", 10)
    before, refused = peer.rss(), errors_of(peer)
    peer.send([judge.rng.randbytes(judge.rng.randrange(200)) for _ in range(20_000)])
    peer.send([b"known:1|c"] * 90)
    exact(judge, peer, "known", 100)
    if peer.counts_errors:
        judge.check("C", peer.errors() > refused, "nothing of it is counted as refused")
    else:
        judge.check("C", False, "what it refuses is in no counter")
    grown(judge, peer, before)


@fault("B2")
def longest_datagrams(judge, peer):
    line = b"longest:1|c\n"
    body = line * (65_507 // len(line))
    dropped = peer.send([body] * 20, 1)
    want = (20 - dropped) * (65_507 // len(line))
    shown = peer.shows("longest", want, 10)
    judge.check("C", shown == want, f"{shown} of {want} lines; nothing says that they were cut")


@fault("B3")
def over_the_buffer(judge, _):
    for letter in "CT":
        judge.lacks(letter, "no UNIX datagram socket, and UDP has no longer ones than those of B2")


@fault("B4")
def empty_datagrams(judge, peer):
    before = peer.rss()
    peer.send([b""] * 20_000)
    peer.send([b"after:1|c"] * 100)
    exact(judge, peer, "after", 100)
    grown(judge, peer, before)


CORPUS = (b"a:1|c", b"b:2|g", b"c:3|ms|@0.5", b"d:x|s", b"e:+1|g", b"f.g.h:4.5|c")


@fault("B5")
def mutated_lines(judge, peer):
    refused = errors_of(peer)
    packets = []
    for _ in range(1000):
        lines = [judge.rng.choice(MUTATIONS)(judge.rng, judge.rng.choice(CORPUS)).replace(b"\n", b"")
                 for _ in range(5)]
        packets.append(b"\n".join([*lines, b"known:1|c"]))
    packets.append(b":" * 1000)
    dropped = peer.send(packets, 10)
    shown = peer.shows("known", 1000 - dropped, 10)
    # One packet has no such line.
    judge.check("C", shown in (1000 - dropped, 1001 - dropped), f"a good line beside them shows {shown} of 1000 "
                f"({dropped} dropped by the kernel): bad bytes take their neighbours along")
    told_of_errors(judge, peer, refused, 100)


@fault("B6")
def strange_numbers(judge, peer):
    peer.send([b"v:5|c"])
    peer.send([b"v:%s|c" % number for number in (
        b"nan", b"inf", b"-inf", b"1e999", b"1_000", b"1,5", b"--5", b"", b"1" * 10_000)])
    peer.send([b"after:1|c"])
    peer.shows("after", 1)
    shown = peer.counter("v")
    judge.check("C", shown == 5, f"a counter of 5, then of what is no finite number, or none, shows {shown}")


@fault("B7")
def strange_rates(judge, peer):
    before = peer.rss()
    peer.send([b"half:1|c|@0.5"] * 10)
    peer.send([b"r:1|c|@" + rate for rate in (b"0", b"-1", b"nan", b"1e-300", b"", b"inf")])
    peer.send([b"after:1|c"])
    peer.shows("after", 1)
    judge.check("C", peer.counter("half") == 20, f"10 at a rate of 0.5 are {peer.counter('half')}")
    shown = peer.counter("r")
    judge.check("C", shown is None or 0 <= shown < 100, f"rates that are none make it {shown}")
    grown(judge, peer, before)


@fault("B8")
def tag_bombs(judge, peer):
    before = peer.rss()
    bombs = [b"bomb:1|c|#" + b",".join(b"t%d:v" % i for i in range(5000)),
             b"bomb:1|c|#a:" + b"x" * 50_000, b"bomb:1|c|#" + b",".join([b":", b"a:", b":b"] * 300)]
    refused = errors_of(peer)
    peer.send(bombs * 50, 1)
    peer.send([b"after:1|c"] * 100)
    exact(judge, peer, "after", 100)
    grown(judge, peer, before)
    if peer.has_tags:
        judge.lacks("T", "it leaves all tags out")
    else:
        told_of_errors(judge, peer, refused, 100)


@fault("B9")
def no_text(judge, peer):
    parts = [b"\xff\xfe", b"\xef\xbb\xbf", b"\x01\x1f\x7f", b'"', b"\\", b"\xed\xa0\x80", b"ok", b"\xc3"]
    peer.send([b"n%s:1|c|#k:v%s" % (judge.rng.choice(parts), judge.rng.choice(parts))
               for _ in range(1000)])
    peer.send([b"n%s:1|c" % part for part in parts] * 5)
    peer.send([b"after:1|c"] * 100)
    exact(judge, peer, "after", 100)
    time.sleep(1.5)
    wrong = peer.valid()
    judge.check("T", not wrong, f"what it shows cannot be read: {wrong}")


@fault("B10")
def reserved_labels(judge, _):
    for letter in "CT":
        judge.lacks(letter, "it makes no labels of tags")


@fault("B11")
def one_name_several_types(judge, peer):
    peer.send([b"same:2|c", b"same:3|g", b"same:4|ms", b"same:x|s"] * 10)
    peer.send([b"after:1|c"])
    peer.shows("after", 1)
    time.sleep(1.5)
    judge.check("C", peer.counter("same") == 20, f"the counter is {peer.counter('same')}, not 20")
    wrong = peer.valid()
    judge.check("T", not wrong, f"what it shows cannot be read: {wrong}")


@fault("B12")
def names_that_become_equal(judge, peer):
    peer.send([b"q.x:1|c", b"q_x:2|c", b"q-x:4|c"] * 10)
    peer.send([b"after:1|c"])
    peer.shows("after", 1)
    time.sleep(1.5)
    shown = [peer.counter(name) for name in ("q.x", "q_x", "q-x")]
    judge.check("C", shown in ([10, 20, 40], [70, 70, 70]), f"apart or merged: {shown}")
    wrong = peer.valid()
    judge.check("T", not wrong, f"what it shows cannot be read: {wrong}")


@fault("B13")
def names_without_end(judge, peer):
    count = 200_000
    peer.send([b"quiet:1|c"] * 100)
    peer.shows("quiet", 100)
    before = peer.rss()
    dropped = peer.send((b"\n".join(b"name%d:1|c" % n for n in range(i, i + 20))
                         for i in range(0, count, 20)), 5)
    peer.send([b"quiet:1|c"] * 100)
    shown = peer.shows("quiet", 200, 20)
    judge.check("C", shown == 200, f"a known counter shows {shown} of 200")
    begin = time.monotonic()
    size = len(peer.body(60))
    took = time.monotonic() - begin
    judge.check("R", took < 1, f"what it shows takes {took:.1f} s ({size / 1e6:.1f} MB)")
    more = peer.rss() - before
    peer.send((b"\n".join(b"more%d:1|c" % n for n in range(i, i + 20)) for i in range(0, count, 20)), 5)
    time.sleep(3)
    again = peer.rss() - before
    judge.check("B", again < 1.25 * more, f"no limit: {count} names {more // MIB} MiB, twice as many "
                                          f"{again // MIB} MiB ({dropped} datagrams dropped)")
    judge.check("T", "limit" in peer.process.log().lower(), "nothing says that there are too many")


@fault("B14")
def sets_without_end(judge, peer):
    count = 200_000
    before = peer.rss()
    peer.send((b"\n".join(b"members:%d|s" % n for n in range(i, i + 50)) for i in range(0, count, 50)), 5)
    peer.send([b"after:1|c"] * 10)
    exact(judge, peer, "after", 10)
    grown(judge, peer, before, 8 * MIB)


@fault("B16")
def unknown_sections(judge, peer):
    refused = errors_of(peer)
    peer.send([b"known:1|c|c:in-123", b"known:1|c|T1700000000", b"known:1|c|zzz",
               b"_e{999999999,5}:title|text", b"_sc|name|0|#a:b", b"known:1|c"] * 20)
    shown = peer.shows("known", 80, 5)
    judge.check("C", shown in (20, 80), f"lines with sections are taken or refused, all of them: {shown}")
    told_of_errors(judge, peer, refused, 40)


@fault("B18")
def flat_out(judge, peer):
    before = peer.rss()
    stop = threading.Event()
    sent = [0]
    body = b"\n".join([b"flood:1|c"] * 30)

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", peer.port))
            while not stop.is_set():
                sender.send(body)
                sent[0] += 1
    thread = threading.Thread(target=flood)
    thread.start()
    time.sleep(3)
    begin = time.monotonic()
    with contextlib.suppress(OSError, AssertionError):
        peer.body()
    took = time.monotonic() - begin
    stop.set()
    thread.join()
    judge.check("B", took < 1, f"what it shows takes {took:.1f} s meanwhile")
    dropped = peer.kernel_dropped()
    want = 30 * (sent[0] - dropped)
    shown = peer.shows("flood", want, 20)
    judge.check("C", shown == want, f"{shown} and {30 * dropped} dropped of {30 * sent[0]}")
    judge.check("T", dropped == 0, f"no metric of it says that the kernel dropped {dropped} datagrams")
    peer.send([b"after:1|c"] * 100)
    judge.check("R", peer.shows("after", 100) == 100, "as before after it")
    grown(judge, peer, before)


@fault("B21")
def series_that_come_and_go(judge, peer):
    sizes = []
    peer.send([b"known:1|c"] * 10)
    peer.shows("known", 10)
    for generation in range(9):
        peer.send((b"\n".join(b"g%d.n%d:1|c" % (generation, n) for n in range(i, i + 20))
                   for i in range(0, 5000, 20)), 5)
        time.sleep(1)
        sizes.append(peer.rss())
    judge.check("B", sizes[-1] < 1.1 * sizes[4], f"{[size // MIB for size in sizes]} MiB: nothing expires "
                "unless it is deleted at once")
    peer.send([b"known:1|c"] * 90)
    exact(judge, peer, "known", 100)


# ---- D ----

def connect(peer, seconds=10, buffer=None):
    connection = socket.socket()
    connection.settimeout(seconds)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", peer.web))
    return connection


def fill(peer, count):
    peer.send((b"\n".join(b"filled.with.a.long.name.%d:1|c" % n for n in range(i, i + 20))
               for i in range(0, count, 20)), 5)
    time.sleep(2)


@fault("D1")
def slow_readers(judge, peer):
    peer.send([b"known:1|c"] * 10)
    peer.shows("known", 10)
    fill(peer, 20_000)
    before = peer.rss()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(peer, buffer=2048)) for _ in range(20)]
        for connection in slow:
            connection.sendall(peer.request())
        for _ in range(3):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.recv(1)
            time.sleep(0.2)
        begin = time.monotonic()
        with contextlib.suppress(OSError, AssertionError):
            peer.body(10)
        took = time.monotonic() - begin
        judge.check("R", took < 2, f"others wait {took:.1f} s")
        peer.send([b"known:1|c"] * 90)
        shown = peer.shows("known", 100, 20)
        judge.check("R", shown == 100, f"{shown} of 100 samples are shown meanwhile")
        grown(judge, peer, before)
    judge.lacks("T", "nothing to be told of")


@fault("D2")
def a_thousand_at_once(judge, peer):
    fill(peer, 5_000)
    before, base = peer.rss(), peer.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(900):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(connect(peer, 2, 2048))
                connection.sendall(peer.request())
        time.sleep(1)
        judge.check("T", peer.descriptors() - base < 300, f"{peer.descriptors() - base} at once: "
                    "no limit that it tells of")
        grown(judge, peer, before)
    with contextlib.suppress(AssertionError):
        wait_for("an answer", peer.answers, 10)
    judge.check("R", peer.answers(), "does not answer within 10 s")
    with contextlib.suppress(AssertionError):
        wait_for("descriptors", lambda: peer.descriptors() <= base + 5, 10)
    judge.check("B", peer.descriptors() <= base + 5, f"{peer.descriptors()} descriptors, before {base}")


@fault("D3")
def scrapes_while_series_come_and_go(judge, peer):
    wrong = []
    for generation in range(8):
        peer.send((b"\n".join(b"g%d.n%d:1|c\ng%d.t%d:5|ms" % (generation, n, generation, n)
                              for n in range(i, i + 10)) for i in range(0, 1000, 10)), 5)
        text = peer.valid()
        if text:
            wrong.append(text)
        time.sleep(0.3)
    judge.check("C", not wrong, f"{len(wrong)} of 8 cannot be read: {wrong[:1]}")


@fault("D4")
def scrapers_that_go_away(judge, peer):
    fill(peer, 5_000)
    before, base = peer.rss(), peer.descriptors()
    for i in range(500):
        with contextlib.suppress(OSError), connect(peer, buffer=2048) as connection:
            connection.sendall(peer.request())
            if i % 2:
                connection.recv(100)
    with contextlib.suppress(AssertionError):
        wait_for("descriptors", lambda: peer.descriptors() <= base + 5, 10)
    judge.check("B", peer.descriptors() <= base + 5, f"{peer.descriptors()} descriptors, before {base}")
    grown(judge, peer, before)


@fault("D5")
def requests_that_are_none(judge, peer):
    before, base = peer.rss(), peer.descriptors()
    for request in (judge.rng.randbytes(500), b"GET /" + b"y" * MIB + b" HTTP/1.1\r\n\r\n", b"\0" * 5000,
                    b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"):
        with contextlib.suppress(OSError), connect(peer, 3) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    ended = False
    begin = time.monotonic()
    with connect(peer) as connection:  # a byte now and then of what never ends
        connection.settimeout(0.2)
        while time.monotonic() - begin < 12 and not ended:
            try:
                connection.send(b"G")
                ended = connection.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    judge.check("T", ended, "a request that never ends is never hung up on (within 12 s)")
    judge.check("A", peer.answers(), "answers")
    with contextlib.suppress(AssertionError):
        wait_for("descriptors", lambda: peer.descriptors() <= base + 5, 10)
    judge.check("B", peer.descriptors() <= base + 5, f"{peer.descriptors()} descriptors, before {base}")
    grown(judge, peer, before)


def over_http(judge, peer, letters):
    if peer.scrape_path is None:
        for letter in letters:
            judge.lacks(letter, "it speaks no HTTP")
    return peer.scrape_path is not None


@fault("D6")
def strange_accept(judge, peer):
    if over_http(judge, peer, "T"):
        for accept in ("", "junk", "*/*;q=0", "x" * 5000, "application/openmetrics-text;version=9"):
            status = http_request(peer.web, peer.scrape_path, headers={"Accept": accept}).status
            judge.check("T", status in (200, 400, 406, 431), f"{accept[:30]!r}: {status}")


@fault("D8")
def uploads(judge, peer):
    if not over_http(judge, peer, "BT"):
        return
    before = peer.rss()
    with connect(peer, 3) as connection:
        connection.sendall(f"POST {peer.scrape_path} HTTP/1.1\r\nHost: x\r\n"
                           "Content-Length: 1073741824\r\n\r\n".encode())
        sent, answer = 0, b""
        with contextlib.suppress(OSError):
            while sent < 64 * MIB:
                sent += connection.send(b"x" * 65536)
        with contextlib.suppress(OSError):
            answer = connection.recv(100)
    judge.check("T", b" 405" in answer[:20] or b" 400" in answer[:20] or sent < 64 * MIB,
                f"{sent // MIB} MiB are taken, then {answer[:30]}")
    grown(judge, peer, before, 16 * MIB)


@fault("D9")
def strict_reader(judge, peer):
    if not over_http(judge, peer, "T"):
        return
    for _ in range(5):
        peer.send([judge.rng.choice(VANDALS) for _ in range(200)])
        time.sleep(1)
        wrong = peer.valid()
        judge.check("T", not wrong, f"promtool cannot read it: {wrong}")


@fault("D10")
def administration_from_elsewhere(judge, peer):
    """A page in a browser can have any text posted to a port of this host."""
    peer.send([b"mine:1|c"] * 10)
    peer.shows("mine", 10)
    with contextlib.suppress(OSError, http.client.HTTPException):
        http_request(peer.web, "/", "POST", {"Origin": "http://evil.example",
                                             "Content-Type": "text/plain"}, b"\ndelcounters mine\n\n", 3)
    shown = peer.counter("mine")
    judge.check("T", shown == 10, "any page can delete counters: lines of a POST are commands")
