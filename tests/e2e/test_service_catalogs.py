"""The catalogs of docs/examples/services, and what is generated from them."""

import unittest

from harness import BIN, needs, scratch
from services import ServiceTest, run


class CatalogTests:
    """What holds of each service's catalog. Its own module has what its daemon shows."""

    def test_the_catalog_is_what_a_reviewer_would_pass(self):
        code, output = self.lint(self.catalog)
        self.assertEqual(code, 0, output)

    def test_what_is_generated_is_what_the_catalog_says(self):
        code, output = run(BIN / "tallyctl", "catalog", "generate", "--check",
                           "--out", self.folder / "generated", self.catalog)
        self.assertEqual(code, 0, output)

    @needs("promtool")
    def test_each_alert_fires_when_it_should_and_only_then(self):
        generated = self.folder / "generated"
        rules = generated / f"{self.service}_rules.yaml"
        tests = generated / f"{self.service}_rules_test.yaml"
        code, output = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
        self.assertEqual(code, 0, output)
        code, output = run("promtool", "test", "rules", tests)
        self.assertEqual(code, 0, output)
        for alert in self.alerts():
            self.assertRegex(rules.read_text(), rf"alert: {alert}\b")
            for verdict in ("fires", "does not fire"):
                self.assertIn(f"# {alert} {verdict}.", tests.read_text())


class RuntimeCatalogTest(CatalogTests, ServiceTest):
    service = "runtime"


class StorageProviderCatalogTest(CatalogTests, ServiceTest):
    service = "storage_provider"


class MessagingCatalogTest(CatalogTests, ServiceTest):
    service = "messaging"


class MeetingControllerCatalogTest(CatalogTests, ServiceTest):
    service = "meeting_controller"


class ScraperCatalogTest(CatalogTests, ServiceTest):
    service = "scraper"


class ReviewTest(ServiceTest):
    """Alerts that once woke people for nothing do not pass a review."""

    service = "messaging"

    def test_there_are_37_metrics_and_25_alerts(self):
        self.assertEqual((len(self.declared()), len(self.alerts())), (37, 25))

    def test_an_alert_on_any_failure_does_not_pass(self):
        """It fired on each single failed search; the other one added three unrelated counters."""
        text = self.catalog.read_text()
        for wrong, found in (
            ('rate(message_searches_total{status="failed"}[5m]) > 0', "any single event"),
            ("increase(ws_errors_total[5m]) + increase(message_delivery_failures_total[5m])"
             " + increase(message_searches_total[5m]) > 100", "unrelated counters"),
        ):
            with self.subTest(wrong), scratch() as folder:
                path = folder / "catalog.yaml"
                path.write_text(text.replace(
                    "expr: messaging:searches_failed:ratio_rate5m > 0.01", f"expr: '{wrong}'", 1))
                code, output = self.lint(path)
                self.assertEqual(code, 3, output)
                self.assertIn("MessageSearchFailures", output)
                self.assertIn(found, output)


if __name__ == "__main__":
    unittest.main()
