// Making room under pressure: which series go when others find no room.

#ifndef TALLYD_CORE_MERGE_EVICTION_H_
#define TALLYD_CORE_MERGE_EVICTION_H_

#include <cstdint>
#include <vector>

#include "core/merge/series_table.h"
#include "core/shard/series_budget.h"

namespace tallyd {

// Counters and observers never expire by themselves. Where series were refused for want of room,
// those that did not change for the longest time go, if that is long enough: a series that is
// merely quiet keeps its place against any number of new ones. Thread-compatible: the merger thread
// only.
class Eviction {
 public:
  // Between two rounds, at least. So that those who leave have made room before more go, which may
  // take until the state is saved, the next one waits for half of them, but not for ever: a series
  // may come back at once.
  static constexpr int64_t kEveryNs = 10'000'000'000;
  static constexpr int64_t kPatienceNs = 60 * kEveryNs;

  // Series that changed within `idle_ns` stay; 0: all stay.
  Eviction(const SeriesBudget* budget, int64_t idle_ns) : budget_(budget), idle_ns_(idle_ns) {}

  // Whether it is time, and there were refusals, and for want of what.
  struct Pressure {
    bool in_all = false;
    bool in_families = false;
    bool any() const { return in_all || in_families; }
  };
  Pressure Look(int64_t now_ns);

  // The series that shall go, of those for which `may_go(SeriesId)` holds: at most a tenth of the
  // limit, the longest unchanged first. `changed_s` of the records is in seconds of `now_ns`'s
  // clock.
  template <class MayGo>
  std::vector<SeriesId> Choose(const SeriesTable& table, Pressure pressure, int64_t now_ns,
                               MayGo&& may_go) {
    std::vector<Candidate> candidates;
    const int64_t before_s = (now_ns - idle_ns_) / 1'000'000'000;
    table.ForEach([&](SeriesId id, const SeriesRecord& record) {
      if (record.changed_s >= before_s) return;
      const Family& family = table.family(record.family);
      const bool family_is_full = family.size >= budget_->limits().family_series;
      if (!pressure.in_all && !family_is_full) return;
      if (may_go(id)) candidates.push_back({record.changed_s, id});
    });
    std::vector<SeriesId> chosen = Oldest(std::move(candidates));
    room_at_ = budget_->releases() + chosen.size() / 2;
    return chosen;
  }

 private:
  struct Candidate {
    uint32_t changed_s;
    SeriesId id;
  };
  std::vector<SeriesId> Oldest(std::vector<Candidate> candidates) const;

  const SeriesBudget* const budget_;
  const int64_t idle_ns_;
  int64_t last_ns_ = 0;
  uint64_t room_at_ = 0;  // of the budget's releases: half of the last round have left
  uint64_t refused_in_all_ = 0;
  uint64_t refused_in_families_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_EVICTION_H_
