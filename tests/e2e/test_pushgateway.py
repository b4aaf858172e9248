"""tallyd pushes to Debian's Pushgateway, and to servers that behave badly."""

import contextlib
import json
import pathlib
import tempfile
import time
import unittest

import exposition
from bad_server import BadServer, Certificates
from harness import (Daemon, Process, Prometheus, free_port, http_request, needs, run_tallyd,
                     scratch, wait_for)

LINES = b"app.requests:3|c|#site:shop,instance:theirs,job:q\napp.took:120|ms\napp.depth:4.5|g\n"


class Pushgateway:
    """Debian's Pushgateway, which keeps nothing on the disk."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self._log = tempfile.NamedTemporaryFile(prefix="tallyd-e2e-pushgateway-")
        self.start()

        def ready():
            with contextlib.suppress(OSError):
                return http_request(self.port, "/-/ready").status == 200
            return False

        try:
            wait_for("the Pushgateway", ready, 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self._log.close()

    def start(self):
        self.process = Process(
            ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{self.port}",
             "--persistence.file="], self._log.name)

    def put(self, path, text):
        return http_request(self.port, path, "PUT", body=text.encode()).status

    def samples(self, **labels):
        """{(name, labels): value} of the series with all these labels."""
        answer = http_request(self.port, "/metrics")
        wanted = set(labels.items())
        own = ("push_time_seconds", "push_failure_time_seconds")
        return {(name, key): value
                for (name, key), value in exposition.parse(answer.body, False).samples.items()
                if wanted <= set(key) and name not in own}


def config(directory, targets, limit=50_000, **push):
    # JSON is YAML.
    path = pathlib.Path(directory) / "tallyd.yaml"
    path.write_text(json.dumps({"series": {"limit": limit}, "push": {"pushgateway": targets, **push}}))
    return f"--config.file={path}"


def with_group(samples, **group):
    """What a push makes of a scrape's series."""
    pushed = {}
    for (name, labels), value in samples.items():
        renamed = {("exported_" + key if key in group else key): text for key, text in labels}
        pushed[(name, tuple(sorted({**renamed, **group}.items())))] = value
    return pushed


def push_metric(daemon, name, **labels):
    scrape = daemon.scrape(path="/-/metrics")
    wanted = set(labels.items())
    return sum(value for (metric, key), value in scrape.samples.items()
               if metric == name and wanted <= set(key))


