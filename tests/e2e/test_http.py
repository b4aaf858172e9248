"""The HTTP side: formats, negotiation, limits, and what the control paths allow."""

import gzip
import socket
import subprocess
import time
import unittest

import exposition
from harness import (OPENMETRICS, PROMETHEUS_ACCEPT, SLOWNESS, TEXT, Daemon, needs, wait_for)


class ScrapeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--web.enable-lifecycle")
        cls.daemon.send_udp(
            "orders_total:3|c|#site:shop", "depth:2.5|g", "took:120|ms|#site:shop", "odd:1|c",
            'quoted:1|g|#v:a"b\\c',
        )
        cls.daemon.settle(received=5)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.close()

    def test_text_by_default(self):
        for accept in (None, "*/*", "text/plain", "text/html", TEXT, "", ";;;,q=,"):
            with self.subTest(accept):
                answer = self.daemon.get("/metrics", accept=accept)
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.content_type, "text/plain; version=0.0.4; charset=utf-8")
                exposition.parse(answer.body, openmetrics=False)

    def test_openmetrics_when_asked(self):
        for accept in (OPENMETRICS, PROMETHEUS_ACCEPT, "application/openmetrics-text"):
            with self.subTest(accept):
                answer = self.daemon.get("/metrics", accept=accept)
                self.assertEqual(
                    answer.content_type,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                )
                exposition.parse(answer.body, openmetrics=True)

    def test_quality_decides(self):
        answer = self.daemon.get(
            "/metrics", accept="application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.7")
        self.assertTrue(answer.content_type.startswith("text/plain"))
        answer = self.daemon.get(
            "/metrics", accept="application/openmetrics-text;version=1.0.0;q=0,*/*;q=0.1")
        self.assertTrue(answer.content_type.startswith("text/plain"))

    def test_both_formats_show_the_same_samples(self):
        text = self.daemon.scrape(TEXT).user_samples()
        openmetrics = self.daemon.scrape(OPENMETRICS).user_samples()
        self.assertEqual(text, openmetrics)
        self.assertEqual(text[("orders_total", (("site", "shop"),))], 3)
        self.assertEqual(text[("quoted", (("v", 'a"b\\c'),))], 1)

    def test_types_and_helps(self):
        text = self.daemon.scrape(TEXT).families
        openmetrics = self.daemon.scrape(OPENMETRICS).families
        kinds = {"orders_total": "counter", "odd": "counter", "depth": "gauge", "took": "histogram"}
        for name, kind in kinds.items():
            self.assertEqual(text[name].type, kind)
            self.assertIsNotNone(text[name].help)
        self.assertEqual(openmetrics["orders"].type, "counter")
        self.assertEqual(openmetrics["odd"].type, "unknown")

    def test_families_are_sorted(self):
        for accept in (TEXT, OPENMETRICS):
            families = list(self.daemon.scrape(accept).families)
            names = [name for name in families]
            self.assertEqual(names, sorted(names), accept)

    def test_gzip_when_asked(self):
        for headers, zipped in (({"Accept-Encoding": "gzip"}, True),
                                ({"Accept-Encoding": "deflate, gzip;q=0.5"}, True),
                                ({"Accept-Encoding": "gzip;q=0"}, False),
                                ({"Accept-Encoding": "identity"}, False),
                                ({}, False)):
            with self.subTest(headers):
                answer = self.daemon.get("/metrics", headers=headers)
                self.assertEqual(answer.headers.get("content-encoding") == "gzip", zipped)
                exposition.parse(answer.body, openmetrics=False)

    def test_gzip_is_one_stream_to_everybody(self):
        answer = self.daemon.get("/metrics", headers={"Accept-Encoding": "gzip"})
        self.assertEqual(gzip.decompress(answer.raw_body), answer.body)
        self.assertIn(b"tallyd_build_info", answer.body)
        self.assertIn(b"orders_total", answer.body)

    def test_head(self):
        answer = self.daemon.get("/metrics", method="HEAD")
        self.assertEqual((answer.status, answer.raw_body), (200, b""))
        self.assertTrue(answer.content_type.startswith("text/plain"))

    def test_paths(self):
        for path, status in (("/", 200), ("/metrics", 200), ("/-/metrics", 200),
                             ("/-/healthy", 200), ("/-/ready", 200), ("/nowhere", 404),
                             ("/metrics/", 404), ("/metrics?x=y", 200), ("/../etc/passwd", 404)):
            with self.subTest(path):
                self.assertEqual(self.daemon.get(path).status, status)

    def test_methods(self):
        for method, path, status in (("POST", "/metrics", 405), ("DELETE", "/metrics", 405),
                                     ("GET", "/-/quit", 405), ("GET", "/-/reload", 405),
                                     ("POST", "/-/healthy", 405)):
            with self.subTest(f"{method} {path}"):
                answer = self.daemon.get(path, method=method)
                self.assertEqual(answer.status, status)
                self.assertTrue(answer.headers.get("allow"), "405 says what is allowed")

    def test_own_metrics_alone(self):
        samples = self.daemon.scrape(path="/-/metrics").samples
        self.assertTrue(samples)
        for name, _ in samples:
            self.assertTrue(name.startswith(("tallyd_", "process_")), name)

    def test_every_reason_is_there_from_the_start(self):
        with Daemon() as fresh:
            scrape = fresh.scrape(path="/-/metrics")
            dropped = scrape.by_label("tallyd_dropped_samples_total", "reason")
            for reason in ("malformed_line", "malformed_sample", "bad_value", "bad_type",
                           "bad_packing", "bad_container_id", "negative_counter", "empty_name",
                           "type_conflict", "bad_label", "bad_event", "too_long",
                           "mixed_tag_dialects", "name_too_long", "too_many_tags",
                           "labels_too_long", "mapping_drop"):
                self.assertEqual(dropped.get(reason), 0, reason)
            repaired = scrape.by_label("tallyd_repaired_total", "reason")
            for reason in ("bad_tag", "bad_sample_rate", "unknown_section", "overridden_label"):
                self.assertEqual(repaired.get(reason), 0, reason)

    def test_the_names_of_the_contract(self):
        scrape = self.daemon.scrape(path="/-/metrics")
        names = {name for name, _ in scrape.samples}
        for name in ("received_datagrams_total", "received_bytes_total", "received_samples_total",
                     "applied_samples_total", "dropped_samples_total", "repaired_total",
                     "folded_samples_total", "kernel_dropped_datagrams_total",
                     "truncated_datagrams_total", "series", "series_limit", "snapshot_age_seconds",
                     "config_last_reload_successful", "build_info"):
            self.assertIn("tallyd_" + name, names)
        for name in ("tallyd_merge_duration_seconds", "tallyd_scrape_duration_seconds"):
            self.assertTrue(any(other.startswith(name) for other in names), name)
        for name in ("process_cpu_seconds_total", "process_resident_memory_bytes",
                     "process_open_fds", "process_start_time_seconds"):
            self.assertIn(name, names)

    @needs("promtool")
    def test_promtool_finds_nothing_in_the_own_metrics(self):
        body = self.daemon.get("/-/metrics").body
        done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                              timeout=30, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))

    @needs("promtool")
    def test_promtool_reads_the_whole_scrape(self):
        body = self.daemon.get("/metrics").body
        done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                              timeout=30, check=False)
        # 3: style (a sender's counter without "_total"); 1 would be a parse error.
        self.assertIn(done.returncode, (0, 3), done.stderr)

    def test_a_scrape_is_at_most_a_moment_old(self):
        for value in range(1, 6):
            self.daemon.send_udp(f"fresh:{value}|g")
            time.sleep(0.05)
            wait_for("the value", lambda v=value: self.daemon.scrape().value("fresh") == v, 2)

    def test_keep_alive(self):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port("http"), timeout=5)
        for _ in range(3):
            connection.request("GET", "/-/healthy")
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200)
        connection.close()


