// The mapping file: what makes the declared metrics out of what is sent, for tallyd without the
// catalog and for statsd_exporter.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/promql.h"

namespace tallyd {
namespace {

std::string Numbers(const std::vector<double>& numbers) {
  std::vector<std::string> items;
  for (const double number : numbers) items.push_back(CodeNumber(number));
  return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
}

std::string Quantiles(const DeclaredMetric& metric) {
  std::string text = "    summary_options:\n      quantiles:\n";
  for (const Quantile& quantile : metric.quantiles) {
    absl::StrAppend(&text, "        - {quantile: ", CodeNumber(quantile.quantile),
                    ", error: ", CodeNumber(quantile.error), "}\n");
  }
  return text;
}

std::string MatchedTypeName(DeclaredType type) {
  switch (MatchedTypeOf(type)) {
    case MatchedType::kCounter:
      return "counter";
    case MatchedType::kGauge:
      return "gauge";
    case MatchedType::kObserver:
    case MatchedType::kAny:
      break;
  }
  return "observer";
}

std::string Rule(const DeclaredMetric& metric, const std::string& source) {
  std::string text = absl::StrCat("  - match: ", YamlText(source),
                                  "\n    match_metric_type: ", MatchedTypeName(metric.type),
                                  "\n    name: ", YamlText(metric.name), "\n");
  if (!metric.help.empty()) absl::StrAppend(&text, "    help: ", YamlText(metric.help), "\n");
  const bool has_labels =
      std::any_of(metric.labels.begin(), metric.labels.end(),
                  [](const DeclaredLabel& label) { return !label.from.empty(); });
  if (has_labels) text += "    labels:\n";
  for (const DeclaredLabel& label : metric.labels) {
    if (label.from.empty()) continue;
    absl::StrAppend(&text, "      ", label.name, ": ", YamlText(label.from), "\n");
  }
  if (metric.type == DeclaredType::kHistogram) {
    text += "    observer_type: histogram\n";
    if (!metric.buckets.empty()) {
      absl::StrAppend(&text, "    histogram_options:\n      buckets: ", Numbers(metric.buckets),
                      "\n");
    }
  } else if (metric.type == DeclaredType::kSummary) {
    text += "    observer_type: summary\n";
    if (!metric.quantiles.empty()) text += Quantiles(metric);
  }
  if (metric.scale != 1) absl::StrAppend(&text, "    scale: ", CodeNumber(metric.scale), "\n");
  if (metric.ttl_ms > 0) {
    absl::StrAppend(&text, "    ttl: ", PromqlDuration(metric.ttl_ms), "\n");
  }
  return text;
}

}  // namespace

std::vector<GeneratedFile> GenerateMapping(const Catalog& catalog) {
  // The first rule that fits wins, so those without a star come first.
  std::string literal;
  std::string globs;
  for (const DeclaredMetric& metric : catalog.metrics) {
    for (const std::string& source : metric.SourcesOrName()) {
      const bool is_glob = source.find('*') != std::string::npos;
      (is_glob ? globs : literal) += Rule(metric, source);
    }
  }
  const bool is_empty = literal.empty() && globs.empty();
  return {{catalog.service + "_mapping.yaml",
           absl::StrCat("# ", GeneratedFrom(catalog), "\nmappings:", is_empty ? " []\n" : "\n",
                        literal, globs)}};
}

}  // namespace tallyd
