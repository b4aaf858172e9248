"""What the services of docs/examples/services have declared is there before anything was sent."""

import subprocess
import unittest

from harness import needs
from services import ServiceTest

OPERATIONS = ("fetch", "ack_orch", "ack_worker", "enqueue", "dequeue_worker")
ERRORS = ("transaction_failed", "lock_timeout", "serialization_error", "unknown")


class DeclaredTests:
    """`later` are metrics of which there can be nothing yet: readings, and labels without a list."""

    later = ()

    @needs("promtool")
    def test_every_declared_metric_is_there_before_anything_ran(self):
        with self.daemon() as daemon:
            scrape = daemon.scrape()
            for name, kind in self.declared().items():
                if name in self.later:
                    continue
                self.assertIn(name, scrape.families)
                self.assertEqual(scrape.families[name].type, kind, name)
                self.assertTrue(scrape.families[name].help, name)
            self.assertEqual(set(scrape.user_samples().values()), {0.0})
            done = subprocess.run(["promtool", "check", "metrics"],
                                  input=daemon.get("/metrics").body, capture_output=True,
                                  timeout=20, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))


class RuntimeDeclaredTest(DeclaredTests, ServiceTest):
    service = "runtime"
    later = ("duroxide_activity_executions_total", "duroxide_activity_duration_seconds")

    def test_the_gauge_of_active_orchestrations(self):
        """It once existed in the code, and nowhere else."""
        with self.daemon() as daemon:
            self.assertEqual(daemon.scrape().value("duroxide_active_orchestrations"), 0)


class StorageProviderDeclaredTest(DeclaredTests, ServiceTest):
    service = "storage_provider"
    later = ("provider_queue_depth",)

    def test_every_error_of_every_operation(self):
        with self.daemon() as daemon:
            errors = daemon.scrape().series("provider_infrastructure_errors_total")
            self.assertEqual({tuple(value for _, value in labels) for labels in errors},
                             {(error, name) for error in ERRORS for name in OPERATIONS})

    def test_work_makes_no_series(self):
        """Buckets are there before the first sample: recording allocates nothing."""
        with self.daemon() as daemon:
            before = set(daemon.scrape().user_samples())
            daemon.send_udp("provider.fetch_orchestration_item_duration_ms:3|ms",
                            "provider.infrastructure_errors:1|c|#operation:fetch,error_type:unknown")
            daemon.settle(received=2)
            self.assertEqual(set(daemon.scrape().user_samples()), before)


class MessagingDeclaredTest(DeclaredTests, ServiceTest):
    service = "messaging"


class MeetingControllerDeclaredTest(DeclaredTests, ServiceTest):
    service = "meeting_controller"


class ScraperDeclaredTest(DeclaredTests, ServiceTest):
    service = "scraper"
    later = ("sms_sources_requests_total",)


if __name__ == "__main__":
    unittest.main()
