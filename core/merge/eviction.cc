#include "core/merge/eviction.h"

#include <algorithm>
#include <utility>

namespace tallyd {

Eviction::Pressure Eviction::Look(int64_t now_ns) {
  if (idle_ns_ == 0 || now_ns - last_ns_ < kEveryNs) return {};
  if (budget_->releases() < room_at_ && now_ns - last_ns_ < kPatienceNs) return {};
  const uint64_t in_all = budget_->refusals(SeriesBudget::Answer::kSeries) +
                          budget_->refusals(SeriesBudget::Answer::kLabelBytes);
  const uint64_t in_families = budget_->refusals(SeriesBudget::Answer::kFamily);
  const Pressure pressure = {.in_all = in_all != refused_in_all_,
                             .in_families = in_families != refused_in_families_};
  refused_in_all_ = in_all;
  refused_in_families_ = in_families;
  if (pressure.any()) last_ns_ = now_ns;
  return pressure;
}

std::vector<SeriesId> Eviction::Oldest(std::vector<Candidate> candidates) const {
  const auto by_change = [](const Candidate& a, const Candidate& b) {
    return a.changed_s != b.changed_s ? a.changed_s < b.changed_s : a.id < b.id;
  };
  const size_t most = std::max<size_t>(1, budget_->limits().series / 10);
  if (candidates.size() > most) {
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(most),
                     candidates.end(), by_change);
    candidates.resize(most);
  }
  std::vector<SeriesId> oldest;
  oldest.reserve(candidates.size());
  for (const Candidate& candidate : candidates) oldest.push_back(candidate.id);
  return oldest;
}

}  // namespace tallyd
