#include "daemon/budget_metrics.h"

#include <cstdint>

#include "daemon/metric_builder.h"

namespace tallyd {
namespace {

void CollectBounds(const SeriesBudget& budget, std::vector<prometheus::MetricFamily>* families) {
  GaugeFamily("tallyd_family_series_limit",
              "Most series that a family may have, unless a catalog bounds its labels.")
      .Add(uint64_t{budget.limits().family_series})
      .MoveTo(families);
  GaugeFamily("tallyd_label_bytes", "Bytes of the labels of all series, as they are shown.")
      .Add(budget.label_bytes())
      .MoveTo(families);
  GaugeFamily("tallyd_label_bytes_limit", "Most bytes that the labels of all series may have.")
      .Add(budget.limits().label_bytes)
      .MoveTo(families);
}

void CollectRefusals(const SeriesBudget& budget, std::vector<prometheus::MetricFamily>* families) {
  FamilyBuilder refused = CounterFamily("tallyd_refused_series_total",
                                        "How often a new series found no room, by the bound.");
  for (const auto& [answer, reason] : kRefusals) {
    refused.Add(budget.refusals(answer), {ToLabel("reason", reason)});
  }
  refused.MoveTo(families);
}

}  // namespace

std::vector<prometheus::MetricFamily> BudgetMetrics::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  const SeriesBudget* const budget = budget_->load(std::memory_order_acquire);
  if (budget == nullptr) return families;
  const MergeThread::Status status = merger_->status();
  CollectBounds(*budget, &families);
  CollectRefusals(*budget, &families);
  GaugeFamily("tallyd_folded_families", "Families that have an overflow series.")
      .Add(status.folded_families)
      .MoveTo(&families);
  CounterFamily("tallyd_evicted_series_total",
                "Series that did not change for long and had to make room for others.")
      .Add(status.evicted)
      .MoveTo(&families);
  CounterFamily("tallyd_forgotten_series_total",
                "Series that left and would start at 0 if they came back.")
      .Add(status.forgotten)
      .MoveTo(&families);
  return families;
}

}  // namespace tallyd
