#include "core/rules/catalog.h"

#include <algorithm>
#include <array>
#include <limits>

namespace tallyd {
namespace {

// Prometheus' base units, in the plural as names have them.
constexpr std::array<std::string_view, 12> kBaseUnits = {"seconds", "bytes", "ratio",  "meters",
                                                         "metres",  "grams", "joules", "amperes",
                                                         "kelvin",  "volts", "moles",  "celsius"};

size_t Multiplied(size_t a, size_t b) {
  constexpr size_t kMost = std::numeric_limits<size_t>::max();
  return b != 0 && a > kMost / b ? kMost : a * b;
}

}  // namespace

size_t DeclaredMetric::EnumerableSeries() const {
  if (!observed.empty()) return 0;
  size_t series = 1;
  for (const DeclaredLabel& label : labels) series = Multiplied(series, label.values.size());
  return series;
}

size_t DeclaredMetric::MaxSeries() const {
  if (!observed.empty()) return observed.size();
  size_t series = 1;
  for (const DeclaredLabel& label : labels) {
    series = Multiplied(series, label.is_enumerable() ? label.values.size() : label.max_values);
  }
  return series;
}

std::vector<std::string> DeclaredMetric::SourcesOrName() const {
  if (!sources.empty()) return sources;
  if (!observed.empty()) return {};
  return {name};
}

std::string_view Name(DeclaredType type) {
  switch (type) {
    case DeclaredType::kCounter:
      return "counter";
    case DeclaredType::kGauge:
      return "gauge";
    case DeclaredType::kHistogram:
      return "histogram";
    case DeclaredType::kSummary:
      return "summary";
    case DeclaredType::kSet:
      return "set";
  }
  return "";
}

std::string_view Name(CatalogMode mode) {
  switch (mode) {
    case CatalogMode::kOpen:
      return "open";
    case CatalogMode::kWarn:
      return "warn";
    case CatalogMode::kEnforce:
      return "enforce";
  }
  return "";
}

MatchedType MatchedTypeOf(DeclaredType type) {
  switch (type) {
    case DeclaredType::kCounter:
      return MatchedType::kCounter;
    case DeclaredType::kGauge:
    case DeclaredType::kSet:
      return MatchedType::kGauge;
    case DeclaredType::kHistogram:
    case DeclaredType::kSummary:
      return MatchedType::kObserver;
  }
  return MatchedType::kAny;
}

std::string_view WithoutTotal(std::string_view metric_name) {
  constexpr std::string_view kTotal = "_total";
  if (metric_name.ends_with(kTotal)) metric_name.remove_suffix(kTotal.size());
  return metric_name;
}

std::string_view UnitOfName(std::string_view metric_name) {
  metric_name = WithoutTotal(metric_name);
  const size_t last = metric_name.rfind('_');
  if (last == std::string_view::npos) return "";
  const auto* const unit =
      std::find(kBaseUnits.begin(), kBaseUnits.end(), metric_name.substr(last + 1));
  return unit == kBaseUnits.end() ? "" : *unit;
}

}  // namespace tallyd
