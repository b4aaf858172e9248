"""Counts what CTest ran: count_results.py JUNIT-FILE GTEST-DIRECTORY prints "PASSED FAILED SKIPPED".

A GoogleTest program counts with each of its tests, any other program as one. A program that died
before it could write its results counts as one that failed.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def programs(junit):
    """[(name, whether it passed)] of the programs that CTest ran."""
    root = ElementTree.parse(junit).getroot()
    return [(case.get("name"), case.get("status") == "run") for case in root.iter("testcase")]


def gtest_counts(path):
    """(passed, failed, skipped) of one program."""
    root = ElementTree.parse(path).getroot()
    cases = list(root.iter("testcase"))
    failed = sum(case.find("failure") is not None for case in cases)
    skipped = sum(
        case.get("status") == "notrun" or case.get("result") == "skipped" for case in cases
    )
    return len(cases) - failed - skipped, failed, skipped


def main():
    directory = pathlib.Path(sys.argv[2])
    passed = failed = skipped = 0
    for name, good in programs(sys.argv[1]):
        results = directory / f"{name}.xml"
        try:
            p, f, s = gtest_counts(results)
        except (OSError, ElementTree.ParseError):
            p, f, s = int(good), int(not good), 0
        if not good and f == 0:
            f = 1
        passed, failed, skipped = passed + p, failed + f, skipped + s
    print(passed, failed, skipped)


main()
