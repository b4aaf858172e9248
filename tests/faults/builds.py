"""F15 to F17: the same faults under sanitizers, and a soak."""

import os
import pathlib
import re
import subprocess
import sys

from bar import FAST, FUNCTIONS, Skipped, scenario
from harness import ROOT, scratch
from table import NOT_APPLICABLE, SCENARIOS

HERE = pathlib.Path(__file__).resolve().parent

# What has most threads, and most of the parsers, in few seconds.
QUICK = {"tsan": ("A11", "C3", "D3", "E10"),
         "asan": ("A9", "B5", "B15", "C2", "C9", "F6", "F13")}
# What these builds cannot run: limits of memory that a sanitizer needs for itself, and themselves.
NOT_HERE = {"F7", "F8", "F15", "F16", "F17"}
SLOWNESS_HERE = {"tsan": "8", "asan": "4"}
LINE = re.compile(r"(?m)^([A-F]\d+) +K? .*?((?: !?[ACBRT])+) +[\d.]+ s")
REASON = re.compile(r"(?m)^      ([BCRT]: .*)$")
OPTIONS = {"tsan": ("TSAN_OPTIONS",), "asan": ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}


def under(run, build, groups):
    """Runs scenarios with the programs of a build, and wants no report from any of its processes."""
    programs = ROOT / "build" / build / "bin"
    if not (programs / "tallyd").exists():
        raise Skipped(f"needs build/{build}: cmake --preset {build}, and build tallyd and tallyctl")
    chosen = QUICK[build]
    if run.full:
        chosen = [name for name in SCENARIOS if name[0] in groups and name in FAST and name in FUNCTIONS
                  and name not in NOT_APPLICABLE and name not in NOT_HERE]
    with scratch() as directory:
        env = dict(os.environ, TALLYD_BIN=str(programs), TALLYD_E2E_SLOWNESS=SLOWNESS_HERE[build])
        # libfaketime, which moves the clock, comes before ASan's library.
        for name in OPTIONS[build]:
            given = os.environ.get(name)
            env[name] = ":".join([*([given] if given else []), f"log_path={directory}/report",
                                  *(["verify_asan_link_order=0"] if name == "ASAN_OPTIONS" else [])])
        done = subprocess.run(
            [sys.executable, str(HERE / "run"), "--seed", str(run.seed),
             *(word for name in chosen for word in ("--only", name))],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=3 * 3600 if run.full else 300)
        reports = [path.read_text(errors="replace") for path in sorted(directory.iterdir())]
    found = dict(LINE.findall(done.stdout))
    run.check("A", not reports, f"{len(reports)} reports: {''.join(reports)[:3000]}")
    run.check("A", set(found) == set(chosen), f"run: {sorted(found)}; {done.stderr[-1000:]}")
    dead = [name for name, letters in found.items() if "!A" in letters]
    run.check("A", not dead, f"not alive: {dead}; {done.stdout[-3000:]}")
    slow = [name for name, letters in found.items() if "!" in letters]
    run.note(f"{len(found)} scenarios; other checks that a slow build fails: {' '.join(slow) or 'none'}")
    for why in REASON.findall(done.stdout):
        run.note(why[:300])


@scenario("F15")
def under_thread_sanitizer(run):
    under(run, "tsan", "ABCDE")


@scenario("F16")
def under_address_sanitizer(run):
    under(run, "asan", "ABCDEF")


@scenario("F17")
def a_soak(run):
    """tests/soak, which judges by the same letters. Two hours, or TALLYD_SOAK_SECONDS of it."""
    sys.path.append(str(HERE.parent / "soak"))
    from soak import run_soak  # pylint: disable=import-outside-toplevel,import-error
    seconds = int(os.environ.get("TALLYD_SOAK_SECONDS", "7200")) if run.full else 20
    verdict = run_soak(seconds=seconds, seed=run.seed, rate=6000, restarts=True, say=lambda _: None)
    for check in verdict.checks:
        run.check(check.letter, check.holds, check.text)
    for figure in verdict.figures:
        run.note(figure)
