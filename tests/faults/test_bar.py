#!/usr/bin/env python3
"""The bar: its table, and what a run, a skipped one and one that fails are worth."""

import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import bar  # noqa: E402
from table import NOT_APPLICABLE, SCENARIOS  # noqa: E402


class TableTest(unittest.TestCase):
    def test_it_is_whole(self):
        # group: scenarios, weight, knock-outs, checks
        want = {"A": (20, 40, 5, 51), "B": (21, 50, 5, 65), "C": (12, 31, 4, 39),
                "D": (10, 22, 3, 24), "E": (15, 31, 2, 37), "F": (17, 37, 5, 36)}
        for group, counts in want.items():
            rows = [row for name, row in SCENARIOS.items() if name[0] == group]
            self.assertEqual(counts, (len(rows), sum(row.weight for row in rows),
                                      sum(row.knock_out for row in rows),
                                      sum(len(row.checks) for row in rows)), group)

    def test_what_is_not_applicable_is_no_knock_out(self):
        for name in NOT_APPLICABLE:
            self.assertFalse(SCENARIOS[name].knock_out, name)


class RunTest(unittest.TestCase):
    def run_of(self, name, function):
        before = bar.FUNCTIONS.get(name)
        bar.FUNCTIONS[name] = function
        try:
            run = bar.Run(name, 1, False)
            run.execute()
            return run
        finally:
            if before is None:
                del bar.FUNCTIONS[name]
            else:
                bar.FUNCTIONS[name] = before

    def test_what_holds(self):
        def all_good(run):
            for letter in run.scenario.checks:
                run.check(letter, True, "")
        run = self.run_of("B1", all_good)
        self.assertTrue(run.complete)
        self.assertEqual(bar.score([run]), 1)
        lines, good = bar.summary([run], [])
        self.assertTrue(good, lines)

    def test_one_look_that_fails_is_enough(self):
        def half(run):
            run.check("A", True, "")
            run.check("C", True, "")
            run.check("C", False, "of two looks one")
            run.check("B", True, "")
        run = self.run_of("B1", half)
        self.assertEqual(run.held, 2)
        self.assertIn("!C", run.line())
        self.assertAlmostEqual(bar.score([run]), 2 / 3)
        self.assertFalse(bar.summary([run], [])[1], "a knock-out")

    def test_what_is_not_judged_does_not_hold(self):
        self.assertEqual(self.run_of("B1", lambda run: None).held, 0)

    def test_what_breaks_does_not_hold(self):
        def breaks(run):
            run.check("A", True, "")
            raise OSError("broken")
        run = self.run_of("B1", breaks)
        self.assertEqual(run.held, 0)
        self.assertIn("broken", "".join(run.failures()))

    def test_what_is_skipped_is_lost(self):
        def skips(_):
            raise bar.Skipped("not here")
        run = self.run_of("B1", skips)
        self.assertEqual(bar.score([run]), 0)
        lines, good = bar.summary([run], [])
        self.assertFalse(good)
        self.assertIn("skipped        B1: not here", lines)

    def test_what_is_not_written_is_lost(self):
        def all_good(run):
            for letter in run.scenario.checks:
                run.check(letter, True, "")
        run = self.run_of("B2", all_good)
        self.assertTrue(bar.summary([run], [])[1])
        lines, good = bar.summary([run], ["F17"])
        self.assertFalse(good)
        self.assertIn("score 0.400", lines[-1])  # 2 of 2 + 3


if __name__ == "__main__":
    unittest.main()
