"""What tallyd sends by remote write, what it makes of answers, and how targets are configured."""

import re
import time
import unittest

from harness import SLOWNESS, Daemon, run_tallyd, wait_for
from receivers import ScriptedReceiver, config
from remote_write_case import RemoteWriteCase, emit


def unsnappy(block):
    """A snappy block as its bytes; of the format's description."""
    size, at, shift = 0, 0, 0
    while True:
        byte = block[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    out = bytearray()
    while at < len(block):
        tag = block[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(block[at:at + extra], "little")
                at += extra
            out += block[at:at + length + 1]
            at += length + 1
            continue
        if kind == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at]
            at += 1
        else:
            length = (tag >> 2) + 1
            width = 2 if kind == 2 else 4
            offset = int.from_bytes(block[at:at + width], "little")
            at += width
        for _ in range(length):
            out.append(out[-offset])
    assert len(out) == size
    return bytes(out)


class ScriptedTest(RemoteWriteCase):
    def test_headers(self):
        receiver = self.enterContext(ScriptedReceiver())
        self.tallyd({"url": receiver.url(), "headers": {"X-Scope-OrgID": "team"}})
        wait_for("requests", lambda: len(receiver.requests) > 3)
        for path, headers, _ in receiver.requests:
            self.assertEqual(path, "/api/v1/write")
            self.assertEqual(headers["Content-Type"], "application/x-protobuf")
            self.assertEqual(headers["Content-Encoding"], "snappy")
            self.assertEqual(headers["X-Prometheus-Remote-Write-Version"], "0.1.0")
            self.assertEqual(headers["X-Scope-OrgID"], "team")
            self.assertRegex(headers["User-Agent"], r"^tallyd/[0-9]+\.[0-9]+")

    def test_waits_as_long_as_it_is_asked_to(self):
        receiver = self.enterContext(ScriptedReceiver(lambda _: (429, {"Retry-After": "3"})))
        daemon = self.tallyd({"url": receiver.url()})
        wait_for("a request", lambda: receiver.requests)
        time.sleep(2.5)
        self.assertEqual(len(receiver.requests), 1)
        receiver.answer = lambda _: 204
        wait_for("success", lambda: self.push(
            daemon, "tallyd_push_last_success_timestamp_seconds") > 0)

    def test_a_redirect_is_no_success(self):
        other = self.enterContext(ScriptedReceiver())
        receiver = self.enterContext(ScriptedReceiver(lambda _: (301, {"Location": other.url()})))
        daemon = self.tallyd({"url": receiver.url()})
        wait_for("the refusal", lambda: "refused: status 301" in daemon.get(
            "/-/ready").body.decode())
        self.assertEqual(other.requests, [])

    def test_a_batch_that_fails_for_ever_is_bisected(self):
        """A series whose name is in the body makes a 500; all else is taken."""
        names = [b"fam%d:1|c" % i for i in range(400)]
        poison = b"fam123"
        taken = set()

        def answer(request):
            families = set(re.findall(rb"fam\d+", unsnappy(request[2])))
            if poison in families:
                return 500
            taken.update(families)
            return 204

        receiver = self.enterContext(ScriptedReceiver(answer))
        daemon = self.tallyd({"url": receiver.url(), "interval": "5s"})
        daemon.send_udp(*names)
        wait_for("the culprit", lambda: self.push(
            daemon, "tallyd_push_dropped_total", reason="rejected") > 0, 20)
        wait_for("all others", lambda: len(taken) >= 399, 20)
        daemon.logged("fam123")
        self.assert_account(daemon)

    def test_a_dead_target_costs_neither_samples_nor_memory(self):
        daemon = self.tallyd({"url": "http://127.0.0.1:1/api/v1/write", "interval": "200ms"},
                             flags=("--push.exit-timeout=1s",))
        lines = [b"series%d:1|c" % i for i in range(2_000)]
        emit(daemon, lines)
        time.sleep(0.5)
        before = daemon.status_kib("VmRSS")
        for _ in range(8):
            emit(daemon, lines)
            time.sleep(0.2)
        self.assertLess(daemon.status_kib("VmRSS"), before * 1.1 + 4_096)
        self.assertGreater(self.push(daemon, "tallyd_push_failures_total", cause="connect"), 3)
        self.assert_account(daemon)
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - began, 4 * SLOWNESS)

    def test_version_2_where_it_is_known(self):
        """Such a receiver says what it wrote. It is sent 2.0 on and on."""
        def answer(request):
            if "write.v2" not in request[1]["Content-Type"]:
                return 204
            return 204, {"X-Prometheus-Remote-Write-Samples-Written": "100000",
                         "X-Prometheus-Remote-Write-Histograms-Written": "0",
                         "X-Prometheus-Remote-Write-Exemplars-Written": "0"}

        receiver = self.enterContext(ScriptedReceiver(answer))
        daemon = self.tallyd({"url": receiver.url(), "protocol": "2.0"})
        wait_for("requests", lambda: len(receiver.requests) > 6)
        versions = [headers["X-Prometheus-Remote-Write-Version"]
                    for _, headers, body in receiver.requests if len(body) > 1]
        self.assertEqual(set(versions), {"2.0.0"})
        self.assertGreater(self.push(daemon, "tallyd_push_stored_series_total"), 0)


class ConfigTest(RemoteWriteCase):
    def refused(self, *targets):
        code, _, error = run_tallyd("--check-config", config(self.directory, *targets))
        self.assertEqual(code, 2)
        return error

    def test_each_slip_is_named(self):
        url = "http://127.0.0.1:9090/api/v1/write"
        error = self.refused(
            {"url": "http://127.0.0.1:9090"},
            {"url": url, "protocol": "3.0"},
            {"url": url, "histograms": "all"},
            {"url": url, "external_labels": {"le": "1"}},
            {"url": url, "headers": {"Content-Type": "x"}},
            {"url": url, "on_exit": "delete"},
            {"url": url, "maxage": "5m"},
            {"interval": "5s"})
        for slip in ("has no path", "not 1.0 or 2.0", "not classic or native or both",
                     "external_labels.le", "headers.Content-Type", "not stale or keep",
                     "did you mean max_age?", "has no url"):
            self.assertIn(slip, error)

    def test_two_targets_of_one_name(self):
        url = "http://127.0.0.1:9090/api/v1/write"
        self.assertIn("two targets", self.refused({"url": url}, {"url": url}))

    def test_the_flag(self):
        receiver = self.enterContext(ScriptedReceiver())
        self.enterContext(Daemon(f"--push.remote-write-url={receiver.url()}",
                                 "--push.interval=500ms"))
        wait_for("a request", lambda: receiver.requests)

    def test_the_report(self):
        code, report, _ = run_tallyd("--check-config", config(
            self.directory, {"url": "http://127.0.0.1:9090/api/v1/write", "name": "main"}))
        self.assertEqual(code, 0)
        self.assertIn("remote write", report)


if __name__ == "__main__":
    unittest.main()
