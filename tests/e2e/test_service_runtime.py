"""The durable runtime of docs/examples/services: a gauge that is there, names that are known."""

import unittest

from harness import scratch
from services import Emitter, ServiceTest, compile_emitter

SCRIPT = (
    "start create-instance i1", "turn i1 instances::activity::create-vm success",
    "turn i1 instances::activity::test-connection success", "end i1 success",
    "start delete-instance i2", "turn i2 instances::activity::delete-vm failed", "end i2 app_error",
    "start instance-actor i3",
)
# Of SCRIPT: a turn takes 20 ms and an activity 30 ms; an instance begins and ends with a turn.
CREATE = ("orchestration_name", "create-instance")
DELETE = ("orchestration_name", "delete-instance")
ACTOR = ("orchestration_name", "instance-actor")
SHOWN = {
    ("duroxide_active_orchestrations",): 1,
    ("duroxide_orchestration_starts_total", CREATE): 1,
    ("duroxide_orchestration_starts_total", ACTOR): 1,
    ("duroxide_orchestration_completions_total", CREATE, ("outcome", "success")): 1,
    ("duroxide_orchestration_completions_total", CREATE, ("outcome", "failed")): 0,
    ("duroxide_orchestration_completions_total", DELETE, ("outcome", "failed")): 1,
    ("duroxide_orchestration_failures_total", ("error_type", "app_error"), DELETE): 1,
    ("duroxide_orchestration_failures_total", ("error_type", "config_error"), DELETE): 0,
    ("duroxide_orchestration_duration_seconds_sum", CREATE): 0.14,
    ("duroxide_orchestration_duration_seconds_bucket", CREATE, ("le", "0.1")): 0,
    ("duroxide_orchestration_duration_seconds_bucket", CREATE, ("le", "0.5")): 1,
    ("duroxide_orchestration_duration_seconds_sum", DELETE): 0.09,
    ("duroxide_orchestration_turns_sum", CREATE): 4,
    ("duroxide_orchestration_turns_bucket", CREATE, ("le", "2")): 0,
    ("duroxide_orchestration_turns_bucket", CREATE, ("le", "5")): 1,
    ("duroxide_orchestration_history_events_sum", CREATE): 6,
    ("duroxide_orchestration_history_events_bucket", CREATE, ("le", "10")): 1,
    ("duroxide_orchestration_history_events_sum", DELETE): 4,
    ("duroxide_activity_executions_total",
     ("activity_name", "instances::activity::test-connection"), ("outcome", "success")): 1,
    ("duroxide_activity_executions_total",
     ("activity_name", "instances::activity::delete-vm"), ("outcome", "failed")): 1,
    ("duroxide_activity_duration_seconds_sum",
     ("activity_name", "instances::activity::create-vm")): 0.03,
}
SAMPLES = 24


class RuntimeTest(ServiceTest):
    service = "runtime"

    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.programs = folder.__enter__()
        cls.addClassCleanup(folder.__exit__, None, None, None)
        # The build that reports, and the one that has it compiled away: users have either.
        for name, flag in (("real", "-DDUROXIDE_METRICS=1"), ("stub", "-DDUROXIDE_METRICS=0")):
            compile_emitter("runtime", "runtime.cc", cls.programs / name, flag)

    def runtime(self, daemon, *flags, build="real"):
        return Emitter(self.programs / build, daemon.port(), *flags)

    def test_the_gauge_follows(self):
        """It once existed in the code, and nowhere else."""
        with self.daemon() as daemon:
            with self.runtime(daemon) as runtime:
                # It is there, at 0, before anything ran.
                daemon.settle(received=1)
                self.assertEqual(daemon.scrape().value("duroxide_active_orchestrations"), 0)
                self.assertEqual(runtime.tell("start create-instance a", "start instance-actor b",
                                              "start instance-actor c", "end a success"), "2")
                self.shows(daemon, {("duroxide_active_orchestrations",): 2})
                runtime.tell("end b success", "end c success")
                self.shows(daemon, {("duroxide_active_orchestrations",): 0})

    def test_what_ran_is_shown(self):
        with self.daemon() as daemon, self.runtime(daemon) as runtime:
            self.assertEqual(runtime.tell(*SCRIPT), "1")
            ledger = daemon.settle(received=SAMPLES)
            self.assertEqual((ledger.received, ledger.reasons, ledger.folded), (SAMPLES, {}, 0))
            self.shows(daemon, SHOWN)
            self.assertEqual(sum(self.violations(daemon).values()), 0)

    def test_a_build_without_metrics_does_the_same_work_and_sends_nothing(self):
        """The build that was tested was once not the build that was shipped."""
        with self.daemon() as daemon, self.runtime(daemon, build="stub") as stub:
            with self.runtime(daemon) as real:
                for command in SCRIPT:
                    self.assertEqual(stub.tell(command), real.tell(command), command)
            self.assertEqual(daemon.settle(received=SAMPLES).received, SAMPLES)

    def test_an_orchestration_is_never_unknown(self):
        """The name once came from a part of the history that only the first turn has."""
        with self.daemon() as daemon:
            with self.runtime(daemon, "--names-from-history") as runtime:
                runtime.tell("start create-instance a", "end a success")
                self.shows(daemon, {
                    ("duroxide_orchestration_completions_total",
                     ("orchestration_name", "__overflow__"), ("outcome", "success")): 1,
                    ("duroxide_orchestration_completions_total", CREATE, ("outcome", "success")): 0,
                })
            self.wait_for_violation(daemon, "label_value", "duroxide_orchestration_completions_total",
                                    "orchestration_name")
            self.assertNotIn(b'"unknown"', daemon.get("/metrics").body)

    def test_bounds_written_as_integers_and_as_floats_are_the_same(self):
        """Integers were once refused where numbers with a point were expected."""
        text = self.catalog.read_text()
        integers = "[10, 50, 100, 500, 1000, 5000, 10000]"
        self.assertIn(integers, text)
        floats = "[10.0, 50.0, 1e2, 500.0, 1000.0, 5e3, 10000.0]"
        bounds = []
        with scratch() as folder:
            path = folder / "catalog.yaml"
            for written in (integers, floats):
                path.write_text(text.replace(integers, written))
                with self.daemon(catalog=path) as daemon, self.runtime(daemon) as runtime:
                    runtime.tell("start create-instance a", "end a success")
                    self.shows(daemon, {("duroxide_orchestration_history_events_count", CREATE): 1})
                    bounds.append(sorted(
                        dict(labels)["le"] for labels in daemon.scrape().series(
                            "duroxide_orchestration_history_events_bucket") if CREATE in labels))
        self.assertEqual(bounds[0], bounds[1])
        self.assertEqual(bounds[0], sorted(
            ["10", "50", "100", "500", "1000", "5000", "10000", "+Inf"]))


if __name__ == "__main__":
    unittest.main()
