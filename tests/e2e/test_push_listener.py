"""Being a Pushgateway: the same requests to Debian's and to tallyd, the same answers, the same series."""

import base64
import contextlib
import gzip
import os
import signal
import socket
import struct
import tempfile
import time
import unittest

import exposition
import harness
from harness import Daemon, Process, free_port, http_request, wait_for

PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
TIMES = ("push_time_seconds", "push_failure_time_seconds")


class Gateway:
    """Debian's prometheus-pushgateway on a free port."""

    def __init__(self):
        self.port = free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="tallyd-e2e-")
        self.process = Process(
            [
                "prometheus-pushgateway",
                f"--web.listen-address=127.0.0.1:{self.port}",
                # Debian's keeps what others pushed, unless it is told otherwise.
                f"--persistence.file={self.directory.name}/groups",
                "--log.level=error",
            ],
            f"{self.directory.name}/pushgateway.log",
        )

    def __enter__(self):
        def ready():
            # Somebody else may have taken the port meanwhile, and would answer.
            if not self.process.running():
                raise AssertionError(f"pushgateway ended:\n{self.process.log()}")
            with contextlib.suppress(OSError):
                return http_request(self.port, "/-/ready").status == 200
            return False

        try:
            wait_for("pushgateway", ready, 15)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.directory.cleanup()


def push_port(daemon):
    line = harness.READY.search(daemon.log()).group()
    return int(line.split(" push=")[1].split()[0].rsplit(":", 1)[1])


class PushDaemon(Daemon):
    """A tallyd that takes pushes."""

    def __init__(self, *flags, **keywords):
        super().__init__("--push.listen-address=127.0.0.1:0", *flags, **keywords)

    @property
    def push_port(self):
        return push_port(self)


def groups(port):
    """The pushed series of a Pushgateway or a push listener: {(name, labels): value}.

    Not by the strict parser: a Pushgateway also shows histograms that make no sense.
    """
    body = http_request(port, "/metrics", headers={"Accept": harness.TEXT}).body.decode()
    found = {}
    for line in body.splitlines():
        if not line or line.startswith("#"):
            continue
        name, label_text, rest = exposition.split_sample(line)
        labels = exposition.parse_labels(label_text, line)
        if "job" in dict(labels):
            found[(name, labels)] = exposition.parse_value(rest.strip(), line)
    return found


def types(port):
    body = http_request(port, "/metrics", headers={"Accept": harness.TEXT}).body.decode()
    return {
        tuple(line.split()[2:4])
        for line in body.splitlines()
        if line.startswith("# TYPE") and not line.split()[2].startswith(("go_", "process_", "pushgateway_", "promhttp_"))
    }


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    """A protobuf field: bytes, a double or an integer."""
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, float):
        return varint(number << 3 | 1) + struct.pack("<d", content)
    return varint(number << 3) + varint(content)


def family(name, kind, *metrics, help_text=""):
    message = field(1, name.encode())
    if help_text:
        message += field(2, help_text.encode())
    message += field(3, kind) + b"".join(field(4, metric) for metric in metrics)
    return varint(len(message)) + message


COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM = range(5)
COUNTED = field(3, field(1, 3.0))