class RawHttpTest(unittest.TestCase):
    """What no client library would send."""

    def exchange(self, daemon, request, seconds=15):
        with socket.create_connection(("127.0.0.1", daemon.port("http")), 5) as connection:
            connection.settimeout(seconds * SLOWNESS)
            try:
                connection.sendall(request)
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
                return answer
            except ConnectionError:
                return b""

    def test_rubbish(self):
        with Daemon() as daemon:
            for request in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n",
                            b"GET " + b"/x" * 100_000 + b" HTTP/1.1\r\n\r\n",
                            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50_000 + b"\r\n"):
                answer = self.exchange(daemon, request)
                if answer:
                    self.assertRegex(answer.split(b"\r\n")[0], rb"HTTP/1\.[01] [45]\d\d ")
                self.assertEqual(daemon.get("/-/healthy").status, 200)

    def test_http_1_0(self):
        with Daemon() as daemon:
            answer = self.exchange(daemon, b"GET /metrics HTTP/1.0\r\n\r\n")
            self.assertIn(b" 200 ", answer.split(b"\r\n")[0])
            self.assertIn(b"tallyd_build_info", answer)

    def test_a_client_that_never_ends_its_header_is_hung_up_on(self):
        with Daemon() as daemon:
            start = time.monotonic()
            answer = self.exchange(daemon, b"GET /metrics HTTP/1.1\r\nHost:", seconds=40)
            self.assertLess(time.monotonic() - start, 35 * SLOWNESS)
            self.assertNotIn(b" 200 ", answer[:20])


