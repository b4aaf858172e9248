"""A meeting controller: actors with bounded mailboxes, and one place that reports about them.

    controller.py SOCKET

SOCKET is the UNIX datagram socket of tallyd. Commands come on standard input, one a line, and each
is answered with one line of JSON: what the controller knows, which is what must be shown.

    create M             a meeting                end M           ends it
    join M P             a participant            leave M P       who says so
    lose M P             whose connection breaks  back M P        and comes back
    expire               the grace period is over for all who did not come back
    say M N              N messages to the meeting, which passes them on
    hold M, release M    a meeting does not read its mailbox, and reads it again
    break M P            a message that the participant's actor cannot bear
    flush                sends what the kernel did not take before ("pending" says how much)
"""

import argparse
import collections
import json
import pathlib
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "generated"))
import meeting_controller_metrics as names  # noqa: E402  pylint: disable=wrong-import-position


class Metrics:
    """Adds up what is to be sent, and sends it in few datagrams without ever waiting.

    What the kernel does not take stays, added up, and goes with the next flush: a change of a gauge
    that were lost would be missing for ever. There is one sum for each metric and each of its
    labels' values, so this does not grow.
    """

    PACKET_BYTES = 1400

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(path)
        self._values = {}  # (metric, labels): value, sent before the changes
        self._sums = {}  # (metric, labels): sum of changes

    def count(self, metric, by=1, **labels):
        """Adds to a counter, or changes a gauge."""
        key = (metric, tuple(names.tags(metric, **labels)))
        self._sums[key] = self._sums.get(key, 0) + by

    def set(self, metric, value, **labels):
        self._values[metric, tuple(names.tags(metric, **labels))] = value

    def pending(self):
        return len(self._values) + len(self._sums)

    def flush(self):
        lines = [(self._values, key, self._line(key, value))
                 for key, value in self._values.items()]
        for key, by in self._sums.items():
            change = f"{by:+d}" if key[0].type == "gauge" else by
            lines.append((self._sums, key, self._line(key, change)))
        while lines:
            packet, size = [], 0
            while lines and size + len(lines[0][2]) + 1 <= self.PACKET_BYTES:
                packet.append(lines.pop(0))
                size += len(packet[-1][2]) + 1
            try:
                self._socket.send("\n".join(line for _, _, line in packet).encode())
            except OSError:
                return  # nobody there, or no room: later
            for pending, key, _ in packet:
                del pending[key]

    @staticmethod
    def _line(key, value):
        metric, tags = key
        tail = "|#" + ",".join(tags) if tags else ""
        return f"{metric.source}:{value}|{metric.sent_type}{tail}"


class ActorMetrics:
    """The one source of every gauge. What it changes here it reports, and nobody else does."""

    ACTOR_TYPES = ("controller", "meeting", "participant")

    def __init__(self, metrics):
        self._metrics = metrics
        # What a predecessor that was killed has left behind is not ours.
        for gauge in (names.MC_MEETINGS_ACTIVE, names.MC_CONNECTIONS_ACTIVE,
                      names.MC_PARTICIPANTS_ACTIVE):
            metrics.set(gauge, 0)
        for actor_type in self.ACTOR_TYPES:
            metrics.set(names.MC_ACTOR_MAILBOX_DEPTH, 0, actor_type=actor_type)

    def meetings(self, by):
        self._metrics.count(names.MC_MEETINGS_ACTIVE, by)

    def connections(self, by):
        self._metrics.count(names.MC_CONNECTIONS_ACTIVE, by)

    def participants(self, by):
        self._metrics.count(names.MC_PARTICIPANTS_ACTIVE, by)

    def participant_left(self, reason):
        self._metrics.count(names.MC_PARTICIPANTS_LEFT_TOTAL, reason=reason)

    def depth(self, actor_type, by):
        if by:
            self._metrics.count(names.MC_ACTOR_MAILBOX_DEPTH, by, actor_type=actor_type)

    def message(self, actor_type):
        self._metrics.count(names.MC_MESSAGES_TOTAL, actor_type=actor_type)

    def dropped(self, actor_type):
        self._metrics.count(names.MC_MESSAGES_DROPPED_TOTAL, actor_type=actor_type)

    def panic(self, actor_type):
        self._metrics.count(names.MC_ACTOR_PANICS_TOTAL, actor_type=actor_type)


class Heartbeat:
    """What the controller tells its coordinator. It knows the same numbers, and sends no metric."""

    def __init__(self):
        self.meetings = 0
        self.connections = 0
        self.participants = 0
        self.dropped = collections.Counter()
        self.panics = collections.Counter()
        self.messages = collections.Counter()
        self.left = collections.Counter()
        self.depth = collections.Counter()