def label(name, value):
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def b64(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


BODY = "# TYPE c counter\nc{a=\"x\"} 1\nc{a=\"y\"} 2\n# HELP g some \\\\ help\n# TYPE g gauge\ng -4.5\nu 7\n"
HISTOGRAM_TEXT = (
    "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1e6\"} 3\n%sh_sum 10\nh_count 4\n"
)
SUMMARY_TEXT = '# TYPE s summary\ns{quantile="0.5"} 1\ns{quantile="0.99"} 2\ns_sum 3\ns_count 4\n'

# Rows of (what, [(method, path, body, headers)]). Each begins with nothing pushed.
ROWS = [
    ("PUT replaces the whole group", [
        ("PUT", "/metrics/job/j1", BODY, {}),
        ("PUT", "/metrics/job/j1", "other 1\n", {}),
    ]),
    ("POST replaces only families of the same name", [
        ("PUT", "/metrics/job/j1", BODY, {}),
        ("POST", "/metrics/job/j1", '# TYPE c counter\nc{a="z"} 5\n', {}),
    ]),
    ("DELETE, existing or not, exact key only", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}),
        ("PUT", "/metrics/job/j1/instance/i", "a 2\n", {}),
        ("DELETE", "/metrics/job/j1", None, {}),
        ("DELETE", "/metrics/job/nobody", None, {}),
    ]),
    ("DELETE with labels", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}),
        ("PUT", "/metrics/job/j1/instance/i", "a 2\n", {}),
        ("DELETE", "/metrics/job/j1/instance/i", None, {}),
    ]),
    ("empty PUT empties the group", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}), ("PUT", "/metrics/job/j1", "", {}),
    ]),
    ("empty POST changes nothing", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}), ("POST", "/metrics/job/j1", "", {}),
    ]),
    ("GET and PATCH on a group", [
        ("GET", "/metrics/job/j1", None, {}), ("PATCH", "/metrics/job/j1", "a 1\n", {}),
    ]),
    ("OPTIONS", [
        ("OPTIONS", "/metrics/job/j1", None, {}), ("OPTIONS", "/metrics", None, {}),
    ]),
    ("no final LF", [("PUT", "/metrics/job/j1", "a 1", {})]),
    ("no final LF after a good line", [("PUT", "/metrics/job/j1", "a 1\nb 2", {})]),
    ("blanks without final LF", [("PUT", "/metrics/job/j1", "a 1\n  ", {})]),
    ("comment without final LF", [("PUT", "/metrics/job/j1", "a 1\n# x", {})]),
    ("a timestamp", [("PUT", "/metrics/job/j1", "a 1 1700000000000\n", {})]),
    ("a timestamp over protobuf", [
        ("PUT", "/metrics/job/j1", family("a", COUNTER, COUNTED + field(6, 1700000000000)),
         {"Content-Type": PROTOBUF}),
    ]),
    ("an inconsistent push keeps what there was", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}),
        ("PUT", "/metrics/job/j1", "a 2 1700000000000\n", {}),
    ]),
    ("a parse error keeps what there was", [
        ("PUT", "/metrics/job/j1", "a 1\n", {}), ("PUT", "/metrics/job/j1", "a x\n", {}),
    ]),
    ("type differs from another group's", [
        ("PUT", "/metrics/job/j1", "# TYPE a counter\na 1\n", {}),
        ("PUT", "/metrics/job/j2", "# TYPE a gauge\na 1\n", {}),
    ]),
    ("type differs from the group's own", [
        ("PUT", "/metrics/job/j1", "# TYPE a counter\na 1\n", {}),
        ("POST", "/metrics/job/j1", "# TYPE a gauge\na 2\n", {}),
    ]),
    ("HELP differs from another group's", [
        ("PUT", "/metrics/job/j1", "# HELP a one\na 1\n", {}),
        ("PUT", "/metrics/job/j2", "# HELP a two\na 1\n", {}),
    ]),
    ("the same series twice", [("PUT", "/metrics/job/j1", "a 1\na 2\n", {})]),
    ("the same series in two groups", [
        ("PUT", "/metrics/job/j1/x/1", "a 1\n", {}),
        ("PUT", "/metrics/job/j1", 'a{x="1"} 2\n', {}),
    ]),
    ("two TYPE lines", [("PUT", "/metrics/job/j1", "# TYPE a gauge\n# TYPE a gauge\na 1\n", {})]),
    ("TYPE behind samples", [("PUT", "/metrics/job/j1", "a 1\n# TYPE a gauge\n", {})]),
    ("two HELP lines", [("PUT", "/metrics/job/j1", "# HELP a x\n# HELP a y\na 1\n", {})]),
    ("unknown type", [("PUT", "/metrics/job/j1", "# TYPE a info\na 1\n", {})]),
    ("type in capitals", [("PUT", "/metrics/job/j1", "# TYPE a COUNTER\na 1\n", {})]),
    ("a label equal to a grouping label", [
        ("PUT", "/metrics/job/j1/zone/eu", 'a{zone="us",job="x",b="c"} 1\n', {}),
    ]),
    ("the body's own instance", [("PUT", "/metrics/job/j1", 'a{instance="i"} 1\n', {})]),
    ("no job in the path", [("PUT", "/metrics/job", "a 1\n", {}), ("PUT", "/metrics", "a 1\n", {}),
                            ("PUT", "/metrics/jobs/x", "a 1\n", {})]),
    ("an empty job", [("PUT", "/metrics/job/", "a 1\n", {})]),
    ("an empty job, encoded", [("PUT", "/metrics/job@base64/=", "a 1\n", {})]),
    ("a job, encoded", [("PUT", f"/metrics/job@base64/{b64('a/b c')}", "a 1\n", {})]),
    ("a bad job, encoded", [("PUT", "/metrics/job@base64/!!", "a 1\n", {})]),
    ("empty label value at the end", [("PUT", "/metrics/job/j1/lab/", "a 1\n", {})]),
    ("empty label value, encoded", [("PUT", "/metrics/job/j1/lab@base64/=", "a 1\n", {})]),
    ("a slash, percent-encoded", [("PUT", "/metrics/job/j1/path/%2Fvar%2Ftmp", "a 1\n", {})]),
    ("a slash in the middle, percent-encoded", [
        ("PUT", "/metrics/job/j1/path/var%2Ftmp", "a 1\n", {}),
    ]),
    ("other characters, percent-encoded", [
        ("PUT", "/metrics/job/j%20%C3%A4/p/a%25b%22c", "a 1\n", {}),
    ]),
    ("dots in the path", [("PUT", "/metrics/job/j1/../j2", "a 1\n", {})]),
    ("a slash, base64url", [
        ("PUT", "/metrics/job/j1/path@base64/L3Zhci90bXA", "a 1\n", {}),
        ("PUT", "/metrics/job/j2/path@base64/L3Zhci90bXA=", "a 1\n", {}),
    ]),
    ("standard base64 with a slash", [("PUT", "/metrics/job/j1/path@base64/a/b=", "a 1\n", {})]),
    ("standard base64 with a plus", [("PUT", "/metrics/job/j1/path@base64/+++=", "a 1\n", {})]),
    ("bad base64", [("PUT", "/metrics/job/j1/path@base64/_", "a 1\n", {}),
                    ("PUT", "/metrics/job/j1/path@base64/a.b", "a 1\n", {})]),
    ("bad label names", [("PUT", "/metrics/job/j1/a-b/c", "a 1\n", {}),
                         ("PUT", "/metrics/job/j1/__x/c", "a 1\n", {})]),
    ("odd component count", [("PUT", "/metrics/job/j1/a", "a 1\n", {}),
                             ("DELETE", "/metrics/job/j1/a/b/c", None, {})]),
    ("histogram", [("PUT", "/metrics/job/j1", HISTOGRAM_TEXT % 'h_bucket{le="+Inf"} 4\n', {})]),
    ("histogram without +Inf", [("PUT", "/metrics/job/j1", HISTOGRAM_TEXT % "", {})]),
    ("histogram that goes down", [
        ("PUT", "/metrics/job/j1", '# TYPE h histogram\nh_bucket{le="1"} 5\nh_bucket{le="2"} 3\n'
         'h_bucket{le="+Inf"} 4\nh_sum 1\nh_count 4\n', {}),
    ]),
    ("histogram beside its sum", [
        ("PUT", "/metrics/job/j1", "# TYPE h_sum gauge\nh_sum 1\n", {}),
        ("PUT", "/metrics/job/j2", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\n", {}),
    ]),
    ("summary", [("PUT", "/metrics/job/j1", SUMMARY_TEXT, {})]),
    ("summary with a bucket beside it", [
        ("PUT", "/metrics/job/j1", SUMMARY_TEXT + "# TYPE s_bucket gauge\ns_bucket 1\n", {}),
    ]),
    ("NaN, Inf, negative counter", [
        ("PUT", "/metrics/job/j1",
         "# TYPE c counter\nc -3\n# TYPE g gauge\ng +Inf\nn NaN\nm -inf\nf 1e-300\n", {}),
    ]),
    ("no number", [("PUT", "/metrics/job/j1", "a 0x1p3\n", {}),
                   ("PUT", "/metrics/job/j1", "a 1_0\n", {}),
                   ("PUT", "/metrics/job/j1", "a 1e999\n", {}),
                   ("PUT", "/metrics/job/j1", "a\n", {}), ("PUT", "/metrics/job/j1", "a 1 \n", {})]),
    ("bad label sections", [
        ("PUT", "/metrics/job/j1", text + "\n", {})
        for text in ('a{b="c} 1', 'a{b=c} 1', 'a{="c"} 1', 'a{b="c"', 'a{b="c" d="e"} 1',
                     'a{b="\\x"} 1', 'a{__name__="b"} 1', 'a{b="c",b="d"} 1', '1a 1', 'a{b:c="d"} 1',
                     '# HELP a b\\t', 'a{__x="y"} 1')
    ]),
    ("odd but good", [
        ("PUT", "/metrics/job/j1", '\n  a{ b = "c" , } 1\n\t#\n#\n# HELP\n# TYPE x\n# any thing\n'
         'a:b{} 2\nd{e="\\\\\\"\\n"}3\n', {}),
    ]),
    ("invalid UTF-8", [("PUT", "/metrics/job/j1", b'a{b="\xff"} 1\n', {})]),
    ("push_time_seconds in the body", [
        ("PUT", "/metrics/job/j1", "# TYPE push_time_seconds counter\npush_time_seconds 1\na 1\n",
         {}),
    ]),
    ("types of content", [
        ("PUT", "/metrics/job/j1", "a 1\n", {"Content-Type": kind})
        for kind in ("", "application/json", "application/openmetrics-text", "a/b; c")
    ]),
    ("gzip", [("PUT", "/metrics/job/j1", gzip.compress(BODY.encode()),
               {"Content-Encoding": "gzip"})]),
    ("two gzip members", [
        ("PUT", "/metrics/job/j1", gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n"),
         {"Content-Encoding": "gzip"}),
    ]),
    ("no gzip at all", [("PUT", "/metrics/job/j1", "a 1\n", {"Content-Encoding": "gzip"})]),
    ("snappy is passed over", [("PUT", "/metrics/job/j1", "a 1\n",
                                {"Content-Encoding": "snappy"})]),
    ("protobuf", [
        ("PUT", "/metrics/job/j1",
         family("c", COUNTER, label("x", "y") + COUNTED, help_text="Of c.")
         + family("g", GAUGE, field(2, field(1, -2.0))) + family("u", UNTYPED, field(5, field(1, 1.5)))
         + family("s", SUMMARY, field(4, field(1, 4) + field(2, 8.0) + field(
             3, field(1, 0.5) + field(2, 1.0))))
         + family("h", HISTOGRAM, field(7, field(1, 4) + field(2, 8.0) + field(
             3, field(1, 3) + field(2, 1.0)))), {"Content-Type": PROTOBUF}),
    ]),
    ("protobuf, gzip'd", [
        ("PUT", "/metrics/job/j1", gzip.compress(family("c", COUNTER, COUNTED)),
         {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}),
    ]),
    ("protobuf without encoding", [
        ("PUT", "/metrics/job/j1", family("c", COUNTER, COUNTED),
         {"Content-Type": PROTOBUF.rsplit(";", 1)[0]}),
    ]),
    ("protobuf of another type than it says", [
        ("PUT", "/metrics/job/j1", family("c", GAUGE, COUNTED), {"Content-Type": PROTOBUF}),
    ]),
    ("truncated protobuf", [
        ("PUT", "/metrics/job/j1", family("c", COUNTER, COUNTED)[:-3], {"Content-Type": PROTOBUF}),
    ]),
    ("protobuf of noise", [
        ("PUT", "/metrics/job/j1", b"\x05hello", {"Content-Type": PROTOBUF}),
    ]),
    ("native histogram", [
        ("PUT", "/metrics/job/j1", family("h", HISTOGRAM, field(7, field(1, 3) + field(2, 9.0) +
         varint(5 << 3) + varint(6) + field(6, 2.938735877055719e-39) + field(7, 0) +
         field(12, varint(1 << 3) + varint(0) + field(2, 1)) + varint(13 << 3) + varint(6))),
         {"Content-Type": PROTOBUF}),
    ]),
]


