"""What a soak came to. Letters as in tests/faults: A alive, C counted, B bounded, R recovered."""

import dataclasses
import statistics

from traffic import LINES

SHARDS = 2
# What a crash may cost: datagrams that a shard had just taken from the kernel, of one call.
RECEIVE_CALL_DATAGRAMS = 64
MOST_OF_A_HIT = 9

MOST_RSS_PERCENT_PER_HOUR = 6.0  # 0.1 % a minute
# In a short run one page more is many percent an hour: what counts is how much came.
SHORT_SECONDS = 900
SHORT_RSS_BYTES = 6 << 20
MOST_P99_GROWTH = 1.5
P99_SLACK_SECONDS = 0.03  # of a machine that does other things as well
SHORT_P99_SLACK_SECONDS = 0.5  # in a short run there are so few scrapes that it is the slowest one
LOG_LINES_PER_MINUTE = 10
LOG_LINES_PER_LIFE = 40
LOG_LINES_PER_EVENT = 4


@dataclasses.dataclass
class Check:
    letter: str
    holds: bool
    text: str


class Verdict:
    def __init__(self):
        self.checks = []
        self.figures = []

    def check(self, letter, holds, text):
        self.checks.append(Check(letter, bool(holds), text))

    def note(self, text):
        self.figures.append(text)

    @property
    def good(self):
        return all(check.holds for check in self.checks)

    def lines(self):
        return [*(f"      {text}" for text in self.figures),
                *(f"  {'ok  ' if check.holds else 'FAIL'} {check.letter} {check.text}"
                  for check in self.checks)]


def verdict(soak):
    result = Verdict()
    errors = soak.errors + [sender.error for sender in soak.senders.values() if sender.error]
    errors += soak.scrapers.errors + soak.scrapers.monotonic.errors
    result.check("A", soak.exit_code == 0, f"ends by itself with 0: {soak.exit_code}")
    result.check("A", not errors, f"nothing went wrong: {errors[:5]}")
    _account(soak, result)
    _memory(soak, result)
    _handles(soak, result)
    _scrapes(soak, result)
    _logs(soak, result)
    events = " ".join(f"{name} {count}" for name, count in sorted(soak.counts.items()))
    result.note(f"{soak.ended - soak.began:.0f} s, {len(soak.supervisor.lives)} lives, "
                f"{soak.crashes} of them killed; {events}")
    result.note(f"scrapes: {soak.scrapers.done}; pushes taken: "
                f"{ {name: target.taken for name, target in soak.targets.items()} }")
    return result


def _account(soak, result):
    senders = soak.senders.values()
    ledger = soak.ledger
    sent = sum(sender.samples for sender in senders)
    bad = sum(sender.bad for sender in senders)
    hits = sum(sender.hits for sender in senders)
    kernel = ledger.kernel_dropped * LINES
    missing = sent - ledger.received - kernel
    crashed = ledger.dropped.get("crash", 0)
    result.note(f"sent {sent:,} = applied {ledger.applied:,.0f} + dropped "
                f"{ {reason: int(count) for reason, count in ledger.reasons.items()} } + "
                f"{kernel:,.0f} in datagrams that the kernel dropped + {missing:,.0f} lost in crashes")
    result.check("C", ledger.at_rest(), f"received = applied + dropped: {ledger}")
    most = soak.crashes * SHARDS * RECEIVE_CALL_DATAGRAMS * LINES
    result.check("C", 0 <= missing <= most, f"{missing:.0f} samples missing, at most {most} may be")
    result.check("C", crashed <= most, f"{crashed:.0f} dropped as crash, at most {most} may be")
    unsure = missing + crashed + kernel
    wrong = ledger.lost - crashed
    result.check("C", bad - unsure <= wrong <= bad, f"{bad} bad lines sent, {wrong:.0f} dropped")
    result.check("C", hits - MOST_OF_A_HIT * unsure <= soak.hits_shown <= hits,
                 f"hits {soak.hits_shown:.0f} of {hits}")


def fitted_slope(points):
    """(units a second, mean) of the line that fits (seconds, units) best; slope 0 of few points."""
    if len(points) < 3:
        return 0.0, statistics.mean(y for _, y in points) if points else 0.0
    mean_x = statistics.mean(x for x, _ in points)
    mean_y = statistics.mean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread, mean_y


