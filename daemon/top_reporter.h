// Puts together what `tallyctl top` shows.

#ifndef TALLYD_DAEMON_TOP_REPORTER_H_
#define TALLYD_DAEMON_TOP_REPORTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/merge_thread.h"
#include "daemon/own_metrics.h"
#include "daemon/sender_directory.h"
#include "daemon/top_report.h"

namespace tallyd {

// Nobody waits for it: the ledgers are read as they stand, the merger thread lists its families
// between two merges, and the text is made by whoever runs the job.
//
// Ownership: the control loop's thread. What the constructor takes pointers to outlives it and the
// jobs.
class TopReporter {
 public:
  using Job = std::function<absl::StatusOr<std::string>()>;
  using Done = std::function<void(Job)>;
  // Adds what budgets know: their bounds, what folds, and the limits of the families listed.
  using Budgets = std::function<void(TopReport*)>;

  TopReporter(const OwnMetrics* own, MergeThread* merger, const SenderDirectory* senders,
              size_t shards);

  void SetBudgets(Budgets budgets) { budgets_ = std::move(budgets); }

  // Calls `done` on the merger thread. `budgets` is called there too, with the families listed.
  void Report(const TopQuestion& question, Done done) const;

 private:
  void AddProcess(TopReport* report) const;
  void AddAccount(TopReport* report) const;
  void AddListeners(const LedgerTotals& totals, TopReport* report) const;
  void AddSenders(uint64_t count, TopReport* report) const;

  const OwnMetrics* const own_;
  MergeThread* const merger_;
  const SenderDirectory* const senders_;
  const size_t shards_;
  const int64_t began_ns_;
  Budgets budgets_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TOP_REPORTER_H_
