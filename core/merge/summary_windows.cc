#include "core/merge/summary_windows.h"

#include <algorithm>

namespace tallyd {

void SummaryWindows::Begin(SeriesId series, const HistogramLayout& layout, int64_t now_ns) {
  Past& past = pasts_[series];
  past = Past{};
  past.steps = static_cast<size_t>(layout.age_buckets);
  past.step_ns = std::max<int64_t>(layout.max_age_ms * 1'000'000 / layout.age_buckets, 1);
  past.next_turn_ns = now_ns + past.step_ns;
}

std::vector<SeriesId> SummaryWindows::Due(int64_t now_ns) const {
  std::vector<SeriesId> due;
  for (const auto& [series, past] : pasts_) {
    if (past.next_turn_ns <= now_ns) due.push_back(series);
  }
  return due;
}

bool SummaryWindows::Turn(SeriesId series, int64_t now_ns, const ExponentialCounts& now) {
  Past& past = pasts_.at(series);
  // A merger that was held up makes up for it by one longer step.
  past.next_turn_ns = std::max(past.next_turn_ns, now_ns - past.step_ns) + past.step_ns;
  const bool was_full = past.held.size() == past.steps;
  const uint64_t oldest = was_full ? past.held.front()->total() : 0;
  if (!past.held.empty() && past.held.back()->total() == now.total()) {
    past.held.push_back(past.held.back());
  } else {
    past.held.push_back(std::make_shared<const ExponentialCounts>(now));
  }
  if (was_full) past.held.pop_front();
  return past.held.size() == past.steps && past.held.front()->total() != oldest;
}

void SummaryWindows::TakeOffPast(SeriesId series, ExponentialCounts* counts) const {
  const auto past = pasts_.find(series);
  if (past == pasts_.end() || past->second.held.size() < past->second.steps) return;
  counts->Subtract(*past->second.held.front());
}

}  // namespace tallyd
