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
        with self._lock:
            self._open.add(connection)
        wrapped = connection
        try:
            connection.settimeout(60 * SLOWNESS)
            if self._tls:
                wrapped = self._tls.wrap_socket(connection, server_side=True)
            self._behave(self, wrapped)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                wrapped.close()

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


class BlackHole:
    """Takes no connection and refuses none: its backlog is full and it never accepts."""

    def __enter__(self):
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
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

    def make(self, name, host="IP:127.0.0.1", authority=None, days=1):
        """(certificate file, key file), made out to `host`; expired if `days` is below 0."""
        authority_pem, authority_key = authority or self.authority
        key, request = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        certificate, extensions = self.directory / f"{name}.pem", self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", authority_pem, "-CAkey",
                      authority_key, "-CAcreateserial", "-out", certificate, "-days", days,
                      "-extfile", extensions)
        return certificate, key
