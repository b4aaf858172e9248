// A snapshot as one target gets it: text 0.0.4 of the families that it wants.

#ifndef TALLYD_DAEMON_PUSH_PUSH_ENCODER_H_
#define TALLYD_DAEMON_PUSH_PUSH_ENCODER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "core/expose/text.h"
#include "core/merge/page_encoder.h"
#include "daemon/push/family_filter.h"
#include "daemon/push/grouping_key.h"
#include "daemon/push/job_groups.h"

namespace tallyd {

// What a push says of the families that it takes, the daemon's own among them.
struct PushSelection {
  // Families that the gateway keeps for itself.
  static bool IsReserved(std::string_view family);
  bool Takes(std::string_view family) const {
    return !IsReserved(family) && rejected.count(family) == 0 && filter.Wants(family);
  }

  FamilyFilter filter;
  GroupingKey key;
  std::set<std::string, std::less<>> rejected;  // families that the gateway refused lately
  uint64_t max_series = 0;
  std::shared_ptr<const JobGroupIndex> apart;  // whose series go elsewhere; null: nobody's
};

// Ownership: made for one rendering. The merger thread renders with it; when that is done the
// counts may be read. Not compressed: that is for a thread that nobody waits for.
class PushEncoder final : public PageEncoder {
 public:
  // Series of families that were wanted: those that go, and those that do not and why.
  struct Counts {
    uint64_t pushed = 0;
    uint64_t rejected = 0;
    uint64_t reserved_name = 0;
    uint64_t series_limit = 0;  // beyond `max_series`
  };

  explicit PushEncoder(PushSelection selection);

  void Family(const FamilyView& family, std::string* page) const override;
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override;
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override;
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override;
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override;
  bool compresses() const override { return false; }
  void Finish(std::string*) const override {}

  const Counts& counts() const { return counts_; }
  // Of which at least the head was written.
  const std::set<std::string, std::less<>>& families() const { return families_; }

 private:
  enum class Fate { kPushed, kFiltered, kRejected, kReservedName };

  Fate FateOf(std::string_view family) const;
  // Whether a series of the current family goes; counts it.
  bool Admit(const FamilyView& family, std::string_view labels) const;

  const PushSelection selection_;
  const TextEncoder text_;
  // Of one rendering, which one thread does.
  mutable std::string family_;
  mutable Fate fate_ = Fate::kFiltered;
  mutable Counts counts_;
  mutable std::set<std::string, std::less<>> families_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_ENCODER_H_
