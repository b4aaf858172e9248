"""A tallyd that a service manager and a state directory keep over its lives, and load on it."""

import contextlib
import pathlib
import socket
import time

import exposition
from harness import SLOWNESS, TEXT, Ledger, http_request, wait_for
from rig import RATE, SANITIZER, SETTLE_SECONDS, SHARE_RECOVERED, Load
from supervisor import Supervisor

SHARDS = 2


class Kept:
    """One daemon in several lives: the supervisor keeps its sockets, connections and memories, a
    directory its state. Load on it is of counters alone, so that sums tell all."""

    def __init__(self, run, *flags, watchdog=0):
        self.run = run
        self.supervisor = Supervisor(watchdog=watchdog)
        self.directory = pathlib.Path(self.supervisor.directory)
        self.state = self.directory / "kept"
        self.state.mkdir()
        self.supervisor.flags = (
            "--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=",
            f"--statsd.listen-unixgram={self.directory}/g",
            f"--statsd.listen-unixstream={self.directory}/s", "--web.listen-address=127.0.0.1:0",
            "--statsd.read-buffer=8388608", f"--shards={SHARDS}", f"--state.directory={self.state}",
            "--state.interval=200ms", "--merge.interval=100ms", *flags)
        self.loads = []
        self.seen = {}
        try:
            self.supervisor.start()
        except BaseException:
            self.supervisor.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for load in self.loads:
            load.stop()
        reports = [life.log() for life in self.supervisor.lives if SANITIZER.search(life.log())]
        self.supervisor.close()
        self.run.check("A", not reports, f"no sanitizer reports: {reports}")

    @property
    def life(self):
        return self.supervisor.life

    # ---- load ----

    def urls(self):
        return {"udp": f"udp://{self.supervisor.addresses()['udp'][0]}",
                "unixgram": f"unixgram://{self.directory}/g",
                "unixstream": f"unixstream://{self.directory}/s"}

    def start_load(self, kinds=("udp", "unixgram", "unixstream"), rate=RATE):
        urls = {kind: url for kind, url in self.urls().items() if kind in kinds}
        load = Load(urls, None, rate, mix="1:0:0")
        self.loads.append(load)
        return load

    def finish_load(self, load):
        """{transport: account}"""
        accounts = load.finish()
        self.loads.remove(load)
        return accounts

    def send_udp(self, *datagrams):
        host, port = self.supervisor.addresses()["udp"][0].rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in datagrams:
                sender.sendto(datagram, (host, int(port)))

    # ---- what is looked at ----

    def scrape(self):
        """Of this life. Nothing of the load, nor the account, may be less than ever before."""
        answer = http_request(self.supervisor.http_port(), "/metrics", headers={"Accept": TEXT})
        scrape = exposition.parse(answer.body, False)
        ledger = Ledger(scrape)
        now = {"received": ledger.received, "applied": ledger.applied}
        now.update({key: value for key, value in scrape.samples.items() if key[0].startswith("load")})
        less = [f"{name}: {now.get(name, 0)} after {value}" for name, value in self.seen.items()
                if now.get(name, 0) < value]
        self.run.check("C", not less, f"nothing goes down: {less[:3]}")
        self.seen.update(now)
        return scrape

    def ledger(self):
        return Ledger(self.scrape())

    def shows(self, load, exact):
        """Each series what was sent of it, or at most that."""
        shown = self.scrape().samples
        wrong = [(key, shown.get(key), want) for key, want in load.totals().items()
                 if (shown.get(key) != want if exact else shown.get(key, 0) > want)]
        self.run.check("C", not wrong, f"{len(wrong)} series show something else: {wrong[:3]}")

    def settle(self, received):
        """The account once so much has come in, or what there is after a while."""
        last = []

        def settled():
            last[:] = [self.ledger()]
            return last[0].received >= received and last[0].at_rest()
        with contextlib.suppress(AssertionError):
            wait_for("samples", settled, 15)
        time.sleep(0.3 * SLOWNESS)  # two merges
        return self.ledger()

    def samples_per_second(self, seconds=0.5):
        before, begin = self.ledger().received, time.monotonic()
        time.sleep(seconds)
        return (self.ledger().received - before) / (time.monotonic() - begin)

    def recovered(self, before):
        """As much comes in as before, within a few seconds."""
        rates = []

        def fast_again():
            rates.append(self.samples_per_second())
            return rates[-1] >= SHARE_RECOVERED * before
        with contextlib.suppress(AssertionError):
            wait_for("the rate", fast_again, SETTLE_SECONDS)
        self.run.check("R", rates[-1] >= SHARE_RECOVERED * before,
                       f"{rates[-1]:.0f} samples/s, before {before:.0f}")
