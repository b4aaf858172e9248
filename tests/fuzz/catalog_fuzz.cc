// A catalog is written by whoever runs the daemon, and reloaded while it serves: any bytes must
// lead to a catalog that keeps what its model promises, or to a message, soon.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/rules/catalog.h"
#include "daemon/catalog_file.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

void CheckMetric(const DeclaredMetric& metric) {
  const bool is_counter = metric.type == DeclaredType::kCounter;
  Check(is_counter == (metric.name.size() > 6 &&
                       std::string_view(metric.name).substr(metric.name.size() - 6) == "_total"));
  Check(!metric.help.empty());
  Check(metric.unit == UnitOfName(metric.name) || metric.unit.empty());
  for (const DeclaredLabel& label : metric.labels) {
    Check(!label.name.empty());
    Check(label.is_enumerable() != (label.max_values != 0));
  }
  Check((metric.type == DeclaredType::kHistogram) == !metric.buckets.empty());
  for (size_t i = 0; i < metric.buckets.size(); ++i) {
    Check(std::isfinite(metric.buckets[i]));
    Check(i == 0 || metric.buckets[i - 1] < metric.buckets[i]);
  }
  Check((metric.type == DeclaredType::kSummary) == !metric.quantiles.empty());
  Check(metric.EnumerableSeries() <= metric.MaxSeries());
  for (const ObservedSource& source : metric.observed) {
    Check(source.file.empty() != source.socket.empty());
    Check(source.labels.size() == metric.labels.size());
    Check(source.timeout_ms > 0 && source.timeout_ms <= source.interval_ms);
  }
}

void CheckFile(std::string_view yaml) {
  const absl::StatusOr<Catalog> catalog = ParseCatalog(yaml, "f.yml");
  if (!catalog.ok()) {
    Check(catalog.status().code() == absl::StatusCode::kInvalidArgument);
    Check(catalog.status().message().substr(0, 6) == "f.yml:");
    return;
  }
  Check(!catalog->service.empty() && !catalog->metrics.empty());
  for (const DeclaredMetric& metric : catalog->metrics) CheckMetric(metric);
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallyd::CheckFile({reinterpret_cast<const char*>(data), size});
  return 0;
}
