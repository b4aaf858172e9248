"""The gateway command: takes envelopes from a folder into the store for as long as it lives.

    gateway.py TALLYD INBOX STORE

TALLYD is as for ingest.py. An envelope that the store has already is counted and left out. After
each the command prints how many it has seen. On SIGTERM it takes what is there and ends.
"""

import hashlib
import pathlib
import signal
import sys
import time

from ingest import Metrics, names

INTERVAL_S = 0.05


def take(envelope, store, metrics):
    started = time.monotonic()
    body = envelope.read_bytes()
    envelope.unlink()
    place = store / hashlib.sha256(body).hexdigest()
    if place.exists():
        metrics.send(names.SMS_GATEWAY_ENVELOPES_DEDUPLICATED_TOTAL, 1)
    else:
        place.write_bytes(body)
        metrics.send(names.SMS_GATEWAY_CAS_WRITES_TOTAL, 1)
        metrics.send(names.SMS_GATEWAY_ENVELOPES_ACCEPTED_TOTAL, 1)
    metrics.send(names.SMS_GATEWAY_PROCESSING_DURATION_SECONDS, time.monotonic() - started)


def main():
    where, inbox, store = sys.argv[1:4]
    metrics = Metrics(where)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    seen = 0
    while True:
        last = bool(stop)
        for envelope in sorted(pathlib.Path(inbox).glob("*.envelope")):
            take(envelope, pathlib.Path(store), metrics)
            seen += 1
            print(seen, flush=True)
        if last:
            return
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main()
