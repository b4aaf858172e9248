"""Scenarios whose faults end-to-end tests inject already, with the checks that those make."""

import io
import unittest

_RESULTS = {}  # test: None, or what failed; each runs once


def outcome(name):
    if name not in _RESULTS:
        result = unittest.TextTestRunner(io.StringIO(), verbosity=0).run(
            unittest.defaultTestLoader.loadTestsFromName(name))
        bad = [text for _, text in result.failures + result.errors]
        if result.testsRun == 0:
            bad.append("no such test")
        bad += [f"skipped: {why}" for _, why in result.skipped]
        _RESULTS[name] = bad[0] if bad else None
    return _RESULTS[name]


def held_by(run, checks, *tests):
    """These tests together make these checks of the scenario."""
    for name in tests:
        wrong = outcome(name)
        for letter in checks:
            run.check(letter, wrong is None, f"{name}: {(wrong or '')[-600:]}")
    run.note("by " + ", ".join(tests))
