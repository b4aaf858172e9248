#include "core/rules/literal_scanner.h"

#include <algorithm>

namespace tallyd {
namespace {

uint64_t EdgeKey(uint32_t state, char c) {
  return (uint64_t{state} << 8) | static_cast<unsigned char>(c);
}

}  // namespace

LiteralScanner::LiteralScanner(const std::vector<std::string>& literals) : states_(1) {
  struct Edge {
    uint32_t from;
    uint32_t to;
    char c;
  };
  std::vector<std::vector<Edge>> by_depth;  // since a fallback is shorter than what falls back
  for (size_t i = 0; i < literals.size(); ++i) {
    uint32_t state = kRoot;
    for (size_t depth = 0; depth < literals[i].size(); ++depth) {
      const char c = literals[i][depth];
      const auto [edge, is_new] =
          children_.try_emplace(EdgeKey(state, c), static_cast<uint32_t>(states_.size()));
      if (is_new) {
        states_.emplace_back();
        if (by_depth.size() <= depth) by_depth.emplace_back();
        by_depth[depth].push_back({state, edge->second, c});
      }
      state = edge->second;
    }
    states_[state].literal = static_cast<int>(i);
  }
  for (const std::vector<Edge>& edges : by_depth) {
    for (const Edge& edge : edges) {
      if (edge.from == kRoot) continue;
      const uint32_t fallback = Next(states_[edge.from].fallback, edge.c);
      State& state = states_[edge.to];
      state.fallback = fallback;
      state.shorter_ending =
          states_[fallback].literal >= 0 ? fallback : states_[fallback].shorter_ending;
    }
  }
}

std::vector<int> LiteralScanner::Find(std::string_view text) const {
  std::vector<int> found;
  uint32_t state = kRoot;
  for (const char c : text) {
    state = Next(state, c);
    uint32_t ending = states_[state].literal >= 0 ? state : states_[state].shorter_ending;
    for (; ending != kNone; ending = states_[ending].shorter_ending) {
      found.push_back(states_[ending].literal);
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

uint32_t LiteralScanner::Child(uint32_t state, char c) const {
  const auto found = children_.find(EdgeKey(state, c));
  return found == children_.end() ? kNone : found->second;
}

uint32_t LiteralScanner::Next(uint32_t state, char c) const {
  while (true) {
    const uint32_t child = Child(state, c);
    if (child != kNone) return child;
    if (state == kRoot) return kRoot;
    state = states_[state].fallback;
  }
}

}  // namespace tallyd
