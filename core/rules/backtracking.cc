#include "core/rules/backtracking.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/container/inlined_vector.h"
#include "core/rules/segment_tree.h"

namespace tallyd {
namespace {

// The globs of one length.
class Peers {
 public:
  explicit Peers(std::vector<std::string_view> globs) : globs_(std::move(globs)) {
    std::sort(globs_.begin(), globs_.end());
    tree_.AddNode();
    for (const std::string_view glob : globs_) {
      uint32_t node = 0;
      for (const std::string_view segment : SplitSegments(glob, kAllSegments)) {
        node = tree_.AddChild(node, segment);
      }
      ends_.push_back(node);
    }
    globs_ending_.resize(tree_.size());
    related_.resize(tree_.size());
    for (const uint32_t end : ends_) ++globs_ending_[end];
  }

  bool NeedBacktracking() {
    for (size_t i = 0; i < globs_.size(); ++i) RelateToThoseThatContain(i);
    for (size_t i = 0; i < globs_.size(); ++i) {
      if (!related_[ends_[i]] && SharesItsBeginning(globs_[i])) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kAllSegments = ~size_t{0};

  // Walks the tree with a glob for a name: the ends that this reaches contain it.
  void RelateToThoseThatContain(size_t contained) {
    const SegmentTree::Segments segments = SplitSegments(globs_[contained], kAllSegments);
    absl::InlinedVector<uint32_t, 16> level = {0};
    absl::InlinedVector<uint32_t, 16> next;
    for (const std::string_view segment : segments) {
      next.clear();
      const uint32_t word = tree_.Word(segment);
      for (const uint32_t node : level) {
        const uint32_t literal = tree_.Literal(node, word);
        if (literal != SegmentTree::kNone) next.push_back(literal);
        if (tree_.Star(node) != SegmentTree::kNone) next.push_back(tree_.Star(node));
      }
      level.swap(next);
    }
    const uint32_t own_end = ends_[contained];
    for (const uint32_t end : level) {
      if (end == own_end && globs_ending_[end] == 1) continue;
      related_[end] = true;
      related_[own_end] = true;
    }
  }

  // Whether another glob begins as this one does up to its first star. What they share up to a
  // later star they share up to the first.
  bool SharesItsBeginning(std::string_view glob) const {
    const size_t star = glob.find('*');
    if (star == std::string_view::npos) return false;
    const std::string_view beginning = glob.substr(0, star);
    const auto first = std::lower_bound(globs_.begin(), globs_.end(), beginning);
    return globs_.end() - first >= 2 && first[1].starts_with(beginning);
  }

  std::vector<std::string_view> globs_;  // sorted
  SegmentTree tree_;
  std::vector<uint32_t> ends_;          // the node of each glob
  std::vector<uint32_t> globs_ending_;  // by node
  std::vector<bool> related_;           // by node: its glob contains another one or is contained
};

}  // namespace

bool NeedsBacktracking(const std::vector<std::string_view>& globs) {
  std::map<ptrdiff_t, std::vector<std::string_view>> by_length;
  for (const std::string_view glob : globs) {
    by_length[std::count(glob.begin(), glob.end(), '.')].push_back(glob);
  }
  for (auto& [length, peers] : by_length) {
    if (Peers(std::move(peers)).NeedBacktracking()) return true;
  }
  return false;
}

}  // namespace tallyd
