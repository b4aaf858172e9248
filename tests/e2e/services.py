"""What the tests of the worked services (docs/examples/services) have in common."""

import re
import subprocess
import unittest

from harness import BIN, CLIENTS, ROOT, SLOWNESS, Daemon, wait_for

SERVICES = ROOT / "docs/examples/services"
HAVE_NODE_MODULES = (CLIENTS / "node_modules/hot-shots").is_dir()
needs_node = unittest.skipUnless(HAVE_NODE_MODULES, "needs `npm ci` in tests/e2e/clients")

# Enough of the catalogs' YAML to know what they declare, without a reader of YAML.
DECLARED = re.compile(r"^  - name: ([a-z][a-z0-9_]*)\n    type: ([a-z]+)\n", re.M)
ALERT = re.compile(r"^  - name: ([A-Z]\w*)\n", re.M)


def run(*argv, seconds=60, **options):
    """Runs a program to its end: (exit code, standard output and error together)."""
    done = subprocess.run(
        [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=seconds * SLOWNESS, check=False, **options,
    )
    return done.returncode, done.stdout


def compile_emitter(service, source, program, *flags):
    """Compiles a service's C++ with the warnings that users of the generated helpers have."""
    code, output = run(
        "g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion",
        "-Wno-sign-conversion", "-Werror", "-pthread", *flags, SERVICES / service / source,
        "-o", program, seconds=120,
    )
    if code != 0:
        raise AssertionError(f"{source}:\n{output}")


class Emitter:
    """A service that takes commands, one a line, and answers each with a line."""

    def __init__(self, *argv, **options):
        self._process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            **options,
        )

    @property
    def pid(self):
        return self._process.pid

    def tell(self, *commands):
        """Gives the commands, and returns the answer to the last one."""
        answer = None
        for command in commands:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                raise AssertionError(f"{command}: the service ended: {self._process.wait(10)}")
        return answer.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(10 * SLOWNESS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


class ServiceTest(unittest.TestCase):
    """The base of a service's tests. `service` names its folder."""

    service = ""

    @property
    def folder(self):
        return SERVICES / self.service

    @property
    def catalog(self):
        return self.folder / "catalog.yaml"

    def declared(self):
        """{metric: type as declared}."""
        return dict(DECLARED.findall(self.catalog.read_text()))

    def alerts(self):
        return ALERT.findall(self.catalog.read_text())

    def daemon(self, *flags, catalog=None, **options):
        return Daemon(f"--catalog.file={catalog or self.catalog}", *flags, **options)

    def lint(self, catalog):
        return run(BIN / "tallyctl", "catalog", "check", "--lint", catalog)

    def violations(self, daemon):
        """{kind: keys that were not as declared}."""
        scrape = daemon.scrape(path="/-/metrics")
        return scrape.by_label("tallyd_catalog_violations_total", "kind")

    def wait_for_violation(self, daemon, kind, *words):
        """Waits until it is counted, and a line of the log has the kind and all of the words."""
        wait_for(f"a violation {kind}", lambda: self.violations(daemon).get(kind))
        daemon.logged(kind, *words)

    def shows(self, daemon, want, seconds=10):
        """Waits until the scrape has each of {(name, (label, value)...): number}.

        A series that is not there is taken for 0.
        """
        def differences():
            scrape = daemon.scrape()
            found = {key: scrape.value(key[0], 0, **dict(key[1:])) for key in want}
            wrong = {key: (found[key], want[key]) for key in want
                     if abs(found[key] - want[key]) > 1e-9 * abs(want[key])}
            last[:] = [scrape, wrong]
            return not wrong

        last = []
        try:
            wait_for("the values", differences, seconds, 0.1)
        except AssertionError as late:
            raise AssertionError(f"shown and wanted: {last[1]}") from late
        return last[0]