def send(port, method, path, body, headers):
    if isinstance(body, str):
        body = body.encode()
    return http_request(port, path, method, headers, body)


@harness.needs("prometheus-pushgateway")
class DifferentialTest(unittest.TestCase):
    """Every row of what a Pushgateway answers."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway().__enter__()
        cls.addClassCleanup(cls.gateway.__exit__)
        cls.daemon = PushDaemon()
        cls.addClassCleanup(cls.daemon.close)

    def clear(self):
        """Deletes every group from both, by the labels of its push time."""
        for port in (self.gateway.port, self.daemon.push_port):
            for name, labels in groups(port):
                if name != "push_time_seconds":
                    continue
                job = dict(labels)["job"]
                path = "".join(
                    f"/{key}@base64/{b64(value) or '='}"
                    for key, value in labels
                    if key != "job" and (key, value) != ("instance", "")
                )
                http_request(port, f"/metrics/job@base64/{b64(job)}{path}", "DELETE")
            wait_for("groups gone", lambda port=port: not groups(port), 5, 0.01)

    def test_rows(self):
        for what, requests in ROWS:
            with self.subTest(what):
                for request in requests:
                    theirs = send(self.gateway.port, *request)
                    ours = send(self.daemon.push_port, *request)
                    self.assertEqual(ours.status, theirs.status, (request, theirs.body, ours.body))
                    if theirs.status in (301, 307):
                        self.assertEqual(ours.headers["location"], theirs.headers["location"])
                time.sleep(0.02)  # deletions are queued
                expected, actual = groups(self.gateway.port), groups(self.daemon.push_port)
                self.assertEqual(set(actual), set(expected))
                for key, value in expected.items():
                    if key[0] in TIMES:
                        self.assertEqual(actual[key] == 0, value == 0, key)
                        self.assertAlmostEqual(actual[key], value, delta=2)
                    else:
                        self.assertEqual(repr(actual[key]), repr(value), key)
                self.assertEqual(types(self.daemon.push_port), types(self.gateway.port))
                self.clear()

    def test_chunked_and_expect(self):
        for port in (self.gateway.port, self.daemon.push_port):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(
                    b"PUT /metrics/job/j1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                    b"Expect: 100-continue\r\n\r\n"
                )
                self.assertIn(b"100 Continue", connection.recv(4096))
                connection.sendall(b"2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n")
                self.assertIn(b"200 OK", connection.recv(4096))
        self.assertEqual(set(groups(self.daemon.push_port)), set(groups(self.gateway.port)))
        self.clear()


    def test_nothing_is_said_before_the_answer_in_http_1_0(self):
        for port in (self.gateway.port, self.daemon.push_port):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"PUT /metrics/job/j1 HTTP/1.0\r\nExpect: 100-continue\r\n"
                                   b"Content-Length: 4\r\n\r\n")
                time.sleep(0.1)
                connection.sendall(b"a 1\n")
                self.assertRegex(connection.recv(4096), b"^HTTP/1.. 200 ")
        self.clear()


class PushListenerTest(unittest.TestCase):
    """What is ours: bounds, the whole exposition, adding up, time to live."""

    def push(self, daemon, body, path="/metrics/job/j1", method="PUT", headers=None):
        return send(daemon.push_port, method, path, body, headers or {})

    def test_off_by_default(self):
        with Daemon() as daemon:
            self.assertNotIn("push=", harness.READY.search(daemon.log()).group())
            self.assertEqual(daemon.get("/metrics/job/j1", method="PUT", body=b"a 1\n").status, 404)

    def test_shown_in_every_format_beside_the_aggregates(self):
        with PushDaemon() as daemon:
            daemon.send_udp("from_statsd:3|c")
            daemon.settle(received=1)
            self.assertEqual(self.push(daemon, BODY + SUMMARY_TEXT + HISTOGRAM_TEXT % "").status, 200)
            for accept in (harness.TEXT, harness.OPENMETRICS):
                for coding in ("", "gzip"):
                    answer = daemon.get("/metrics", accept=accept,
                                        headers={"Accept-Encoding": coding})
                    scrape = exposition.parse(answer.body, "openmetrics" in answer.content_type)
                    self.assertEqual(scrape.value("c", a="y", job="j1", instance=""), 2)
                    self.assertEqual(scrape.value("u", job="j1", instance=""), 7)
                    self.assertEqual(scrape.value("from_statsd"), 3)
                    self.assertEqual(
                        scrape.value("h_bucket", le="1e+06", job="j1", instance=""), 3)
            protobuf = daemon.get("/metrics", accept=PROTOBUF).body
            metric = label("instance", "") + label("job", "j1") + field(5, field(1, 7.0))
            # Without the length before it, which we pad.
            self.assertIn(family("u", UNTYPED, metric)[1:], protobuf)
            own = daemon.scrape(path="/-/metrics")
            self.assertEqual(own.value("tallyd_pushed_groups"), 1)
            self.assertEqual(own.value("tallyd_pushed_requests_total", result="accepted"), 1)

    def test_aggregates_and_own_names_win(self):
        with PushDaemon() as daemon:
            daemon.send_udp("mine:3|c\nh:1|ms")
            daemon.settle(received=2)
            for body in ("mine 1\n", "tallyd_x 1\n", "process_x 1\n", "h_sum 1\n",
                         "# TYPE mine gauge\nmine 1\n"):
                answer = self.push(daemon, body)
                self.assertEqual(answer.status, 400, body)
                self.assertIn(b"pushed metrics are invalid or inconsistent", answer.body)
            self.assertEqual(self.push(daemon, "later 1\n").status, 200)
            daemon.send_udp("later:5|c")
            daemon.settle(received=3)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("later"), 5)
            self.assertEqual(
                daemon.scrape(path="/-/metrics").value("tallyd_pushed_hidden_families"), 1)
            self.assertEqual(
                scrape.value("push_failure_time_seconds", job="j1", instance="") > 0, True)

    def test_a_cut_body_is_refused(self):
        """A Pushgateway takes what it could decompress for the whole."""
        with PushDaemon() as daemon:
            cut = gzip.compress(BODY.encode())[:-9]
            answer = self.push(daemon, cut, headers={"Content-Encoding": "gzip"})
            self.assertEqual((answer.status, groups(daemon.push_port)), (400, {}))

    def test_a_body_without_a_certain_end_changes_nothing(self):
        with PushDaemon() as daemon:
            self.assertEqual(self.push(daemon, "a 1\n").status, 200)
            with socket.create_connection(("127.0.0.1", daemon.push_port), 5) as connection:
                connection.sendall(b"PUT /metrics/job/j1 HTTP/1.1\r\nHost: x\r\n"
                                   b"Transfer-Encoding: chunked, identity\r\n\r\n"
                                   b"4\r\nb 1\n\r\n0\r\n\r\n")
                answers = b""
                while part := connection.recv(4096):
                    answers += part
            self.assertEqual(answers.count(b"HTTP/1.1 "), 1)
            self.assertTrue(answers.startswith(b"HTTP/1.1 400 "), answers)
            self.assertIn(("a", (("instance", ""), ("job", "j1"))), groups(daemon.push_port))

    def test_bounds(self):
        with PushDaemon("--push.max-body-bytes=2000", "--push.max-groups=2",
                        "--push.max-group-series=6", "--push.max-series=9") as daemon:
            self.assertEqual(self.push(daemon, "a 1\n" + "#" * 2000 + "\n").status, 413)
            bomb = gzip.compress(b"#" * 100000 + b"\n")
            self.assertEqual(
                self.push(daemon, bomb, headers={"Content-Encoding": "gzip"}).status, 413)
            self.assertEqual(self.push(daemon, "".join(f"a{i} 1\n" for i in range(7))).status, 413)
            self.assertEqual(self.push(daemon, "a 1\n", "/metrics/job/1").status, 200)
            self.assertEqual(self.push(daemon, "a 1\nb 2\n", "/metrics/job/2").status, 200)
            self.assertEqual(self.push(daemon, "a 1\n", "/metrics/job/3").status, 429)
            # Each group has two series of its own beside what is pushed: 3 and 4 so far.
            self.assertEqual(self.push(daemon, "a 1\nb 1\nc 1\n", "/metrics/job/1").status, 200)
            self.assertEqual(self.push(daemon, "a 1\nb 1\nc 1\n", "/metrics/job/2").status, 429)
            own = daemon.scrape(path="/-/metrics")
            results = own.by_label("tallyd_pushed_requests_total", "result")
            # A body that is announced as too long is never read, and so is no push.
            self.assertEqual(results["too_large"], 2)
            self.assertEqual(results["no_room"], 2)
            self.assertEqual(results["accepted"], 3)

    def test_slow_bodies_are_cut_off_and_disturb_nobody(self):
        with PushDaemon("--push.max-body-bytes=1000000") as daemon:
            slow = []

            def begin(body, length="Content-Length: 900000"):
                connection = socket.create_connection(("127.0.0.1", daemon.push_port), 5)
                connection.sendall(f"PUT /metrics/job/j HTTP/1.1\r\nHost: x\r\n{length}"
                                   f"\r\n\r\n{body}".encode())
                slow.append(connection)

            for _ in range(6):
                begin("a 1\n")
                begin("4\r\na 1\n\r\n", "Transfer-Encoding: chunked")
            time.sleep(0.1)
            # What was only announced takes no room.
            self.assertEqual(self.push(daemon, "a 1\n" + "#" * 900000 + "\n").status, 200)

            def is_full():
                if self.push(daemon, "#" * 400000 + "\n").status == 503:
                    return True
                # One of them may have found none itself, as the push before it was not done yet.
                with contextlib.suppress(OSError):
                    begin("#" * 850000)
                return False

            for _ in range(3):
                begin("#" * 850000)
            # What has come in does: a large one is asked to come back, and others go on.
            wait_for("no room", is_full)
            self.assertEqual(self.push(daemon, "a 1\n" + "#" * 50000 + "\n").status, 200)
            refused = daemon.scrape(path="/-/metrics").by_label(
                "tallyd_refused_http_clients_total", "reason")
            self.assertGreaterEqual(refused["busy"], 1)
            for connection in slow:
                connection.close()
            wait_for("room", lambda: self.push(daemon, "a 1\n" + "#" * 900000 + "\n").status == 200)

    def test_adding_up(self):
        path = "/aggregate/metrics/job/j1"
        text = ("# TYPE c counter\nc{a=\"x\"} 2\n# TYPE g gauge\ng %d\n# TYPE h histogram\n"
                'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 3\nh_sum 4\nh_count 3\n')
        with PushDaemon() as daemon:
            for value in (1, 2, 3):
                self.assertEqual(self.push(daemon, text % value, path, "POST").status, 200)
            self.assertEqual(self.push(daemon, "# TYPE c counter\nc{a=\"y\"} 1\n", path).status, 200)
            found = {(name, dict(labels).get("le"), dict(labels).get("a")): value
                     for (name, labels), value in groups(daemon.push_port).items()}
            self.assertEqual(found[("c", None, "x")], 6)
            self.assertEqual(found[("c", None, "y")], 1)
            self.assertEqual(found[("g", None, None)], 3)
            self.assertEqual(found[("h_bucket", "1", None)], 3)
            self.assertEqual(found[("h_bucket", "+Inf", None)], 9)
            self.assertEqual(found[("h_sum", None, None)], 12)
            self.assertEqual(found[("h_count", None, None)], 9)
            other = '# TYPE h histogram\nh_bucket{le="2"} 1\nh_sum 4\nh_count 3\n'
            answer = self.push(daemon, other, path, "POST")
            self.assertEqual((answer.status, b"other buckets" in answer.body), (400, True))

    def test_time_to_live(self):
        with PushDaemon("--push.group-ttl=1s") as daemon:
            self.push(daemon, "a 1\n")
            self.push(daemon, "a 1\n", "/metrics/job/j2")
            end = time.monotonic() + 1.6
            while time.monotonic() < end:
                self.push(daemon, "a 2\n", "/metrics/job/j2")
                time.sleep(0.1)
            jobs = {dict(labels)["job"] for _, labels in groups(daemon.push_port)}
            self.assertEqual(jobs, {"j2"})
            wait_for("all gone", lambda: not groups(daemon.push_port), 5)
            own = daemon.scrape(path="/-/metrics")
            self.assertEqual(own.value("tallyd_pushed_expired_groups_total"), 2)

    def test_a_client_library(self):
        try:
            import prometheus_client as client  # pylint: disable=import-outside-toplevel
        except ImportError:
            self.skipTest("needs python3-prometheus-client")
        with PushDaemon() as daemon:
            registry = client.CollectorRegistry()
            client.Counter("done", "Of jobs.", registry=registry).inc(4)
            client.Histogram("took", "Of jobs.", registry=registry).observe(0.3)
            gateway = f"127.0.0.1:{daemon.push_port}"
            client.push_to_gateway(gateway, "a/b", registry, {"zone": "eu/1"})
            client.pushadd_to_gateway(f"http://{gateway}/aggregate", "sum", registry)
            client.pushadd_to_gateway(f"http://{gateway}/aggregate", "sum", registry)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("done_total", job="a/b", instance="", zone="eu/1"), 4)
            self.assertEqual(scrape.value("done_total", job="sum", instance=""), 8)
            client.delete_from_gateway(gateway, "a/b", {"zone": "eu/1"})
            wait_for("deleted", lambda: "a/b" not in {
                dict(labels)["job"] for _, labels in groups(daemon.push_port)})


CATALOG = """
service: shop
metrics:
- name: shop_orders_total
  type: counter
  help: Orders.
