"""The scraper of docs/examples/services: jobs that live for milliseconds, and may be killed."""

import os
import random
import signal
import subprocess
import sys
import time
import unittest

from harness import BIN, SLOWNESS, http_request, needs, scratch, wait_for
from services import ServiceTest
from test_pushgateway import Pushgateway, config

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


@needs("prometheus-pushgateway")
class PipelineTest(ServiceTest):
    """The commands of the pipeline as jobs, each with a group in Debian's Pushgateway."""

    service = "scraper"

    def setUp(self):
        folder = scratch()
        self.scratch = folder.__enter__()
        self.addCleanup(folder.__exit__, None, None, None)
        for name in ("pages", "store", "inbox"):
            (self.scratch / name).mkdir()
        for number in range(PAGES):
            page = self.scratch / "pages" / f"venue-0.{number}"
            page.write_text(f"venues\n{number} a\n{number} b\n")
        self.gateway = Pushgateway()
        self.gateway.__enter__()
        self.addCleanup(self.gateway.__exit__)
        self.admin = self.scratch / "admin.sock"
        # Beats that never come in time: what arrives was pushed because a command ended.
        self.interval = "1h"

    def daemon(self, *flags, **options):
        target = {"url": self.gateway.url, "job": "host", "interval": self.interval}
        return super().daemon(f"--admin.socket={self.admin}", config(self.scratch, [target]),
                              *flags, **options)

    def start(self, command, *arguments, ttl="1h"):
        process = subprocess.Popen(
            [self.folder / "pipeline.sh", command, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "TALLYCTL": str(BIN / "tallyctl"),
                 "TALLYCTL_RUN": f"--require --socket={self.admin} --ttl={ttl}"})
        self.addCleanup(process.stdout.close)
        # With its command, which would outlive it.
        self.addCleanup(lambda: process.poll() is None and os.killpg(process.pid, signal.SIGKILL))
        return process

    def child_of(self, process):
        """The command itself, which tallyctl started."""
        def child():
            with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as all_:
                return [int(pid) for pid in all_.read().split()]

        return wait_for("the command", child)[0]

    def group(self, instance):
        """{name or (name, other labels' values...): value} of what the gateway has."""
        values = {}
        for (name, labels), value in self.gateway.samples(job="scraper", instance=instance).items():
            rest = [text for key, text in labels if key not in ("job", "instance")]
            values[(name, *rest) if rest else name] = value
        return values

    def ended(self, instance, exit_code):
        return wait_for(f"the end of {instance}", lambda: (
            lambda group: group.get("tallyd_job_exit_code") == exit_code and group)(
                self.group(instance)), 20)

    def assert_ingested(self, group):
        self.assertEqual(group[("sms_sources_requests_total", "success", "venue-0")], PAGES)
        self.assertEqual(group["sms_gateway_envelopes_accepted_total"], PAGES)
        self.assertEqual(group["sms_gateway_cas_writes_total"], PAGES)
        self.assertEqual(group["sms_sources_payload_bytes_count"], PAGES)
        self.assertEqual(group["sms_sources_payload_bytes_sum"], PAGES * len("venues\n0 a\n0 b\n"))
        self.assertEqual(group["sms_gateway_processing_duration_seconds_count"], PAGES)
        self.assertEqual(group[("sms_job_starts_total", "ingest")], 1)

    def test_a_moment_is_enough(self):
        page = self.scratch / "pages" / "venue-0.0"
        with self.daemon() as daemon:
            parse = self.start("parse", page)
            self.assertEqual(parse.wait(30 * SLOWNESS), 0)
            group = self.ended("parse", 0)
            self.assertEqual(group[("sms_job_ends_total", "parse", "success")], 1)
            self.assertEqual(group["sms_parser_records_extracted_total"], 2)
            self.assertEqual(group["sms_parser_duration_seconds_count"], 1)
            self.assertLess(group["tallyd_job_duration_seconds"], 5 * SLOWNESS)
            ingest = self.start("ingest", self.scratch / "pages", self.scratch / "store")
            self.assertEqual(ingest.wait(30 * SLOWNESS), 0)
            self.assert_ingested(self.ended("ingest", 0))
            # The labels of a job are nothing that a catalog would have to declare.
            self.assertEqual(sum(self.violations(daemon).values()), 0)

    def test_commands_that_are_killed(self):
        with self.daemon():
            ingest = self.start("ingest", self.scratch / "pages", self.scratch / "store", "--stay")
            for number in range(1, PAGES + 1):
                self.assertEqual(ingest.stdout.readline(), f"{number}\n")
            os.kill(self.child_of(ingest), 9)
            self.assertEqual(ingest.wait(30 * SLOWNESS), 137)
            group = self.ended("ingest", 137)
            self.assert_ingested(group)
            self.assertNotIn(("sms_job_ends_total", "ingest", "success"), group)
            parse = self.start("parse", self.scratch / "pages" / "venue-0.0", "--stay")
            self.assertEqual(parse.stdout.readline(), "sent\n")
            child = self.child_of(parse)
            parse.kill()
            self.assertEqual(parse.wait(30 * SLOWNESS), -9)
            os.kill(child, 9)
            self.assertEqual(
                self.ended("parse", -1)["sms_parser_records_extracted_total"], 2)

    def test_the_gateway_command_is_pushed_while_it_lives(self):
        self.interval = "300ms"
        inbox = self.scratch / "inbox"
        with self.daemon():
            gateway = self.start("gateway", inbox, self.scratch / "store")
            for seen, body in enumerate(("a", "b", "a"), 1):
                (inbox / "new").write_text(body)
                (inbox / "new").rename(inbox / f"{seen}.envelope")
                self.assertEqual(gateway.stdout.readline(), f"{seen}\n")
                wait_for("the push", lambda: self.group("gateway").get(
                    "sms_gateway_processing_duration_seconds_count") == seen, 20)
            self.assertEqual(self.group("gateway")["tallyd_job_running"], 1)
            gateway.terminate()
            self.assertEqual(gateway.wait(30 * SLOWNESS), 0)
            group = self.ended("gateway", 0)
            self.assertEqual(group["sms_gateway_envelopes_accepted_total"], 2)
            self.assertEqual(group["sms_gateway_envelopes_deduplicated_total"], 1)
            self.assertEqual(group["tallyd_job_running"], 0)

    def test_groups_go(self):
        with self.daemon():
            parse = self.start("parse", self.scratch / "pages" / "venue-0.0", ttl="2s")
            self.assertEqual(parse.wait(30 * SLOWNESS), 0)
            self.ended("parse", 0)
            wait_for("the group to be gone", lambda: b'job="scraper"' not in http_request(
                self.gateway.port, "/metrics").body, 20)


if __name__ == "__main__":
    unittest.main()