class LimitTest(unittest.TestCase):
    def test_more_than_max_requests_are_told_to_come_back(self):
        # Requests that are being answered are held open by not reading a large scrape.
        with Daemon("--web.max-requests=2", "--statsd.read-buffer=8388608") as daemon:
            value = "v" * 900
            for first in range(0, 30_000, 60):
                daemon.send_udp("\n".join(f"wide{i}:1|c|#t:{value}" for i in range(first, first + 60)))
            daemon.settle(received=30_000)
            slow = []
            for _ in range(2):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", daemon.port("http")))
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                slow.append(connection)

            def refused():
                answer = daemon.get("/metrics", timeout=20)
                return answer if answer.status == 503 else None

            answer = wait_for("503", refused, 20)
            self.assertTrue(answer.headers.get("retry-after"))
            self.assertEqual(daemon.get("/-/healthy").status, 200, "health is not limited")
            for connection in slow:
                connection.close()
            wait_for("200", lambda: daemon.get("/metrics").status == 200, 20)

    def test_a_slow_reader_holds_up_nobody(self):
        with Daemon() as daemon:
            slow = [socket.create_connection(("127.0.0.1", daemon.port("http")), 5)
                    for _ in range(10)]
            for connection in slow:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            start = time.monotonic()
            for _ in range(20):
                daemon.scrape()
            self.assertLess(time.monotonic() - start, 5 * SLOWNESS)
            for connection in slow:
                connection.close()


class LifecycleTest(unittest.TestCase):
    def test_off_by_default(self):
        with Daemon() as daemon:
            for path in ("/-/quit", "/-/reload"):
                for method in ("POST", "PUT"):
                    self.assertEqual(daemon.get(path, method=method).status, 403)
            self.assertTrue(daemon.process.running())

    def test_quit(self):
        for method in ("POST", "PUT"):
            with self.subTest(method), Daemon("--web.enable-lifecycle") as daemon:
                self.assertEqual(daemon.get("/-/quit", method=method).status, 200)
                self.assertEqual(daemon.process.wait(), 0)

    def test_reload(self):
        with Daemon("--web.enable-lifecycle") as daemon:
            self.assertEqual(daemon.get("/-/reload", method="POST").status, 200)
            self.assertEqual(daemon.scrape().value("tallyd_config_last_reload_successful"), 1)

    def test_another_telemetry_path(self):
        with Daemon("--web.telemetry-path=/stats") as daemon:
            self.assertEqual(daemon.get("/stats").status, 200)
            self.assertEqual(daemon.get("/metrics").status, 404)

    def test_ipv6(self):
        with Daemon(web="[::1]:0") as daemon:
            self.assertTrue(daemon.addresses["http"][0].startswith("[::1]:"))
            self.assertEqual(daemon.get("/-/healthy").status, 200)


if __name__ == "__main__":
    unittest.main()
