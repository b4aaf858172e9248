"""The messaging platform of docs/examples/services: 37 metrics, 25 alerts, millions of conversations."""

import json
import os
import subprocess
import unittest

from harness import CLIENTS, SLOWNESS, run_tallyd, scratch
from services import ServiceTest, needs_node

CONVERSATIONS = 100_000


class MessagingTest(ServiceTest):
    service = "messaging"

    def serve(self, daemon, *commands):
        """Runs the platform to its end, and returns what it has done, as the scrape must show it."""
        done = subprocess.run(
            ["node", "server.js", "tcp", str(daemon.port("tcp")), *[str(word) for word in commands]],
            cwd=self.folder, env={**os.environ, "NODE_PATH": str(CLIENTS / "node_modules")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * SLOWNESS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return {(name, *[tuple(label) for label in labels]): value
                for name, labels, value in json.loads(done.stdout)}

    def over_tcp(self):
        return self.daemon(listen=(("tcp", "127.0.0.1:0"),))

    @needs_node
    def test_every_metric_shows_what_the_platform_did(self):
        with self.over_tcp() as daemon:
            want = self.serve(daemon, "traffic", 400)
            self.shows(daemon, want)
            fed = {name for (name, *_), value in want.items() if value}
            for name, kind in self.declared().items():
                self.assertIn(name + "_count" if kind == "histogram" else name, fed)
            ledger = daemon.ledger()
            self.assertEqual((ledger.reasons, ledger.repairs, ledger.folded), ({}, {}, 0))

    @needs_node
    def test_conversations_make_no_series(self):
        """A gauge once had a label for the conversation: a million of them were a million series."""
        with self.over_tcp() as daemon:
            few = self.serve(daemon, "conversations", 10)
            before = self.shows(daemon, few)
            memory = daemon.status_kib("VmRSS")
            want = self.serve(daemon, "conversations-labelled", CONVERSATIONS)
            self.assertEqual(want, {("ws_active_connections",): CONVERSATIONS / 2,
                                    ("messages_sent_total",): CONVERSATIONS})
            shown = self.shows(daemon, {key: want[key] + few[key] for key in want}, seconds=30)
            self.assertEqual(set(shown.user_samples()), set(before.user_samples()))
            self.assertEqual(shown.value("tallyd_series"), before.value("tallyd_series"))
            self.assertNotIn(b"conversation_id", daemon.get("/metrics").body)
            ledger = daemon.ledger()
            # Each sample counts; what was wrong with it is told.
            samples = CONVERSATIONS * 5 / 2
            self.assertEqual((ledger.received, ledger.applied), (samples + 25, samples + 25))
            self.assertGreater(self.violations(daemon)["undeclared_label"], 0)
            daemon.logged("conversation_id")
            # Two keys for each conversation are remembered for a while: what that may cost is bounded.
            self.assertLess(daemon.status_kib("VmRSS") - memory, 400 * 1024)

    @needs_node
    def test_what_is_not_declared_is_refused_and_named(self):
        with self.over_tcp() as daemon:
            self.serve(daemon, "stray")
            self.assertEqual(daemon.settle(received=1).reasons, {"undeclared": 1})
            self.wait_for_violation(daemon, "undeclared_metric", "nobody_declared")
            self.assertEqual([name for name in daemon.scrape().families if "nobody" in name], [])

    def test_a_wrong_declaration_is_loud(self):
        """Errors of registration were once swallowed, and dashboards stayed empty."""
        text = self.catalog.read_text()
        wrong = text.replace("name: message_delivery_failures_total", "name: message_delivery_failures")
        wrong = wrong.replace("name: ws_messages_received_total", "name: ws_messages_sent_total")
        line = {name: wrong[:wrong.index("- name: " + name + "\n")].count("\n") + 1
                for name in ("message_delivery_failures",)}
        with scratch() as folder:
            path = folder / "catalog.yaml"
            path.write_text(wrong)
            code, _, errors = run_tallyd("--check-config", f"--catalog.file={path}")
            self.assertEqual(code, 2, errors)
            self.assertIn(f"{path}:{line['message_delivery_failures']}: ", errors)
            self.assertIn("message_delivery_failures_total", errors)
            self.assertRegex(errors, r"ws_messages_sent_total.*(twice|already)")
            self.assertEqual(run_tallyd("--check-config", f"--catalog.file={self.catalog}")[0], 0)


if __name__ == "__main__":
    unittest.main()
