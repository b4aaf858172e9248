// Random rules and names, matched by the tree and by what the rule book says in so many words.
//
// The naive matcher has no tree: it looks at all rules for every segment. Few words and short names
// make rules overlap, which is where trees go wrong.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/backtracking.h"
#include "core/rules/mapping.h"

namespace tallyd {
namespace {

using Segments = std::vector<std::string>;

Segments Split(const std::string& text) {
  Segments segments(1);
  for (const char c : text) {
    if (c == '.') {
      segments.emplace_back();
    } else {
      segments.back() += c;
    }
  }
  return segments;
}

struct NaiveRule {
  std::string match;
  Segments segments;
  MatchedType type;
};

// Whether a glob takes a name; a glob taken for a name shows whether one contains the other.
bool Takes(const Segments& glob, const Segments& name) {
  if (glob.size() != name.size()) return false;
  for (size_t i = 0; i < glob.size(); ++i) {
    if (glob[i] != "*" && glob[i] != name[i]) return false;
  }
  return true;
}

// "There is a rule with a star such that another rule of the same length begins with the same text
// up to that star, and that rule neither contains nor is contained in another rule of its length."
bool NaiveNeedsBacktracking(const std::vector<NaiveRule>& rules) {
  for (size_t i = 0; i < rules.size(); ++i) {
    bool shares_beginning = false;
    bool is_related = false;
    for (size_t j = 0; j < rules.size(); ++j) {
      if (i == j || rules[i].segments.size() != rules[j].segments.size()) continue;
      for (size_t star = 0; star < rules[i].match.size(); ++star) {
        if (rules[i].match[star] != '*') continue;
        if (rules[j].match.compare(0, star, rules[i].match, 0, star) == 0) shares_beginning = true;
      }
      is_related = is_related || Takes(rules[i].segments, rules[j].segments) ||
                   Takes(rules[j].segments, rules[i].segments);
    }
    if (shares_beginning && !is_related) return true;
  }
  return false;
}

// The rules are those of one type, in the order of the file.
class NaiveMatcher {
 public:
  NaiveMatcher(std::vector<NaiveRule> rules, Segments name, bool backtracks)
      : rules_(std::move(rules)), name_(std::move(name)), backtracks_(backtracks) {}

  // The first rule of the file that takes the name.
  std::optional<std::string> Ordered() const {
    for (const NaiveRule& rule : rules_) {
      if (Takes(rule.segments, name_)) return rule.match;
    }
    return std::nullopt;
  }

  // Depth first, a literal before a star at each segment; the first rule reached wins.
  std::optional<std::string> Unordered() { return From({}); }

 private:
  // Goes on from the beginning of some rules. `dead_end_` is set where the search is over.
  std::optional<std::string> From(const Segments& beginning) {
    if (beginning.size() == name_.size()) {
      for (const NaiveRule& rule : rules_) {
        if (rule.segments == beginning) return rule.match;
      }
      dead_end_ = !backtracks_;
      return std::nullopt;
    }
    for (const std::string& next : {name_[beginning.size()], std::string("*")}) {
      Segments longer = beginning;
      longer.push_back(next);
      if (!MayLead(longer)) continue;
      auto found = From(longer);
      if (found || dead_end_) return found;
    }
    dead_end_ = !backtracks_;
    return std::nullopt;
  }

  // Whether rules begin so, and the name is neither shorter than the shortest of them nor longer
  // than the longest.
  bool MayLead(const Segments& beginning) const {
    bool any = false;
    size_t shortest = ~size_t{0};
    size_t longest = 0;
    for (const NaiveRule& rule : rules_) {
      if (rule.segments.size() < beginning.size() ||
          !std::equal(beginning.begin(), beginning.end(), rule.segments.begin())) {
        continue;
      }
      any = true;
      shortest = std::min(shortest, rule.segments.size());
      longest = std::max(longest, rule.segments.size());
    }
    return any && shortest <= name_.size() && name_.size() <= longest;
  }

  std::vector<NaiveRule> rules_;
  Segments name_;
  bool backtracks_;
  bool dead_end_ = false;
};

class RandomRules {
 public:
  explicit RandomRules(uint32_t seed) : random_(seed) {}

  size_t Below(size_t limit) { return random_() % limit; }

  std::string Text(size_t longest, size_t words, size_t stars_in_ten) {
    std::string text;
    const size_t length = 1 + Below(longest);
    for (size_t i = 0; i < length; ++i) {
      if (i > 0) text += '.';
      text +=
          Below(10) < stars_in_ten ? "*" : std::string(1, static_cast<char>('a' + Below(words)));
    }
    return text;
  }

  MatchedType Type() {
    constexpr std::array kTypes = {MatchedType::kAny, MatchedType::kAny, MatchedType::kAny,
                                   MatchedType::kCounter, MatchedType::kGauge};
    return kTypes[Below(kTypes.size())];
  }

