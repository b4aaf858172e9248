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

// Counts every violation, and keeps the first few until somebody takes them. A violation is one of
// a key when its meaning is looked up: the first time that the shard meets the key, again after
// each reload, and again for keys that it could not remember. Samples of known keys cost nothing.
//
// One owner, the shard's thread, notes; any thread takes and reads. Thread-safe.
class ViolationLog {
 public:
  static constexpr size_t kMaxKept = 64;
  static constexpr size_t kMaxNameBytes = 200;

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

  // Any thread.
  std::vector<ReportedViolation> Take() {
    const std::lock_guard lock(mu_);
    return std::exchange(kept_, {});
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
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_VIOLATION_LOG_H_
