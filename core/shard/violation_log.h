// What a shard has to say of keys that are not as the catalogs declare them.

#ifndef TALLYD_CORE_SHARD_VIOLATION_LOG_H_
#define TALLYD_CORE_SHARD_VIOLATION_LOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/catalog_index.h"
#include "core/rules/rules.h"
#include "core/shard/ledger.h"

namespace tallyd {

struct ReportedViolation {
  Violation violation = Violation::kUndeclaredMetric;
  std::string metric;  // as it would be exposed, cut to kMaxNameBytes, as is the label
  std::string label;   // empty if it is about the metric
  uint16_t sender = 0;
};

// Somebody who reports a gauge that one process alone may report.
struct GaugeReporter {
  std::string family;
  uint16_t sender = 0;
};

// Counts every violation, and keeps the first few until somebody takes them. A violation is one of
// a key when its meaning is looked up: the first time that the shard meets the key, again after
// each reload, and again for keys that it could not remember. Samples of known keys cost nothing.
//
// Who reports the gauges that one process alone may report is kept beside it. Whether there are two
// of them a shard cannot tell: numbers of senders are its own, and processes end.
//
// One owner, the shard's thread, notes; any thread takes and reads. Thread-safe.
class ViolationLog {
 public:
  static constexpr size_t kMaxKept = 64;
  static constexpr size_t kMaxNameBytes = 200;
  static constexpr size_t kMaxReporters = 64;

  // Owner thread. Waits for nobody: what finds no room, or somebody who takes, is only counted.
  void Note(const SeriesSpec& spec, uint16_t sender) {
    if (spec.violations.empty()) return;
    for (size_t i = 0; i < kViolations; ++i) {
      const auto violation = static_cast<Violation>(i);
      if (!spec.violations.Has(violation)) continue;
      counts_[i].Add(1);
      Keep(violation, spec, sender);
    }
  }

  // Owner thread. Waits for nobody; false if there is no room, or somebody takes: note it again.
  bool NoteReporter(std::string_view family, uint16_t sender) {
    const std::unique_lock lock(reporters_mu_, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    for (const GaugeReporter& known : reporters_) {
      if (known.sender == sender && known.family == family) return true;
    }
    if (reporters_.size() == kMaxReporters) return false;
    reporters_.push_back({std::string(family), sender});
    return true;
  }

  // Any thread.
  std::vector<ReportedViolation> Take() {
    const std::lock_guard lock(mu_);
    return std::exchange(kept_, {});
  }
  // In the order in which they were noted, each once.
  std::vector<GaugeReporter> TakeReporters() {
    const std::lock_guard lock(reporters_mu_);
    return std::exchange(reporters_, {});
  }
  uint64_t Count(Violation violation) const {
    return counts_[static_cast<size_t>(violation)].Get();
  }

 private:
  void Keep(Violation violation, const SeriesSpec& spec, uint16_t sender) {
    const std::unique_lock lock(mu_, std::try_to_lock);
    if (!lock.owns_lock() || kept_.size() == kMaxKept) return;
    const bool of_metric =
        violation == Violation::kUndeclaredMetric || violation == Violation::kType;
    kept_.push_back({violation, spec.name.substr(0, kMaxNameBytes),
                     of_metric ? std::string() : spec.violating_label.substr(0, kMaxNameBytes),
                     sender});
  }

  std::array<LedgerCount, kViolations> counts_;
  std::mutex mu_;
  std::vector<ReportedViolation> kept_;  // guarded by mu_
  std::mutex reporters_mu_;
  std::vector<GaugeReporter> reporters_;  // guarded by reporters_mu_
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_VIOLATION_LOG_H_