@needs("prometheus-pushgateway")
class PushgatewayTest(unittest.TestCase):
    def test_every_series_arrives_as_it_is_and_prometheus_reads_it(self):
        group = {"job": "a/b", "instance": "host 1", "path": "/var/tmp", "empty": "", "utf": "ü☃"}
        grouping = {key: value for key, value in group.items() if key != "job"}
        with scratch() as directory, Pushgateway() as gateway:
            target = {"url": gateway.url, "job": "a/b", "grouping": grouping, "interval": "500ms"}
            with Daemon(config(directory, [target])) as daemon, \
                    Prometheus({"gateway": gateway.port}) as prometheus:
                daemon.send_udp(LINES)
                daemon.settle(received=3)
                shown = {key: value for key, value in daemon.scrape().user_samples().items()}
                expected = with_group(shown, **group)
                wait_for("all series at the gateway",
                         lambda: gateway.samples(job="a/b") == expected, 10)

                def scraped():
                    rows = prometheus.query('{job="a/b",__name__=~"app.*"}')
                    return {(labels["__name__"], tuple(sorted(
                        (key, text) for key, text in labels.items() if key != "__name__"))): value
                            for labels, value in rows}

                # Prometheus has no empty labels, as a gateway does.
                without_empty = {(name, tuple(label for label in labels if label[1])): value
                                 for (name, labels), value in expected.items()}
                wait_for("all series at Prometheus", lambda: scraped() == without_empty, 20)
                self.assertEqual(daemon.stop(), 0)
            self.assertEqual(gateway.samples(job="a/b"), expected, "kept on exit")

    def test_the_last_push_has_everything_and_the_group_stays_or_goes(self):
        with scratch() as directory, Pushgateway() as gateway:
            targets = [{"url": gateway.url, "name": name, "job": name, "interval": "1h",
                        "on_exit": name, "grouping": {"instance": "i"}}
                       for name in ("keep", "delete")]
            with Daemon(config(directory, targets)) as daemon:
                wait_for("the first pushes", lambda: push_metric(
                    daemon, "tallyd_push_successes_total") >= 2)
                daemon.send_udp(b"late:7|c")
                daemon.settle(received=1)
                self.assertEqual(gateway.samples(job="delete"), {})
                self.assertEqual(daemon.stop(), 0)
            labels = (("instance", "i"), ("job", "keep"))
            self.assertEqual(gateway.samples(job="keep"), {("late", labels): 7})
            wait_for("the group to be gone", lambda: b'job="delete"' not in http_request(
                gateway.port, "/metrics").body)

    def test_an_inconsistent_family_is_left_out_and_the_rest_arrives(self):
        with scratch() as directory, Pushgateway() as gateway:
            self.assertEqual(
                gateway.put("/metrics/job/other", "# TYPE app_depth counter\napp_depth 1\n"), 200)
            target = {"url": gateway.url, "name": "gw", "job": "ours", "interval": "500ms",
                      "own_metrics": True}
            with Daemon(config(directory, [target])) as daemon:
                daemon.send_udp(LINES, b"go_goroutines:1|c\npush_time_seconds:1|c")
                daemon.settle(received=5)

                def names():
                    return {name for name, _ in gateway.samples(job="ours")}

                wait_for("the consistent families", lambda: {
                    "app_requests", "app_took_bucket", "tallyd_build_info",
                    "process_start_time_seconds"} <= names())
                self.assertFalse({"app_depth", "go_goroutines"} & names())
                wait_for("the count", lambda: push_metric(
                    daemon, "tallyd_push_dropped_total", target="gw", reason="rejected") >= 2)
                self.assertGreaterEqual(push_metric(
                    daemon, "tallyd_push_dropped_total", target="gw", reason="reserved_name"), 1)
                daemon.logged("family=app_depth")
                self.assertIn(b"<td>pushgateway</td>", daemon.get("/").body)

    def test_filters_decide_what_goes_where(self):
        with scratch() as directory, Pushgateway() as gateway:
            targets = [
                {"url": gateway.url, "name": "a", "job": "a", "interval": "300ms",
                 "families": {"include": ["app_*"], "exclude": ["*_took"]}},
                {"url": gateway.url, "name": "b", "job": "b", "interval": "300ms",
                 "max_series": 1, "families": {"include": ["app_*"]}}]
            with Daemon(config(directory, targets)) as daemon:
                daemon.send_udp(LINES, b"other:1|c")
                daemon.settle(received=4)
                wait_for("the chosen families", lambda: {
                    name for name, _ in gateway.samples(job="a")} == {"app_requests", "app_depth"})
                wait_for("the first series", lambda: {
                    name for name, _ in gateway.samples(job="b")} == {"app_depth"})
                wait_for("the rest to be counted", lambda: push_metric(
                    daemon, "tallyd_push_dropped_total", target="b", reason="series_limit") >= 2)

    def test_a_gateway_that_comes_back_empty_is_complete_again(self):
        with scratch() as directory, Pushgateway() as gateway:
            target = {"url": gateway.url, "job": "j", "interval": "1s"}
            with Daemon(config(directory, [target])) as daemon:
                daemon.send_udp(b"a:1|c")
                wait_for("a push", lambda: len(gateway.samples(job="j")) == 1)
                gateway.process.kill()
                wait_for("a failure", lambda: push_metric(
                    daemon, "tallyd_push_failures_total", cause="connect") >= 2)
                daemon.send_udp(b"a:1|c\nb:1|c")
                daemon.settle(received=3)
                gateway.start()

                def complete():
                    with contextlib.suppress(OSError):
                        return sorted(gateway.samples(job="j").values()) == [1, 2]
                    return False

                wait_for("the whole state", complete)
                daemon.logged("pushes succeed again")


class CheckTest(unittest.TestCase):
    def test_a_target_for_too_many_series_is_refused(self):
        with scratch() as directory:
            flag = config(directory, [{"url": "http://127.0.0.1:1"}], limit=100_001)
            code, _, errors = run_tallyd("--check-config", flag)
            self.assertEqual(code, 2)
            self.assertIn("tallyd.yaml:1: push.pushgateway: would push up to 100001 series", errors)
            self.assertIn("set series.limit to that or less", errors)
            code, _, errors = run_tallyd(
                "--check-config", config(directory, [{"url": "http://127.0.0.1:1"}]))
            self.assertEqual((code, errors), (0, ""))


