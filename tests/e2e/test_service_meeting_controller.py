"""The meeting controller of docs/examples/services: one source for each gauge, and none below 0."""

import json
import sys
import unittest

from harness import scratch, wait_for
from services import Emitter, ServiceTest

ACTORS = ("controller", "meeting", "participant")


class ControllerCase(ServiceTest):
    service = "meeting_controller"

    def setUp(self):
        folder = scratch()
        self.socket = folder.__enter__() / "statsd.sock"
        self.addCleanup(folder.__exit__, None, None, None)

    def daemon(self, *flags, **options):
        return super().daemon(*flags, listen=(("unixgram", self.socket),), **options)

    def controller(self):
        return Emitter(sys.executable, self.folder / "controller.py", self.socket)

    def tell(self, controller, *commands):
        """Gives commands, waits until all is sent, and returns what the controller knows."""
        truth = json.loads(controller.tell(*commands))
        if truth["pending"]:
            def sent():
                truth.update(json.loads(controller.tell("flush")))
                return not truth["pending"]
            wait_for("all to be sent", sent)
        return truth

    @staticmethod
    def as_shown(truth):
        want = {
            ("mc_meetings_active",): truth["meetings"],
            ("mc_connections_active",): truth["connections"],
            ("mc_participants_active",): truth["participants"],
        }
        for reason in ("leave", "timeout"):
            want["mc_participants_left_total", ("reason", reason)] = truth["left"].get(reason, 0)
        for actor in ACTORS:
            label = ("actor_type", actor)
            want["mc_actor_mailbox_depth", label] = truth["depth"].get(actor, 0)
            want["mc_messages_total", label] = truth["messages"].get(actor, 0)
            want["mc_messages_dropped_total", label] = truth["dropped"].get(actor, 0)
            want["mc_actor_panics_total", label] = truth["panics"].get(actor, 0)
        return want


class MeetingControllerTest(ControllerCase):
    def test_meetings_connections_and_participants(self):
        with self.daemon() as daemon, self.controller() as controller:
            truth = self.tell(controller, "create a", "create b", "join a ann", "join a bob",
                              "join b cleo", "lose a bob", "say a 3")
            self.assertEqual((truth["meetings"], truth["connections"], truth["participants"]),
                             (2, 2, 3))
            self.shows(daemon, self.as_shown(truth))
            # Who comes back takes the same place; who does not is one participant less, once.
            truth = self.tell(controller, "back a bob", "lose b cleo", "expire", "leave a ann")
            self.assertEqual((truth["connections"], truth["participants"]), (1, 1))
            self.shows(daemon, self.as_shown(truth))
            truth = self.tell(controller, "end a", "end b")
            self.assertEqual((truth["meetings"], truth["participants"]), (0, 0))
            self.shows(daemon, self.as_shown(truth))
            self.assertEqual(sum(self.violations(daemon).values()), 0)

    def test_mailboxes_fill_drop_and_empty(self):
        with self.daemon() as daemon, self.controller() as controller:
            truth = self.tell(controller, "create a", "join a ann", "hold a", "say a 100")
            self.assertEqual((truth["depth"]["meeting"], truth["dropped"]["meeting"]), (64, 36))
            self.shows(daemon, self.as_shown(truth))
            truth = self.tell(controller, "release a")
            self.assertEqual(truth["depth"], {"meeting": 0, "participant": 0})
            self.shows(daemon, self.as_shown(truth))

    def test_a_mailbox_goes_with_its_actor(self):
        """What still waited when an actor ended once stayed in the gauge for ever."""
        with self.daemon() as daemon, self.controller() as controller:
            truth = self.tell(controller, "create a", "join a ann", "break a ann", "hold a",
                              "say a 10", "end a")
            self.assertEqual((truth["panics"]["participant"], truth["depth"]["meeting"]), (1, 0))
            self.shows(daemon, self.as_shown(truth))

    def test_whoever_leaves_is_taken_away_once(self):
        """Leaving and timing out once both took a participant away."""
        with self.daemon() as daemon, self.controller() as controller:
            truth = self.tell(controller, "create a", "join a ann", "join a bob", "lose a ann",
                              "leave a ann", "expire", "leave a bob", "expire", "end a")
            self.assertEqual((truth["connections"], truth["participants"]), (0, 0))
            self.assertEqual(truth["left"], {"leave": 2})
            self.shows(daemon, self.as_shown(truth))

    def test_a_controller_that_was_killed_leaves_nothing_behind(self):
        with self.daemon() as daemon:
            with self.controller() as first:
                self.shows(daemon, self.as_shown(self.tell(
                    first, "create a", "join a ann", "hold a", "say a 5")))
            with self.controller() as second:
                truth = self.tell(second, "create b")
                self.assertEqual((truth["meetings"], truth["participants"]), (1, 0))
                self.shows(daemon, {("mc_meetings_active",): 1, ("mc_participants_active",): 0,
                                    ("mc_actor_mailbox_depth", ("actor_type", "meeting")): 0})


class SingleSenderTest(ControllerCase):
    def test_a_second_source_of_a_gauge_is_named_and_a_successor_is_not(self):
        with self.daemon() as daemon:
            with self.controller() as first:
                self.tell(first, "create a")
                self.shows(daemon, {("mc_meetings_active",): 1})
                self.tell(first, "end a")
                self.shows(daemon, {("mc_meetings_active",): 0})
            with self.controller() as successor:
                self.tell(successor, "create a", "create b")
                self.shows(daemon, {("mc_meetings_active",): 2})
                with self.controller() as second:
                    self.tell(second, "create c")
                    self.wait_for_violation(
                        daemon, "second_sender", "metric=mc_meetings_active",
                        f'sender="pid {second.pid} ', f'first_sender="pid {successor.pid} ')
            named = [line for line in daemon.log().splitlines()
                     if "second_sender" in line and f"pid {first.pid} " in line]
            self.assertEqual(named, [])


class NonNegativeTest(ServiceTest):
    service = "meeting_controller"

    def test_a_gauge_stops_at_0(self):
        """One who is taken away twice does not take the next one's place."""
        with self.daemon() as daemon:
            daemon.send_udp(*(f"mc.participants.active:{change}|g"
                              for change in ("+1", "-1", "-1", "+1")))
            daemon.settle(received=4)
            self.shows(daemon, {("mc_participants_active",): 1})
            ledger = daemon.ledger()
            self.assertEqual(ledger.applied, 4)
            self.assertEqual(ledger.repaired["gauge_underflow"], 1)


if __name__ == "__main__":
    unittest.main()
