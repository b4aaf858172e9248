"""E: targets of pushes."""

import json
import time

from bad_server import BadServer
from bar import scenario
from harness import SLOWNESS, scratch, wait_for
from held_by import held_by
from rig import Rig
from test_pushgateway import push_metric

# Both kinds of pushes, each to a server that is bad in every way, one beside the other, at 50,000
# samples a second: the account stays exact, memory flat, good targets get everything, failures are
# counted by cause, and each target gets the state once its server is good.
ALL_AT_ONCE = "test_bad_targets.BadTargetsTest.test_all_at_once"


@scenario("E1")
def down(run):
    held_by(run, "ABRT", ALL_AT_ONCE,
            "test_remote_write_protocol.ScriptedTest.test_a_dead_target_costs_neither_samples_nor_memory")


@scenario("E2")
def refused_for_ever(run):
    held_by(run, "CRT", ALL_AT_ONCE,
            "test_remote_write_protocol.ScriptedTest.test_a_batch_that_fails_for_ever_is_bisected")


@scenario("E3")
def asks_to_wait(run):
    held_by(run, "RT", "test_pushgateway.BadTargetTest.test_retry_after_is_waited_for",
            "test_remote_write_protocol.ScriptedTest.test_waits_as_long_as_it_is_asked_to", ALL_AT_ONCE)


@scenario("E4")
def never_answers(run):
    held_by(run, "ABRT", ALL_AT_ONCE)


@scenario("E5")
def swallows_connections(run):
    held_by(run, "ABR", ALL_AT_ONCE)


@scenario("E6")
def slow_and_endless(run):
    held_by(run, "ABR", ALL_AT_ONCE)


@scenario("E7")
def a_type_that_is_taken(run):
    held_by(run, "CRT",
            "test_pushgateway.PushgatewayTest.test_an_inconsistent_family_is_left_out_and_the_rest_arrives")


@scenario("E8")
def moved(run):
    held_by(run, "T", ALL_AT_ONCE, "test_remote_write_protocol.ScriptedTest.test_a_redirect_is_no_success")


@scenario("E9")
def resets_and_certificates(run):
    held_by(run, "ART", ALL_AT_ONCE,
            *(f"test_pushgateway.TlsTest.test_{name}" for name in (
                "an_expired_certificate_is_refused", "a_certificate_of_another_host_is_refused",
                "an_unknown_authority_is_refused_unless_nothing_is_checked",
                "a_server_without_tls_is_refused")))


def to(directory, **targets):
    """A flag for a configuration that pushes to these."""
    path = directory / "push.yaml"
    path.write_text(json.dumps({"series": {"limit": 50_000}, "push": {"pushgateway": [
        {"url": url, "name": name, "interval": "200ms"} for name, url in targets.items()]}}))
    return f"--config.file={path}"


@scenario("E10")
def names_that_do_not_resolve(run):
    """No name server answers on loopback; the slow resolver is name_lookup_test's."""
    with scratch() as directory, BadServer(BadServer.always("200 OK")) as good:
        flag = to(directory, lost="http://no-such-host.invalid:9091",
                  good=f"http://localhost:{good.port}")
        with Rig(run, flag) as rig:
            load = rig.start_load(None)
            before = rig.samples_per_second(1)
            wait_for("pushes to the good one", lambda: push_metric(
                rig.daemon, "tallyd_push_successes_total", target="good") >= 3)
            wait_for("a failure", lambda: push_metric(
                rig.daemon, "tallyd_push_failures_total", target="lost", cause="lookup") >= 1)
            rig.told(True, "counted as a failure to find the name")
            rig.recovered(before)
            rig.finish_load(load)
            rig.counted()
            begin = time.monotonic()
            code = rig.daemon.stop()
            run.check("A", code == 0 and time.monotonic() - begin < 10 * SLOWNESS, f"ends: {code}")


@scenario("E11")
def out_of_order(run):
    held_by(run, "CT", "test_remote_write.PrometheusTest.test_what_another_sender_spoils_is_found_and_left_out")


@scenario("E12")
def without_native_histograms(run):
    held_by(run, "RT", "test_remote_write.NativeTest.test_a_receiver_without_them_gets_classic_ones")


@scenario("E13")
def forgot_everything(run):
    held_by(run, "R", "test_pushgateway.PushgatewayTest.test_a_gateway_that_comes_back_empty_is_complete_again")


@scenario("E14")
def older_protocol(run):
    held_by(run, "CT", "test_remote_write.PrometheusTest.test_version_2_falls_back",
            "test_remote_write.VictoriaMetricsTest.test_version_2_falls_back")


@scenario("E15")
def grouping_values(run):
    held_by(run, "C",
            "test_pushgateway.PushgatewayTest.test_every_series_arrives_as_it_is_and_prometheus_reads_it")

