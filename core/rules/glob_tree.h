// Which glob rule a name belongs to (docs/mapping.md, "Which rule wins").

#ifndef TALLYD_CORE_RULES_GLOB_TREE_H_
#define TALLYD_CORE_RULES_GLOB_TREE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/rules/mapping.h"
#include "core/rules/segment_tree.h"
#include "core/wire/sample.h"

namespace tallyd {

// The glob rules of a file as a tree of their segments, one for each type of metric. Immutable once
// built, and then thread-safe.
//
// Finding a rule visits the nodes that the name's segments lead to and no others, so its time
// depends on the name and on how stars and literals overlap, not on the number of rules. Nodes know
// the lengths of the rules below them, and the first of these rules: what cannot be better than the
// rule found so far is not visited.
class GlobTree {
 public:
  static constexpr uint32_t kNoRule = ~0U;

  struct Rule {
    std::string_view match;  // a valid glob
    MatchedType type = MatchedType::kAny;
    uint32_t number = 0;  // ascending in the order of the file
  };

  // `ordered`: the first rule of the file wins among all that fit. Otherwise the tree is searched
  // depth first, a literal before a star, and the first rule found wins; whether a dead end is left
  // again is decided as statsd_exporter does, from all the rules.
  GlobTree(const std::vector<Rule>& rules, bool ordered);

  // The number of the rule, or kNoRule.
  uint32_t Find(std::string_view name, SampleType type) const;

 private:
  // What is known of the rules at and below a node.
  struct Reach {
    uint32_t rule = kNoRule;    // the first that ends here
    uint32_t first = kNoRule;   // the first that passes or ends here
    uint32_t least_rest = ~0U;  // segments that follow, of the shortest and the longest rule
    uint32_t most_rest = 0;
  };

  void Add(const Rule& rule, uint32_t root);
  bool Fits(uint32_t node, uint32_t rest) const;

  bool ordered_;
  bool backtracks_;
  uint32_t longest_ = 0;  // in segments
  SegmentTree tree_;
  std::vector<Reach> reach_;  // by node
};

// The text that each star took, numbered from 1 (0 is the whole name), given that the rule fits. A
// segment that is itself "*" is not captured: the captures after it move up, and the last ones are
// empty. That is statsd_exporter's way.
std::vector<std::string_view> GlobCaptures(std::string_view match, std::string_view name);

// How many stars a glob has.
int CountStars(std::string_view match);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_GLOB_TREE_H_