class BadTargetTest(unittest.TestCase):
    """test_bad_targets has all other ways of being bad."""

    def test_retry_after_is_waited_for(self):
        busy = BadServer.always("429 Too Many Requests", [("Retry-After", "30")])
        with scratch() as directory, BadServer(busy) as server:
            target = {"url": f"http://127.0.0.1:{server.port}", "interval": "200ms"}
            with Daemon(config(directory, [target], **{"exit-timeout": "1s"})) as daemon:
                wait_for("a push", lambda: server.requests)
                time.sleep(1.5)
                self.assertEqual(len(server.requests), 1)
                self.assertEqual(daemon.stop(), 0)
                self.assertEqual(len(server.requests), 2, "the last one, at the end")


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(scratch())
        cls.certificates = Certificates(cls.directory)

    def push_to(self, certificate, behaviour=BadServer.always("200 OK"), **target):
        """(failures by cause tls, successes, log) of a daemon that pushes to such a server."""
        with scratch() as directory, BadServer(behaviour, certificate) as server:
            target = {"url": f"https://127.0.0.1:{server.port}", "name": "tls",
                      "interval": "200ms", **target}
            with Daemon(config(directory, [target], **{"exit-timeout": "1s"})) as daemon:
                wait_for("an outcome", lambda: push_metric(
                    daemon, "tallyd_push_successes_total") + push_metric(
                        daemon, "tallyd_push_failures_total") >= 1)
                failures = push_metric(daemon, "tallyd_push_failures_total", cause="tls")
                successes = push_metric(daemon, "tallyd_push_successes_total")
                self.assertEqual(daemon.stop(), 0)
                if failures:
                    self.assertEqual(server.requests, [], "nothing went to a server not trusted")
                return failures, successes, daemon.log()

    def assert_refused(self, why, certificate, **target):
        failures, successes, log = self.push_to(certificate, **target)
        self.assertEqual(successes, 0)
        self.assertGreaterEqual(failures, 1)
        self.assertIn(why, log)

    def ca(self):
        return {"tls": {"ca_file": str(self.certificates.authority[0])}}

    def test_a_trusted_server_gets_the_push(self):
        failures, successes, _ = self.push_to(self.certificates.make("good"), **self.ca())
        self.assertEqual(failures, 0)
        self.assertGreaterEqual(successes, 1)

    def test_an_expired_certificate_is_refused(self):
        expired = self.certificates.make("expired", days=-1)
        self.assert_refused("certificate has expired", expired, **self.ca())

    def test_a_certificate_of_another_host_is_refused(self):
        other = self.certificates.make("other", "DNS:elsewhere.test")
        self.assert_refused("IP address mismatch", other, **self.ca())
        named = {"tls": {**self.ca()["tls"], "server_name": "elsewhere.test"}}
        self.assertGreaterEqual(self.push_to(other, **named)[1], 1)
        wrong = {"tls": {**self.ca()["tls"], "server_name": "nowhere.test"}}
        self.assert_refused("hostname mismatch", other, **wrong)

    def test_an_unknown_authority_is_refused_unless_nothing_is_checked(self):
        strange = self.certificates.make("strange", authority=self.certificates.stranger)
        self.assert_refused("unable to get local issuer certificate", strange, **self.ca())
        unchecked = {"tls": {"insecure_skip_verify": True}}
        self.assertGreaterEqual(self.push_to(strange, **unchecked)[1], 1)

    def test_a_server_without_tls_is_refused(self):
        failures, _, log = self.push_to(None, BadServer.answers_at_once, **self.ca())
        self.assertGreaterEqual(failures, 1)
        self.assertIn("TLS: wrong version number", log)

    def test_credentials_go_along(self):
        with scratch() as directory, BadServer(BadServer.always("200 OK")) as server:
            secret = directory / "password"
            secret.write_text("open sesame\n")
            target = {"url": f"http://127.0.0.1:{server.port}", "interval": "200ms",
                      "basic_auth": {"username": "Aladdin", "password_file": "password"}}
            with Daemon(config(directory, [target])) as daemon:
                wait_for("a push", lambda: server.requests)
                self.assertEqual(server.requests[0][1]["authorization"],
                                 "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
                secret.write_text("closed")
                wait_for("the new password", lambda: server.requests[-1][1]["authorization"] ==
                         "Basic QWxhZGRpbjpjbG9zZWQ=")
                self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