 private:
  std::mt19937 random_;
};

// What the rule says the captures are: in order, without the segments that are stars themselves.
std::string NaiveCaptures(const std::string& match, const Segments& name) {
  const Segments glob = Split(match);
  std::vector<std::string> captures;
  size_t stars = 0;
  for (size_t i = 0; i < glob.size(); ++i) {
    if (glob[i] != "*") continue;
    ++stars;
    if (name[i] != "*") captures.push_back(name[i]);
  }
  captures.resize(stars);
  std::string text;
  for (const std::string& capture : captures) text += "<" + capture + ">";
  return text;
}

void CheckRound(uint32_t seed) {
  RandomRules random(seed);
  const size_t words = 1 + random.Below(3);
  const size_t longest = 1 + random.Below(5);
  const bool ordered = random.Below(2) == 0;
  std::vector<NaiveRule> rules;
  MappingConfig config;
  config.glob_disable_ordering = !ordered;
  std::vector<std::string_view> matches;
  const size_t count = 1 + random.Below(12);
  for (size_t i = 0; i < count; ++i) {
    const std::string match = random.Text(longest, words, 4);
    rules.push_back({match, Split(match), random.Type()});
    MappingRule rule;
    rule.match = match;
    rule.matched_type = rules.back().type;
    rule.name = "n";
    std::string captures;
    const auto stars = std::count(match.begin(), match.end(), '*');
    for (int star = 1; star <= stars; ++star) captures += "<${" + std::to_string(star) + "}>";
    rule.labels = {{"captures", captures}};
    config.rules.push_back(rule);
  }
  for (const NaiveRule& rule : rules) matches.push_back(rule.match);
  const bool backtracks = NaiveNeedsBacktracking(rules);
  ASSERT_EQ(NeedsBacktracking(matches), backtracks) << "seed " << seed;
  const auto mapping = Mapping::Compile(config);
  ASSERT_TRUE(mapping.ok()) << mapping.status();

  for (int i = 0; i < 60; ++i) {
    const std::string name = random.Text(longest + 1, words + 1, 1);
    const SampleType type = random.Below(2) == 0 ? SampleType::kCounter : SampleType::kGauge;
    std::vector<NaiveRule> of_type;
    for (const NaiveRule& rule : rules) {
      if (rule.type == MatchedType::kAny || rule.type == MatchedTypeOf(type)) {
        of_type.push_back(rule);
      }
    }
    NaiveMatcher matcher(of_type, Split(name), backtracks);
    const auto expected = ordered ? matcher.Ordered() : matcher.Unordered();
    Mapped mapped;
    const bool found = (*mapping)->Map(name, type, &mapped);
    ASSERT_EQ(found, expected.has_value()) << "seed " << seed << ", name " << name;
    if (!found) continue;
    EXPECT_EQ(mapped.rule->match, *expected) << "seed " << seed << ", name " << name;
    ASSERT_EQ(mapped.labels[0].second, NaiveCaptures(*expected, Split(name)))
        << "seed " << seed << ", name " << name << ", match " << *expected;
    // Of equal rules it is the first.
    for (const MappingRule& rule : (*mapping)->config().rules) {
      if (rule.match != *expected ||
          (rule.matched_type != MatchedType::kAny && rule.matched_type != MatchedTypeOf(type))) {
        continue;
      }
      ASSERT_EQ(mapped.rule, &rule);
      break;
    }
  }
}

TEST(GlobPropertyTest, TheTreeDoesWhatTheRuleBookSays) {
  for (uint32_t seed = 0; seed < 20'000; ++seed) {
    CheckRound(seed);
    if (HasFailure()) break;
  }
}

TEST(GlobPropertyTest, ManyRulesThatOverlapAreJudgedInTime) {
  // Every pattern of literals and stars of twelve segments: each of them contains many others.
  std::vector<std::string> globs;
  for (uint32_t bits = 0; bits < 4096; ++bits) {
    std::string glob;
    for (int segment = 0; segment < 12; ++segment) {
      glob += segment == 0 ? "" : ".";
      glob += (bits >> segment & 1) != 0 ? "*" : "a";
    }
    globs.push_back(glob);
  }
  EXPECT_FALSE(NeedsBacktracking({globs.begin(), globs.end()}));
  globs.emplace_back("a.b.*.b.b.b.b.b.b.b.b.b");
  EXPECT_FALSE(NeedsBacktracking({globs.begin(), globs.end()})) << "a.*.*... contains it";
  globs.emplace_back("b.b.*");
  globs.emplace_back("b.b.c");
  EXPECT_FALSE(NeedsBacktracking({globs.begin(), globs.end()})) << "one contains the other";
  globs.emplace_back("b.*.d");
  EXPECT_TRUE(NeedsBacktracking({globs.begin(), globs.end()}));
}

}  // namespace
}  // namespace tallyd
