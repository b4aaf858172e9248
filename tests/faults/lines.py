"""B: datagrams and lines."""

import os
import random
import socket
import struct
import threading
import time

import test_dialects
import test_torture
from bar import scenario
from harness import OPENMETRICS, SLOWNESS, Scraper, tally_load
from line_tables import LineTableTest
from rig import Rig


def gram(rig):
    """A blocking socket: what it has sent has arrived."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection.connect(str(rig.directory / "g"))
    return connection


def send_all(rig, datagrams):
    """Sends over a UNIX datagram socket; returns how many."""
    count = 0
    with gram(rig) as connection:
        for datagram in datagrams:
            connection.send(datagram if isinstance(datagram, bytes) else datagram.encode())
            count += 1
    return count


def settle_datagrams(rig, count):
    return rig.daemon.settle(datagrams=count, seconds=60)


def verdicts(run, rig, *tables):
    """Each line has the effect, and costs what, the table says; and the scrape stays valid."""
    case = LineTableTest()
    case.daemon = rig.daemon
    for table in tables:
        try:
            case.run_table(table)
            run.check("C", True, "")
        except AssertionError as wrong:
            run.check("C", False, str(wrong))


def merging(run, *flags):
    """Merges all the time, so that each line shows at once."""
    return Rig(run, "--merge.interval=2ms", *flags)


@scenario("B1")
def random_bytes(run):
    count = 10_000_000 if run.full else int(100_000 / SLOWNESS)
    random.seed(run.seed)
    pool = random.randbytes(1 << 20)
    with Rig(run) as rig:
        def datagrams():
            for i in range(count):
                # Most are short; one in a thousand may be of any length.
                size = int(random.random() * (65_508 if i % 1000 == 0 else 200))
                start = int(random.random() * (len(pool) - size))
                yield pool[start:start + size]
        sent = send_all(rig, datagrams())
        ledger = settle_datagrams(rig, sent)
        run.check("C", ledger.datagrams == sent, f"{ledger.datagrams:.0f} of {sent} datagrams")
        run.check("C", ledger.at_rest(), f"{ledger}")
        run.check("C", ledger.lost > count / 2, f"reasons for what is no line: {ledger.reasons}")
        rig.alive()
        rig.bounded()


@scenario("B2")
def longest_datagrams(run):
    line = b"longest:1|c\n"
    body = line * (65_507 // len(line))
    with Rig(run) as rig:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", rig.daemon.port("udp")))
            for _ in range(50):
                sender.send(body)
                time.sleep(0.002)
        ledger = settle_datagrams(rig, 50)
        arrived = 50 - ledger.kernel_dropped
        want = arrived * (65_507 // len(line))
        run.check("C", ledger.applied == want and ledger.truncated == 0,
                  f"{want} lines applied or counted as truncated: {ledger}")
        run.check("C", rig.daemon.scrape().value("longest") == want, "the sum")
        rig.alive()


@scenario("B3")
def over_the_buffer(run):
    line = b"cut.it:1|c\n"  # of 11 bytes: no power of two cuts between two of them
    body = line * 22_000
    with Rig(run) as rig:
        with gram(rig) as connection:
            for _ in range(20):
                connection.send(body)
        ledger = settle_datagrams(rig, 20)
        run.check("T", ledger.truncated == 20, f"20 truncated datagrams, {ledger.truncated:.0f}")
        run.check("C", ledger.reasons == {"truncated": 20}, f"one cut line each: {ledger.reasons}")
        run.check("C", ledger.at_rest() and rig.daemon.scrape().value("cut_it") == ledger.applied > 0,
                  "complete lines before the cut count")
        rig.alive()


@scenario("B4")
def empty_datagrams(run):
    count = 1_000_000 if run.full else 50_000
    with Rig(run) as rig:
        sent = send_all(rig, (b"" for _ in range(count)))
        sent += send_all(rig, [b"after:1|c"])
        ledger = settle_datagrams(rig, sent)
        run.check("C", ledger.datagrams == sent and ledger.received == 1, f"{sent} datagrams: {ledger}")
        rig.alive()
        rig.bounded()


MUTATIONS = (lambda r, line: line[:r.randrange(len(line) + 1)],
             lambda r, line: line.replace(b":", b"::", 1),
             lambda r, line: line.replace(b"|", b"||", 1),
             lambda r, line: line + r.choice((b"|@", b"|#", b"|c|c", b"\r", b"\0", b"|", b":")),
             lambda r, line: bytes(r.choice((b, b, b, r.randrange(256))) for b in line),
             lambda r, line: line[::-1])


@scenario("B5")
def mutated_lines(run):
    """The tables are the rule, line by line; mutations of them must be accounted for, each alone:
    what one line does must not depend on its neighbours."""
    rng = random.Random(run.seed)
    with merging(run) as rig:
        verdicts(run, rig, test_torture.LINES, test_torture.SECTIONS)
        rig.alive()
    corpus = [line.text for table in test_torture.TABLES.values() for line in table]
    lines = [rng.choice(MUTATIONS)(rng, rng.choice(corpus)).replace(b"\n", b"")
             for _ in range(200_000 if run.full else 5_000)]
    lines += [b":" * 1000] * 10
    reasons = []
    for packed in (1, 20):
        with Rig(run) as rig:
            packets = [b"\n".join(lines[i:i + packed]) for i in range(0, len(lines), packed)]
            ledger = settle_datagrams(rig, send_all(rig, packets))
            run.check("C", ledger.at_rest(), f"{ledger}")
            reasons.append((ledger.received, ledger.reasons, ledger.repairs))
            rig.daemon.scrape(OPENMETRICS)
            rig.alive()
    run.check("C", reasons[0] == reasons[1], f"alone and packed alike: {reasons}")
    run.check("T", len(reasons[0][1]) >= 5, f"reasons that tell: {reasons[0][1]}")


@scenario("B6")
def strange_numbers(run):
    with merging(run) as rig:
        verdicts(run, rig, test_torture.COUNTERS, test_torture.GAUGES)
        ledger = rig.daemon.ledger()
        long = b"long:" + b"1" * 10_000 + b"|c"
        rig.daemon.send_udp(long)
        after = rig.daemon.settle(received=ledger.received + 1)
        run.check("C", after.lost == ledger.lost + 1, "a number of 10 kB is no number: too large")
        rig.alive()


@scenario("B7")
def strange_rates(run):
    with Rig(run) as rig:
        begin = time.process_time(), time.monotonic()
        count = send_all(rig, [b"r:1|ms|@" + rate for rate in (
            b"0", b"-1", b"2", b"nan", b"1e-9", b"", b"1e-300", b"inf")] * 100)
        count += send_all(rig, [b"w:1|ms|@0.6"] * 1000)
        ledger = settle_datagrams(rig, count)
        took = time.monotonic() - begin[1]
        run.check("B", took < 5 * SLOWNESS, f"no loop over a weight: {took:.1f} s")
        scrape = rig.daemon.scrape()
        run.check("C", ledger.at_rest() and ledger.received == count, f"{ledger}")
        run.check("C", scrape.value("w_count") in (1666, 1667),
                  f"1000 at 0.6 weigh 1666.7: {scrape.value('w_count')}")
        rig.alive()
        rig.bounded()


@scenario("B8")
def tag_bombs(run):
    many = b"bomb:1|c|#" + b",".join(b"t%d:v" % i for i in range(6_000))
    large = b"bomb:1|c|#a:" + b"x" * 60_000
    equal = b"bomb:1|c|#" + b",".join(b"same:%d" % i for i in range(1000))
    empty = b"bomb:1|c|#" + b",".join([b":", b"a:", b":b"] * 300)
    with Rig(run) as rig:
        rounds = 500
        count = send_all(rig, [many, large, equal, empty] * rounds)
        begin = time.monotonic()
        ledger = settle_datagrams(rig, count)
        took = time.monotonic() - begin
        run.check("B", took < count * 0.001 * SLOWNESS, f"a line below 1 ms: {took / count * 1e3:.2f}")
        run.check("C", ledger.received == count and ledger.at_rest(), f"{ledger}")
        run.check("T", ledger.reasons == {"too_many_tags": rounds, "labels_too_long": rounds},
                  f"reasons: {ledger.reasons}")
        run.check("T", ledger.repairs.get("overridden_label") == 999 * rounds
                  and ledger.repairs.get("bad_tag") == 900 * rounds, f"repairs: {ledger.repairs}")
        rig.alive()
        rig.bounded()


@scenario("B9")
def no_text(run):
    rng = random.Random(run.seed)
    parts = [b"\xff\xfe", b"\xef\xbb\xbf", b"\x01\x1f\x7f", b'"', b"\\", "😀".encode(), b"\xed\xa0\x80",
             b"ok", b"\xc3", "ß".encode()]
    with merging(run) as rig:
        verdicts(run, rig, test_torture.TAGS)
        before = rig.daemon.ledger()
        lines = [b"n%s:1|c|#k%s:v%s" % tuple(rng.choice(parts) for _ in range(3))
                 for _ in range(5000)]
        send_all(rig, lines)
        ledger = rig.daemon.settle(received=before.received + len(lines))
        run.check("C", ledger.at_rest(), f"{ledger}")
        run.check("T", ledger.reasons.get("malformed_line", 0) > 0, f"{ledger.reasons}")
        for accept in (OPENMETRICS, "text/plain"):
            try:
                rig.daemon.scrape(accept)  # strict; UTF-8 is decoded strictly too
            except Exception as wrong:  # pylint: disable=broad-except
                run.check("T", False, f"{accept}: {wrong!r}")
        rig.alive()


@scenario("B10")
def reserved_labels(run):
    with merging(run) as rig:
        verdicts(run, rig, [line for line in test_torture.TAGS if line.text[:2] == b"l3"])
        before = rig.daemon.ledger()
        names = [b"__name__", b"__x", b"le", b"quantile", b"job", b"instance", b"1st", b"k" * 1000,
                 b"a.b,a-b:2,a_b"]
        count = send_all(rig, [b"reserved%d:1|%s|#%s:v" % (i, kind, name)
                               for i, name in enumerate(names) for kind in (b"c", b"h")][::2])
        ledger = rig.daemon.settle(received=before.received + count)
        run.check("C", ledger.at_rest(), f"{ledger}")
        rig.daemon.scrape(OPENMETRICS)  # a label that is there twice does not parse
        run.check("T", ledger.reasons.get("bad_label", 0) >= 2, f"{ledger.reasons}")
        rig.alive()


@scenario("B11")
def one_name_several_types(run):
    with merging(run) as rig:
        verdicts(run, rig, test_torture.CONFLICTS)
        ledger = rig.daemon.ledger()
        run.check("T", ledger.reasons.get("type_conflict", 0) > 0, f"{ledger.reasons}")
        rig.daemon.scrape(OPENMETRICS)
        rig.alive()


@scenario("B12")
def names_that_become_equal(run):
    with merging(run) as rig:
        verdicts(run, rig, test_torture.NAMES, test_torture.CONFLICTS)
        send_all(rig, ["q.x:1|c", "q_x:2|c", "q-x:3|g", "q_x_count:1|c", "q.x:1|h",
                       "z:1|h", "z_count:1|c", "y_total:1|c", "y:1|c"])
        ledger = rig.daemon.settle(received=rig.daemon.ledger().received)
        scrape = rig.daemon.scrape(OPENMETRICS)
        run.check("T", scrape.value("q_x") == 3 and ledger.reasons.get("type_conflict", 0) >= 3,
                  f"merged or refused: {ledger.reasons}")
        rig.alive()


@scenario("B13")
def names_without_end(run):
    """100,000 series at most; quiet ones before, during and after."""
    count = 10_000_000 if run.full else int(400_000 / SLOWNESS)
    limit = min(100_000, count // 4)
    with Rig(run, f"--series.limit={limit}", f"--series.sender-limit={limit}") as rig:
        quiet = ["--workload=W1", "--series=1000", "--mix=1:0:0", "--tags=0", "--prefix=quiet",
                 "--wait"]
        url = rig.urls()["unixstream"]

        def load(*flags):
            account = tally_load("--to", url, *flags, seconds=600)
            rig.sent += account["samples"]
            rig.daemon.settle(received=rig.sent, seconds=60)
            return account
        before = load(*quiet, "--lines=2000000")["lines_per_s"]
        load("--workload=W1", f"--series={count}", "--mix=1:0:0", "--tags=0", "--prefix=name",
             "--once-each=1", "--wait")
        after = load(*quiet, "--lines=2000000")["lines_per_s"]
        run.check("R", after > before / 2, f"known keys {before:,.0f} lines/s, after {after:,.0f}")
        ledger = rig.counted()
        scrape = rig.daemon.scrape(timeout=60)
        run.check("C", ledger.lost == 0, f"{ledger}")
        run.check("C", len([key for key in scrape.samples if key[0].startswith("quiet")]) == 1000,
                  "quiet series are all there")
        run.check("T", ledger.folded >= count - limit, f"folded {ledger.folded:.0f}")
        run.check("T", rig.daemon.logged("a family folds"), "the log names what folds")
        rig.quiet_log()
        rig.alive()
        rig.bounded()


@scenario("B14")
def sets_without_end(run):
    count = 10_000_000 if run.full else 300_000
    with Rig(run, "--shards=1") as rig:
        def bodies():
            for i in range(0, count, 500):
                yield b"\n".join(b"members:%d|s" % member for member in range(i, i + 500))
        before = rig.daemon.status_kib("VmRSS")
        begin = time.monotonic()
        send_all(rig, bodies())
        send_all(rig, [b"members:" + b"m" * 60_000 + b"|s"])
        rig.sent += count + 1
        rig.counted(seconds=60)
        shown = rig.daemon.scrape().value("members")
        if time.monotonic() // 60 == begin // 60:  # one window
            run.check("C", abs(shown / count - 1) < 0.05, f"{shown:.0f} of {count} within the error")
        grown = rig.daemon.status_kib("VmRSS") - before
        run.check("B", grown < 8192, f"grown by {grown} KiB")
        rig.alive()
        rig.bounded()


@scenario("B15")
def observations_of_any_size(run):
    rng = random.Random(run.seed)
    values = [rng.choice((-1, 1)) * 10.0 ** rng.uniform(-300, 300) for _ in range(20_000)]
    values += [5e-324, -5e-324, 0.0, -0.0, 1.7e308, -1.7e308] * 10
    with Rig(run, "--shards=1", "--web.native-histograms=both") as rig:
        rig.sent += send_all(rig, [f"wide:{value!r}|h" for value in values])
        rig.counted()
        scrape = rig.daemon.scrape()
        run.check("C", scrape.value("wide_count") == len(values), f"{scrape.value('wide_count')}")
        total = sum(values)
        run.check("C", abs(scrape.value("wide_sum") - total) <= 1e-9 * sum(map(abs, values)), "sum")
        rig.alive()
        rig.bounded()


@scenario("B16")
def unknown_sections(run):
    with merging(run) as rig:
        verdicts(run, rig, test_torture.SECTIONS, test_dialects.EVENTS)
        ledger = rig.daemon.ledger()
        run.check("T", ledger.repairs.get("unknown_section", 0) > 0 and sum(ledger.events.values()),
                  f"{ledger.repairs} {ledger.events}")
        rig.alive()


@scenario("B17")
def names_built_to_collide(run):
    """The table's hash is seeded, so what collides cannot be computed from outside. What can be
    built: equal lengths, long common prefixes, and names equal but for bits that weak hashes drop."""
    count = int(200_000 / SLOWNESS)
    prefix = b"p" * 100

    def rate(rig, names):
        bodies = [b"\n".join(name + b":1|c" for name in names[i:i + 20])
                  for i in range(0, len(names), 20)]
        rig.sent += len(names)
        send_all(rig, bodies)
        rig.daemon.settle(received=rig.sent, seconds=60)
        begin = cpu(rig)
        for _ in range(3):
            send_all(rig, bodies)
            rig.sent += len(names)
        rig.daemon.settle(received=rig.sent, seconds=60)
        return cpu(rig) - begin
    with Rig(run, "--shards=1") as rig:
        plain = rate(rig, [b"n%0107d" % i for i in range(count // 4)])
        built = rate(rig, [prefix + struct.pack(">Q", i << 4).hex().encode()[-8:]
                           for i in range(count // 4)])
        run.check("R", built <= 2 * plain + 0.2, f"CPU {built:.2f} s, ordinary names {plain:.2f} s")
        rig.alive()
        rig.bounded()


def cpu(rig):
    fields = open(f"/proc/{rig.daemon.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@scenario("B18")
def twice_the_capacity(run):
    """Flat out over UDP from one CPU into a daemon that has a tenth of one."""
    seconds = 60 if run.full else 3
    with Rig(run, "--shards=1", "--statsd.read-buffer=1048576") as rig:
        flags = ("--to", rig.urls()["udp"], "--workload=W1", "--series=1000", "--mix=1:0:0")
        before = rig.daemon.settle(datagrams=tally_load(*flags, "--seconds=1")["packets"])
        account = tally_load(*flags, "--seconds", seconds, seconds=seconds + 60)
        slow = []
        begin = time.monotonic()
        rig.daemon.scrape()
        slow.append(time.monotonic() - begin)
        after = rig.daemon.settle(datagrams=before.datagrams + before.kernel_dropped
                                  + account["packets"], seconds=30)
        counted = (after.datagrams - before.datagrams) + (after.kernel_dropped - before.kernel_dropped)
        run.check("C", counted == account["packets"], f"{counted:.0f} of {account['packets']} datagrams")
        run.check("C", after.at_rest() and after.lost == before.lost, f"{after}")
        run.check("B", max(slow) < 1 * SLOWNESS, f"scrape {max(slow):.2f} s")
        run.check("T", after.kernel_dropped >= before.kernel_dropped, "drops are counted")
        run.note(f"kernel dropped {after.kernel_dropped - before.kernel_dropped:.0f} "
                 f"of {account['packets']} datagrams")
        rig.recovered()
        rig.alive()
        rig.bounded()


@scenario("B19")
def one_floods(run):
    """Nine senders with room of their own (UNIX datagram sockets wait for it) beside a flood."""
    with Rig(run) as rig:
        flood = rig.start_load(3, rate=int(600_000 / SLOWNESS))
        told = 0
        for sender in range(9):
            told += send_all(rig, [f"behaves:1|c|#n:{sender}"] * 300)
        rig.finish_load(flood)
        rig.daemon.settle(received=None, seconds=30)
        shown = rig.daemon.scrape().total("behaves")
        run.check("C", shown >= 0.99 * told, f"{shown:.0f} of {told}")
        run.check("T", rig.own("tallyd_received_samples_total", listener=f"unixgram:{rig.directory}/g")
                  is not None, "received by listener")
        rig.recovered()


@scenario("B20")
def silence_then_a_burst(run):
    with Rig(run) as rig:
        rig.sent += send_all(rig, [b"before:1|c"])
        time.sleep(600 if run.full else 1.5)
        account = tally_load("--to", rig.urls()["unixstream"], "--workload=W1", "--wait",
                             "--lines", int(1_000_000 / SLOWNESS), "--series=1000")
        rig.sent += account["samples"]
        ledger = rig.counted()
        run.check("C", ledger.lost == 0, f"{ledger}")
        rig.recovered()


@scenario("B21")
def series_that_come_and_go(run):
    """bench/churn is the ten minutes of it; here generations are shorter."""
    seconds, ttl = (600, 10) if run.full else (9, 1)
    series = 100_000 if run.full else int(10_000 / SLOWNESS)
    with Rig(run, f"--series.ttl={ttl}s", "--series.family-limit=1000000",
             *(() if run.full else ("--series.expired-bytes=1000000",))) as rig:
        points = []
        lines = series * seconds // ttl
        argv = ("--to", rig.urls()["unixstream"], "--wait", "--series", series, "--mix=60:20:20",
                "--tags=2", "--ring", min(40, seconds // ttl) * series, "--churn", series,
                "--rate", series // ttl, "--lines", lines)
        with _Sampled(rig, points), Scraper(rig.daemon, 2) as scraper:
            account = tally_load(*argv, seconds=seconds + 60)
        rig.sent += account["samples"]
        ledger = rig.counted()
        run.check("C", ledger.lost == 0 and not scraper.errors, f"{ledger} {scraper.errors[:1]}")
        third = len(points) // 3
        middle, last = max(points[third:2 * third]), max(points[2 * third:])
        run.check("B", last < middle * 1.1, f"RSS {middle} KiB, later {last} KiB")
        run.note(f"RSS {middle} KiB, later {last} KiB")
        rig.alive()
        rig.bounded()


class _Sampled:
    """Notes the RSS of a daemon ten times a second."""

    def __init__(self, rig, points):
        self._rig, self._points = rig, points
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._note, daemon=True)

    def _note(self):
        while not self._ended.wait(0.1):
            self._points.append(self._rig.daemon.status_kib("VmRSS"))

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

