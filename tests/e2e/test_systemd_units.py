"""The units: systemd takes them, and says that little is exposed."""

import re
import shutil
import subprocess
import unittest

import harness
from harness import ROOT, scratch

UNITS = ROOT / "systemd"
SERVICE = "tallyd.service"


def analyze(*arguments):
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *[str(one) for one in arguments]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60 * harness.SLOWNESS, check=False)
    return done.returncode, done.stdout + done.stderr


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not here")
class UnitsTest(unittest.TestCase):
    def exposure(self, *drop_ins):
        """What systemd says of the service with these drop-ins, on its scale of 0 to 10."""
        with scratch() as root:
            where = root / "etc/systemd/system"
            (where / f"{SERVICE}.d").mkdir(parents=True)
            shutil.copy(UNITS / SERVICE, where)
            for name in drop_ins:
                shutil.copy(UNITS / name, where / f"{SERVICE}.d")
            _, said = analyze("security", "--offline=true", f"--root={root}", SERVICE)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        self.assertIsNotNone(found, said)
        return float(found.group(1))

    def test_exposure(self):
        for most, drop_ins in ((0.9, ()), (1.1, ("remote-push.conf",)), (0.1, ("sealed.conf",))):
            with self.subTest(drop_ins):
                self.assertLessEqual(self.exposure(*drop_ins), most)

    def test_systemd_has_nothing_to_say_about_them(self):
        for drop_in in (None, "sealed.conf", "remote-push.conf"):
            with self.subTest(drop_in), scratch() as where:
                for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
                    # The program is not installed where tests run.
                    text = unit.read_text().replace("/usr/bin/tallyd", "/bin/true")
                    (where / unit.name).write_text(text)
                if drop_in:
                    (where / f"{SERVICE}.d").mkdir()
                    shutil.copy(UNITS / drop_in, where / f"{SERVICE}.d")
                units = [*where.glob("*.service"), *where.glob("*.socket")]
                code, said = analyze("verify", "--man=no", *units)
                self.assertEqual((code, said), (0, ""))

    def test_sockets_are_listeners_of_the_example(self):
        example = (ROOT / "docs/examples/tallyd-systemd.yaml").read_text()
        for unit in UNITS.glob("*.socket"):
            for listen in re.findall(r"^Listen\w+=(.*)$", unit.read_text(), re.M):
                self.assertIn(listen, example, unit.name)

    def test_the_example_is_read(self):
        code, said, problems = harness.run_tallyd(
            f"--config.file={ROOT / 'docs/examples/tallyd-systemd.yaml'}", "--check-config")
        self.assertEqual(code, 0, said + problems)


if __name__ == "__main__":
    unittest.main()
