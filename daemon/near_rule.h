// The mapping rule that nearly fits a name: what whoever wonders about a rule that is not taken
// wants to see.

#ifndef TALLYD_DAEMON_NEAR_RULE_H_
#define TALLYD_DAEMON_NEAR_RULE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/rules/mapping.h"

namespace tallyd {

struct NearRule {
  enum class Miss {
    kAnotherRuleWins,  // it fits
    kOtherType,        // it fits samples of another type
    kSegmentDiffers,   // one segment, number `segment`
    kSegmentMore,      // the rule has one segment more than the name
    kSegmentLess,      // and one less
  };
  const MappingRule* rule = nullptr;
  Miss miss = Miss::kSegmentDiffers;
  size_t segment = 0;  // of the rule, from 1
};

// The first rule of the file, other than `taken`, that fits but for one thing. `taken` may be null.
// Of regular expressions only the first thousand are tried, and they can only miss by their type.
std::optional<NearRule> FindNearRule(const Mapping& mapping, std::string_view name, SampleType type,
                                     const MappingRule* taken);

// Stable names: "another-rule-wins", "other-type", "segment-differs", "segment-more",
// "segment-less".
const char* Name(NearRule::Miss miss);
// A clause for people.
std::string Describe(const NearRule& near, std::string_view name);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_NEAR_RULE_H_
