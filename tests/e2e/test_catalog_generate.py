"""tallyctl catalog: what check says, and that everything generated is taken by whom it is for.

The outputs of our own catalogs and of every example under docs/ go through promtool, compilers,
interpreters, a schema and a running tallyd.
"""

import functools
import importlib.util
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import jsonschema

from harness import BIN, ROOT, SLOWNESS, Daemon, needs, run_tallyd, scratch

HERE = pathlib.Path(__file__).resolve().parent
SHOP = HERE / "catalogs/shop.yaml"
DOUBTFUL = HERE / "catalogs/doubtful.yaml"
CATALOGS = [SHOP, *sorted(ROOT.glob("docs/examples/services/*/catalog.yaml"))]


def run(*arguments, cwd=None, seconds=180, text=None):
    """Runs a program to its end: (exit code, standard output and error)."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds * SLOWNESS,
        check=False,
    )
    return done.returncode, done.stdout


def catalog(*arguments):
    return run(BIN / "tallyctl", "catalog", *arguments)


def generate(source, directory, *flags):
    code, output = catalog("generate", source, "--out", directory, *flags)
    if code != 0:
        raise AssertionError(f"{source}: exit {code}\n{output}")
    return output


class Generated:
    """The outputs of each catalog, generated once for all tests."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="tallyd-e2e-"))

    @functools.cache
    def of(self, source):
        directory = self.root / f"{source.parent.name}-{source.stem}"
        generate(source, directory)
        return directory


def setUpModule():
    global GENERATED
    GENERATED = Generated()


def tearDownModule():
    shutil.rmtree(GENERATED.root, ignore_errors=True)


def one(directory, pattern):
    [path] = directory.glob(pattern)
    return path


