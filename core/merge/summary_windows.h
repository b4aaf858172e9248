// What summaries held some time ago, so that their quantiles are over a window.
//
// A cell counts for ever. Each `max_age / age_buckets` the merger remembers what the cells of a
// summary hold; what was added since the oldest memory is the window, which is between
// `max_age * (1 - 1 / age_buckets)` and `max_age` long. Source: statsd_exporter's summaries.

#ifndef TALLYD_CORE_MERGE_SUMMARY_WINDOWS_H_
#define TALLYD_CORE_MERGE_SUMMARY_WINDOWS_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/merge/exponential_counts.h"
#include "core/merge/series_table.h"
#include "core/rules/histogram_layout.h"

namespace tallyd {

// Thread-compatible: the merger thread only.
class SummaryWindows {
 public:
  void Begin(SeriesId series, const HistogramLayout& layout, int64_t now_ns);
  void Forget(SeriesId series) { pasts_.erase(series); }

  // The summaries whose window moves on at `now_ns`.
  std::vector<SeriesId> Due(int64_t now_ns) const;
  // Moves the window of one that is due. `now` is what its cells hold. False if nothing has left
  // the window and nothing could: then its quantiles are what they were.
  bool Turn(SeriesId series, int64_t now_ns, const ExponentialCounts& now);

  // Takes what is older than the window off `counts`, which are what the cells hold.
  void TakeOffPast(SeriesId series, ExponentialCounts* counts) const;

 private:
  struct Past {
    int64_t step_ns = 0;
    int64_t next_turn_ns = 0;
    size_t steps = 0;
    // Oldest first, at most `steps`. Equal ones share their memory: an idle series costs little.
    std::deque<std::shared_ptr<const ExponentialCounts>> held;
  };

  absl::flat_hash_map<SeriesId, Past> pasts_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_SUMMARY_WINDOWS_H_
