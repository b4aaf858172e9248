// Says who sends what is not as the catalogs declare it.

#ifndef TALLYD_DAEMON_CATALOG_REPORTER_H_
#define TALLYD_DAEMON_CATALOG_REPORTER_H_

#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "core/rules/catalog_index.h"
#include "core/shard/violation_log.h"
#include "daemon/gauge_reporters.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/sender_directory.h"

namespace tallyd {

// Once a second, counts the shards' violations and logs those that are new, a few at a time: each
// kind, metric and label once for each sender, until Forget() or until kMaxRemembered are known.
// Who is second to report a gauge that one process alone may report, it finds out by itself.
//
// Ownership: the thread that runs `loop`. The logs, by shard, and the senders outlive it.
class CatalogReporter {
 public:
  static constexpr size_t kMaxLinesATurn = 10;
  static constexpr size_t kMaxRemembered = 10'000;

  CatalogReporter(Loop* loop, std::vector<ViolationLog*> logs, const SenderDirectory* senders,
                  prometheus::Registry* registry);
  CatalogReporter(const CatalogReporter&) = delete;
  CatalogReporter& operator=(const CatalogReporter&) = delete;

  void Start() { WaitLater(); }
  void Stop();
  // After a reload: what is still wrong is said again.
  void Forget() {
    said_.clear();
    gauge_reporters_.Forget();
  }

 private:
  void WaitLater();
  void Turn();
  void Count();
  void Report();
  void ReportViolation(size_t shard, const ReportedViolation& found);
  void ReportSecondSender(size_t shard, const GaugeReporter& found);
  void Say(const std::string& message, const LogFields& fields);

  const std::vector<ViolationLog*> logs_;
  const SenderDirectory* const senders_;
  LoopTimer timer_;
  std::array<prometheus::Counter*, kViolations> counters_{};
  std::array<uint64_t, kViolations> counted_{};
  absl::flat_hash_set<std::string> said_;
  GaugeReporters gauge_reporters_;
  // Of this turn.
  size_t lines_ = 0;
  size_t unsaid_ = 0;
  bool stopped_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_REPORTER_H_
