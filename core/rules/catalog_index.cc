#include "core/rules/catalog_index.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

MappingRule RuleOf(const DeclaredMetric& metric) {
  MappingRule rule;
  rule.line = metric.line;
  rule.name = metric.name;
  rule.help = metric.help;
  rule.matched_type = MatchedTypeOf(metric.type);
  rule.observer_type =
      metric.type == DeclaredType::kSummary ? ObserverType::kSummary : ObserverType::kHistogram;
  rule.observer_type_given = true;
  if (!metric.buckets.empty()) rule.histogram.buckets = metric.buckets;
  if (!metric.quantiles.empty()) rule.summary.quantiles = metric.quantiles;
  rule.ttl_ms = metric.ttl_ms;
  rule.scale = metric.scale;
  return rule;
}

// The order in which labels' bounds multiply does not matter; past the largest number, that is it.
uint32_t SeriesLimit(const DeclaredMetric& metric) {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  uint64_t limit = 1;
  for (const DeclaredLabel& label : metric.labels) {
    // What is folded is a value more.
    const uint64_t bound = label.is_enumerable() ? label.values.size() + 1 : label.max_values;
    limit = std::min(limit * bound, kMost);
  }
  return static_cast<uint32_t>(limit);
}

std::string_view FoldLabel(const DeclaredMetric& metric) {
  const DeclaredLabel* widest = nullptr;
  for (const DeclaredLabel& label : metric.labels) {
    if (label.is_enumerable()) continue;
    if (widest == nullptr || label.max_values > widest->max_values) widest = &label;
  }
  return widest == nullptr ? std::string_view() : widest->name;
}

std::unique_ptr<const DeclaredFamily> FamilyOf(const DeclaredMetric& metric, const Catalog& catalog,
                                               size_t number) {
  auto family = std::make_unique<DeclaredFamily>();
  family->metric = &metric;
  family->catalog = &catalog;
  family->number = number;
  family->rule = RuleOf(metric);
  for (const DeclaredLabel& label : metric.labels) {
    family->values.emplace_back(label.values.begin(), label.values.end());
  }
  family->series_limit = SeriesLimit(metric);
  family->fold_label = FoldLabel(metric);
  return family;
}

}  // namespace

std::vector<MappingRule> SourceRules(const DeclaredMetric& metric) {
  std::vector<MappingRule> rules;
  for (std::string& source : metric.SourcesOrName()) {
    MappingRule rule = RuleOf(metric);
    rule.match = std::move(source);
    for (const DeclaredLabel& label : metric.labels) {
      if (!label.from.empty()) rule.labels.emplace_back(label.name, label.from);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

absl::StatusOr<std::shared_ptr<const CatalogIndex>> CatalogIndex::Create(
    std::vector<Catalog> catalogs) {
  std::shared_ptr<CatalogIndex> index(new CatalogIndex());
  index->catalogs_ = std::move(catalogs);
  MappingConfig sources;
  sources.file = "catalog";
  for (const Catalog& catalog : index->catalogs_) {
    if (index->catalogs_.size() == 1) sources.file = catalog.file;
    index->strictest_ = std::max(index->strictest_, catalog.mode);
    for (const DeclaredMetric& metric : catalog.metrics) {
      index->families_.push_back(FamilyOf(metric, catalog, index->families_.size()));
      const DeclaredFamily* const family = index->families_.back().get();
      index->by_name_.emplace(metric.name, family);
      if (MatchedTypeOf(metric.type) == MatchedType::kObserver) {
        for (const char* suffix : {"_bucket", "_sum", "_count"}) {
          index->by_sample_.emplace(absl::StrCat(metric.name, suffix), family);
        }
      }
      for (MappingRule& rule : SourceRules(metric)) {
        sources.rules.push_back(std::move(rule));
        index->by_source_.push_back(family);
      }
    }
  }
  auto mapping = Mapping::Compile(std::move(sources));
  if (!mapping.ok()) return mapping.status();
  index->sources_ = *std::move(mapping);
  return index;
}

CatalogIndex::~CatalogIndex() = default;

const DeclaredFamily* CatalogIndex::Find(std::string_view exposed_name) const {
  const auto found = by_name_.find(View(exposed_name));
  return found == by_name_.end() ? nullptr : found->second;
}

const DeclaredFamily* CatalogIndex::OwnerOfSample(std::string_view exposed_name) const {
  const auto found = by_sample_.find(View(exposed_name));
  return found == by_sample_.end() ? nullptr : found->second;
}

const DeclaredFamily* CatalogIndex::Map(std::string_view sent_name, SampleType type,
                                        Mapped* mapped) const {
  if (!sources_->Map(sent_name, type, mapped)) return nullptr;
  return by_source_[static_cast<size_t>(mapped->rule - sources_->config().rules.data())];
}

const DeclaredFamily* CatalogIndex::SourceOfOtherType(std::string_view sent_name,
                                                      SampleType type) const {
  Mapped mapped;
  for (const SampleType other : {SampleType::kCounter, SampleType::kGauge, SampleType::kTimer}) {
    if (MatchedTypeOf(other) == MatchedTypeOf(type)) continue;
    if (const DeclaredFamily* family = Map(sent_name, other, &mapped)) return family;
  }
  return nullptr;
}

}  // namespace tallyd
