#include "core/rules/segment_tree.h"

#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

uint64_t EdgeKey(uint32_t node, uint32_t word) { return (uint64_t{node} << 32) | word; }

}  // namespace

uint32_t SegmentTree::AddNode() {
  stars_.push_back(kNone);
  return size() - 1;
}

uint32_t SegmentTree::AddChild(uint32_t node, std::string_view segment) {
  if (segment == "*") {
    if (stars_[node] == kNone) {
      const uint32_t child = AddNode();
      stars_[node] = child;
    }
    return stars_[node];
  }
  const auto next_word = static_cast<uint32_t>(words_.size());
  const uint32_t word = words_.try_emplace(std::string(segment), next_word).first->second;
  const auto [edge, is_new] = literals_.try_emplace(EdgeKey(node, word), size());
  return is_new ? AddNode() : edge->second;
}

uint32_t SegmentTree::Word(std::string_view segment) const {
  const auto found = words_.find(View(segment));
  return found == words_.end() ? kUnknownWord : found->second;
}

uint32_t SegmentTree::Literal(uint32_t node, uint32_t word) const {
  if (word == kUnknownWord) return kNone;
  const auto found = literals_.find(EdgeKey(node, word));
  return found == literals_.end() ? kNone : found->second;
}

SegmentTree::Segments SplitSegments(std::string_view text, size_t limit) {
  SegmentTree::Segments segments;
  while (segments.size() + 1 < limit) {
    const size_t dot = text.find('.');
    if (dot == std::string_view::npos) break;
    segments.push_back(text.substr(0, dot));
    text.remove_prefix(dot + 1);
  }
  segments.push_back(text);
  return segments;
}

}  // namespace tallyd
