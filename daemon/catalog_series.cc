#include "daemon/catalog_series.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tallyd {

// What the merger was told by one set of rules. After it is made, the merger
// thread's alone.
class CatalogSeries::Told {
 public:
  explicit Told(const Rules& rules)
      : catalog_(rules.options().catalog),
        sequence_(rules.sequence()),
        fixed_(rules.DeclaredSeries()),
        observed_(rules.ObservedSeries()),
        values_(observed_.size()) {}

  void DeclareTo(Merger* merger) const {
    std::vector<SeriesSpec> series = fixed_;
    for (size_t i = 0; i < observed_.size(); ++i) {
      if (values_[i]) series.push_back(observed_[i]);
    }
    merger->Declare(series, sequence_);
    for (size_t i = 0; i < observed_.size(); ++i) {
      if (values_[i]) merger->Observe(observed_[i], *values_[i]);
    }
  }

  void Take(size_t source, std::optional<double> value, Merger* merger) {
    const bool comes_or_goes = value.has_value() != values_[source].has_value();
    values_[source] = value;
    if (comes_or_goes) {
      DeclareTo(merger);
    } else if (value) {
      merger->Observe(observed_[source], *value);
    }
  }

 private:
  const std::shared_ptr<const CatalogIndex> catalog_;  // which the series refer to
  const uint32_t sequence_;
  const std::vector<SeriesSpec> fixed_;
  const std::vector<SeriesSpec> observed_;  // by the place of the source
  std::vector<std::optional<double>> values_;
};

CatalogSeries::CatalogSeries(MergeThread* merger, prometheus::Registry* registry)
    : merger_(merger) {
  auto& family = prometheus::BuildCounter()
                     .Name("tallyd_observed_failures_total")
                     .Help("Readings of observed gauges that gave no value, by the reason.")
                     .Register(*registry);
  for (size_t i = 0; i < kObservedFailures; ++i) {
    failures_[i] = &family.Add({{"reason", std::string(kObservedFailureNames[i])}});
  }
}

CatalogSeries::~CatalogSeries() = default;

void CatalogSeries::Use(const Rules& rules) {
  const bool had_none = gauges_ == nullptr;
  // Nothing of the former sources comes after what is told now.
  gauges_.reset();
  const CatalogIndex* const catalog = rules.options().catalog.get();
  if (catalog == nullptr && had_none) return;
  auto told = std::make_shared<Told>(rules);
  merger_->Ask([told](Merger* merger) {
    if (merger != nullptr) told->DeclareTo(merger);
  });
  std::vector<ObservedSource> sources;
  if (catalog != nullptr) {
    for (const auto& family : catalog->families()) {
      const std::vector<ObservedSource>& own = family->metric->observed;
      sources.insert(sources.end(), own.begin(), own.end());
    }
  }
  gauges_ = std::make_unique<ObservedGauges>(
      std::move(sources), [this, told](size_t source, const ObservedGauges::Reading& reading) {
        std::optional<double> value;
        if (const auto* number = std::get_if<double>(&reading)) {
          value = *number;
        } else {
          failures_[static_cast<size_t>(std::get<ObservedFailure>(reading))]->Increment();
        }
        merger_->Ask([told, source, value](Merger* merger) {
          if (merger != nullptr) told->Take(source, value, merger);
        });
      });
}

}  // namespace tallyd
