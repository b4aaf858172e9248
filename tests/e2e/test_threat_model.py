"""Every claim of docs/threat-model.md names a test that exists."""

import ast
import functools
import re
import unittest

from harness import ROOT

REFERENCE = re.compile(r"`(tests/[\w/]+\.(?:py|cc)):(\w+)\.(\w+)`")


@functools.lru_cache(maxsize=None)
def tests_of(path):
    """{(suite, test)} of a file."""
    text = (ROOT / path).read_text()
    if path.endswith(".cc"):
        return set(re.findall(r"TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", text))
    return {(node.name, part.name) for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) for part in node.body
            if isinstance(part, ast.FunctionDef)}


def is_run(path, test):
    """Whether those who run tests find it: a program that is built, or a module by its name."""
    file = ROOT / path
    if path.endswith(".cc"):
        return re.search(rf"\b{re.escape(file.name)}\b", (file.parent / "CMakeLists.txt").read_text())
    return file.name.startswith("test_") and test.startswith("test_")


class ThreatModelTest(unittest.TestCase):

    def test_each_claim_has_its_test(self):
        text = (ROOT / "docs/threat-model.md").read_text()
        claims = [line for line in text.splitlines()
                  if line.startswith("| ") and not line.startswith(("| claim", "| ---"))]
        self.assertGreater(len(claims), 30)
        for claim in claims:
            references = REFERENCE.findall(claim)
            self.assertTrue(references, f"no test is named: {claim}")
            for path, suite, test in references:
                self.assertIn((suite, test), tests_of(path), path)
                self.assertTrue(is_run(path, test), f"{path}: {test} is never run")

    def test_each_section_has_claims_that_are_held(self):
        text = (ROOT / "docs/threat-model.md").read_text()
        for section in text.split("\n## ")[1:]:
            self.assertIn("| claim | held by |\n| --- | --- |\n", section, section.splitlines()[0])


if __name__ == "__main__":
    unittest.main()
