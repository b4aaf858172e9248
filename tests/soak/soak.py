"""The soak: mixed traffic, readers, reloads, restarts and push targets that come and go, by a seed.

run_soak(seconds, seed) returns a Verdict; tests/soak/run is its command line.

    first half   everything, restarts among it
    second half  no restarts, so that memory and descriptors can be compared
    end          the senders stop, the account is taken
"""

import dataclasses
import json
import pathlib
import random
import signal
import socket
import time

import harness
import judge
from bad_server import BadServer, FickleServer, LeavingServer
from harness import wait_for
from readers import Scrapers, Watch, look_at
from supervisor import Supervisor
from traffic import Pace, Sender, StreamSender, connected

GOOD_MAPPING = """\
defaults: {observer_type: histogram}
mappings:
- {match: "soak.brief.*.*", name: soak_brief, labels: {via: $1, number: $2}, ttl: %ds}
- {match: "soak.took", name: soak_took, observer_type: histogram,
   histogram_options: {buckets: [1, 10, 100, 1000]}}
- {match: "never.%d", name: never}
"""
BROKEN_MAPPING = "mappings:\n- {match: a, name: b, color: red}\n"
ENDS_WITHIN = 30  # seconds, for what was sent to be taken in


@dataclasses.dataclass
class Options:
    seconds: int = 7200
    seed: int = 1
    rate: int = 6000  # samples a second, over all transports, without bursts
    restarts: bool = True
    say: object = None  # takes progress lines