def _memory(soak, result):
    """Of the last life, from the middle of the run on: by then whatever comes had come once."""
    last = soak.supervisor.life.pid
    middle = soak.began + soak.options.seconds / 2
    seen = [(when, rss) for when, pid, rss, _, _ in soak.watch.seen if pid == last and when > middle]
    # The last life may have begun just before.
    settling = min(120.0, soak.options.seconds / 10)
    points = [(when, rss) for when, rss in seen if when > middle + settling]
    slope, mean = fitted_slope(points)
    seconds = points[-1][0] - points[0][0] if points else 0
    percent = 100 * 3600 * slope / mean if mean else 0
    text = (f"RSS {mean / 2**20:.1f} MiB, slope {percent:+.2f} %/h over {seconds:.0f} s "
            f"({slope * seconds / 1024:+.0f} KiB)")
    if seconds >= SHORT_SECONDS:
        result.check("B", percent <= MOST_RSS_PERCENT_PER_HOUR,
                     f"{text}, at most {MOST_RSS_PERCENT_PER_HOUR:g} %/h")
    else:
        result.check("B", points and slope * seconds <= SHORT_RSS_BYTES,
                     f"{text}, too short for more than {SHORT_RSS_BYTES >> 20} MiB to count")


def _handles(soak, result):
    """In the second half the same connections are there, beside those of scrapes and pushes."""
    last = soak.supervisor.life.pid
    middle = soak.began + soak.options.seconds / 2
    seen = [row for row in soak.watch.seen if row[1] == last and row[0] > middle]
    if not seen:
        result.check("B", False, "nothing was seen of the last life")
        return
    third = max(1, len(seen) // 3)
    for index, what in ((3, "descriptors"), (4, "threads")):
        first = statistics.median(row[index] for row in seen[:third])
        end = statistics.median(row[index] for row in seen[-third:])
        most = max(row[index] for row in seen)
        result.check("B", abs(end - first) <= 2, f"{what}: {first:.0f} at first, {end:.0f} at last, "
                     f"{most} at most, {soak.handles_at_end[index - 3]} at rest")


def _p99(took):
    """The median of the 99th percentiles of pieces of a minute (of a short run, of a tenth), so that
    a minute in which the machine was busy does not decide."""
    if not took:
        return 0.0
    length = min(60.0, max(2.0, (took[-1][0] - took[0][0]) / 10))
    pieces = {}
    for when, seconds in took:
        pieces.setdefault(int((when - took[0][0]) / length), []).append(seconds)
    tops = [sorted(piece)[max(0, int(len(piece) * 0.99 + 0.5) - 1)] for piece in pieces.values()]
    return statistics.median(tops)


def _scrapes(soak, result):
    third = soak.options.seconds / 3
    first = [one for one in soak.scrapers.took if one[0] < soak.began + third]
    last = [one for one in soak.scrapers.took if one[0] > soak.began + 2 * third]
    before, after = _p99(first), _p99(last)
    medians = [statistics.median(seconds for _, seconds in part) if part else 0
               for part in (first, last)]
    result.note(f"scrape median {1000 * medians[0]:.1f} ms in the first third, "
                f"{1000 * medians[1]:.1f} ms in the last")
    short = soak.options.seconds < SHORT_SECONDS
    slack = SHORT_P99_SLACK_SECONDS if short else P99_SLACK_SECONDS
    result.check("R", last and after <= before * MOST_P99_GROWTH + slack,
                 f"p99 of a scrape: {1000 * before:.1f} ms in the first third, {1000 * after:.1f} ms "
                 f"in the last")


def _logs(soak, result):
    lines = sum(log.count("\n") for log in soak.logs)
    minutes = (soak.ended - soak.began) / 60
    events = sum(count for name, count in soak.counts.items() if name not in ("look",))
    most = (LOG_LINES_PER_MINUTE * max(1.0, minutes) + LOG_LINES_PER_LIFE * len(soak.logs)
            + LOG_LINES_PER_EVENT * events)
    result.check("B", lines <= most, f"{lines} log lines ({lines / minutes:.1f} a minute), "
                 f"at most {most:.0f} with {events} events")
