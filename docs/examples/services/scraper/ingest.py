"""The ingest job: takes the pages of a folder into a content-addressed store, and ends.

    ingest.py TALLYD PAGES STORE [--stay]

TALLYD is udp:PORT, unixgram:PATH or unixstream:PATH. Each sample is handed to the kernel when it
arises: there is nothing that would have to be flushed, so nothing is lost when the job is killed.
After each page the job prints how many it has taken. With --stay it does not end by itself.
"""

import hashlib
import pathlib
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "generated"))
import scraper_metrics as names  # noqa: E402  pylint: disable=wrong-import-position


class Metrics:
    """Sends each sample at once: over UDP without waiting, over UNIX sockets until there is room."""

    def __init__(self, where):
        kind, _, address = where.partition(":")
        self._framed = kind == "unixstream"
        if kind == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.connect(("127.0.0.1", int(address)))
        else:
            stream = socket.SOCK_STREAM if self._framed else socket.SOCK_DGRAM
            self._socket = socket.socket(socket.AF_UNIX, stream)
            self._socket.connect(address)

    def send(self, metric, value, **labels):
        data = names.line(metric, value, **labels).encode()
        # DogStatsD's framing of streams: a length, little-endian, before each packet.
        self._socket.sendall(struct.pack("<I", len(data)) + data if self._framed else data)


def ingest(page, store, log, metrics):
    started = time.monotonic()
    body = page.read_bytes()
    source = page.stem.split(".")[0]
    metrics.send(names.SMS_SOURCES_REQUEST_DURATION_SECONDS, time.monotonic() - started)
    if not body:
        metrics.send(names.SMS_SOURCES_REQUESTS_TOTAL, 1, source=source, outcome="error")
        return
    metrics.send(names.SMS_SOURCES_REQUESTS_TOTAL, 1, source=source, outcome="success")
    metrics.send(names.SMS_SOURCES_PAYLOAD_BYTES, len(body))
    place = store / hashlib.sha256(body).hexdigest()
    if place.exists():
        metrics.send(names.SMS_GATEWAY_ENVELOPES_DEDUPLICATED_TOTAL, 1)
    else:
        place.write_bytes(body)
        metrics.send(names.SMS_GATEWAY_CAS_WRITES_TOTAL, 1)
        metrics.send(names.SMS_GATEWAY_ENVELOPES_ACCEPTED_TOTAL, 1)
    line = f"{source} {place.name}\n"
    log.write(line)
    log.flush()
    metrics.send(names.SMS_INGEST_LOG_WRITES_TOTAL, 1, outcome="success")
    metrics.send(names.SMS_INGEST_LOG_WRITTEN_BYTES_TOTAL, len(line))
    metrics.send(names.SMS_GATEWAY_PROCESSING_DURATION_SECONDS, time.monotonic() - started)


def main():
    where, pages, store = sys.argv[1:4]
    store = pathlib.Path(store)
    metrics = Metrics(where)
    metrics.send(names.SMS_JOB_STARTS_TOTAL, 1, job_name="ingest")
    with open(store / "ingest.log", "a", encoding="utf-8") as log:
        for taken, page in enumerate(sorted(pathlib.Path(pages).iterdir()), 1):
            ingest(page, store, log, metrics)
            print(taken, flush=True)
    if "--stay" in sys.argv:
        time.sleep(60)
    metrics.send(names.SMS_JOB_ENDS_TOTAL, 1, job_name="ingest", outcome="success")
    metrics.send(names.SMS_JOB_LAST_SUCCESS_TIMESTAMP_SECONDS, int(time.time()),
                 job_name="ingest")


if __name__ == "__main__":
    main()
