"""--web.config.file: TLS and passwords of the HTTP listeners."""

import base64
import ctypes
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request

from bad_server import Certificates
from harness import ROOT, SLOWNESS, Daemon, Prometheus, needs, run_tallyd, scratch, wait_for

CLEAN, USAGE = 0, 2


def bcrypt(password, cost=4):
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt_gensalt.restype = library.crypt.restype = ctypes.c_char_p
    setting = library.crypt_gensalt(b"$2b$", ctypes.c_ulong(cost), None, 0)
    return library.crypt(password.encode(), setting).decode()


def authorization(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Site(unittest.TestCase):
    """A directory with certificates and a web configuration."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="tallyd-e2e-web-"))
        cls.certificates = Certificates(cls.directory)
        cls.server = cls.certificates.make("server")
        cls.client = cls.certificates.make("client")
        cls.hash = bcrypt("secret")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory, ignore_errors=True)

    def write(self, tls=None, users=None, name="web.yml", **more):
        config = dict(more)
        if tls is not None:
            config["tls_server_config"] = {
                "cert_file": str(self.server[0]), "key_file": str(self.server[1]), **tls}
        if users is not None:
            config["basic_auth_users"] = users
        path = self.directory / name
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def daemon(self, path, *flags):
        """A daemon whose readiness is read from its log, since it may speak TLS."""
        daemon = Daemon(f"--web.config.file={path}", *flags, expect_ready=False)
        try:
            line = daemon.logged('msg="ready"')[0]
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            daemon.addresses = {kind: fields[kind].split(",")
                                for kind in ("udp", "http", "push") if kind in fields}
        except BaseException:
            daemon.close()
            raise
        return daemon

    def get(self, daemon, path="/metrics", headers=None, client=None, kind="http", method="GET",
            body=None, version=None):
        """(status, headers, body) over TLS."""
        context = ssl.create_default_context(cafile=self.certificates.authority[0])
        if client:
            context.load_cert_chain(*client)
        if version:
            context.maximum_version = version
        request = urllib.request.Request(f"https://127.0.0.1:{daemon.port(kind)}{path}",
                                         headers=headers or {}, method=method, data=body)
        try:
            with urllib.request.urlopen(request, timeout=10 * SLOWNESS, context=context) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def shown(self, daemon):
        """The subject of the certificate that it shows."""
        pem = ssl.get_server_certificate(("127.0.0.1", daemon.port("http")))
        return subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, text=True,
                              capture_output=True, check=True, timeout=20).stdout

    def refused(self, daemon, **keywords):
        with self.assertRaises((OSError, urllib.error.URLError)):
            self.get(daemon, **keywords)


class PasswordTest(Site):
    def test_only_who_knows_is_let_in(self):
        with self.daemon(self.write(users={"ann": self.hash})) as daemon:
            for path in ("/metrics", "/", "/-/healthy", "/-/ready", "/-/metrics", "/nowhere"):
                self.assertEqual(daemon.get(path).status, 401, path)
            answer = daemon.get("/metrics")
            self.assertEqual(answer.headers["www-authenticate"], "Basic")
            for headers in (authorization("ann", "Secret"), authorization("bob", "secret"),
                            authorization("ann", "secret\0"), {"Authorization": "Basic !"},
                            {"Authorization": "Bearer secret"}, {"Authorization": "Basic YW5u"}):
                self.assertEqual(daemon.get("/metrics", headers=headers).status, 401, headers)
            good = daemon.get("/metrics", headers=authorization("ann", "secret"))
            self.assertEqual(good.status, 200)
            self.assertIn(b'tallyd_refused_http_clients_total{reason="unauthorized"} 13', good.body)

    def test_it_costs_one_hash_and_not_one_a_scrape(self):
        with self.daemon(self.write(users={"ann": bcrypt("secret", 12)})) as daemon:
            def scrape():
                start = time.monotonic()
                answer = daemon.get("/-/healthy", headers=authorization("ann", "secret"))
                self.assertEqual(answer.status, 200)
                return time.monotonic() - start

            first = scrape()
            others = sorted(scrape() for _ in range(20))
            self.assertLess(others[10], first / 4)

    def test_counting_goes_on_while_passwords_are_guessed(self):
        with self.daemon(self.write(users={"ann": bcrypt("secret", 12)})) as daemon:
            daemon.get("/", headers=authorization("ann", "secret"))
            guesses = []
            for number in range(20):
                guess = socket.create_connection(("127.0.0.1", daemon.port("http")), 5)
                word = authorization("ann", str(number))["Authorization"]
                guess.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {word}\r\n\r\n".encode())
                guesses.append(guess)
            start = time.monotonic()
            daemon.send_udp(*["guessed:1|c"] * 100)

            def counted():
                answer = daemon.get("/metrics", headers=authorization("ann", "secret"))
                return b"\nguessed 100\n" in answer.body

            wait_for("the lines", counted, 5)
            self.assertLess(time.monotonic() - start, 3 * SLOWNESS)
            for guess in guesses:
                guess.close()
            self.assertEqual(daemon.stop(seconds=10), CLEAN)

    def test_a_body_is_not_read_of_who_is_not_let_in(self):
        path = self.write(users={"ann": self.hash})
        with self.daemon(path, "--push.listen-address=127.0.0.1:0") as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port("push")), 5) as pusher:
                pusher.sendall(b"PUT /metrics/job/a HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Length: 10000000\r\n\r\n")
                pusher.settimeout(5 * SLOWNESS)
                self.assertTrue(pusher.recv(1000).startswith(b"HTTP/1.1 401 "))

    def test_users_change_without_a_restart(self):
        path = self.write(users={"ann": self.hash})
        with self.daemon(path) as daemon:
            headers = authorization("ann", "secret")
            self.assertEqual(daemon.get("/", headers=headers).status, 200)
            self.write(users={"ann": bcrypt("other")})
            wait_for("the new password", lambda: daemon.get(
                "/", headers=authorization("ann", "other")).status == 200)
            self.assertEqual(daemon.get("/", headers=headers).status, 401)
            path.write_text("basic_auth_users: {")
            wait_for("the complaint", lambda: daemon.get(
                "/", headers=authorization("ann", "other")).status == 200
                     and "the former one stays" in daemon.log())


    def test_passwords_do_not_end_while_the_file_is_being_written(self):
        path = self.write(users={"ann": self.hash})
        with self.daemon(path) as daemon:
            headers = authorization("ann", "secret")
            path.write_text("")
            wait_for("the complaint", lambda: daemon.get("/", headers=headers).status == 200
                     and "passwords end with a start" in daemon.log())
            self.assertEqual(daemon.get("/").status, 401)
            self.write(users={"ann": bcrypt("other")})
            wait_for("the new password", lambda: daemon.get(
                "/", headers=authorization("ann", "other")).status == 200)


class TlsTest(Site):
    def test_scrape_and_push_over_tls(self):
        path = self.write(tls={}, http_server_config={
            "headers": {"Strict-Transport-Security": "max-age=60"}})
        with self.daemon(path, "--push.listen-address=127.0.0.1:0") as daemon:
            daemon.send_udp("over_tls:3|c")
            wait_for("the sample", lambda: b"\nover_tls 3\n" in self.get(daemon)[2])
            status, headers, _ = self.get(daemon, "/-/healthy")
            self.assertEqual(status, 200)
            self.assertEqual(headers["Strict-Transport-Security"], "max-age=60")
            status, _, _ = self.get(daemon, "/metrics/job/a", kind="push", method="PUT",
                                    body=b"pushed 4\n" * 1)
            self.assertEqual(status, 200)
            self.assertIn(b'pushed{instance="",job="a"} 4', self.get(daemon)[2])

    def test_many_requests_on_one_connection(self):
        with self.daemon(self.write(tls={})) as daemon:
            context = ssl.create_default_context(cafile=self.certificates.authority[0])
            plain = socket.create_connection(("127.0.0.1", daemon.port("http")), 5)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                connection.settimeout(5 * SLOWNESS)
                one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
                last = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                for part in (one, one + one, one[:10], one[10:], one):  # in records of their own
                    connection.sendall(part)
                connection.sendall(last)
                answers = b""
                while part := connection.recv(65536):
                    answers += part
                self.assertEqual(answers.count(b"HTTP/1.1 200 OK"), 6)

    def test_who_does_not_speak_tls_is_counted(self):
        with self.daemon(self.write(tls={})) as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port("http")), 5) as plain:
                plain.settimeout(10 * SLOWNESS)
                plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                try:
                    self.assertNotIn(b"200 OK", plain.recv(1000))
                except ConnectionResetError:
                    pass
            wait_for("the count", lambda: b'{reason="handshake"} 1' in self.get(daemon)[2])

    def test_client_certificates(self):
        authority = str(self.certificates.authority[0])
        path = self.write(tls={"client_auth_type": "RequireAndVerifyClientCert",
                               "client_ca_file": authority})
        stranger = self.certificates.make("unknown", authority=self.certificates.stranger)
        with self.daemon(path) as daemon:
            self.assertEqual(self.get(daemon, client=self.client)[0], 200)
            self.refused(daemon)
            self.refused(daemon, client=stranger)
        path = self.write(tls={"client_auth_type": "RequireAnyClientCert"})
        with self.daemon(path) as daemon:
            self.assertEqual(self.get(daemon, client=stranger)[0], 200)
            self.refused(daemon)

    def test_versions(self):
        with self.daemon(self.write(tls={"min_version": "TLS13"})) as daemon:
            self.assertEqual(self.get(daemon)[0], 200)
            self.refused(daemon, version=ssl.TLSVersion.TLSv1_2)
        with self.daemon(self.write(tls={
                "max_version": "TLS12", "curve_preferences": ["CurveP256"],
                "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]})) as daemon:
            context = ssl.create_default_context(cafile=self.certificates.authority[0])
            plain = socket.create_connection(("127.0.0.1", daemon.port("http")), 5)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                self.assertEqual(connection.cipher()[:2],
                                 ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"))

    def test_a_new_certificate_is_shown_to_new_connections(self):
        certificate, key = self.directory / "turn.pem", self.directory / "turn.key"

        def install(name):
            made = self.certificates.make(name)
            for source, target in zip(made, (certificate, key)):
                shutil.copy(source, f"{target}.new")
                os.replace(f"{target}.new", target)

        install("before")
        path = self.write(tls={"cert_file": "turn.pem", "key_file": "turn.key"})
        with self.daemon(path) as daemon:
            self.assertIn("before", self.shown(daemon))
            install("after")
            wait_for("the new certificate", lambda: "after" in self.shown(daemon))
            certificate.write_text("broken")
            wait_for("the complaint", lambda: "after" in self.shown(daemon)
                     and "the former one stays" in daemon.log())

    def test_a_certificate_waits_for_a_key_of_its_type(self):
        before = self.certificates.make("turn-ec")
        after = self.certificates.make("turn-rsa", kind=("rsa:2048",))
        used = [self.directory / name for name in ("used.pem", "used.key")]
        for source, target in zip(before, used):
            shutil.copy(source, target)
        path = self.write(tls={"cert_file": "used.pem", "key_file": "used.key"})
        with self.daemon(path) as daemon:
            shutil.copy(after[0], used[0])
            wait_for("the complaint", lambda: self.get(daemon)[0] == 200
                     and "is of another type" in daemon.log())
            shutil.copy(after[1], used[1])
            wait_for("the new certificate", lambda: self.get(daemon)[0] == 200
                     and "was read again" in daemon.log())
            self.assertIn("turn-rsa", self.shown(daemon))

    def test_what_could_not_be_used_is_tried_again(self):
        path = self.write(tls={})
        with self.daemon(path) as daemon:
            self.write(tls={"cert_file": "late.pem", "key_file": "late.key"})
            wait_for("the complaint", lambda: self.get(daemon)[0] == 200
                     and "the former one stays" in daemon.log())
            self.certificates.make("late")  # no file that is in force has changed
            wait_for("the new certificate", lambda: "late" in self.shown(daemon))
            # However often it was tried: once for what was missing, once if a file was half written.
            self.assertLessEqual(daemon.log().count("the former one stays"), 2)

    @needs("prometheus")
    def test_prometheus_scrapes_over_tls_with_a_password(self):
        path = self.write(tls={}, users={"prometheus": self.hash})

        class Over(Prometheus):
            authority = str(self.certificates.authority[0])

            def _config(self, targets):
                config = json.loads(super()._config(targets))
                for job in config["scrape_configs"]:
                    job.update(scheme="https", tls_config={"ca_file": self.authority},
                               basic_auth={"username": "prometheus", "password": "secret"})
                return json.dumps(config)

        with self.daemon(path) as daemon, Over({"tls": daemon.port("http")}) as prometheus:
            daemon.send_udp("seen:7|c")
            wait_for("the sample", lambda: prometheus.value("seen") == 7, 20)
            self.assertEqual(prometheus.value('up{job="tls"}'), 1)


class FileTest(Site):
    def test_mistakes_have_their_line(self):
        path = self.directory / "broken.yml"
        path.write_text("basic_auth_users:\n  ann: secret\ntls: {}\n")
        for more in ((), ("--check-config",)):
            code, _, said = run_tallyd(f"--web.config.file={path}", *more)
            self.assertEqual(code, USAGE)
            self.assertIn(f"{path}:2: basic_auth_users.ann: not a hash of bcrypt", said)
            self.assertIn(f"{path}:3: tls: unknown key", said)
            self.assertNotIn("secret", said)

    def test_a_certificate_that_does_not_fit_its_key(self):
        path = self.write(tls={"key_file": str(self.client[1])})
        code, _, said = run_tallyd("--check-config", f"--web.config.file={path}")
        self.assertEqual(code, USAGE)
        self.assertIn(str(self.client[1]), said)

    def test_a_certificate_and_a_key_of_two_types(self):
        rsa = self.certificates.make("rsa", kind=("rsa:2048",))
        for pair in ((self.server[0], rsa[1]), (rsa[0], self.server[1])):
            path = self.write(tls=dict(zip(("cert_file", "key_file"), map(str, pair))))
            code, _, said = run_tallyd("--check-config", f"--web.config.file={path}")
            self.assertEqual(code, USAGE)
            self.assertIn(f"{pair[1]}: is of another type", said)

    @needs("promtool")
    def test_promtool_takes_our_example_and_so_do_we(self):
        with scratch() as directory:
            example = (ROOT / "docs/examples/web-config.yml").read_text()
            (directory / "web-config.yml").write_text(example)
            for source, name in ((self.server[0], "server.pem"), (self.server[1], "server.key"),
                                 (self.certificates.authority[0], "clients.pem")):
                shutil.copy(source, directory / name)
            done = subprocess.run(["promtool", "check", "web-config", directory / "web-config.yml"],
                                  capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            code, _, said = run_tallyd("--check-config",
                                       f"--web.config.file={directory}/web-config.yml")
            self.assertEqual((code, said), (CLEAN, ""))


class AdminTest(unittest.TestCase):
    """Reload and quit: off by default, and never for a page of another site (reliability D10)."""

    def test_off_by_default(self):
        with Daemon() as daemon:
            for path in ("/-/reload", "/-/quit"):
                self.assertEqual(daemon.get(path, "POST").status, 403)
            self.assertTrue(daemon.process.running())

    def test_never_from_a_foreign_origin(self):
        with Daemon("--web.enable-lifecycle") as daemon:
            port = daemon.port("http")
            own = f"127.0.0.1:{port}"
            foreign = [
                {"Origin": "http://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
                # A name of the attacker's that leads here: of the same origin, for the browser.
                {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
                {"Host": f"evil.example:{port}", "Sec-Fetch-Site": "same-origin"},
                {"Host": f"evil.example:{port}", "Referer": f"http://evil.example:{port}/"},
                {"Referer": "http://evil.example/x", "User-Agent": "Mozilla/5.0"},
                {"Host": f"evil.example:{port}", "User-Agent": "Mozilla/5.0"},
                {"Host": f"127.0.0.1.evil.example:{port}", "User-Agent": "Mozilla/5.0"},
            ]
            for headers in foreign:
                for path in ("/-/reload", "/-/quit"):
                    self.assertEqual(daemon.get(path, "POST", headers=headers).status, 403, headers)
            scrape = daemon.scrape(path="/-/metrics")
            refused = scrape.by_label("tallyd_refused_http_clients_total", "reason")
            self.assertEqual(refused["foreign_origin"], 2 * len(foreign))
            for headers in ({}, {"Origin": f"http://{own}"}, {"User-Agent": "Mozilla/5.0"},
                            {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
                            {"Host": f"{socket.gethostname()}:{port}", "User-Agent": "Mozilla/5"},
                            {"Host": f"[::1]:{port}", "User-Agent": "Mozilla/5.0"},
                            {"Host": f"node1.example:{port}"}):
                self.assertEqual(daemon.get("/-/reload", "POST", headers=headers).status, 200,
                                 headers)


if __name__ == "__main__":
    unittest.main()
