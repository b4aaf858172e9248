"""Sends with Python's statsd: send_python.py udp|tcp PORT."""

import datetime
import sys

import statsd

kind, port = sys.argv[1], int(sys.argv[2])
make = statsd.StatsClient if kind == "udp" else statsd.TCPStatsClient
client = make("127.0.0.1", port, prefix="py")
client.incr("orders")
client.incr("orders", 4)
client.decr("refused")
client.gauge("depth", 12.5)
client.gauge("depth", 2, delta=True)
client.gauge("depth", -4, delta=True)
client.gauge("below", -3)
client.timing("checkout", 250)
client.timing("checkout", datetime.timedelta(milliseconds=750))
client.set("visitors", "ann")
client.set("visitors", "bob")
client.set("visitors", "ann")
with client.pipeline() as pipeline:
    pipeline.incr("left", 2)
    pipeline.incr("right", 2)
with client.timer("block"):
    pass
client.close()
