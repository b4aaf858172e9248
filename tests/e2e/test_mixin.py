"""The alerts and the dashboard for tallyd itself are valid and name metrics that there are."""

import json
import re
import subprocess
import unittest

from harness import ROOT, SLOWNESS, Daemon, free_port, needs

MIXIN = ROOT / "packaging/mixin"
# Of Prometheus itself, about a scrape.
NOT_OURS = {"up"}


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], cwd=MIXIN, capture_output=True, text=True,
                          timeout=30 * SLOWNESS, check=False)


def expressions_of_alerts():
    """The expressions of the rule file, without a YAML parser: the text from expr to the next key."""
    text = (MIXIN / "alerts.yaml").read_text()
    return re.findall(r"^ +expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):", text, re.M)


def metrics_in(expression):
    without_labels = re.sub(r"\{[^}]*\}|\b(?:by|on) \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:up|tallyd_\w+|process_\w+)\b", without_labels))


def problems(schema, value, where="$"):
    """What of a value is not as a JSON schema says; the few keywords that ours uses."""
    found = []
    types = {"object": dict, "array": list, "string": str, "integer": int}
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return [f"{where}: not {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is not one of {schema['enum']}")
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            found.append(f"{where}: {value!r} is not as {schema['pattern']}")
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"{where}: too long")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            found.append(f"{where}: too few")
        for number, item in enumerate(value):
            found += problems(schema.get("items", {}), item, f"{where}[{number}]")
    if isinstance(value, dict):
        found += [f"{where}: no {name}" for name in schema.get("required", []) if name not in value]
        found += [f"{where}: has {name}" for name in schema.get("x-absent", []) if name in value]
        for name, below in schema.get("properties", {}).items():
            if name in value:
                found += problems(below, value[name], f"{where}.{name}")
    return found


def daemon_with_targets():
    """One target of each kind, neither of which is there."""
    return Daemon(f"--push.pushgateway-url=http://127.0.0.1:{free_port()}",
                  f"--push.remote-write-url=http://127.0.0.1:{free_port()}/api/v1/write",
                  "--push.exit-timeout=1s", "--series.limit=1000")


class MixinTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dashboard = json.loads((MIXIN / "dashboard.json").read_text())
        cls.panels = [panel for panel in cls.dashboard["panels"] if panel["type"] != "row"]

    @needs("promtool")
    def test_the_rules_are_valid_and_do_what_they_say(self):
        checked = promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        tested = promtool("test", "rules", "tests.yaml")
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)

    def test_every_alert_is_tested_both_ways_and_has_a_runbook(self):
        alerts = re.findall(r"alert: (\w+)", (MIXIN / "alerts.yaml").read_text())
        self.assertEqual(len(alerts), len(set(alerts)))
        tests = (MIXIN / "tests.yaml").read_text()
        runbooks = (ROOT / "docs/runbooks.md").read_text()
        for alert in alerts:
            self.assertIn(f"alertname: {alert}, exp_alerts: []", tests)
            self.assertRegex(tests, rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels")
            self.assertIn(f"\n## {alert}\n", runbooks)

    def test_the_dashboard_is_as_its_schema_says(self):
        schema = json.loads((MIXIN / "dashboard.schema.json").read_text())
        self.assertEqual(problems(schema, self.dashboard), [])
        self.assertEqual(problems(schema, {**self.dashboard, "id": 7}), ["$: has id"])
        for panel in self.panels:
            for name in ("description", "fieldConfig", "targets", "datasource"):
                self.assertIn(name, panel, panel["title"])
        occupied = set()
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & occupied, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            occupied |= cells

    def test_the_first_row_is_the_ledger(self):
        self.assertEqual(self.dashboard["panels"][0]["title"], "Ledger")
        titles = [panel["type"] for panel in self.dashboard["panels"]]
        end = titles.index("row", 1)
        metrics = set()
        for panel in self.dashboard["panels"][1:end]:
            metrics |= metrics_in(panel["targets"][0]["expr"])
        self.assertLessEqual(
            {"tallyd_received_samples_total", "tallyd_applied_samples_total",
             "tallyd_dropped_samples_total", "tallyd_folded_samples_total",
             "tallyd_kernel_dropped_datagrams_total"}, metrics)

    def test_every_metric_that_is_named_is_there(self):
        named = set()
        expressions = expressions_of_alerts()
        self.assertGreaterEqual(len(expressions), 10)
        for expression in expressions:
            self.assertTrue(metrics_in(expression), expression)
            named |= metrics_in(expression)
        for panel in self.panels:
            for target in panel["targets"]:
                named |= metrics_in(target["expr"])
        with daemon_with_targets() as daemon:
            daemon.scrape()
            shown = {name for name, _ in daemon.scrape(path="/-/metrics").samples}
        self.assertEqual(named - shown - NOT_OURS, set())

    def test_each_target_has_all_that_is_named_of_pushes(self):
        named = set()
        for expression in expressions_of_alerts() + [
                target["expr"] for panel in self.panels for target in panel["targets"]]:
            named |= {name for name in metrics_in(expression) if name.startswith("tallyd_push_")}
        self.assertLessEqual({
            f"tallyd_push_{what}" for what in (
                "last_success_timestamp_seconds", "failures_total", "dropped_total",
                "queued_series", "in_flight", "duration_seconds_sum", "sent_bytes_total")}, named)
        with daemon_with_targets() as daemon:
            shown = {}
            for name, labels in daemon.scrape(path="/-/metrics").samples:
                shown.setdefault(dict(labels).get("kind"), set()).add(name)
        for kind in ("pushgateway", "remote_write"):
            self.assertEqual(named - shown[kind], set(), kind)


if __name__ == "__main__":
    unittest.main()
