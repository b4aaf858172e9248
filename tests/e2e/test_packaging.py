"""What is delivered around the programs: packages, man pages, completions, manifests."""

import os
import pathlib
import re
import subprocess
import unittest

from harness import BIN, ROOT, SLOWNESS, have, needs, run_tallyd, scratch

try:
    import yaml
except ImportError:
    yaml = None

TALLYD_FLAG = re.compile(r"^  --(?:\[no-\])?([a-z0-9.-]+)", re.M)
COMMANDS = ("explain", "capture", "top", "migrate check", "catalog check", "catalog generate", "run")


def say(*argv, **keywords):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                          timeout=120 * SLOWNESS, check=False, **keywords)
    if done.returncode != 0:
        raise AssertionError(f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class ReferenceTest(unittest.TestCase):
    """Man pages and completions, made from --help."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = scratch()
        cls.directory = cls.scratch.__enter__()
        say(ROOT / "packaging/make-reference", BIN, cls.directory)
        cls.flags = set(TALLYD_FLAG.findall(say(BIN / "tallyd", "--help")))

    @classmethod
    def tearDownClass(cls):
        cls.scratch.__exit__(None, None, None)

    def text(self, name):
        return (self.directory / name).read_text()

    def test_every_flag_is_in_the_man_page_and_the_completions(self):
        self.assertGreater(len(self.flags), 60)
        page = self.text("tallyd.8").replace("\\-", "-")
        for flag in self.flags:
            self.assertRegex(page, rf"\.B --(\[no-\])?{re.escape(flag)}(=|\n)", flag)
            self.assertRegex(self.text("tallyd.bash"), rf"--{re.escape(flag)}[=\s\"]", flag)
            self.assertRegex(self.text("_tallyd"), rf"'\*--{re.escape(flag)}(=|\[)", flag)

    def test_every_command_of_tallyctl_is_there(self):
        page = self.text("tallyctl.1").replace("\\-", "-")
        for command in COMMANDS:
            self.assertIn(f".SS {command}\n", page)
            flags = re.findall(r"^ +--([a-z-]+)", say(BIN / "tallyctl", *command.split(), "--help"), re.M)
            for flag in flags:
                self.assertIn(f"--{flag}", page)
                self.assertIn(f"--{flag}", self.text("tallyctl.bash"))
                self.assertIn(f"--{flag}", self.text("_tallyctl"))
        top = re.findall(r"^  ([a-z]+)$", say(BIN / "tallyctl", "--help"), re.M)
        self.assertEqual(set(top), {command.split()[0] for command in COMMANDS})

    def test_every_key_of_the_example_is_in_its_page(self):
        page = self.text("tallyd.yaml.5").replace("\\-", "-")
        for key in re.findall(r"^ *([a-z.-]+):", (ROOT / "docs/examples/tallyd.yaml").read_text(), re.M):
            self.assertIn(f"{key}:", page)

    @needs("man")
    def test_man_finds_nothing_wrong(self):
        for page in ("tallyd.8", "tallyd.yaml.5", "tallyctl.1"):
            done = subprocess.run(
                ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", self.directory / page],
                capture_output=True, text=True, timeout=60 * SLOWNESS, check=False,
                env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)

    def complete(self, program, *words):
        script = (f'source "{self.directory}/{program}.bash"; compopt() {{ :; }}; COMP_WORDS=("$@"); '
                  f'COMP_CWORD=$(($# - 1)); _{program}; printf "%s\\n" "${{COMPREPLY[@]}}"')
        return say("bash", "-c", script, "bash", program, *words).split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("tallyd", "--web.config"), ["--web.config.file="])
        self.assertIn("--no-statsd.parse-dogstatsd-tags", self.complete("tallyd", "--no-"))
        self.assertEqual(self.complete("tallyctl", "mig"), ["migrate"])
        self.assertIn("check", self.complete("tallyctl", "migrate", ""))
        self.assertEqual(self.complete("tallyctl", "run", "--jo"), ["--job="])
        self.assertEqual(self.complete("tallyctl", "catalog", "generate", "--on"), ["--only="])

    @needs("zsh")
    def test_zsh_reads_its_functions(self):
        for name in ("_tallyd", "_tallyctl"):
            say("zsh", "-n", self.directory / name)


@unittest.skipUnless(have("dh", "lintian"), "needs debhelper and lintian")
class PackageTest(unittest.TestCase):
    def test_they_are_built_by_one_command_and_lintian_finds_nothing(self):
        with scratch() as directory:
            say(ROOT / "packaging/build-deb", "--bin", BIN, "--out", directory)
            debs = {deb.name.split("_")[0]: deb for deb in directory.glob("*.deb")}
            self.assertEqual(set(debs), {"tallyd", "tallyd-mixin"})
            say("lintian", "--fail-on", "error,warning", *debs.values())
            files = [line.split()[-1] for line in say("dpkg-deb", "-c", debs["tallyd"]).splitlines()]
            for path in ("usr/bin/tallyd", "usr/bin/tallyctl", "lib/systemd/system/tallyd.service",
                         "usr/lib/sysusers.d/tallyd.conf", "etc/tallyd/tallyd.yaml",
                         "usr/share/man/man8/tallyd.8.gz", "usr/share/man/man5/tallyd.yaml.5.gz",
                         "usr/share/man/man1/tallyctl.1.gz",
                         "usr/share/bash-completion/completions/tallyd",
                         "usr/share/zsh/vendor-completions/_tallyctl",
                         "usr/share/doc/tallyd/examples/60-tallyd.conf"):
                self.assertIn(f"./{path}", files)
            self.assertIn("/etc/tallyd/tallyd.yaml",
                          say("dpkg-deb", "-I", debs["tallyd"], "conffiles").split())
            tree = directory / "tree"
            say("dpkg-deb", "-x", debs["tallyd"], tree)
            # The configuration that is installed is one that the program takes.
            said = say(tree / "usr/bin/tallyd", "--check-config",
                       f"--config.file={tree}/etc/tallyd/tallyd.yaml")
            self.assertIn("127.0.0.1:9102", said)


@unittest.skipIf(yaml is None, "needs python3-yaml")
class ManifestTest(unittest.TestCase):
    def pods(self):
        for path in sorted((ROOT / "packaging/kubernetes").glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text()):
                for field in ("apiVersion", "kind", "metadata", "spec"):
                    self.assertIn(field, document, path.name)
                spec = document["spec"]
                if document["kind"] == "DaemonSet":
                    template = spec["template"]
                    self.assertEqual(spec["selector"]["matchLabels"], template["metadata"]["labels"])
                    spec = template["spec"]
                yield path.name, document["kind"], spec

    def containers(self):
        for name, _, spec in self.pods():
            for container in spec.get("initContainers", []) + spec["containers"]:
                yield f"{name}: {container['name']}", spec, container

    def tallyds(self):
        for where, spec, container in self.containers():
            if container["name"] == "tallyd":
                yield where, spec, container

    def test_a_sidecar_and_a_daemon_of_the_node(self):
        self.assertEqual({(name, kind) for name, kind, _ in self.pods()},
                         {("sidecar.yaml", "Pod"), ("daemonset.yaml", "DaemonSet")})
        self.assertEqual(len(list(self.tallyds())), 2)

    def test_volumes_are_those_that_are_mounted(self):
        for name, kind, spec in self.pods():
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            mounted = {mount["name"] for container in spec.get("initContainers", []) + spec["containers"]
                       for mount in container.get("volumeMounts", [])}
            self.assertEqual(mounted, set(volumes), name)
            kept_in = {"Pod": "emptyDir", "DaemonSet": "hostPath"}[kind]
            self.assertIn(kept_in, volumes["tallyd"], name)

    def test_nobody_has_more_rights_than_it_needs(self):
        for where, spec, container in self.containers():
            security = container["securityContext"]
            self.assertFalse(security["allowPrivilegeEscalation"], where)
            self.assertTrue(security["readOnlyRootFilesystem"], where)
            self.assertEqual(security["capabilities"]["drop"], ["ALL"], where)
            self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
        for where, spec, container in self.tallyds():
            self.assertTrue({**spec["securityContext"], **container["securityContext"]}["runAsNonRoot"],
                            where)

    def test_the_flags_are_ours_and_the_memory_is_enough(self):
        units = {"Mi": 1 << 20, "Gi": 1 << 30}
        for where, _, container in self.tallyds():
            code, said, problems = run_tallyd("--check-config", *container["args"])
            self.assertEqual((code, problems), (0, ""), where)
            bound = int(re.search(r"^  together +(\d+) bytes", said, re.M).group(1))
            limit = container["resources"]["limits"]["memory"]
            self.assertLessEqual(bound, int(limit[:-2]) * units[limit[-2:]], where)

    def test_probes_ask_what_there_is(self):
        for where, _, container in self.tallyds():
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for kind, path in (("liveness", "/-/healthy"), ("readiness", "/-/ready"),
                               ("startup", "/-/ready")):
                probe = container[f"{kind}Probe"]["httpGet"]
                self.assertEqual(probe["path"], path, where)
                self.assertIn(f"--web.listen-address=:{ports[probe['port']]}", container["args"], where)


class TextTest(unittest.TestCase):
    def test_the_container_file_is_well_formed(self):
        text = (ROOT / "packaging/container/Containerfile").read_text().replace("\\\n", " ")
        steps = [line.split(None, 1) for line in text.splitlines()
                 if line.strip() and not line.startswith("#")]
        known = {"FROM", "COPY", "WORKDIR", "RUN", "USER", "EXPOSE", "ENTRYPOINT"}
        self.assertLessEqual({step for step, _ in steps}, known)
        stages = [words for step, words in steps if step == "FROM"]
        self.assertEqual(stages, ["debian:bookworm-slim AS build", "debian:bookworm-slim"])
        last = {step: words for step, words in steps}
        self.assertRegex(last["USER"], r"^[1-9]\d*:[1-9]\d*$")
        self.assertEqual(last["ENTRYPOINT"], '["/usr/bin/tallyd"]')
        for program in re.findall(r"packaging/[\w-]+", text.split("FROM", 1)[1]):
            self.assertTrue(os.access(ROOT / program, os.X_OK), program)

    def test_the_changelog_has_the_tags_of_prometheus(self):
        text = (ROOT / "CHANGELOG.md").read_text()
        entries = re.findall(r"^\* (.*)$", text, re.M)
        self.assertGreater(len(entries), 20)
        for entry in entries:
            self.assertRegex(entry, r"^\[(CHANGE|FEATURE|ENHANCEMENT|BUGFIX|SECURITY)\] ")

    def test_links_of_documents_lead_somewhere(self):
        for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
            for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
                if "://" not in link:
                    self.assertTrue((path.parent / pathlib.Path(link)).exists(), f"{path.name}: {link}")


if __name__ == "__main__":
    unittest.main()
