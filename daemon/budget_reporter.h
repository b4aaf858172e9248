// Says where the bounds on series are reached: in the log, and to `tallyctl top`.

#ifndef TALLYD_DAEMON_BUDGET_REPORTER_H_
#define TALLYD_DAEMON_BUDGET_REPORTER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "core/merge/merger.h"
#include "core/rules/catalog_index.h"
#include "core/shard/series_budget.h"
#include "daemon/loop.h"
#include "daemon/merge_thread.h"
#include "daemon/sender_directory.h"
#include "daemon/top_report.h"

namespace tallyd {

// Once a second asks the merger which families fold. Logs each when it begins to, a few at a time,
// and how many series were evicted.
//
// Invariant: `mu_` guards what AddTo reads and is held for moments. Ownership: the thread that runs
// `loop`, but for AddTo. What the constructor takes pointers to outlives its last turn
// and the last AddTo.
class BudgetReporter {
 public:
  static constexpr size_t kMaxLinesATurn = 4;
  static constexpr size_t kMaxTopRows = 200;

  BudgetReporter(Loop* loop, MergeThread* merger, const SeriesBudget* budget,
                 const SenderDirectory* senders, absl::Duration evict_after);
  BudgetReporter(const BudgetReporter&) = delete;
  BudgetReporter& operator=(const BudgetReporter&) = delete;

  void Start() { WaitLater(); }
  void Stop();
  // After each reload. Null: none.
  void SetCatalog(std::shared_ptr<const CatalogIndex> catalog);

  // Any thread: as of the last second.
  void AddTo(TopReport* report) const;

 private:
  void WaitLater();
  void Turn();
  void Take(const std::vector<FoldedFamily>& folded);
  void LogNew(const std::vector<FoldedFamily>& folded);
  void LogEvictions(uint64_t evicted);
  std::string RefusalsSince();
  TopReport::OverBudget Describe(const FoldedFamily& folded) const;
  static uint64_t FamilyLimit(const CatalogIndex* catalog, const SeriesBudget& budget,
                              const std::string& family);

  Loop* const loop_;
  MergeThread* const merger_;
  const SeriesBudget* const budget_;
  const SenderDirectory* const senders_;
  const absl::Duration evict_after_;
  LoopTimer timer_;
  bool stopped_ = false;
  absl::flat_hash_set<std::string> folding_;  // at the last turn
  uint64_t evicted_ = 0;
  std::array<uint64_t, SeriesBudget::kAnswers> refusals_{};

  mutable std::mutex mu_;
  std::shared_ptr<const CatalogIndex> catalog_;
  std::vector<TopReport::OverBudget> over_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_BUDGET_REPORTER_H_
