"""What the tests of remote write have in common."""

import unittest

from harness import Daemon, Timeout, scratch, wait_for
from line_tables import same
from receivers import config

LINES = [b"app.requests:%d|c|#site:shop,code:200\napp.depth:%d|g\napp.took:%d|ms|#site:a\"b\\c"
         % (i, i, i * 7) for i in range(100)] + [b"app.users:u%d|s" % i for i in range(10)]


def emit(daemon, lines=tuple(LINES)):
    before = daemon.ledger().received
    daemon.send_udp(*lines)
    return daemon.settle(before + sum(line.count(b"\n") + 1 for line in lines))


class RemoteWriteCase(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(scratch())

    def enterContext(self, context):  # of Python 3.11, for those that have 3.10
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def tallyd(self, *targets, flags=(), **keywords):
        targets = [{"interval": "500ms", **target} for target in targets]
        return self.enterContext(
            Daemon("--shards=2", config(self.directory, *targets), *flags, **keywords))

    def assert_same_series(self, receiver, daemon, seconds=15):
        """Waits until the receiver shows all that a scrape shows, and nothing else."""
        shown, stored = {}, {}

        def equal():
            # Scraped anew each time: the windows of sets may turn meanwhile.
            for samples, now in ((shown, daemon.scrape().user_samples()), (stored, receiver.samples())):
                samples.clear()
                samples.update(now)
            return shown and set(stored) == set(shown) and all(
                same(stored[key], value) for key, value in shown.items())

        try:
            wait_for("all series at the receiver", equal, seconds, 0.2)
        except Timeout:
            self.assertGreater(len(shown), 0)
            self.assertEqual(stored, shown)

    def push(self, daemon, name, **labels):
        """The sum of one of the families tallyd_push_*, over the labels not said."""
        series = daemon.scrape(path="/-/metrics").series(name)
        return sum(value for found, value in series.items()
                   if set(labels.items()) <= set(found))

    def assert_account(self, daemon):
        ledger = daemon.ledger()
        self.assertTrue(ledger.at_rest(), ledger)
        self.assertEqual(ledger.kernel_dropped, 0)
