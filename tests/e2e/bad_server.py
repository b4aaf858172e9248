"""Servers that behave as badly as a push target can, by script.

Everything listens on loopback on a free port, and ends with its `with` block.
"""

import contextlib
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import time

from harness import SLOWNESS

MAX_REQUEST_BYTES = 64 << 20


def read_request(connection):
    """(request line, headers, body) or None; headers in lower case."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more or len(data) > MAX_REQUEST_BYTES:
            return None
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            return None
        body += more
    return lines[0], headers, body


def answer(status, headers=(), body=b""):
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


class BadServer:
    """Runs `behave(server, connection)` for each connection, on a thread of its own.

    The methods below are behaviours. `certificate` = (certificate file, key file) makes it speak
    TLS.
    """

    def __init__(self, behave, certificate=None):
        self._behave = behave
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = []
        self.ended = threading.Event()
        self._open = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _accept(self):
        while not self.ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.settimeout(60 * SLOWNESS)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._open.add(connection)
            self._behave(self, connection)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.close()

    def each_request(self, connection):
        while (request := read_request(connection)) is not None:
            self.requests.append(request)
            yield request

    # Behaviours.

    def hang(self, _connection):
        self.ended.wait(60)

    def byte_a_second(self, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while not self.ended.wait(1):
            connection.sendall(b"x")

    def endless_body(self, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.ended.is_set():
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    def endless_header(self, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not self.ended.is_set():
            connection.sendall(b"X-More: " + b"x" * 4096 + b"\r\n")

    def reset_in_the_middle(self, connection):
        connection.recv(1)
        self._reset(connection)

    def reset_in_the_answer(self, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nsome")
        self._reset(connection)

    @staticmethod
    def _reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def garbage(self, connection):
        read_request(connection)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46" * 100)

    def answers_at_once(self, connection):
        connection.recv(1)
        connection.sendall(answer("400 Bad Request"))
        self.ended.wait(1)

    @staticmethod
    def always(status, headers=(), body=b""):
        """A behaviour: the same answer to every request."""

        def behave(server, connection):
            for _ in server.each_request(connection):
                connection.sendall(answer(status, headers, body))

        return behave


class FickleServer(BadServer):
    """Takes every request until `go_bad`; then it cuts its connections and behaves as it is to.

    Keeps no bodies. `expired` is the certificate that it has then.
    """

    def __init__(self, behave, certificate=None, expired=None):
        super().__init__(FickleServer._act, certificate)
        self._behave_badly = behave
        self._certificates = (certificate, expired)
        self._bad = threading.Event()
        self.taken = 0

    def go_bad(self):
        self._turn(self._certificates[1])
        self._bad.set()
        self._cut()

    def go_good(self):
        self._turn(self._certificates[0])
        self._bad.clear()
        self._cut()

    def each_request(self, connection):
        while (request := read_request(connection)) is not None:
            yield request

    def _turn(self, certificate):
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)

    def _cut(self):
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _act(self, connection):
        if self._bad.is_set():
            return self._behave_badly(self, connection)
        for _ in self.each_request(connection):
            connection.sendall(answer("200 OK"))
            self.taken += 1
        return None


class LeavingServer(FickleServer):
    """Takes every request until `go_bad`; then nobody listens, or nobody answers who connects."""

    def __init__(self, hole=False):
        super().__init__(None)
        self._wants_hole = hole
        self._hole = None

    def go_bad(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        self._cut()
        if self._wants_hole:
            self._hole = BlackHole(self.port).__enter__()

    def go_good(self):
        self._fill_hole()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _fill_hole(self):
        if self._hole is not None:
            self._hole.__exit__()
            self._hole = None

    def __exit__(self, *_):
        self._fill_hole()
        super().__exit__()


class BlackHole:
    """Takes no connection and refuses none: its backlog is full and it never accepts."""

    def __init__(self, port=0):
        self._port = port

    def __enter__(self):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._port))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._waiting = []
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._waiting.append(waiting)
        time.sleep(0.05)
        return self

    def __exit__(self, *_):
        for waiting in self._waiting:
            waiting.close()
        self._listener.close()


class Certificates:
    """Certificates of an authority of our own, made by openssl in `directory`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.authority = self._authority("ca")
        self.stranger = self._authority("stranger")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                       timeout=30 * SLOWNESS)

    def _authority(self, name):
        key, certificate = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-keyout", key, "-out", certificate, "-days", 30,
                      "-subj", f"/CN=tallyd test {name}")
        return certificate, key

    def make(self, name, host="IP:127.0.0.1", authority=None, days=1,
             kind=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """(certificate file, key file), made out to `host`; expired if `days` is below 0."""
        authority_pem, authority_key = authority or self.authority
        key, request = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        certificate, extensions = self.directory / f"{name}.pem", self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\n")
        self._openssl("req", "-newkey", *kind, "-nodes", "-keyout", key, "-out", request,
                      "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", authority_pem, "-CAkey",
                      authority_key, "-CAcreateserial", "-out", certificate, "-days", days,
                      "-extfile", extensions)
        return certificate, key
