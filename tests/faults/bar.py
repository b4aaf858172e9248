"""Runs scenarios and judges them: which of their checks hold, and the score over all."""

import dataclasses
import time
import traceback

from table import NOT_APPLICABLE, SCENARIOS

# {id: function of a Run}, and those that are quick enough for every change.
FUNCTIONS = {}
FAST = set()

PASS_SCORE = 0.95


class Skipped(Exception):
    """This machine cannot run it. It counts as not held."""


def scenario(name, fast=True):
    """Registers a function that injects a fault and judges every check of that scenario."""
    def register(function):
        if name in FUNCTIONS or name not in SCENARIOS:
            raise ValueError(f"{name}: twice, or unknown")
        FUNCTIONS[name] = function
        if fast:
            FAST.add(name)
        return function
    return register


@dataclasses.dataclass
class Verdict:
    """Of one check; it holds if it was judged and nothing was found against it."""
    judged: bool = False
    against: list = dataclasses.field(default_factory=list)

    @property
    def holds(self):
        return self.judged and not self.against


class Run:
    """One scenario that runs: what it found, check by check."""

    def __init__(self, name, seed, full):
        self.scenario = SCENARIOS[name]
        self.seed = seed
        self.full = full  # the scale that the scenario names, not a short one
        self.verdicts = {check: Verdict() for check in self.scenario.checks}
        self.notes = []
        self.error = None
        self.skipped = None
        self.seconds = 0.0

    def check(self, letter, holds, text):
        """Judges a check; several times, if it takes several looks. `text` says what should be."""
        verdict = self.verdicts.get(letter)
        if verdict is None:  # worth a look, but not asked for
            if not holds:
                raise AssertionError(text)
            return
        verdict.judged = True
        if not holds:
            verdict.against.append(text)

    def note(self, text):
        self.notes.append(text)

    def execute(self):
        begin = time.monotonic()
        try:
            FUNCTIONS[self.scenario.id](self)
        except Skipped as why:
            self.skipped = str(why)
        except Exception as error:  # pylint: disable=broad-except
            here = traceback.extract_tb(error.__traceback__)[1:]
            self.error = "\n".join([repr(error)[:1500], *(
                f"at {frame.name}, line {frame.lineno}: {frame.line}" for frame in here)])
        self.seconds = time.monotonic() - begin

    def holds(self, letter):
        return not self.error and not self.skipped and self.verdicts[letter].holds

    @property
    def held(self):
        return sum(self.holds(letter) for letter in self.verdicts)

    @property
    def complete(self):
        return self.held == len(self.verdicts)

    def line(self):
        marks = " ".join(letter if self.holds(letter) else f"!{letter}" for letter in self.verdicts)
        kind = "K" if self.scenario.knock_out else " "
        state = "skipped: " + self.skipped if self.skipped else ""
        return f"{self.scenario.id:<4}{kind} {self.scenario.title:<48} {marks:<12} {self.seconds:5.1f} s {state}"

    def failures(self):
        """Lines that say what did not hold."""
        if self.error:
            yield from self.error.rstrip().splitlines()
        for letter, verdict in self.verdicts.items():
            for text in verdict.against:
                yield f"{letter}: {text}"
            if not verdict.judged and not self.error and not self.skipped:
                yield f"{letter}: not judged"


def score(runs):
    """The share of weight that held. Not applicable ones do not count; skipped ones are lost."""
    weight = sum(run.scenario.weight for run in runs)
    held = sum(run.scenario.weight * run.held / len(run.verdicts) for run in runs)
    return held / weight if weight else 0.0


def summary(runs, missing):
    """What is said at the end, and whether all is well."""
    lines = []
    for run in runs:
        if run.skipped:
            lines.append(f"skipped        {run.scenario.id}: {run.skipped}")
        elif not run.complete:
            failed = " ".join(letter for letter in run.verdicts if not run.holds(letter))
            lines.append(f"failed checks  {run.scenario.id}: {failed}")
    for name in missing:
        lines.append(f"not written    {name}: {SCENARIOS[name].title}")
    for name, why in NOT_APPLICABLE.items():
        lines.append(f"not applicable {name}: {why}")
    knocked = [run.scenario.id for run in runs if run.scenario.knock_out and not run.complete]
    knocked += [name for name in missing if SCENARIOS[name].knock_out]
    lost = sum(SCENARIOS[name].weight for name in missing)
    weight = sum(run.scenario.weight for run in runs)
    total = score(runs) * weight / (weight + lost) if weight + lost else 0.0
    lines.append(f"score {total:.3f} over {len(runs)} scenarios of weight {weight + lost}; "
                 f"knock-outs {'failed: ' + ' '.join(knocked) if knocked else 'all held'}")
    return lines, not knocked and total >= PASS_SCORE
