"""Plays the service manager for one daemon: what systemd 252 does, as far as the daemon can see it.

It hands sockets in (LISTEN_FDS), listens on NOTIFY_SOCKET, keeps descriptors (FDSTORE), and feeds
them to the next life. A watchdog that is not fed in time aborts the daemon, as systemd would.
"""

import array
import collections
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile
import threading
import time

import exposition
import harness
from harness import BIN, SLOWNESS, wait_for

Stored = collections.namedtuple("Stored", "name fd")


class Life(harness.Process):
    """One process of the daemon, from its start to its end."""

    def __init__(self, supervisor, argv, handed, env):
        log_path = pathlib.Path(supervisor.directory) / f"life-{len(supervisor.lives)}.log"
        self.ready = threading.Event()
        self.messages = []

        def place():
            high = [fcntl.fcntl(one.fd, fcntl.F_DUPFD, 4000) for one in handed]
            os.chdir(supervisor.directory)  # where a core file would go
            for number, fd in enumerate(high):
                os.dup2(fd, 3 + number, inheritable=True)
                os.close(fd)

        # The pid is known only to the child: the shell writes it down and becomes the daemon.
        super().__init__(["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *argv], log_path, env=env,
                         preexec=place, close_fds=False)

    def stopped(self):
        """The account in the last line of a life that ended cleanly, as numbers."""
        lines = re.findall(r'msg="?stopped"? .*', self.log())
        if not lines:
            raise AssertionError(f"no last line:\n{self.log()[-2000:]}")
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", lines[-1])}


class Supervisor:
    """Lives of a daemon, one after the other, with what is kept between them.

    `sockets` are (name, socket) pairs of socket units: handed to each life. `store` is how many
    descriptors are kept; 0 keeps none. `watchdog` is in seconds.
    """

    def __init__(self, *flags, sockets=(), store=1024, watchdog=0, env=None):
        self.directory = tempfile.mkdtemp(prefix="tallyd-e2e-")
        self.flags = flags
        self.sockets = list(sockets)
        self.capacity = store
        self.watchdog = watchdog
        self.extra_env = env or {}
        self.stored = []
        self.lives = []
        self.missed = False
        self._fed = time.monotonic()
        self._watching = False
        self._lock = threading.Lock()
        self._marks = {}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify_path = f"{self.directory}/notify"
        self._notify.bind(self.notify_path)
        self._notify.settimeout(0.05)
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    # What the daemon says.

    def _serve(self):
        while not self._ending:
            self._watch()
            try:
                text, control, _, _ = self._notify.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
            except socket.timeout:
                continue
            fds = array.array("i")
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            self._take(text.decode(), list(fds))

    def _take(self, text, fds):
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if "X_MARK" in said:
            self._marks.pop(said["X_MARK"]).set()
            return
        with self._lock:
            if said.get("FDSTORE") == "1":
                for fd in fds:
                    self._keep(said.get("FDNAME", "stored"), fd)
                fds = []
            if said.get("FDSTOREREMOVE") == "1":
                for one in [one for one in self.stored if one.name == said["FDNAME"]]:
                    os.close(one.fd)
                    self.stored.remove(one)
            if said.get("WATCHDOG") == "1":
                self._fed = time.monotonic()
            if self.lives:
                self.life.messages.append(said)
                if said.get("READY") == "1":
                    self._fed = time.monotonic()
                    self._watching = True
                    self.life.ready.set()
                if said.get("STOPPING") == "1":
                    self._watching = False
        for fd in fds:
            os.close(fd)

    def _keep(self, name, fd):
        def identity(number):
            info = os.fstat(number)
            return info.st_dev, info.st_ino

        known = any(identity(one.fd) == identity(fd) for one in self.stored)
        if known or len(self.stored) >= self.capacity:
            os.close(fd)
            return
        self.stored.append(Stored(name, fd))

    def _watch(self):
        if not (self.watchdog and self._watching and self.lives):
            return
        if time.monotonic() - self._fed > self.watchdog:
            self._watching = False
            self.missed = True
            self.life.popen.send_signal(signal.SIGABRT)

    def _heard_all(self):
        """Returns once all that was sent to us before is taken in."""
        mark = str(time.monotonic_ns())
        done = self._marks[mark] = threading.Event()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(f"X_MARK={mark}".encode(), self.notify_path)
        if not done.wait(10 * SLOWNESS):
            raise harness.Timeout("the supervisor does not hear itself")

    # What is done to the daemon.

    @property
    def life(self):
        return self.lives[-1]

    def stored_names(self):
        with self._lock:
            return sorted(one.name for one in self.stored)

    def spawn(self, *flags):
        """Begins a life, without waiting for it."""
        with self._lock:
            units = [Stored(name, one.fileno()) for name, one in self.sockets]
            handed = units + list(self.stored)
            env = {key: value for key, value in os.environ.items() if "LISTEN" not in key}
            env.update(self.extra_env, NOTIFY_SOCKET=self.notify_path)
            if handed:
                env["LISTEN_FDS"] = str(len(handed))
                env["LISTEN_FDNAMES"] = ":".join(one.name for one in handed)
            if self.capacity:
                env["FDSTORE"] = str(self.capacity)
            if self.watchdog:
                env["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))
            self._watching = False
            self.lives.append(Life(self, [BIN / "tallyd", *self.flags, *flags], handed, env))
        return self.life

    def start(self, *flags):
        """Begins a life and waits until it says that it is ready."""
        life = self.spawn(*flags)
        wait_for("readiness", lambda: life.ready.is_set() or not life.running(), 20, 0.002)
        if not life.ready.is_set():
            raise AssertionError(f"ended before it was ready:\n{life.log()[-3000:]}")
        return life

    def end(self, sig=signal.SIGTERM, seconds=15):
        """Ends the life; returns its exit code once all that it said is taken in."""
        if self.life.running():
            self.life.popen.send_signal(sig)
        code = self.life.wait(seconds)
        self._watching = False
        self._heard_all()
        return code

    def restart(self, sig=signal.SIGTERM):
        code = self.end(sig)
        self.start()
        return code

    def addresses(self):
        """Of the present life: {kind: [address]}."""
        # The log may come after the word to the manager.
        ready = wait_for("the ready line", lambda: harness.READY.search(self.life.log()))
        return harness.addresses_of(ready.group())

    def http_port(self):
        return int(self.addresses()["http"][0].rsplit(":", 1)[1])

    def scrape(self):
        port = self.http_port()
        body = harness.http_request(port, "/metrics", headers={"Accept": harness.TEXT}).body
        return exposition.parse(body, False)

    def said(self, key):
        """The values that the present life gave to a key, in order."""
        self._heard_all()
        with self._lock:
            return [said[key] for said in self.life.messages if key in said]

    def close(self):
        for life in self.lives:
            life.kill()
        self._ending = True
        self._thread.join()
        self._notify.close()
        for one in self.stored:
            os.close(one.fd)
        for _, one in self.sockets:
            one.close()
        shutil.rmtree(self.directory, ignore_errors=True)
