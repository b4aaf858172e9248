#!/usr/bin/env python3
"""Series a second that tallyd gets stored by remote write, beside what the receiver alone takes.

    bench/remote_write_rate.py [SERIES [SECONDS]]

Bodies of tallyd's requests are kept first. Then, twice for each of Prometheus and VictoriaMetrics, a
new receiver is given these bodies by a loop that does nothing else, on as many connections as tallyd
has, and another is written to by tallyd without a pause. The first two rounds, in which the receiver
meets the series, do not count. CPU times bear a machine that others use as well; rates do not.
"""

import http.client
import http.server
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
sys.dont_write_bytecode = True

from harness import Daemon, scratch, wait_for  # pylint: disable=wrong-import-position
from receivers import (  # pylint: disable=wrong-import-position
    PrometheusReceiver, VictoriaMetrics, config)

WARM_ROUNDS = 2
REPLAYED_ROUNDS = 22
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy",
           "X-Prometheus-Remote-Write-Version": "0.1.0"}


class Keeper:
    """Takes requests, and keeps their bodies by connection."""

    def __init__(self):
        outer = self
        self.bodies = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) > 1:  # an empty request only asks for the time
                    outer.bodies.setdefault(self.client_address, []).append(body)
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


def writing_daemon(directory, url, count):
    """A tallyd with so many counters, which begins a round as soon as the last has ended."""
    daemon = Daemon("--shards=1", "--statsd.read-buffer=33554432", config(directory, {
        "url": url, "interval": "100ms", "own_metrics": False, "on_exit": "keep",
        "families": {"include": ["http_server_requests"]}}))
    for i in range(count):
        daemon.send_udp(b"http.server.requests:%d|c|#env:production,host:web-%d,route:/v1/r%d,"
                        b"status:200" % (i, i % 100, i))
    daemon.settle(count, seconds=120)
    return daemon


def cpu_seconds(pid):
    ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, ticks[11:13])) / 100


def stored(daemon):
    return daemon.scrape(path="/-/metrics").total("tallyd_push_stored_series_total")


def keep_bodies(count):
    """[[the bodies of a connection, in order, round by round]]"""
    keeper = Keeper()
    with scratch() as directory, writing_daemon(directory, keeper.url(), count) as daemon:
        keeper.bodies.clear()
        began = stored(daemon)
        wait_for("bodies", lambda: stored(daemon) >= began + count * (REPLAYED_ROUNDS + 1), 300)
        # The end shall not cut a round off, nor wait.
        daemon.process.kill()
    keeper.stop()
    return list(keeper.bodies.values())


def replay(port, bodies):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        connection.request("POST", "/api/v1/write", body, HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise AssertionError(f"status {answer.status}")
    connection.close()


def replay_all(port, parts):
    threads = [threading.Thread(target=replay, args=(port, bodies)) for bodies in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rate_alone(receiver, kept, count):
    with receiver() as target:
        rounds = count * WARM_ROUNDS // 2_000 // len(kept) + 1
        replay_all(target.port, [bodies[:rounds] for bodies in kept])
        began, cpu = time.monotonic(), cpu_seconds(target.process.pid)
        replay_all(target.port, [bodies[rounds:] for bodies in kept])
        seconds, cpu = time.monotonic() - began, cpu_seconds(target.process.pid) - cpu
        requests = sum(len(bodies) - rounds for bodies in kept)
    return requests, seconds, cpu


def rate_of_tallyd(receiver, count, seconds):
    with scratch() as directory, receiver() as target:
        with writing_daemon(directory, target.url(), count) as daemon:
            warm = stored(daemon) + count * WARM_ROUNDS
            wait_for("warm rounds", lambda: stored(daemon) >= warm, 120)
            pids = (target.process.pid, daemon.pid)
            began, before = time.monotonic(), daemon.scrape(path="/-/metrics")
            cpu = [cpu_seconds(pid) for pid in pids]
            time.sleep(seconds)
            after, took = daemon.scrape(path="/-/metrics"), time.monotonic() - began
            cpu = [cpu_seconds(pid) - first for pid, first in zip(pids, cpu)]
            daemon.process.kill()

    def grown(family):
        return after.total(family) - before.total(family)

    series = grown("tallyd_push_stored_series_total")
    return (series / took, series / grown("tallyd_push_successes_total"),
            *[seconds / series for seconds in cpu])


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 8
    kept = keep_bodies(count)
    for receiver in (PrometheusReceiver, VictoriaMetrics) * 2:
        requests, took, cpu = rate_alone(receiver, kept, count)
        ours, series_a_request, with_us, our_cpu = rate_of_tallyd(receiver, count, seconds)
        alone = requests * series_a_request / took
        cpu_alone = cpu / (requests * series_a_request)
        print(f"{receiver.NAME:16} alone {alone:,.0f} series/s, {cpu_alone * 1e6:.2f} us of CPU a "
              f"series; from tallyd {ours:,.0f} series/s, {with_us * 1e6:.2f} us, and tallyd "
              f"{our_cpu * 1e6:.2f} us: by CPU {cpu_alone / (with_us + our_cpu):.2f} of it",
              flush=True)


if __name__ == "__main__":
    main()
