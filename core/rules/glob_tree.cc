#include "core/rules/glob_tree.h"

#include <algorithm>
#include <array>

#include "absl/container/inlined_vector.h"
#include "core/rules/backtracking.h"

namespace tallyd {
namespace {

constexpr uint32_t kNoNode = SegmentTree::kNone;

// The roots of the trees are the first nodes.
constexpr std::array kTypes = {MatchedType::kCounter, MatchedType::kGauge, MatchedType::kObserver};

uint32_t RootOf(SampleType type) {
  const auto found = std::find(kTypes.begin(), kTypes.end(), MatchedTypeOf(type));
  return static_cast<uint32_t>(found - kTypes.begin());
}

constexpr size_t kAllSegments = ~size_t{0};

}  // namespace

GlobTree::GlobTree(const std::vector<Rule>& rules, bool ordered)
    : ordered_(ordered), backtracks_(ordered) {
  for (size_t i = 0; i < kTypes.size(); ++i) tree_.AddNode();
  reach_.resize(kTypes.size());
  for (const Rule& rule : rules) {
    for (uint32_t root = 0; root < kTypes.size(); ++root) {
      if (rule.type == MatchedType::kAny || rule.type == kTypes[root]) Add(rule, root);
    }
  }
  if (!ordered) {
    std::vector<std::string_view> matches;
    matches.reserve(rules.size());
    for (const Rule& rule : rules) matches.push_back(rule.match);
    backtracks_ = NeedsBacktracking(matches);
  }
}

void GlobTree::Add(const Rule& rule, uint32_t root) {
  const SegmentTree::Segments segments = SplitSegments(rule.match, kAllSegments);
  auto rest = static_cast<uint32_t>(segments.size());
  longest_ = std::max(longest_, rest);
  uint32_t node = root;
  for (const std::string_view segment : segments) {
    node = tree_.AddChild(node, segment);
    if (node == reach_.size()) reach_.emplace_back();
    --rest;
    Reach& reach = reach_[node];
    reach.first = std::min(reach.first, rule.number);
    reach.least_rest = std::min(reach.least_rest, rest);
    reach.most_rest = std::max(reach.most_rest, rest);
  }
  reach_[node].rule = std::min(reach_[node].rule, rule.number);
}

bool GlobTree::Fits(uint32_t node, uint32_t rest) const {
  return node != kNoNode && reach_[node].least_rest <= rest && rest <= reach_[node].most_rest;
}

uint32_t GlobTree::Find(std::string_view name, SampleType type) const {
  const SegmentTree::Segments segments = SplitSegments(name, longest_ + 1);
  const auto count = static_cast<uint32_t>(segments.size());
  if (count > longest_) return kNoRule;
  absl::InlinedVector<uint32_t, 16> words;
  for (const std::string_view segment : segments) words.push_back(tree_.Word(segment));

  struct Step {
    uint32_t node;
    uint32_t depth;
  };
  absl::InlinedVector<Step, 32> open = {{RootOf(type), 0}};
  uint32_t best = kNoRule;
  while (!open.empty()) {
    const Step step = open.back();
    open.pop_back();
    if (step.depth == count) {
      best = std::min(best, reach_[step.node].rule);
      if (!ordered_ && best != kNoRule) return best;
      continue;
    }
    const uint32_t rest = count - step.depth - 1;
    const auto follow = [&](uint32_t node) {
      if (!Fits(node, rest) || reach_[node].first >= best) return false;
      open.push_back({node, step.depth + 1});
      return true;
    };
    // What is put down last is taken up first.
    const uint32_t literal = tree_.Literal(step.node, words[step.depth]);
    if (backtracks_) {
      follow(tree_.Star(step.node));
      follow(literal);
    } else if (!follow(literal)) {
      follow(tree_.Star(step.node));
    }
  }
  return best;
}

std::vector<std::string_view> GlobCaptures(std::string_view match, std::string_view name) {
  std::vector<std::string_view> captures = {name};
  size_t stars = 0;
  while (true) {
    const size_t match_dot = match.find('.');
    const size_t name_dot = name.find('.');
    if (match.substr(0, match_dot) == "*") {
      ++stars;
      const std::string_view segment = name.substr(0, name_dot);
      if (segment != "*") captures.push_back(segment);
    }
    if (match_dot == std::string_view::npos || name_dot == std::string_view::npos) break;
    match.remove_prefix(match_dot + 1);
    name.remove_prefix(name_dot + 1);
  }
  captures.resize(stars + 1);
  return captures;
}

int CountStars(std::string_view match) {
  return static_cast<int>(std::count(match.begin(), match.end(), '*'));
}

}  // namespace tallyd
