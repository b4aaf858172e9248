// Random patterns and names: leaving out the patterns whose literals a name lacks must change
// nothing of what trying them all in the order of the file finds.

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {
namespace {

constexpr std::array<std::string_view, 24> kPatternPieces = {
    "a",           "b",      "ab",           "svc1",    "svc",
    R"(\.)",       ".",      "[ab]",         "^",       "$",
    "(a|b.c)",     R"(\w+)", "x?",           "(?:ab)+", "(?i:SvC)",
    "(?i:k)",      "B",      "SVC",          "\u00e9",  "\u00c9",
    "(?i:\u00e9)", R"(\d*)", "(ab|\u00e9b)", "[^.]+"};

constexpr std::array<std::string_view, 16> kNamePieces = {
    "a", "b", "ab", "svc1", "svc",    ".",      "SVC",    "x",
    "1", "B", "bc", "K",    "\u212a", "\u00e9", "\u00c9", "s"};

class RandomText {
 public:
  explicit RandomText(uint32_t seed) : random_(seed) {}

  size_t Below(size_t limit) { return random_() % limit; }

  template <class Pieces>
  std::string Of(const Pieces& pieces, size_t most) {
    std::string text;
    for (size_t i = 1 + Below(most); i > 0; --i) text += pieces[Below(pieces.size())];
    return text;
  }

 private:
  std::mt19937 random_;
};

std::vector<MappingRule> RandomRules(RandomText* random) {
  std::vector<MappingRule> rules;
  const size_t count = 1 + random->Below(40);
  while (rules.size() < count) {
    MappingRule rule;
    rule.match_type = MatchType::kRegex;
    rule.match = random->Of(kPatternPieces, 6);
    rule.name = "n";
    if (random->Below(4) == 0) rule.matched_type = MatchedType::kGauge;
    if (RE2(rule.match, RE2::Quiet).ok()) rules.push_back(rule);
  }
  return rules;
}

const MappingRule* FirstThatFits(const std::vector<MappingRule>& rules, const std::string& name,
                                 SampleType type) {
  for (const MappingRule& rule : rules) {
    const bool has_type =
        rule.matched_type == MatchedType::kAny || rule.matched_type == MatchedTypeOf(type);
    if (has_type && RE2::PartialMatch(name, rule.match)) return &rule;
  }
  return nullptr;
}

TEST(RegexPropertyTest, TheFilterLosesNoRule) {
  int found = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    RandomText random(seed);
    MappingConfig config;
    config.rules = RandomRules(&random);
    const auto mapping = Mapping::Compile(config);
    ASSERT_TRUE(mapping.ok()) << mapping.status();
    for (int i = 0; i < 25; ++i) {
      const std::string name = random.Of(kNamePieces, 6);
      const SampleType type = random.Below(2) == 0 ? SampleType::kCounter : SampleType::kGauge;
      const MappingRule* expected = FirstThatFits(config.rules, name, type);
      Mapped mapped;
      const bool fits = (*mapping)->Map(name, type, &mapped);
      ASSERT_EQ(fits, expected != nullptr) << "seed " << seed << ", name " << name;
      if (!fits) continue;
      ++found;
      ASSERT_EQ(mapped.rule - (*mapping)->config().rules.data(), expected - config.rules.data())
          << "seed " << seed << ", name " << name;
    }
  }
  EXPECT_GT(found, 2000) << "or the rules are too hard to fit for this to say anything";
}

}  // namespace
}  // namespace tallyd
