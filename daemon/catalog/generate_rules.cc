// Rules for Prometheus, and their unit tests.
//
// An alert is tested by the series ALERTS, not by promtool's alert_rule_test: that one compares
// labels and annotations to the letter, with templates expanded, so that each test would have to
// repeat the numbers that its input happens to give; and it says nothing about an alert that fires
// for one of several label sets. What a test says here is what its author said: it fires then, or
// it does not.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/promql.h"

namespace tallyd {
namespace {

std::string RecordingGroup(const Catalog& catalog) { return catalog.service + ".rules"; }
std::string AlertGroup(const Catalog& catalog) { return catalog.service + ".alerts"; }

void AppendText(const char* indentation, const char* key, const std::string& text,
                std::string* yaml) {
  if (text.empty()) return;
  absl::StrAppend(yaml, indentation, key, ": ", YamlText(text), "\n");
}

std::string AlertRule(const Catalog& catalog, const DeclaredAlert& alert) {
  std::string yaml;
  if (!alert.reason.empty()) yaml += Comment("      # ", alert.reason);
  absl::StrAppend(&yaml, "      - alert: ", alert.name, "\n");
  AppendText("        ", "expr", alert.expr, &yaml);
  if (alert.for_ms > 0) {
    absl::StrAppend(&yaml, "        for: ", PromqlDuration(alert.for_ms), "\n");
  }
  absl::StrAppend(&yaml, "        labels:\n          service: ", YamlText(catalog.service), "\n");
  AppendText("          ", "severity", alert.severity, &yaml);
  AppendText("          ", "owner", OwnerOf(catalog, alert), &yaml);
  const std::string runbook = RunbookOf(catalog, alert);
  if (alert.summary.empty() && alert.description.empty() && runbook.empty()) return yaml;
  yaml += "        annotations:\n";
  AppendText("          ", "summary", alert.summary, &yaml);
  AppendText("          ", "description", alert.description, &yaml);
  AppendText("          ", "runbook_url", runbook, &yaml);
  return yaml;
}

std::string RulesYaml(const Catalog& catalog) {
  std::string yaml = absl::StrCat("# ", GeneratedFrom(catalog), "\ngroups:\n");
  // Prometheus takes a group without rules, and the tests name both.
  absl::StrAppend(&yaml, "  - name: ", RecordingGroup(catalog),
                  "\n    rules:", catalog.recording_rules.empty() ? " []\n" : "\n");
  for (const RecordingRule& rule : catalog.recording_rules) {
    absl::StrAppend(&yaml, "      - record: ", YamlText(rule.record), "\n");
    AppendText("        ", "expr", rule.expr, &yaml);
  }
  absl::StrAppend(&yaml, "  - name: ", AlertGroup(catalog),
                  "\n    rules:", catalog.alerts.empty() ? " []\n" : "\n");
  for (const DeclaredAlert& alert : catalog.alerts) yaml += AlertRule(catalog, alert);
  return yaml;
}

std::string TestYaml(const Catalog& catalog, const DeclaredAlert& alert, const AlertTest& test) {
  const std::string interval = PromqlDuration(catalog.scrape_interval_ms);
  std::string yaml =
      Comment("  # ", absl::StrCat(alert.name, test.fires ? " fires." : " does not fire."));
  absl::StrAppend(&yaml, "  - interval: ", interval,
                  "\n    input_series:", test.series.empty() ? " []\n" : "\n");
  for (const auto& [series, values] : test.series) {
    absl::StrAppend(&yaml, "      - series: ", YamlText(series),
                    "\n        values: ", YamlText(values), "\n");
  }
  const std::string expr = absl::StrCat("count(ALERTS{alertname=\"", alert.name,
                                        "\",alertstate=\"firing\"}) > bool 0 or vector(0)");
  absl::StrAppend(&yaml, "    promql_expr_test:\n      - expr: ", YamlText(expr),
                  "\n        eval_time: ", PromqlDuration(test.at_ms),
                  "\n        exp_samples:\n          - labels: '{}'\n            value: ",
                  test.fires ? 1 : 0, "\n");
  return yaml;
}

std::string TestsYaml(const Catalog& catalog, const std::string& rules_file) {
  std::string yaml = absl::StrCat(
      "# ", GeneratedFrom(catalog), "\n# promtool test rules FILE\nrule_files:\n  - ", rules_file,
      "\nevaluation_interval: ", PromqlDuration(catalog.scrape_interval_ms),
      "\ngroup_eval_order:\n  - ", RecordingGroup(catalog), "\n  - ", AlertGroup(catalog),
      "\ntests:");
  std::string tests;
  for (const DeclaredAlert& alert : catalog.alerts) {
    for (const AlertTest& test : alert.tests) tests += TestYaml(catalog, alert, test);
  }
  return absl::StrCat(yaml, tests.empty() ? " []\n" : "\n", tests);
}

}  // namespace

std::vector<GeneratedFile> GenerateRules(const Catalog& catalog) {
  const std::string rules_file = catalog.service + "_rules.yaml";
  return {{rules_file, RulesYaml(catalog)},
          {catalog.service + "_rules_test.yaml", TestsYaml(catalog, rules_file)}};
}

}  // namespace tallyd
