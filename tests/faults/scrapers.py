"""D: scrapers, and whoever else speaks HTTP."""

import contextlib
import random
import socket
import subprocess
import time

import exposition
from bar import Skipped, scenario
from harness import OPENMETRICS, SLOWNESS, TEXT, Prometheus, Scraper, have, http_request, tally_load, wait_for
from lines import send_all
from rig import Rig
from streams import descriptors_of_ours


def browser(rig, seconds=10, buffer=None):
    connection = socket.socket()
    connection.settimeout(seconds * SLOWNESS)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", rig.daemon.port("http")))
    return connection


def fill(rig, series):
    """Series enough for a scrape of some size."""
    account = tally_load("--to", rig.urls()["unixstream"], "--wait", "--series", series,
                         "--once-each=1", "--tags=2", "--names=50")
    rig.sent += account["samples"]
    rig.daemon.settle(received=rig.sent, seconds=60)


def status_of(answer):
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.") else 0


def exchange(rig, request, pause=0):
    """What comes back until the other side closes, or for a while."""
    with browser(rig, 7) as connection:
        try:
            for part in request if isinstance(request, list) else [request]:
                connection.sendall(part)
                time.sleep(pause)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer
        except OSError:
            return answer if "answer" in locals() else b""


@scenario("D1")
def slow_readers(run):
    series = 200_000 if run.full else 30_000
    with Rig(run, "--series.family-limit=1000000") as rig:
        fill(rig, series)
        rig.base = rig.handles()
        load = rig.start_load(None)
        before = rig.samples_per_second(1)
        slow = [browser(rig, buffer=2048) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(3):
            for connection in slow:
                connection.recv(1)
            time.sleep(0.2)
        took = rig.scrape_time()
        run.check("R", took < 2 * SLOWNESS, f"others are served meanwhile, in {took:.2f} s")
        rig.recovered(before)
        rig.finish_load(load)
        rig.counted()
        for connection in slow:
            connection.close()
        run.check("T", rig.own("tallyd_applied_samples_total") > 0, "own metrics go on")
        rig.quiet_log()
        rig.alive()
        rig.bounded(1.5)


@scenario("D2")
def a_thousand_at_once(run):
    count = 1000
    with descriptors_of_ours(count + 500), Rig(run, "--web.max-requests=20") as rig:
        fill(rig, 20_000)
        rig.base = rig.handles()
        # Each asks for a body that does not fit into the buffers, and none reads.
        connections = [browser(rig, buffer=2048) for _ in range(count)]
        for connection in connections:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
        refused = served = 0
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.settimeout(0.05 if refused + served > 100 else 2)
                answer = connection.recv(4096)
                refused += status_of(answer) == 503 and b"retry-after" in answer.lower()
                served += status_of(answer) == 200
        run.check("T", refused >= count - 100 and served >= 10, f"{served} served, {refused} refused at once")
        run.check("T", rig.daemon.get("/-/healthy").status == 200, "health is not limited")
        for connection in connections:
            connection.close()
        wait_for("a scrape", lambda: rig.daemon.get("/metrics").status == 200, 10)
        rig.recovered()
        rig.alive()
        rig.bounded()


@scenario("D3")
def scrapes_while_series_come_and_go(run):
    seconds = 60 if run.full else 4
    series = 5_000 if run.full else int(2_000 / SLOWNESS)  # what is parsed in less than a second
    with Rig(run, "--series.ttl=1s", "--series.family-limit=1000000") as rig:
        with Scraper(rig.daemon, 10) as scraper:  # parses strictly: no torn family, sums of buckets
            account = tally_load("--to", rig.urls()["unixstream"], "--wait", "--series", series,
                                 "--mix=40:20:40", "--tags=2", "--ring", 4 * series, "--churn", series,
                                 "--rate", series, "--seconds", seconds, seconds=seconds + 60)
        rig.sent += account["samples"]
        run.check("C", not scraper.errors and scraper.scrapes >= seconds / SLOWNESS,
                  f"{scraper.scrapes} scrapes, {scraper.errors[:2]}")
        rig.counted()
        rig.alive()


@scenario("D4")
def scrapers_that_go_away(run):
    count = 10_000 if run.full else int(1_500 / SLOWNESS)
    with Rig(run) as rig:
        fill(rig, 5_000)
        rig.base = rig.handles()
        before = rig.daemon.status_kib("VmRSS")
        for i in range(count):
            with browser(rig, buffer=2048) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                if i % 2:
                    connection.recv(100)
                if i % 3 == 0:  # with a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                          b"\x01\0\0\0\0\0\0\0")
        run.check("B", rig.daemon.status_kib("VmRSS") - before < 65536 * SLOWNESS, "memory")
        rig.alive()
        rig.bounded()


@scenario("D5")
def requests_that_are_none(run):
    rng = random.Random(run.seed)
    get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    requests = {
        "random bytes": (rng.randbytes(500), {0, 400}),
        "a header of 1 MB": (get + b"X: " + b"y" * (1 << 20) + b"\r\n\r\n", {0, 400, 431}),
        "bad chunks": (b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                       {400, 403, 404, 405}),
        "two lengths": (get + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", {0, 400}),
        "outside the root": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                             {400, 404}),
        "an absolute address": (b"GET http://x/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                                {200, 400, 404}),
        "no version": (b"GET /metrics\r\n\r\n", {0, 400}),
        "pipelined": (get + b"\r\n" + get + b"Connection: close\r\n\r\n", {200}),
    }
    with Rig(run) as rig:
        send_all(rig, [b"a:1|c"])
        for what, (request, allowed) in requests.items():
            status = status_of(exchange(rig, request))
            run.check("T", status in allowed, f"{what}: {status}")
        begin = time.monotonic()
        with browser(rig, 20) as connection:
            ended = False
            for byte in (get * 20)[:100]:
                try:
                    connection.send(bytes([byte]))
                    connection.settimeout(0.1)
                    if connection.recv(100) in (b"",) or True:
                        ended = True
                        break
                except TimeoutError:
                    continue
                except OSError:
                    ended = True
                    break
        took = time.monotonic() - begin
        run.check("T", ended and took < 8 * SLOWNESS, f"a header byte by byte is hung up on: {took:.1f} s")
        rig.alive()
        rig.bounded()


@scenario("D6")
def strange_accept(run):
    with Rig(run) as rig:
        send_all(rig, [b"a:1|c"])
        for accept in ("", "junk", ";;;,,,", "text/plain;q=0", "*/*;q=0", "x" * 10_000, "application/json",
                       "application/openmetrics-text;version=9", "text/plain;version=0.0.4;q=abc",
                       "application/vnd.google.protobuf;proto=nobody;encoding=delimited", "image/*,*/*"):
            answer = rig.daemon.get("/metrics", accept=accept)
            good = answer.status in (200, 406, 431, 400)
            if answer.status == 200:
                try:
                    exposition.parse(answer.body, "openmetrics" in answer.content_type)
                except exposition.ParseError as wrong:
                    good = False
                    run.note(str(wrong))
            run.check("T", good, f"{accept[:40]!r}: {answer.status} {answer.content_type}")
        rig.alive()


@scenario("D7")
def nobody_scrapes(run):
    """A day's merges, 5 ms apart instead of a second, as many as time allows."""
    seconds = 430 if run.full else 4
    with Rig(run, "--merge.interval=5ms") as rig:
        load = rig.start_load(seconds + 2, rate=int(10_000 / SLOWNESS))
        time.sleep(2)
        before = rig.daemon.status_kib("VmRSS")
        time.sleep(seconds - 1)
        grown = rig.daemon.status_kib("VmRSS") - before
        rig.finish_load(load)
        run.check("B", grown < 4096 * SLOWNESS, f"grown by {grown} KiB")
        rig.bounded()


@scenario("D8")
def uploads(run):
    with Rig(run) as rig:
        before = rig.daemon.status_kib("VmRSS")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            with browser(rig) as connection:
                connection.sendall(f"{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824"
                                   "\r\n\r\n".encode())
                sent = 0
                with contextlib.suppress(OSError):
                    while sent < 64 << 20:
                        sent += connection.send(b"x" * 65536)
                answer = b""
                with contextlib.suppress(OSError):
                    answer = connection.recv(1000)
                run.check("T", status_of(answer) == 405 or sent < 64 << 20, f"{method}: {answer[:60]} {sent}")
            answer = http_request(rig.daemon.port("http"), "/metrics", method, body=b"x")
            run.check("T", answer.status == 405, f"{method}: {answer.status}")
        run.check("B", rig.daemon.status_kib("VmRSS") - before < 16384 * SLOWNESS, "the body is not kept")
        rig.alive()
        rig.bounded()


VANDALS = [b"a:1|c", b"a:1|g", b"a_total:1|c", b"a:1|h", b"a_count:1|c", b"9x:1|c|#__name__:b",
           b"b:nan|g|#a:\xff", b"b:1|ms|#le:1", b"b:1e308|h", b"b:1e308|h", b"tallyd_x:1|c",
           'q"uote:1|c|#v:a"b\\c'.encode(), "ü:1|c|#ß:ß".encode(), b"c:inf|c", b"c:1|s|#quantile:0.5",
           b"d:1|c|#a:1,a:2,A:3,a-b:4,a.b:5", b"h:-1|h", b"h:inf|h", b"h:-inf|h", b"h:nan|h"]


@scenario("D9")
def strict_prometheus(run):
    if not have("prometheus", "promtool"):
        raise Skipped("needs prometheus and promtool")
    rng = random.Random(run.seed)
    seconds = 120 if run.full else 5
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(Rig(run, "--series.limit=5000", "--series.ttl=2s"))
        judges = [stack.enter_context(Prometheus({"strict": rig.daemon.port("http")}, *flags))
                  for flags in ((), ("--enable-feature=native-histograms",))]
        for judge in judges:
            wait_for("a first scrape", lambda judge=judge: any(
                target["health"] == "up" for target in judge.targets()), 20)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = [rng.choice(VANDALS) for _ in range(100)]
            lines += [b"".join(rng.choice((b"x", b":", b"|", b"c", b"#", b"1", b"\xff", b"@", b","))
                               for _ in range(30)) for _ in range(100)]
            lines += [b"churn%d:1|%s|#id:%d" % (rng.randrange(50), rng.choice((b"c", b"h")),
                                                rng.randrange(10_000)) for _ in range(100)]
            send_all(rig, lines)
            time.sleep(0.05)
        for judge in judges:
            always_up(run, judge, seconds)
        body = rig.daemon.get("/metrics", accept=TEXT).body
        lint = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                              timeout=60, check=False)
        run.check("T", lint.returncode != 1, f"promtool: {lint.stderr[-300:]}")
        rig.daemon.scrape(OPENMETRICS)


def always_up(run, prometheus, seconds):
    """One scrape a second, none of which failed."""
    target = prometheus.targets()[0]
    run.check("T", target["health"] == "up" and not target["lastError"], f"{target['lastError']}")
    expression = f'min_over_time(up{{job="strict"}}[{seconds + 60}s])'
    wait_for("a value", lambda: prometheus.value(expression) is not None)
    failed = prometheus.value(expression)
    run.check("T", failed == 1, f"up at every scrape: {failed}")


@scenario("D10")
def administration_from_elsewhere(run):
    foreign = ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
               {"Host": "evil.example", "Origin": "http://evil.example"})
    with Rig(run) as rig:
        for path in ("/-/quit", "/-/reload"):
            status = rig.daemon.get(path, method="POST").status
            run.check("T", status in (403, 404), f"{path}, not enabled: {status}")
        rig.alive()
    with Rig(run, "--web.enable-lifecycle") as rig:
        for path in ("/-/quit", "/-/reload"):
            for headers in foreign:
                status = rig.daemon.get(path, method="POST", headers=headers).status
                run.check("T", status in (403, 404, 421), f"{path} {headers}: {status}")
            status = rig.daemon.get(path).status
            run.check("T", status == 405, f"GET {path}: {status}")
        rig.alive()