- name: shop_wait_seconds
  type: histogram
  help: Waiting.
  buckets: [1]
"""
OTHER = "- {name: shop_users, type: set, help: Users.}\n"


class DeclaredTest(unittest.TestCase):
    """Families that a catalog declares are tallyd's own, also before anybody sends them."""

    def test_declared_families_are_refused(self):
        with harness.scratch() as directory:
            catalog = directory / "catalog.yaml"
            catalog.write_text(CATALOG.split("- name")[0] + OTHER)
            with PushDaemon(f"--catalog.file={catalog}") as daemon:
                def push(body):
                    return http_request(daemon.push_port, "/metrics/job/j", "POST",
                                        body=body.encode())

                self.assertEqual(push("shop_orders_total 7\nfree 1\n").status, 200)
                catalog.write_text(CATALOG)
                os.kill(daemon.pid, signal.SIGHUP)
                # The declared series is there from the start, and alone.
                wait_for("the reload", lambda: ("shop_orders_total", ()) in daemon.scrape().samples)
                scrape = daemon.scrape()
                self.assertEqual(scrape.total("shop_orders_total"), 0)
                self.assertEqual(scrape.total("free"), 1)
                own = daemon.scrape(path="/-/metrics")
                self.assertEqual(own.value("tallyd_pushed_hidden_families"), 1)
                for body in ("# TYPE shop_orders_total counter\nshop_orders_total 1\n",
                             "shop_wait_seconds_sum 1\n", "shop_orders 1\n"):
                    answer = push(body)
                    self.assertEqual(answer.status, 400, body)
                    self.assertIn(b"which the catalog of shop declares", answer.body)


if __name__ == "__main__":
    unittest.main()
