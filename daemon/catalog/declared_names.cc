#include "daemon/catalog/declared_names.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "daemon/nearest_name.h"

namespace tallyd {
namespace {

constexpr std::array<std::string_view, 9> kTargetLabels = {
    "job", "instance", "cluster", "namespace", "pod", "container", "node", "environment", "region"};

}  // namespace

std::string DeclaredName::unit() const {
  const bool counts = role == SeriesRole::kBucket || role == SeriesRole::kCount;
  return counts ? "" : std::string(UnitOfName(metric->name));
}

bool IsTargetLabel(const std::string& label) {
  return std::find(kTargetLabels.begin(), kTargetLabels.end(), label) != kTargetLabels.end();
}

bool IsForeignName(const std::string& name) {
  return name == "up" || name == "ALERTS" || name == "ALERTS_FOR_STATE" ||
         absl::StartsWith(name, "scrape_") || absl::StartsWith(name, "tallyd_") ||
         absl::StartsWith(name, "process_") || absl::StartsWith(name, "push_");
}

const DeclaredLabel* FindLabel(const DeclaredMetric& metric, const std::string& name) {
  for (const DeclaredLabel& label : metric.labels) {
    if (label.name == name) return &label;
  }
  return nullptr;
}

DeclaredNames::DeclaredNames(const Catalog& catalog) {
  for (const DeclaredMetric& metric : catalog.metrics) AddMetric(metric);
  for (const RecordingRule& rule : catalog.recording_rules) {
    absl::StatusOr<PromqlExpr> expr = ParsePromql(rule.expr);
    Recorded recorded;
    recorded.readable = expr.ok();
    if (expr.ok()) recorded.expr = *std::move(expr);
    recorded_.emplace(rule.record, std::move(recorded));
  }
}

void DeclaredNames::AddMetric(const DeclaredMetric& metric) {
  DeclaredName name;
  name.metric = &metric;
  for (const DeclaredLabel& label : metric.labels) name.labels.insert(label.name);
  const auto add = [&](const std::string& suffix, SeriesRole role, const char* label) {
    DeclaredName added = name;
    added.role = role;
    if (label != nullptr) added.labels.insert(label);
    names_.emplace(metric.name + suffix, std::move(added));
  };
  switch (metric.type) {
    case DeclaredType::kCounter:
      add("", SeriesRole::kCounter, nullptr);
      break;
    case DeclaredType::kGauge:
    case DeclaredType::kSet:
      add("", SeriesRole::kGauge, nullptr);
      break;
    case DeclaredType::kHistogram:
      add("", SeriesRole::kWhole, nullptr);
      add("_bucket", SeriesRole::kBucket, "le");
      break;
    case DeclaredType::kSummary:
      add("", SeriesRole::kQuantile, "quantile");
      break;
  }
  if (metric.type != DeclaredType::kHistogram && metric.type != DeclaredType::kSummary) return;
  add("_sum", SeriesRole::kSum, nullptr);
  add("_count", SeriesRole::kCount, nullptr);
}

const DeclaredName* DeclaredNames::Find(const std::string& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &found->second;
}

const PromqlExpr* DeclaredNames::FindRecorded(const std::string& name) const {
  const auto found = recorded_.find(name);
  return found == recorded_.end() || !found->second.readable ? nullptr : &found->second.expr;
}

std::string DeclaredNames::Nearest(const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& [candidate, meaning] : names_) known.push_back(candidate);
  for (const auto& [candidate, recorded] : recorded_) known.push_back(candidate);
  return NearestName(name, known);
}

}  // namespace tallyd
