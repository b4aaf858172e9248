// The reference of a service's metrics, and the beginnings of its runbooks.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/declared_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/promql.h"
#include "daemon/catalog/promql_meaning.h"

namespace tallyd {
namespace {

// Text in a cell of a table: no line ends, and bars that end no cell.
std::string Cell(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\n", " "}, {"|", "\\|"}});
}

std::string Code(const std::string& text) { return absl::StrCat("`", Cell(text), "`"); }

// The same where no table is around it.
std::string Literal(const std::string& text) {
  return absl::StrCat("`", absl::StrReplaceAll(text, {{"\n", " "}, {"`", "'"}}), "`");
}

std::string LabelsCell(const DeclaredMetric& metric) {
  std::vector<std::string> cells;
  for (const DeclaredLabel& label : metric.labels) {
    cells.push_back(absl::StrCat(Code(label.name), ": ",
                                 label.is_enumerable()
                                     ? Cell(absl::StrJoin(label.values, ", "))
                                     : absl::StrCat("at most ", label.max_values, " values")));
  }
  return absl::StrJoin(cells, "; ");
}

std::string SourcesCell(const DeclaredMetric& metric) {
  if (!IsSent(metric)) return "read by tallyd";
  std::vector<std::string> cells;
  for (const std::string& source : metric.SourcesOrName()) cells.push_back(Code(source));
  return absl::StrJoin(cells, ", ");
}

std::string HelpCell(const DeclaredMetric& metric) {
  std::string text = Cell(metric.help);
  if (!metric.buckets.empty()) {
    std::vector<std::string> bounds;
    for (const double bucket : metric.buckets) bounds.push_back(CodeNumber(bucket));
    absl::StrAppend(&text, " Buckets: ", absl::StrJoin(bounds, " "), ".");
  }
  if (metric.non_negative) text += " Never below 0.";
  if (metric.single_sender) text += " One sender alone reports it.";
  if (!metric.runbook.empty()) absl::StrAppend(&text, " [Runbook](", metric.runbook, ")");
  return text;
}

std::string Table(const Component& component) {
  std::string text = absl::StrCat("\n## ", component.title,
                                  "\n\n| metric | type | unit | labels | sent as | meaning |\n"
                                  "| --- | --- | --- | --- | --- | --- |\n");
  for (const DeclaredMetric* const metric : component.metrics) {
    absl::StrAppend(&text, "| ", Code(metric->name), " | ", TypeName(metric->type), " | ",
                    UnitOf(*metric), " | ", LabelsCell(*metric), " | ", SourcesCell(*metric), " | ",
                    HelpCell(*metric), " |\n");
  }
  return text;
}

std::string RunbookPath(const DeclaredAlert& alert) {
  return absl::StrCat("runbooks/", alert.name, ".md");
}

std::string Reference(const Catalog& catalog) {
  std::string text =
      absl::StrCat("<!-- ", GeneratedFrom(catalog), " -->\n\n# Metrics of ", catalog.service, "\n");
  if (!catalog.description.empty()) absl::StrAppend(&text, "\n", catalog.description, "\n");
  if (!catalog.owner.empty()) absl::StrAppend(&text, "\nOwner: ", catalog.owner, ".\n");
  for (const Component& component : ComponentsOf(catalog)) text += Table(component);
  if (!catalog.recording_rules.empty())
    text += "\n## Recorded\n\n| name | expression |\n| --- | --- |\n";
  for (const RecordingRule& rule : catalog.recording_rules) {
    absl::StrAppend(&text, "| ", Code(rule.record), " | ", Code(rule.expr), " |\n");
  }
  if (!catalog.alerts.empty()) {
    text +=
        "\n## Alerts\n\n| alert | severity | after | expression | meaning |\n"
        "| --- | --- | --- | --- | --- |\n";
  }
  for (const DeclaredAlert& alert : catalog.alerts) {
    absl::StrAppend(&text, "| [", alert.name, "](", RunbookPath(alert), ") | ", alert.severity,
                    " | ", PromqlDuration(alert.for_ms), " | ", Code(alert.expr), " | ",
                    Cell(alert.summary), " |\n");
  }
  return text;
}

// What to look at first: the series that the alert is made of, by the labels that they have.
std::string Queries(const Catalog& catalog, const DeclaredAlert& alert) {
  const DeclaredNames names(catalog);
  std::string text =
      absl::StrCat("What fires, as it is now:\n\n```promql\n", alert.expr, "\n```\n");
  const absl::StatusOr<PromqlExpr> expr = ParsePromql(alert.expr);
  if (!expr.ok()) return text;
  for (const std::string& name : MeaningOf(*expr, names).metrics) {
    const DeclaredName* declared = names.Find(name);
    std::vector<std::string> labels;
    for (const DeclaredLabel& label : declared->metric->labels) labels.push_back(label.name);
    labels.insert(labels.begin(), "instance");
    const std::string by = absl::StrJoin(labels, ", ");
    std::string query = absl::StrCat("sum by (", by, ") (", name, ")");
    if (declared->metric->type == DeclaredType::kCounter) {
      query = absl::StrCat("topk(10, sum by (", by, ") (rate(", name, "[5m])))");
    } else if (declared->metric->type == DeclaredType::kHistogram) {
      query = absl::StrCat("histogram_quantile(0.99, sum by (", by, ", le) (rate(", name,
                           "_bucket[5m])))");
    } else if (declared->metric->type == DeclaredType::kSummary) {
      query = absl::StrCat("max by (", by, ", quantile) (", name, ")");
    }
    absl::StrAppend(&text, "\n", declared->metric->help, "\n\n```promql\n", query, "\n```\n");
  }
  return text;
}

std::string Runbook(const Catalog& catalog, const DeclaredAlert& alert) {
  std::string text =
      absl::StrCat("# ", alert.name, "\n\n", alert.summary, "\n\n", Literal(alert.description),
                   "\n\n| service | severity | owner | after |\n"
                   "| --- | --- | --- | --- |\n| ",
                   catalog.service, " | ", alert.severity, " | ", OwnerOf(catalog, alert), " | ",
                   PromqlDuration(alert.for_ms), " |\n");
  absl::StrAppend(&text, "\n## What it means\n\nThe condition below has held for ",
                  PromqlDuration(alert.for_ms), ".");
  if (!alert.reason.empty()) absl::StrAppend(&text, " ", alert.reason);
  absl::StrAppend(&text, "\n\n## Impact\n\nSay here whom it hurts, and how soon. ",
                  "Severity `critical` means that somebody is woken.\n\n## Diagnosis\n\n",
                  Queries(catalog, alert),
                  "\n## Actions\n\n1. Look at the row of the component on the dashboard `",
                  catalog.dashboard_title.empty() ? catalog.service : catalog.dashboard_title,
                  "`: when did it begin, and what was deployed then?\n"
                  "2. Say here what stops the damage.\n3. Say here what mends the cause.\n"
                  "4. If that does not help, call ",
                  OwnerOf(catalog, alert).empty() ? "the owner" : OwnerOf(catalog, alert), ".\n");
  return text;
}

}  // namespace

std::vector<GeneratedFile> GenerateMarkdown(const Catalog& catalog) {
  std::vector<GeneratedFile> files = {{catalog.service + "_metrics.md", Reference(catalog)}};
  for (const DeclaredAlert& alert : catalog.alerts) {
    files.push_back({RunbookPath(alert), Runbook(catalog, alert), true});
  }
  return files;
}

}  // namespace tallyd
