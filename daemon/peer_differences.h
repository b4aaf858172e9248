// What a user of statsd_exporter would see change: one line, read by both.

#ifndef TALLYD_DAEMON_PEER_DIFFERENCES_H_
#define TALLYD_DAEMON_PEER_DIFFERENCES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/peer_reading.h"

namespace tallyd {

struct Explanation;

// The kinds of differences, worst first. A closed list with stable names.
enum class PeerCategory : uint8_t {
  // The line harms statsd_exporter.
  kHazardCrash,
  kHazardScrape,
  kHazardFlood,
  kHazardPoison,
  // It counts here and is lost there.
  kPacked,
  kContainerId,
  kUnknownSection,
  kTooManySections,
  kCarriageReturn,
  kSet,
  kTypeConflictThere,
  kAcceptedHere,
  // It counts there and not here.
  kEvent,
  kOwnName,
  kReservedLabel,
  kTypeConflictHere,
  kLimitHere,
  kLostHere,
  // It counts on both sides, differently.
  kDefaultObserver,
  kSampledWeight,
  kSignedGauge,
  kRuleUnreachable,
  kTemplate,
  kLeakedLabel,
  kDifferentSeries,
  kDifferentType,
  kDifferentValue,
  // Of the mapping file rather than of a line.
  kMappingRefused,
  kRuleMoved,
  kLegacyKey,
  kSummaryError,
  kCount
};
inline constexpr size_t kPeerCategories = static_cast<size_t>(PeerCategory::kCount);

struct PeerCategoryInfo {
  std::string_view name;     // stable
  std::string_view meaning;  // one sentence
  std::string_view remedy;   // what to do, one sentence
};
const PeerCategoryInfo& InfoOf(PeerCategory category);

struct PeerDifference {
  PeerCategory category = PeerCategory::kAcceptedHere;
  size_t sample = 0;  // from 1; 0: the line as a whole
  std::string here;
  std::string there;
};

// At most one difference of a sample, the worst. `ours` and `theirs` are of the same line.
std::vector<PeerDifference> DifferencesOf(const Explanation& ours, const PeerReading& theirs);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PEER_DIFFERENCES_H_
