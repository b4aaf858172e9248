// Own metrics of the bounds on series: how full they are, and what they led to.

#ifndef TALLYD_DAEMON_BUDGET_METRICS_H_
#define TALLYD_DAEMON_BUDGET_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <iterator>
#include <utility>
#include <vector>

#include "core/shard/series_budget.h"
#include "daemon/merge_thread.h"

namespace tallyd {

// What new series are refused for, as labels name it.
inline constexpr std::pair<SeriesBudget::Answer, const char*> kRefusals[] = {
    {SeriesBudget::Answer::kSeries, "series"}, {SeriesBudget::Answer::kFamily, "family"},
    {SeriesBudget::Answer::kSender, "sender"}, {SeriesBudget::Answer::kLabelBytes, "label_bytes"},
    {SeriesBudget::Answer::kNames, "names"},
};
static_assert(std::size(kRefusals) + 1 == SeriesBudget::kAnswers);

// Thread-safe. What it points to outlives it.
class BudgetMetrics : public prometheus::Collectable {
 public:
  // While `*budget` is null there are no families.
  BudgetMetrics(const std::atomic<const SeriesBudget*>* budget, const MergeThread* merger)
      : budget_(budget), merger_(merger) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::atomic<const SeriesBudget*>* const budget_;
  const MergeThread* const merger_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_BUDGET_METRICS_H_
