#!/usr/bin/env python3
"""What remote write costs: bytes, requests and CPU for each series of a round.

    bench/remote_write_cost.py [SERIES]

Starts tallyd and, one after the other, VictoriaMetrics and Prometheus on loopback, lets them hold
SERIES counters, gauges or histograms with four labels, and measures one round of all of them.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
sys.dont_write_bytecode = True

from harness import Daemon, scratch, wait_for  # pylint: disable=wrong-import-position
from receivers import (  # pylint: disable=wrong-import-position
    PrometheusReceiver, VictoriaMetrics, config)

KINDS = {"counters": b"%d|c", "gauges": b"%d|g", "histograms": b"%d|ms"}
FAMILIES = {
    "series": "tallyd_push_stored_series_total",
    "bytes": "tallyd_push_sent_bytes_total",
    "requests": "tallyd_push_successes_total",
    "seconds": "tallyd_push_duration_seconds_sum",
}


def totals(daemon):
    scrape = daemon.scrape(path="/-/metrics")
    found = {what: scrape.total(family) for what, family in FAMILIES.items()}
    ticks = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return {**found, "cpu": sum(map(int, ticks[11:13])) / 100}


def after_a_round(daemon):
    """The totals once another round has begun and ended."""
    before = totals(daemon)["series"]
    wait_for("a round", lambda: totals(daemon)["series"] > before, 60)
    last = -1
    while last != (now := totals(daemon))["series"]:
        last = now["series"]
        time.sleep(1)
    return now


def measure(kind, count, receiver):
    with scratch() as directory, receiver() as target:
        options = {"url": target.url(), "interval": "5s", "own_metrics": False, "on_exit": "keep"}
        with Daemon("--shards=1", config(directory, options)) as daemon:
            for i in range(count):
                daemon.send_udp(b"http.server.requests:" + KINDS[kind] % i +
                                b"|#env:production,host:web-%d,route:/v1/r%d,status:200"
                                % (i % 100, i))
            daemon.settle(count, seconds=60)
            after_a_round(daemon)
            before = after_a_round(daemon)
            after = after_a_round(daemon)
            cost = {what: after[what] - before[what] for what in after}
            print(f"{receiver.NAME:16} {count} {kind}: {cost['series']:.0f} series a round, "
                  f"{cost['bytes'] / cost['series']:.1f} bytes each, "
                  f"{cost['requests']:.0f} requests, "
                  f"{cost['seconds'] / cost['requests'] * 1000:.0f} ms a request, "
                  f"{cost['cpu'] / cost['series'] * 1e6:.1f} us of CPU each, "
                  f"RSS {daemon.status_kib('VmRSS') / 1024:.0f} MiB", flush=True)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    for kind in KINDS:
        measure(kind, count if kind != "histograms" else count // 10, VictoriaMetrics)
    measure("counters", count, PrometheusReceiver)


if __name__ == "__main__":
    main()
