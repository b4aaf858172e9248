"""Tables of lines: what each must show in a scrape, and what it must cost in the ledger."""

import math
import time
import unittest

from harness import OPENMETRICS, SLOWNESS, TEXT, Daemon, away_from_a_turn

INF = math.inf


class Line:
    """A datagram, the samples that it must show, and what it must cost.

    `want` maps a sample ("name" or "name{label=value}") to its value. It names every series that
    the datagram makes, though of a histogram not every sample. `drops`, `repairs` and `events`
    count by reason or kind; `received` is the number of samples that count as received.
    """

    def __init__(self, text, want=None, received=1, drops=None, repairs=None, events=None):
        self.text = text if isinstance(text, bytes) else text.encode()
        self.want = want or {}
        self.received = received
        self.drops = drops or {}
        self.repairs = repairs or {}
        self.events = events or {}

    def __repr__(self):
        return repr(self.text[:120])


def good(text, want, received=1, **repairs):
    return Line(text, want, received, repairs=repairs)


def bad(text, reason, received=1, want=None, **repairs):
    return Line(text, want, received, {reason: received if want is None else 1}, repairs)


def event(text, kind="event"):
    return Line(text, received=0, events={kind: 1})


def key_of(text):
    """"name{a=b,c=d}" -> (name, labels)."""
    name, _, rest = text.partition("{")
    pairs = [pair.split("=", 1) for pair in rest[:-1].split(",")] if rest else []
    return name, tuple(sorted((key, value) for key, value in pairs))


def same(shown, want):
    if shown is None:
        return False
    return (math.isnan(shown) and math.isnan(want)) or math.isclose(shown, want, rel_tol=1e-12)


def increments(before, after):
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


class LineTableTest(unittest.TestCase):
    """Sends lines one by one. Subclasses get their tests from add_table."""

    flags = ()

    @classmethod
    def setUpClass(cls):
        # It merges all the time, so that each line shows at once.
        cls.daemon = Daemon("--merge.interval=2ms", *cls.flags)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.close()

    def run_table(self, table):
        away_from_a_turn(4)
        self.ledger = self.daemon.ledger()
        self.known = set(self.daemon.scrape().user_samples())
        for line in table:
            with self.subTest(line=line):
                self.check(line)
        self.assertTrue(self.daemon.process.running())
        self.daemon.scrape(OPENMETRICS)
        self.daemon.scrape(TEXT)

    def check(self, line):
        before = self.ledger
        self.daemon.send_udp(line.text)
        after = self.daemon.settle(received=before.received + line.received,
                                   datagrams=before.datagrams + 1, seconds=5, fresh=False)
        self.ledger = after
        self.assertEqual(after.received - before.received, line.received, "received samples")
        self.assertEqual(increments(before.dropped, after.dropped), line.drops, "drop reasons")
        self.assertEqual(increments(before.repaired, after.repaired), line.repairs, "repairs")
        self.assertEqual(increments(before.events, after.events), line.events, "events")
        end = time.monotonic() + 0.5 * SLOWNESS
        while True:
            samples = self.daemon.scrape().user_samples()
            wrong = self.wrong_samples(line, samples)
            if not wrong or time.monotonic() > end:
                break
        self.known |= set(samples)
        self.assertFalse(wrong, "; ".join(wrong))

    def wrong_samples(self, line, samples):
        shown = {sample: samples.get(key_of(sample)) for sample in line.want}
        wrong = [f"{sample}: shows {shown[sample]}, should be {want}"
                 for sample, want in line.want.items() if not same(shown[sample], want)]
        extra = set(samples) - self.known - set(map(key_of, line.want))
        wrong += [f"{key}: should not be there" for key in extra if not is_part(key, line.want)]
        return wrong


def is_part(key, want):
    """Whether the sample belongs to a histogram or summary of which `want` names another one."""
    def series_of(key):
        name, labels = key
        for suffix in ("_bucket", "_sum", "_count"):
            name = name.removesuffix(suffix)
        return name, tuple(pair for pair in labels if pair[0] not in ("le", "quantile"))

    name, labels = key
    is_one_of_several = name.endswith(("_bucket", "_sum", "_count")) or "quantile" in dict(labels)
    return is_one_of_several and series_of(key) in {series_of(key_of(sample)) for sample in want}


def add_table(case, name, table):
    def test(self):
        self.run_table(table)

    setattr(case, f"test_{name}", test)