def load_python(directory):
    """The generated Python module."""
    path = one(directory, "*_metrics.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def label_sets(metric):
    """Labels to send: each declared value, and two of what is only bounded."""
    names = [label.name for label in metric.labels if label.is_tag or label.name in metric.stars]
    values = [label.values or ("one", "two")
              for label in metric.labels if label.is_tag or label.name in metric.stars]
    free = {star: "x" for star in metric.stars if star.startswith("segment_")}
    for combination in itertools.product(*values):
        yield dict(zip(names, combination)), free


def sent_value(metric):
    return "member" if metric.type == "set" else 2


def exposed_name(metric):
    return metric.name + "_count" if metric.type in ("histogram", "summary") else metric.name


class CheckTest(unittest.TestCase):
    def test_good_catalogs_pass_lint_too(self):
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                code, output = catalog("check", "--lint", source)
                self.assertEqual(code, 0, output)
                self.assertRegex(output, r"\d+ metrics?, .*\d+ alerts?")

    def test_what_is_broken_is_said_all_at_once_with_its_lines(self):
        with scratch() as directory:
            broken = directory / "broken.yaml"
            broken.write_text(SHOP.read_text()
                              .replace("name: shop_orders_total", "name: shop_orders")
                              .replace("buckets: [1000, 1e6]", "buckets: [1e6, 1000]"))
            for command in (("check",), ("check", "--lint"), ("generate", "--out", directory / "o")):
                code, output = catalog(*command, broken)
                self.assertEqual(code, 2, output)
                lines = broken.read_text().splitlines()
                for text in ("shop_orders\n", "buckets: [1e6"):
                    number = next(i for i, line in enumerate(lines, 1) if text.strip() in line)
                    self.assertIn(f"{broken}:{number}:", output)
            self.assertFalse((directory / "o").exists())

    def test_lint_says_what_a_reviewer_would(self):
        code, output = catalog("check", "--lint", DOUBTFUL)
        self.assertEqual(code, 3, output)
        lines = DOUBTFUL.read_text().splitlines()

        def expect(anchor, finding):
            number = next(i for i, line in enumerate(lines, 1) if anchor in line)
            place = f"{DOUBTFUL}:{number}: "
            found = [line for line in output.splitlines() if line.startswith(place)]
            self.assertTrue(any(finding in line for line in found), f"{place}{finding}\n{output}")

        expect("name: ws_active_connections", "1000 identities apart")
        expect("name: message_searches_total", 'the value "unknown"')
        expect("name: SearchFailures", "fires on any single event of message_searches_total")
        expect("name: HighErrorRate", "adds unrelated counters")
        expect("name: SearchFailureRatio", "select different values of status")
        expect("name: SearchFailureRatio", "not longer than two scrapes")
        expect("name: SearchFailureRatio", "has no test in which it does not fire")
        expect("name: SearchFailureRatio", "has no runbook")
        expect("name: MessagesLarge", "can never fire")
        self.assertIn("findings", output.splitlines()[-1])

    def test_help_names_outputs_and_exit_codes(self):
        code, output = catalog("--help")
        self.assertEqual(code, 0)
        self.assertIn("generate", output)
        code, output = catalog("check", "--help")
        self.assertIn("3 findings", " ".join(output.split()))
        code, output = catalog("generate", "--help")
        self.assertIn("dashboard", output)
        self.assertEqual(catalog("generate", SHOP)[0], 2)
        self.assertEqual(catalog("generate", SHOP, "--out", "/tmp/x", "--only", "perl")[0], 2)
        self.assertEqual(catalog("check", "/nowhere/catalog.yaml")[0], 2)


class OutputTest(unittest.TestCase):
    def test_the_same_bytes_every_time_and_untouched_where_right(self):
        with scratch() as directory:
            first = generate(SHOP, directory / "a")
            generate(SHOP, directory / "b")
            self.assertEqual(run("diff", "-r", "a", "b", cwd=directory), (0, ""))
            self.assertEqual(len(first.splitlines()),
                             sum(path.is_file() for path in (directory / "a").rglob("*")))
            path = one(directory / "a", "*_rules.yaml")
            os.utime(path, (1, 1))
            self.assertEqual(generate(SHOP, directory / "a"), "")
            self.assertEqual(path.stat().st_mtime, 1)

    def test_check_names_what_differs_and_writes_nothing(self):
        with scratch() as directory:
            out = directory / "out"
            code, output = catalog("generate", SHOP, "--out", out, "--check")
            self.assertEqual(code, 1)
            self.assertIn("is missing", output)
            self.assertFalse(out.exists())
            generate(SHOP, out)
            self.assertEqual(catalog("generate", SHOP, "--out", out, "--check"), (0, ""))
            header = one(out, "*.h")
            header.write_text(header.read_text() + "// mine\n")
            code, output = catalog("generate", SHOP, "--out", out, "--check")
            self.assertEqual(code, 1)
            self.assertEqual(output.splitlines(),
                             [f"{header}: is not what the catalog says; generate it again"])
            self.assertEqual(generate(SHOP, out), f"{header}\n")

    def test_runbooks_that_somebody_edited_stay(self):
        with scratch() as directory:
            generate(SHOP, directory)
            runbook = directory / "runbooks/ShopOrdersFail.md"
            mine = runbook.read_text().replace("Say here what stops the damage.", "Close the shop.")
            self.assertNotEqual(mine, runbook.read_text())
            runbook.write_text(mine)
            changed = directory / "shop.yaml"
            changed.write_text(SHOP.read_text().replace("Orders fail.", "Orders are lost.")
                               .replace("Payments take long.", "Payments are slow."))
            output = generate(changed, directory)
            self.assertEqual(runbook.read_text(), mine)
            self.assertIn("ShopPaymentsSlow.md", output)
            self.assertEqual(catalog("generate", changed, "--out", directory, "--check")[0], 0)

    def test_only_some_outputs(self):
        with scratch() as directory:
            generate(SHOP, directory, "--only", "mapping,python")
            self.assertEqual(sorted(path.name for path in directory.iterdir()),
                             ["shop_mapping.yaml", "shop_metrics.py"])

    def test_what_cannot_be_written_is_said(self):
        code, output = catalog("generate", SHOP, "--out", "/proc/nowhere")
        self.assertEqual(code, 1)
        self.assertIn("/proc/nowhere", output)

    def test_two_catalogs_must_not_write_one_file(self):
        with scratch() as directory:
            other = directory / "other.yaml"
            other.write_text(DOUBTFUL.read_text().replace("service: messenger", "service: shop"))
            code, output = catalog("generate", SHOP, other, "--out", directory / "out")
            self.assertEqual(code, 2, output)
            self.assertFalse((directory / "out").exists())


@needs("promtool")
class RulesTest(unittest.TestCase):
    def test_promtool_takes_the_rules_and_every_alert_is_tested_both_ways(self):
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                directory = GENERATED.of(source)
                rules = one(directory, "*_rules.yaml")
                code, output = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
                self.assertEqual(code, 0, output)
                tests = one(directory, "*_rules_test.yaml")
                code, output = run("promtool", "test", "rules", tests)
                self.assertEqual(code, 0, output)
                text = tests.read_text()
                for alert in [line.split("alert: ")[1] for line in rules.read_text().splitlines()
                              if "- alert: " in line]:
                    self.assertIn(f"# {alert} fires.", text)
                    self.assertIn(f"# {alert} does not fire.", text)

    def test_a_wrong_threshold_fails_them(self):
        for threshold in ("> 0.5", "> 0.001"):
            with scratch() as directory:
                changed = directory / "shop.yaml"
                changed.write_text(SHOP.read_text().replace("rate5m > 0.01", f"rate5m {threshold}"))
                generate(changed, directory, "--only", "rules")
                code, output = run("promtool", "test", "rules", one(directory, "*_rules_test.yaml"))
                self.assertEqual(code, 1, output)


def panel_list(dashboard):
    """The dashboard as a person would see it, for messages."""
    lines = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            lines.append(f"== {panel['title']}")
            continue
        lines.append(f"   {place['x']:2},{place['y']:3} {panel['type']:10} "
                     f"[{panel['fieldConfig']['defaults']['unit']}] {panel['title']}")
        lines += [f"          {target['expr']}" for target in panel["targets"]]
    return "\n".join(lines)


class DashboardTest(unittest.TestCase):
    def each(self):
        for source in CATALOGS:
            dashboard = json.loads(one(GENERATED.of(source), "*_dashboard.json").read_text())
            yield source, dashboard

    def test_they_have_the_shape_that_grafana_reads(self):
        schema = json.loads((HERE / "dashboard_schema.json").read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        for _, dashboard in self.each():
            errors = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in
                      jsonschema.Draft7Validator(schema).iter_errors(dashboard)]
            self.assertEqual(errors, [], panel_list(dashboard))

    def test_each_metric_has_a_panel_below_its_component_and_none_overlap(self):
        for source, dashboard in self.each():
            shown = panel_list(dashboard)
            rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
            self.assertEqual(len(rows), len(set(rows)), shown)
            self.assertEqual(dashboard["panels"][0]["type"], "row", shown)
            cells = set()
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                for cell in itertools.product(range(place["x"], place["x"] + place["w"]),
                                              range(place["y"], place["y"] + place["h"])):
                    self.assertNotIn(cell, cells, shown)
                    cells.add(cell)
            expressions = " ".join(target["expr"] for panel in dashboard["panels"]
                                   for target in panel.get("targets", ()))
            for metric in load_python(GENERATED.of(source)).METRICS:
                self.assertIn(metric, expressions, shown)

    @needs("promtool")
    def test_their_queries_are_read_by_prometheus(self):
        for _, dashboard in self.each():
            expressions = [target["expr"] for panel in dashboard["panels"]
                           for target in panel.get("targets", ())]
            rules = [{"record": f"panel:{i}:query",
                      "expr": text.replace("$__rate_interval", "5m").replace("$job", ".+")
                      .replace("$instance", ".+")} for i, text in enumerate(expressions)]
            with scratch() as directory:
                path = directory / "panels.yaml"
                # JSON is YAML.
                path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
                code, output = run("promtool", "check", "rules", path)
                self.assertEqual(code, 0, output + panel_list(dashboard))

    def test_the_shop_is_shown_as_its_catalog_says(self):
        dashboard = json.loads(one(GENERATED.of(SHOP), "*_dashboard.json").read_text())
        shown = panel_list(dashboard)
        panels = {panel["title"]: panel for panel in dashboard["panels"]}
        self.assertEqual(panels["Open carts"]["type"], "stat", shown)
        self.assertEqual(panels["Sent"]["fieldConfig"]["defaults"]["unit"], "Bps", shown)
        self.assertEqual(panels["Payments"]["fieldConfig"]["defaults"]["unit"], "s", shown)
        self.assertEqual(panels["Payments, distribution"]["type"], "heatmap", shown)
        self.assertEqual(panels["Baskets"]["type"], "heatmap", shown)
        self.assertIn("ShopPaymentsSlow", panels["Payments"]["description"])
        self.assertIn("https://runbooks.example.org/shop/ShopOrdersFail",
                      panels["Orders"]["description"])
        self.assertNotIn("min", panels["shop_room_celsius"]["fieldConfig"]["defaults"])


class MappingTest(unittest.TestCase):
    """The mapping and the lines of the generated helpers, through a running tallyd."""

    def test_every_line_lands_in_the_series_that_is_declared(self):
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                directory = GENERATED.of(source)
                self.check_lines(load_python(directory), one(directory, "*_mapping.yaml"))

    def check_lines(self, module, mapping):
        code, _, error = run_tallyd("--check-config", f"--statsd.mapping-config={mapping}")
        self.assertEqual(code, 0, error)
        expected = {}
        lines = []
        for metric in module.METRICS.values():
            if not metric.source:
                continue
            for labels, free in label_sets(metric):
                lines.append(module.line(metric, sent_value(metric), **labels, **free))
                key = (exposed_name(metric), tuple(sorted(labels.items())))
                # A gauge and a counter have the value; of others one event is counted.
                expected[key] = 2 if metric.type in ("counter", "gauge") else 1
        with Daemon(f"--statsd.mapping-config={mapping}") as daemon:
            for i in range(0, len(lines), 10):
                daemon.send_udp("\n".join(lines[i:i + 10]))
            ledger = daemon.settle(received=len(lines))
            self.assertEqual(ledger.reasons, {})
            self.assertEqual(ledger.repairs, {})
            scrape = daemon.scrape()
            for (name, labels), value in expected.items():
                self.assertEqual(scrape.value(name, **dict(labels)), value, (name, labels))
            text = daemon.get("/metrics").body.decode()
        self.check_exposition(text)

    def check_exposition(self, text):
        if shutil.which("promtool") is None:
            self.skipTest("needs promtool")
        code, output = run("promtool", "check", "metrics", text=text)
        self.assertEqual((code, output), (0, ""))

    def test_values_arrive_in_the_unit_of_the_metric(self):
        directory = GENERATED.of(SHOP)
        shop = load_python(directory)
        with Daemon(f"--statsd.mapping-config={one(directory, '*_mapping.yaml')}") as daemon:
            daemon.send_udp(
                shop.line(shop.SHOP_PAY_SECONDS, 0.25, country="a.t", status=shop.STATUS_5XX),
                shop.line(shop.SHOP_BASKET_BYTES, 1500, kind="guest", segment_1="any"),
                shop.line(shop.SHOP_SENT_BYTES_TOTAL, 12_500))
            daemon.settle(received=3)
            scrape = daemon.scrape()
        self.assertEqual(
            scrape.value("shop_pay_seconds_sum", country="a_t", status="5xx"), 0.25)
        self.assertEqual(scrape.value("shop_basket_bytes_sum", kind="guest"), 1500)
        self.assertEqual(scrape.value("shop_sent_bytes_total"), 12_500)


PROGRAM = r"""
#include "shop_metrics.h"

#include <chrono>
#include <cstdio>
#include <string>

int main() {
  namespace shop = shop_metrics;
  const auto print = [](std::string_view line) {
    std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  };
  bool sent = shop::ShopOrdersTotal::Add(print, shop::Status::kFailed);
  sent = shop::ShopOrdersTotal::Add(print, shop::Status::k5xx, 3) && sent;
  sent = shop::ShopSentBytesTotal::Add(print, 12500) && sent;
  sent = shop::ShopOpenCarts::Set(print, 7) && sent;
  sent = shop::ShopOpenCarts::Add(print, -2) && sent;
  sent = shop::ShopRoomCelsius::Set(print, shop::Class::kCold, "a,b|c", -4.5) && sent;
  sent = shop::ShopPaySeconds::Observe(print, "a.t", shop::Status::kPaid, 0.25) && sent;
  sent = shop::ShopPaySeconds::Observe(print, "de", shop::Status::kPaid,
                                       std::chrono::milliseconds(1500)) && sent;
  sent = shop::ShopBasketBytes::Observe(print, shop::Kind::kGuest, "any", 1500) && sent;
  sent = shop::ShopSearchSeconds::Observe(print, 0.5) && sent;
  sent = shop::ShopVisitors::Insert(print, "ann|e") && sent;
  // Too long a line is not sent, and said.
  const bool long_sent = shop::ShopVisitors::Insert(print, std::string(2000, 'x'));
  int datagrams = 0;
  {
    shop::Batch batch([&](std::string_view) { ++datagrams; });
    for (int i = 0; i < 100; ++i) shop::ShopOrdersTotal::Add(batch, shop::Status::kPaid);
  }
  return sent && !long_sent && datagrams == 3 && shop::ShopQueueDepth::kName == "shop_queue_depth"
             ? 0
             : 1;
}
"""

PROGRAM_LINES = """\
shop.orders:1|c|#status:failed
shop.orders:3|c|#status:5xx
shop_sent_bytes_total:12.5|c
shop.carts:7|g
shop.carts:-2|g
shop_room_celsius:0|g|#class:cold,line:a_b_c
shop_room_celsius:-4.5|g|#class:cold,line:a_b_c
shop.pay.a_t:250|ms|#status:paid
shop.pay.de:1500|ms|#status:paid
shop.basket.any.guest:3000|h
shop_search_seconds:500|ms
shop_visitors:ann_e|s
"""

STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")


@needs("g++")
class CppTest(unittest.TestCase):
    def compile(self, directory, program, *flags):
        return run("g++", *STRICT, *flags, "-I", directory, "-x", "c++", "-", "-o",
                   "/dev/null" if "-fsyntax-only" in flags else directory / "program",
                   text=program)

    def test_every_header_compiles_alone_without_a_warning(self):
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                directory = GENERATED.of(source)
                header = one(directory, "*_metrics.h").name
                # Twice: what is included by two others must not be defined twice.
                program = f'#include "{header}"\n#include "{header}"\nint main() {{}}\n'
                code, output = self.compile(directory, program, "-fsyntax-only")
                self.assertEqual(code, 0, output)

    def test_a_program_sends_what_the_catalog_says_and_tallyd_takes_it(self):
        with scratch() as directory:
            generate(SHOP, directory, "--only", "cpp,mapping")
            code, output = self.compile(directory, PROGRAM)
            self.assertEqual(code, 0, output)
            code, lines = run(directory / "program")
            self.assertEqual((code, lines), (0, PROGRAM_LINES))
            mapping = one(directory, "*_mapping.yaml")
            with Daemon(f"--statsd.mapping-config={mapping}") as daemon:
                daemon.send_udp(lines)
                ledger = daemon.settle(received=len(lines.splitlines()))
                self.assertEqual((ledger.reasons, ledger.repairs), ({}, {}))
                scrape = daemon.scrape()
            self.assertEqual(scrape.value("shop_orders_total", status="5xx"), 3)
            self.assertEqual(scrape.value("shop_open_carts"), 5)
            room = {"class": "cold", "line": "a_b_c"}
            self.assertEqual(scrape.value("shop_room_celsius", **room), -4.5)
            self.assertEqual(
                scrape.value("shop_pay_seconds_sum", country="de", status="paid"), 1.5)
            self.assertEqual(scrape.value("shop_basket_bytes_sum", kind="guest"), 1500)

    def test_what_is_renamed_does_not_compile_any_more(self):
        renames = {
            "a metric": ("name: shop_open_carts", "name: shop_carts_open"),
            "a value": ('[paid, failed, "5xx"]', '[paid, lost, "5xx"]'),
            "a type": ("type: summary", "type: gauge"),
            "a label that is new": ("    type: set\n",
                                    "    type: set\n    labels: {door: {values: [a], help: b}}\n"),
        }
        text = SHOP.read_text().split("recording_rules:")[0].replace(
            "    quantiles: [0.5, 0.99]\n", "")
        with scratch() as directory:
            changed = directory / "shop.yaml"
            changed.write_text(text)
            generate(changed, directory, "--only", "cpp")
            code, output = self.compile(directory, PROGRAM, "-fsyntax-only")
            self.assertEqual(code, 0, output)
        for what, (old, new) in renames.items():
            with self.subTest(what=what), scratch() as directory:
                self.assertIn(old, text)
                changed = directory / "shop.yaml"
                changed.write_text(text.replace(old, new))
                generate(changed, directory, "--only", "cpp")
                code, output = self.compile(directory, PROGRAM, "-fsyntax-only")
                self.assertNotEqual(code, 0)
                self.assertIn("error:", output)


class OtherLanguagesTest(unittest.TestCase):
    def test_python_refuses_what_is_not_declared(self):
        shop = load_python(GENERATED.of(SHOP))
        self.assertEqual(shop.tags(shop.SHOP_ORDERS_TOTAL, status="paid"), ["status:paid"])
        with self.assertRaisesRegex(ValueError, "no declared value"):
            shop.line(shop.SHOP_ORDERS_TOTAL, 1, status="unknown")
        with self.assertRaisesRegex(ValueError, "takes the labels"):
            shop.line(shop.SHOP_ORDERS_TOTAL, 1)
        with self.assertRaisesRegex(ValueError, "takes the labels"):
            shop.line(shop.SHOP_ORDERS_TOTAL, 1, status="paid", user="7")
        with self.assertRaisesRegex(ValueError, "not sent"):
            shop.line(shop.SHOP_QUEUE_DEPTH, 1, queue="main")

    @needs("node")
    def test_node_says_the_same_as_python(self):
        script = """
          const metrics = require(process.argv[1]);
          const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
          for (const [name, value, labels] of asked)
            console.log(metrics.line(metrics.METRICS[name], value, labels));
          try {
            metrics.line(metrics.METRICS[asked[0][0]], 1, { nonsense: 'x' });
          } catch (error) {
            if (error instanceof RangeError) console.log('refused');
          }
        """
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                directory = GENERATED.of(source)
                module = load_python(directory)
                asked = [(metric.name, sent_value(metric), {**labels, **free})
                         for metric in module.METRICS.values() if metric.source
                         for labels, free in label_sets(metric)]
                code, output = run("node", "-e", script, one(directory, "*_metrics.js"),
                                   text=json.dumps(asked))
                self.assertEqual(code, 0, output)
                lines = [module.line(module.METRICS[name], value, **labels)
                         for name, value, labels in asked]
                same = [line.replace(".0|", "|") for line in lines]
                self.assertEqual(output.splitlines(), [*same, "refused"])

    def test_go_is_what_gofmt_and_vet_have_passed(self):
        path = GENERATED.of(SHOP) / "shopmetrics/shop_metrics.go"
        self.assertEqual(path.read_text(), (HERE / "catalogs/shop_metrics.go.txt").read_text(),
                         "if this is meant, pass the new text through gofmt -l and go vet")

    @needs("go", "gofmt")
    def test_go_passes_gofmt_and_vet(self):
        for source in CATALOGS:
            with self.subTest(source=source.parent.name):
                path = one(GENERATED.of(source), "*metrics/*.go")
                self.assertEqual(run("gofmt", "-l", path), (0, ""))
                with scratch() as directory:
                    shutil.copy(path, directory)
                    (directory / "go.mod").write_text("module example.org/metrics\n\ngo 1.19\n")
                    code, output = run("go", "vet", ".", cwd=directory)
                    self.assertEqual(code, 0, output)


if __name__ == "__main__":
    unittest.main()
