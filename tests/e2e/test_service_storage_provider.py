"""The storage provider of docs/examples/services: durations, closed lists of errors, queue depths."""

import re
import socket
import subprocess
import unittest

from harness import SLOWNESS, needs, scratch, stopped, wait_for
from services import Emitter, ServiceTest, compile_emitter

OPERATIONS = ("fetch", "ack_orch", "ack_worker", "enqueue", "dequeue_worker")
# What each operation takes, in milliseconds, as provider.cc has it.
TAKES = {"fetch_orchestration_item": 2, "ack_orchestration_item": 5, "ack_worker": 3,
         "enqueue_orchestrator": 1, "dequeue_worker": 2}
SAMPLES_A_ROUND = 10
# Instructions for one sample: to make its line and to put it into a batch.
MOST_INSTRUCTIONS = 2000


class StorageProviderTest(ServiceTest):
    service = "storage_provider"

    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.run_folder = folder.__enter__()
        cls.addClassCleanup(folder.__exit__, None, None, None)
        compile_emitter("storage_provider", "provider.cc", cls.run_folder / "provider")
        # The catalog with the paths of this test.
        text = (cls("tell").catalog).read_text()
        cls.here = cls.run_folder / "catalog.yaml"
        cls.here.write_text(text.replace("/run/provider/", f"{cls.run_folder}/"))

    def daemon(self, *flags, **options):
        return super().daemon(*flags, catalog=self.here, **options)

    def gram(self):
        return self.daemon(listen=(("unixgram", self.run_folder / "statsd.sock"),))

    def argv(self, *flags):
        return [self.run_folder / "provider", self.run_folder / "statsd.sock",
                self.run_folder / "admin.sock", self.run_folder / "worker_depth", *flags]

    def provider(self, *flags):
        return Emitter(*self.argv(*flags))

    @staticmethod
    def tell(provider, *commands):
        """Samples (recorded, sent, lost)."""
        recorded, sent, lost, _ = (int(word) for word in provider.tell(*commands).split())
        return recorded, sent, lost

    def test_durations_are_sent_in_milliseconds_and_shown_in_seconds(self):
        rounds = 60
        with self.gram() as daemon, self.provider() as provider:
            for _ in range(rounds // 4):
                recorded, sent, lost = self.tell(provider, "rounds 4")
                self.assertEqual((recorded, lost), (sent, 0))
                daemon.settle(received=sent, fresh=False)
            self.assertEqual(recorded, rounds * SAMPLES_A_ROUND)
            want = {("provider_operations_total", ("operation", name)): rounds
                    for name in OPERATIONS}
            for name, ms in TAKES.items():
                metric = f"provider_{name}_duration_seconds"
                want[metric + "_count",] = rounds
                want[metric + "_sum",] = rounds * ms / 1000
                want[metric + "_bucket", ("le", str(ms / 1000))] = (
                    rounds if ms != 3 else None)
            want = {key: value for key, value in want.items() if value is not None}
            want["provider_ack_orchestration_item_duration_seconds_bucket", ("le", "0.002")] = 0
            want["provider_ack_worker_duration_seconds_bucket", ("le", "0.005")] = rounds
            shown = self.shows(daemon, want)
            self.assertEqual(daemon.ledger().folded, 0)
            self.assertGreater(len(shown.user_samples()), 0)

    def test_errors_are_of_closed_lists(self):
        with self.gram() as daemon, self.provider() as provider:
            # "query_failed" is what the code once said, and no document.
            self.tell(provider, "fail fetch lock_timeout", "fail fetch lock_timeout",
                      "fail enqueue unknown", "fail fetch query_failed")
            name = "provider_infrastructure_errors_total"
            fetch = ("operation", "fetch")
            self.shows(daemon, {
                (name, ("error_type", "lock_timeout"), fetch): 2,
                (name, ("error_type", "unknown"), ("operation", "enqueue")): 1,
                (name, ("error_type", "__overflow__"), fetch): 1,
                ("provider_operations_total", fetch): 3,
            })
            self.wait_for_violation(daemon, "label_value", name, "error_type")

    def test_retries_are_counted_one_by_one(self):
        with self.gram() as daemon, self.provider() as provider:
            self.tell(provider, "retry 0", "retry 2", "retry 3")
            self.shows(daemon, {
                ("provider_ack_orchestration_retries_total",): 5,
                ("provider_ack_orchestration_item_duration_seconds_count",): 3,
                ("provider_ack_orchestration_item_duration_seconds_sum",): 0.04,
            })

    def test_the_provider_says_how_deep_its_queues_are(self):
        """On its socket and in its file, as the catalog declares it."""
        with self.gram(), self.provider() as provider:
            self.tell(provider, "enqueue orchestrator 3", "enqueue worker 7", "enqueue timer 2",
                      "enqueue worker 5")
            self.assertEqual(self.ask("depth orchestrator\n"), "3\n")
            self.assertEqual(self.ask("depth timer\n"), "2\n")
            self.assertEqual((self.run_folder / "worker_depth").read_text(), "12\n")

    def test_queue_depths_are_read_on_a_timer(self):
        """The daemon reads them where the provider keeps them; none of this is sent."""
        def depths(orchestrator, worker, timer):
            return {("provider_queue_depth", ("queue", queue)): depth for queue, depth in (
                ("orchestrator", orchestrator), ("worker", worker), ("timer", timer))}

        with self.gram() as daemon, self.provider() as provider:
            self.tell(provider, "enqueue orchestrator 3", "enqueue worker 7", "enqueue timer 2",
                      "enqueue worker 5")
            self.shows(daemon, depths(3, 12, 2))
            self.tell(provider, "enqueue worker 0")
            wait_for("the queue to be empty", lambda: daemon.scrape().value(
                "provider_queue_depth", queue="worker") == 0)
            self.assertEqual(daemon.ledger().received, 0)

    def ask(self, query):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5 * SLOWNESS)
            connection.connect(str(self.run_folder / "admin.sock"))
            connection.sendall(query.encode())
            return connection.recv(64).decode()

    def test_recording_never_waits(self):
        """A daemon that reads nothing costs samples, not time."""
        with self.gram() as daemon, self.provider() as provider:
            with stopped(daemon.pid):
                recorded, sent, lost = self.tell(provider, "rounds 20000")
            self.assertEqual(recorded, 20000 * SAMPLES_A_ROUND)
            self.assertEqual(recorded, sent + lost)
            # The kernel keeps little of what nobody reads: a sender that waits would still wait.
            self.assertGreater(lost, recorded / 2)
            self.assertEqual(daemon.settle(received=sent).received, sent)

    @needs("valgrind")
    def test_recording_costs_few_instructions(self):
        rounds = 1000
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            path = self.run_folder / "statsd.sock"
            path.unlink(missing_ok=True)
            receiver.bind(str(path))
            cost = self.instructions(rounds) - self.instructions(rounds, "--silent")
            path.unlink()
        each = cost / (rounds * SAMPLES_A_ROUND)
        self.assertGreater(each, 10)
        self.assertLess(each, MOST_INSTRUCTIONS)

    def instructions(self, rounds, *flags):
        """Of the program, without the kernel."""
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
             *[str(word) for word in self.argv(*flags)]],
            input=f"rounds {rounds}\n", capture_output=True, text=True, timeout=60 * SLOWNESS,
            check=True,
        )
        return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


if __name__ == "__main__":
    unittest.main()
