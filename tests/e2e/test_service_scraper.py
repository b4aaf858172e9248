"""The scraper of docs/examples/services: jobs that live for milliseconds, and may be killed."""

import random
import subprocess
import sys
import time
import unittest

from harness import SLOWNESS, scratch
from services import ServiceTest

PAGES = 5
RECORDS = 3
JOBS = 5
TRANSPORTS = ("udp", "unixgram", "unixstream")


class ScraperTest(ServiceTest):
    service = "scraper"

    def setUp(self):
        folder = scratch()
        self.scratch = folder.__enter__()
        self.addCleanup(folder.__exit__, None, None, None)
        self.pages = self.scratch / "pages"
        self.pages.mkdir()
        for number in range(PAGES):
            lines = ["venues"] + [f"{number} {record}" for record in range(RECORDS)]
            (self.pages / f"venue-{number % 2}.{number}").write_text("\n".join(lines) + "\n")

    def daemon(self, *flags, kind="udp", **options):
        where = "127.0.0.1:0" if kind == "udp" else self.scratch / "statsd.sock"
        return super().daemon(*flags, listen=((kind, where),), **options)

    def ingest(self, daemon, kind, *flags):
        store = self.scratch / f"store-{time.monotonic_ns()}"
        store.mkdir()
        where = daemon.port() if kind == "udp" else self.scratch / "statsd.sock"
        return subprocess.Popen(
            [sys.executable, self.folder / "ingest.py", f"{kind}:{where}", self.pages, store,
             *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def reap(job):
        """Its exit code, once it has ended by itself or was killed."""
        job.communicate(timeout=30 * SLOWNESS)
        return job.returncode

    def as_shown(self, jobs, ended):
        pages = jobs * PAGES
        odd = jobs * (PAGES // 2)
        return {
            ("sms_job_starts_total", ("job_name", "ingest")): jobs,
            ("sms_job_ends_total", ("job_name", "ingest"), ("outcome", "success")): ended,
            ("sms_sources_requests_total", ("outcome", "success"), ("source", "venue-0")):
                pages - odd,
            ("sms_sources_requests_total", ("outcome", "success"), ("source", "venue-1")): odd,
            ("sms_sources_payload_bytes_count",): pages,
            ("sms_sources_payload_bytes_sum",): pages * len("venues\n0 0\n0 1\n0 2\n"),
            ("sms_gateway_envelopes_accepted_total",): pages,
            ("sms_gateway_cas_writes_total",): pages,
            ("sms_gateway_processing_duration_seconds_count",): pages,
            ("sms_ingest_log_writes_total", ("outcome", "success")): pages,
        }

    def test_jobs_that_end(self):
        for kind in TRANSPORTS:
            with self.subTest(kind), self.daemon(kind=kind) as daemon:
                for _ in range(3):
                    self.assertEqual(self.reap(self.ingest(daemon, kind)), 0)
                scrape = self.shows(daemon, self.as_shown(3, 3))
                age = time.time() - scrape.value("sms_job_last_success_timestamp_seconds",
                                                 job_name="ingest")
                self.assertLess(abs(age), 60 * SLOWNESS)
                self.assertEqual(sum(self.violations(daemon).values()), 0)

    def test_jobs_that_are_killed_when_their_work_is_done(self):
        """What a process kept to itself until its end was once lost with it."""
        for kind in TRANSPORTS:
            with self.subTest(kind), self.daemon(kind=kind) as daemon:
                for _ in range(4):
                    job = self.ingest(daemon, kind, "--stay")
                    for number in range(1, PAGES + 1):
                        self.assertEqual(job.stdout.readline(), f"{number}\n")
                    job.kill()
                    self.assertEqual(self.reap(job), -9)
                self.shows(daemon, self.as_shown(4, 0))

    def test_jobs_that_are_killed_at_any_time(self):
        """Each page that a job took is shown, and at most one more: the one at hand."""
        dice = random.Random(4)
        for kind in TRANSPORTS:
            with self.subTest(kind), self.daemon(kind=kind) as daemon:
                taken = 0
                for _ in range(JOBS):
                    job = self.ingest(daemon, kind, "--stay")
                    # Some before the first page, some between pages, some after the last.
                    first = [job.stdout.readline() for _ in range(dice.randrange(PAGES + 1))]
                    job.kill()
                    taken += len(first) + job.stdout.read().count("\n")
                    self.reap(job)
                daemon.settle()
                scrape = daemon.scrape()
                shown = scrape.total("sms_sources_requests_total")
                self.assertGreaterEqual(shown, taken)
                self.assertLessEqual(shown, taken + JOBS)
                self.assertLessEqual(scrape.total("sms_job_starts_total"), JOBS)
                self.assertEqual(scrape.total("sms_job_ends_total"), 0)

    def parse(self, daemon, page, *flags):
        return subprocess.Popen([self.folder / "parse.sh", str(daemon.port()), page, *flags],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def test_parse_jobs_of_a_shell(self):
        broken = self.scratch / "broken"
        broken.write_text("nothing that is known\n")
        page = next(iter(self.pages.iterdir()))
        with self.daemon() as daemon:
            for _ in range(10):
                self.assertEqual(self.reap(self.parse(daemon, page)), 0)
            self.assertEqual(self.reap(self.parse(daemon, broken)), 1)
            for _ in range(10):
                job = self.parse(daemon, page, "--stay")
                self.assertEqual(job.stdout.readline(), "sent\n")
                job.kill()
                self.assertEqual(self.reap(job), -9)
            job_name = ("job_name", "parse")
            self.shows(daemon, {
                ("sms_job_starts_total", job_name): 21,
                ("sms_job_ends_total", job_name, ("outcome", "success")): 10,
                ("sms_job_ends_total", job_name, ("outcome", "error")): 1,
                ("sms_parser_parses_total", ("outcome", "success")): 20,
                ("sms_parser_parses_total", ("outcome", "error")): 1,
                ("sms_parser_records_extracted_total",): 20 * RECORDS,
                ("sms_parser_batch_records_sum",): 20 * RECORDS,
                ("sms_parser_batch_records_bucket", ("le", "1")): 0,
                ("sms_parser_batch_records_bucket", ("le", "10")): 20,
                ("sms_parser_duration_seconds_count",): 21,
            })


if __name__ == "__main__":
    unittest.main()