class Actor:
    """Reads its mailbox, one message after the other. A mistake ends it, and only it."""

    CAPACITY = 64
    actor_type = ""

    def __init__(self, controller):
        self.controller = controller
        self.mailbox = collections.deque()
        self.held = False
        self.ended = False

    def send(self, message):
        system = self.controller
        system.metrics.message(self.actor_type)
        system.heartbeat.messages[self.actor_type] += 1
        if self.ended or len(self.mailbox) >= self.CAPACITY:
            system.metrics.dropped(self.actor_type)
            system.heartbeat.dropped[self.actor_type] += 1
            return
        self.mailbox.append(message)
        self._depth(+1)

    def run(self):
        """Whether there was something to do."""
        if self.held or self.ended or not self.mailbox:
            return False
        message = self.mailbox.popleft()
        self._depth(-1)
        try:
            self.receive(message)
        except Exception:  # pylint: disable=broad-except
            self.controller.metrics.panic(self.actor_type)
            self.controller.heartbeat.panics[self.actor_type] += 1
            self.end()
        return True

    def receive(self, message):
        raise NotImplementedError

    def end(self):
        """The messages that still wait go with the mailbox: they are taken off its depth, too."""
        self.ended = True
        self._depth(-len(self.mailbox))
        self.mailbox.clear()

    def _depth(self, by):
        self.controller.metrics.depth(self.actor_type, by)
        self.controller.heartbeat.depth[self.actor_type] += by


class Participant(Actor):
    actor_type = "participant"

    def __init__(self, controller):
        super().__init__(controller)
        self.connected = True

    def receive(self, message):
        if message == "break":
            raise ValueError("a message that nobody has thought of")


class Meeting(Actor):
    actor_type = "meeting"

    def __init__(self, controller):
        super().__init__(controller)
        self.participants = {}

    def receive(self, message):
        for participant in self.participants.values():
            participant.send(message)


class Controller:
    def __init__(self, metrics):
        self.transport = metrics
        self.metrics = ActorMetrics(metrics)
        self.heartbeat = Heartbeat()
        self.meetings = {}

    def actors(self):
        for meeting in list(self.meetings.values()):
            yield meeting
            yield from list(meeting.participants.values())

    def settle(self):
        while any([actor.run() for actor in self.actors()]):
            pass

    def meeting_count(self, by):
        self.heartbeat.meetings += by
        self.metrics.meetings(by)

    def connection_count(self, by):
        self.heartbeat.connections += by
        self.metrics.connections(by)

    def gone(self, meeting, name, reason):
        participant = meeting.participants.pop(name)
        participant.end()
        if participant.connected:
            self.connection_count(-1)
        self.heartbeat.participants -= 1
        self.heartbeat.left[reason] += 1
        self.metrics.participants(-1)
        self.metrics.participant_left(reason)

    # ---- commands ----

    def create(self, name):
        self.meetings[name] = Meeting(self)
        self.meeting_count(+1)

    def end(self, name):
        meeting = self.meetings.pop(name)
        for participant in list(meeting.participants):
            self.gone(meeting, participant, "leave")
        meeting.end()
        self.meeting_count(-1)

    def join(self, name, who):
        self.meetings[name].participants[who] = Participant(self)
        self.heartbeat.participants += 1
        self.metrics.participants(+1)
        self.connection_count(+1)

    def leave(self, name, who):
        self.gone(self.meetings[name], who, "leave")

    def lose(self, name, who):
        """The place is kept for the grace period: a connection less, not a participant less."""
        self.meetings[name].participants[who].connected = False
        self.connection_count(-1)

    def back(self, name, who):
        self.meetings[name].participants[who].connected = True
        self.connection_count(+1)

    def expire(self):
        for meeting in self.meetings.values():
            for name, participant in list(meeting.participants.items()):
                if not participant.connected:
                    self.gone(meeting, name, "timeout")

    def say(self, name, count):
        for _ in range(int(count)):
            self.meetings[name].send("text")

    def hold(self, name):
        self.meetings[name].held = True

    def release(self, name):
        self.meetings[name].held = False

    def break_(self, name, who):
        self.meetings[name].participants[who].send("break")

    def command(self, line):
        verb, *words = line.split()
        if verb != "flush":
            {"break": self.break_}.get(verb, getattr(self, verb, None))(*words)
        self.settle()
        self.transport.flush()
        beat = self.heartbeat
        return {
            "meetings": beat.meetings,
            "connections": beat.connections,
            "participants": beat.participants,
            "messages": dict(beat.messages),
            "dropped": dict(beat.dropped),
            "panics": dict(beat.panics),
            "left": dict(beat.left),
            "depth": dict(beat.depth),
            "pending": self.transport.pending(),
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    options = parser.parse_args()
    controller = Controller(Metrics(options.socket))
    for line in sys.stdin:
        print(json.dumps(controller.command(line)), flush=True)


if __name__ == "__main__":
    main()