class Soak:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(f"events {options.seed}")
        self.say = options.say or (lambda line: None)
        self.counts = {}  # of events
        self.errors = []
        self.crashes = 0
        self.serving = False  # whether there is somebody to ask
        self.began = 0.0

    # ---- setting it up ----

    def run(self):
        short = self.options.seconds < 300
        self.ttl = 5 if short else 30
        with LeavingServer() as gateway, FickleServer(
                BadServer.always("500 Internal Server Error")) as receiver:
            self.targets = {"gateway": gateway, "receiver": receiver}
            self.bad_targets = set()
            self.supervisor = Supervisor()
            try:
                self._start()
                self._traffic()
                self._drain()
                return judge.verdict(self)
            finally:
                self._close()

    def _start(self):
        where = pathlib.Path(self.supervisor.directory)
        (where / "state").mkdir()
        self.mapping = where / "mapping.yml"
        self._write_mapping()
        (where / "tallyd.yml").write_text(json.dumps({"push": {
            "pushgateway": [{"url": f"http://127.0.0.1:{self.targets['gateway'].port}",
                             "name": "gateway", "interval": "2s"}],
            "remote-write": [{"url": f"http://127.0.0.1:{self.targets['receiver'].port}/write",
                              "name": "receiver", "interval": "2s"}]}}))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        udp.bind(("127.0.0.1", 0))
        self.supervisor.sockets = [("statsd.socket", udp)]
        gram, stream = str(where / "gram"), str(where / "stream")
        self.supervisor.flags = (
            "--shards=2", f"--statsd.listen-udp=127.0.0.1:{udp.getsockname()[1]}",
            "--statsd.listen-tcp=", f"--statsd.listen-unixgram={gram}",
            f"--statsd.listen-unixstream={stream}", "--web.listen-address=127.0.0.1:0",
            "--web.enable-lifecycle", f"--statsd.mapping-config={self.mapping}",
            f"--config.file={where}/tallyd.yml", f"--state.directory={where}/state",
            f"--state.interval={2 if self.options.seconds < 300 else 10}s",
            "--series.limit=20000", "--series.label-bytes=16000000")
        self.supervisor.start()
        self.http_port = self.supervisor.http_port()
        self.serving = True
        pace = Pace(self.options.seed, self.options.rate)
        seed = self.options.seed
        addresses = {"udp": (socket.AF_INET, socket.SOCK_DGRAM, udp.getsockname()),
                     "gram": (socket.AF_UNIX, socket.SOCK_DGRAM, gram),
                     "stream": (socket.AF_UNIX, socket.SOCK_STREAM, stream)}
        self.senders = {
            name: (StreamSender if name == "stream" else Sender)(
                name, lambda address=address: connected(*address), pace, seed, 1 / 3)
            for name, address in addresses.items()}
        seconds_between = max(0.2, min(1.0, self.options.seconds / 600))
        self.scrapers = Scrapers(lambda: self.http_port if self.serving else None, seed,
                                 seconds_between)
        self.watch = Watch(lambda: self.supervisor.life.pid if self.serving else None,
                           seconds_between)
        self.began = time.monotonic()
        for thread in (*self.senders.values(), self.scrapers, self.watch):
            thread.start()

    def _close(self):
        for thread in (*getattr(self, "senders", {}).values(), getattr(self, "scrapers", None),
                       getattr(self, "watch", None)):
            if thread is not None and thread.is_alive():
                thread.stop()
        self.supervisor.close()

    # ---- what happens meanwhile ----

    def _traffic(self):
        end = self.began + self.options.seconds
        half = self.began + self.options.seconds / 2
        pause = max(1.5, min(15.0, self.options.seconds / 40))
        said = self.began
        # Each at least once, however short the run.
        first = ["reload_good", "target", *(["restart", "crash"] if self.options.restarts else [])]
        self.rng.shuffle(first)
        while (now := time.monotonic()) < end:
            time.sleep(max(0.0, min(pause * self.rng.uniform(0.5, 1.5), end - now)))
            events = [("reload_good", 3), ("reload_broken", 2), ("target", 3), ("look", 2)]
            if self.options.restarts and time.monotonic() < half:
                events += [("restart", 1.5), ("crash", 1)]
            else:
                first = [name for name in first if name not in ("restart", "crash")]
            if time.monotonic() < end:
                self._event(first.pop() if first else self.rng.choices(*zip(*events))[0])
            if time.monotonic() - said > max(5.0, self.options.seconds / 60):
                said = time.monotonic()
                self.say(self._progress())

    def _event(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1
        try:
            getattr(self, f"_{name}")()
        except (OSError, AssertionError) as error:
            self.errors.append(f"{name}: {error!r}"[:500])

    def _write_mapping(self):
        self.mapping.write_text(GOOD_MAPPING % (self.ttl, self.rng.randrange(1000)))

    def _post_reload(self):
        return harness.http_request(self.http_port, "/-/reload", "POST", timeout=30)

    def _reload_good(self):
        self._write_mapping()
        answer = self._post_reload()
        if answer.status != 200:
            self.errors.append(f"a good reload: {answer.status} {answer.body[:200]}")

    def _reload_broken(self):
        self.mapping.write_text(BROKEN_MAPPING)
        answer = self._post_reload()
        self._write_mapping()  # a restart must find a good one
        if answer.status == 200 or b"mapping.yml:2" not in answer.body:
            self.errors.append(f"a broken reload: {answer.status} {answer.body[:200]}")

    def _target(self):
        name = self.rng.choice(sorted(self.targets))
        if name in self.bad_targets:
            self._heal(name)
        else:
            self.bad_targets.add(name)
            self.targets[name].go_bad()

    def _heal(self, name):
        self.bad_targets.discard(name)
        self.targets[name].go_good()

    def _look(self):
        """The account need not balance while lines come in, but more cannot be applied than came."""
        ledger = self._ledger()
        if ledger.applied + ledger.lost > ledger.received:
            self.errors.append(f"while it runs: {ledger}")

    def _restart(self):
        self.serving = False
        code = self.supervisor.restart()
        self._serve_again()
        if code != 0:
            self.errors.append(f"a graceful end: exit code {code}")

    def _crash(self):
        """What a stream's peer had sent and nobody had read goes with the connection: so there is
        no such thing. Datagrams go on, and wait for the next life."""
        stream = self.senders["stream"]
        stream.pause()
        try:
            time.sleep(0.5)
            self.serving = False
            self.supervisor.restart(signal.SIGKILL)
            self.crashes += 1
            stream.connect_again()
        finally:
            stream.resume()
        self._serve_again()

    def _serve_again(self):
        self.http_port = self.supervisor.http_port()
        self.serving = True

    def _ledger(self):
        import exposition  # beside harness
        answer = harness.http_request(self.http_port, "/-/metrics", headers={"Accept": harness.TEXT},
                                      timeout=30)
        return harness.Ledger(exposition.parse(answer.body, False))

    # ---- the end ----

    def _drain(self):
        for sender in self.senders.values():
            sender.stop()
        self.scrapers.stop()
        for name in sorted(self.bad_targets):
            self._heal(name)
        before = {name: target.taken for name, target in self.targets.items()}
        try:
            wait_for("both targets to be sent to", lambda: all(
                target.taken > before[name] for name, target in self.targets.items()), ENDS_WITHIN,
                     0.2)
        except harness.Timeout as late:
            self.errors.append(f"after all was well again: {late}")
        last = None

        def at_rest():
            nonlocal last
            now = self._ledger()
            same = last is not None and now.received == last.received and now.at_rest()
            last = now
            return same

        try:
            wait_for("the account to balance", at_rest, ENDS_WITHIN, 0.3)
        except harness.Timeout as late:
            self.errors.append(f"{late}")
        self.ledger = self._ledger()
        time.sleep(1.2)  # a merge
        self.hits_shown = self.supervisor.scrape().total("soak_hits")
        self.handles_at_end = look_at(self.supervisor.life.pid)[1:]
        self.watch.stop()
        self.ended = time.monotonic()
        self.exit_code = self.supervisor.end()
        self.logs = [life.log() for life in self.supervisor.lives]

    def _progress(self):
        sent = sum(sender.samples for sender in self.senders.values())
        rss = self.watch.seen[-1][2] >> 20 if self.watch.seen else 0
        events = " ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return (f"{time.monotonic() - self.began:6.0f} s  sent {sent:,}  scrapes "
                f"{sum(self.scrapers.done.values())}  RSS {rss} MiB  {events}  "
                f"errors {len(self.errors) + len(self.scrapers.errors)}")


def run_soak(**options):
    """Keywords as in Options; returns a judge.Verdict."""
    return Soak(Options(**options)).run()
