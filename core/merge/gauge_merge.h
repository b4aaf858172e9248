// A gauge that several shards write.
//
// The newest set wins (of equal times the later cell), and changes that the other cells took since
// then are added to it. A cell tells how much it had taken when the present run of changes began,
// and when that was; a run ends when its shard learns, at its next batch, that a merge has passed.
// So the result is exact unless one cell took changes both before and after the winning set within
// one run: then those may count on either side of it.
//
// Cells that are gone live on as one reading, the base: a cell leaves, the value stays.
//
// What cannot be told by the cells alone, what they had taken before the winning set and what the
// base is, is noted beside each of them. So after a crash the value is what it would have been.

#ifndef TALLYD_CORE_MERGE_GAUGE_MERGE_H_
#define TALLYD_CORE_MERGE_GAUGE_MERGE_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "core/merge/series_table.h"
#include "core/shard/cells.h"

namespace tallyd {

// What one cell says.
struct GaugeReading {
  CellRef cell;
  int64_t set_time = 0;
  double value = 0;
  double added = 0;
  double run_base = 0;
  int64_t run_time = 0;
  GaugeCell::Note note = {};
};

// Thread-compatible: the merger thread only; one for each gauge that has, or had, several cells.
class GaugeMerge {
 public:
  // Names the base.
  static constexpr CellRef kBase = {UINT16_MAX, 0};

  // The value, given what all cells say now. To be called on every merge that sees a change.
  double Update(const std::vector<GaugeReading>& readings) {
    const GaugeReading* newest = nullptr;
    for (const GaugeReading& reading : readings) {
      if (reading.set_time != 0 && (newest == nullptr || reading.set_time >= newest->set_time)) {
        newest = &reading;
      }
    }
    if (newest == nullptr) return Sum(readings);
    if (!(newest->cell == winner_) || newest->set_time != won_at_) {
      winner_ = newest->cell;
      won_at_ = newest->set_time;
      baselines_.clear();
    }
    double value = newest->value;
    for (const GaugeReading& reading : readings) {
      if (!(reading.cell == winner_)) value += ChangeSince(reading);
    }
    return value;
  }

  // Makes `gone` a part of `base`, so that the value of the last Update, which saw both, stays.
  void Fold(const GaugeReading& gone, GaugeReading* base) {
    if (won_at_ == 0) {
      base->added += gone.added;
      return;
    }
    if (winner_ == gone.cell) {
      base->value = gone.value + ChangeSince(*base);
      base->set_time = won_at_;
      winner_ = kBase;
    } else if (winner_ == kBase) {
      base->value += ChangeSince(gone);
    } else {
      const double baseline = BaselineOf(*base) + BaselineOf(gone);
      base->added += gone.added;
      Forget(kBase);
      baselines_.push_back({kBase, baseline});
    }
    Forget(gone.cell);
  }

  // Notes beside `cells`, all that there are, what makes the value of the last Update theirs alone.
  void Note(const GaugeReading& base, std::vector<GaugeReading>* cells) {
    for (GaugeReading& reading : *cells) {
      const bool counts_whole = won_at_ == 0 || reading.cell == winner_;
      reading.note = {.part = counts_whole ? 0 : BaselineOf(reading), .at = won_at_};
    }
    if (!cells->empty()) cells->front().note.part -= PartOf(base);
  }

  // The value that Update would have given next, by what the cells of a process that has ended say
  // and what is noted beside them.
  static double Recover(const std::vector<GaugeReading>& readings) {
    int64_t won_at = 0;
    for (const GaugeReading& reading : readings) {
      won_at = std::max({won_at, reading.set_time, reading.note.at});
    }
    const GaugeReading* winner = nullptr;  // none if the base is it
    for (const GaugeReading& reading : readings) {
      if (won_at != 0 && reading.set_time == won_at) winner = &reading;
    }
    double value = winner == nullptr ? 0 : winner->value;
    for (const GaugeReading& reading : readings) {
      const bool is_noted = reading.note.at == won_at;
      if (&reading != winner) {
        const double before = is_noted ? reading.note.part : FirstBaseline(reading, won_at);
        value += ChangeSince(before, reading.added);
      } else if (is_noted) {
        value -= reading.note.part;
      }
    }
    return value;
  }

 private:
  struct Baseline {
    CellRef cell;
    double added;
  };

  static double Sum(const std::vector<GaugeReading>& readings) {
    double sum = 0;
    for (const GaugeReading& reading : readings) sum += reading.added;
    return sum;
  }

  // What a cell took since it had `before`. What was infinite then stays so, and its difference
  // would be no number: none is known then, so that a set repairs the gauge.
  static double ChangeSince(double before, double added) {
    const bool same = std::bit_cast<uint64_t>(added) == std::bit_cast<uint64_t>(before);
    return same ? 0 : added - before;
  }
  double ChangeSince(const GaugeReading& reading) {
    return ChangeSince(BaselineOf(reading), reading.added);
  }

  // What a cell had taken before the set at `won_at`, as the first look after it tells.
  static double FirstBaseline(const GaugeReading& reading, int64_t won_at) {
    return reading.run_time > won_at ? reading.run_base : reading.added;
  }

  double PartOf(const GaugeReading& base) {
    if (won_at_ == 0) return base.added;
    return winner_ == kBase ? base.value : ChangeSince(base);
  }

  double BaselineOf(const GaugeReading& reading) {
    for (const Baseline& baseline : baselines_) {
      if (baseline.cell == reading.cell) return baseline.added;
    }
    const double added = FirstBaseline(reading, won_at_);
    baselines_.push_back({reading.cell, added});
    return added;
  }

  void Forget(CellRef cell) {
    baselines_.erase(std::remove_if(baselines_.begin(), baselines_.end(),
                                    [cell](const Baseline& b) { return b.cell == cell; }),
                     baselines_.end());
  }

  CellRef winner_;
  int64_t won_at_ = 0;  // 0: nobody has set it, there were changes only
  std::vector<Baseline> baselines_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_GAUGE_MERGE_H_
