// A tree of the segments of globs: what hangs on its nodes is up to who uses it.

#ifndef TALLYD_CORE_RULES_SEGMENT_TREE_H_
#define TALLYD_CORE_RULES_SEGMENT_TREE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"

namespace tallyd {

// Nodes are numbers from 0. A name is looked up a segment at a time, and each segment's text is
// hashed once however many nodes ask for it. Thread-compatible.
class SegmentTree {
 public:
  static constexpr uint32_t kNone = ~0U;
  // No literal that a rule has, and the text "*", which only stars match.
  static constexpr uint32_t kUnknownWord = ~0U;

  using Segments = absl::InlinedVector<std::string_view, 16>;

  uint32_t AddNode();
  // The child for a segment of a glob; it is made if there is none. New nodes have the highest
  // numbers.
  uint32_t AddChild(uint32_t node, std::string_view segment);

  // The number of a literal.
  uint32_t Word(std::string_view segment) const;
  uint32_t Literal(uint32_t node, uint32_t word) const;
  uint32_t Star(uint32_t node) const { return stars_[node]; }
  uint32_t size() const { return static_cast<uint32_t>(stars_.size()); }

 private:
  std::vector<uint32_t> stars_;
  absl::flat_hash_map<std::string, uint32_t> words_;
  absl::flat_hash_map<uint64_t, uint32_t> literals_;  // by node and word
};

// "a.b" is "a" and "b"; the empty text is one empty segment. At most `limit` are told apart: the
// last one is then the rest.
SegmentTree::Segments SplitSegments(std::string_view text, size_t limit);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_SEGMENT_TREE_H_
