// Which rule nearly fits a name.

#include "daemon/near_rule.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using Miss = NearRule::Miss;

std::shared_ptr<const Mapping> Rules(const std::vector<std::pair<std::string, MatchedType>>& rules,
                                     MatchType match_type = MatchType::kGlob) {
  MappingConfig config;
  for (const auto& [match, type] : rules) {
    MappingRule& rule = config.rules.emplace_back();
    rule.line = static_cast<int>(config.rules.size());
    rule.match = match;
    rule.match_type = match_type;
    rule.name = "name";
    rule.matched_type = type;
  }
  auto mapping = Mapping::Compile(std::move(config));
  EXPECT_TRUE(mapping.ok()) << mapping.status();
  return *mapping;
}

TEST(NearRuleTest, OneThingMayBeAmiss) {
  const struct {
    const char* rule;
    const char* name;
    Miss miss;
    size_t segment;
    const char* text;
  } near_misses[] = {
      {"a.b.c", "a.x.c", Miss::kSegmentDiffers, 2, "segment 2 is \"x\", the rule wants \"b\""},
      {"a.*.c", "a.b.d", Miss::kSegmentDiffers, 3, "segment 3 is \"d\", the rule wants \"c\""},
      {"a.b.c", "a.b", Miss::kSegmentMore, 3, "the rule has one segment more, \"c\""},
      {"a.b.c", "b.c", Miss::kSegmentMore, 1, "the rule has one segment more, \"a\""},
      {"a.*", "a.b.c", Miss::kSegmentLess, 3, "the name has one segment more, \"c\""},
  };
  for (const auto& [rule, name, miss, segment, text] : near_misses) {
    const auto mapping = Rules({{rule, MatchedType::kAny}});
    const auto near = FindNearRule(*mapping, name, SampleType::kCounter, nullptr);
    ASSERT_TRUE(near.has_value()) << rule << " " << name;
    EXPECT_EQ(Name(near->miss), std::string(Name(miss))) << rule << " " << name;
    EXPECT_EQ(near->segment, segment) << rule << " " << name;
    EXPECT_EQ(Describe(*near, name), text);
  }
}

TEST(NearRuleTest, TwoThingsAreTooMany) {
  for (const char* name : {"x.y.c", "a", "a.b.c.d.e", "x.b.c.d"}) {
    const auto mapping = Rules({{"a.b.c", MatchedType::kAny}});
    EXPECT_FALSE(FindNearRule(*mapping, name, SampleType::kCounter, nullptr).has_value()) << name;
  }
  const auto typed = Rules({{"a.b", MatchedType::kGauge}});
  EXPECT_FALSE(FindNearRule(*typed, "a.c", SampleType::kCounter, nullptr).has_value());
}

TEST(NearRuleTest, StarsAloneAreNotNear) {
  const auto mapping = Rules({{"*.x", MatchedType::kAny}});
  EXPECT_FALSE(FindNearRule(*mapping, "a.b", SampleType::kCounter, nullptr).has_value());
  EXPECT_FALSE(FindNearRule(*mapping, "a", SampleType::kCounter, nullptr).has_value());
}

TEST(NearRuleTest, AnotherTypeIsNear) {
  const auto mapping = Rules({{"a.b", MatchedType::kObserver}});
  const auto near = FindNearRule(*mapping, "a.b", SampleType::kCounter, nullptr);
  ASSERT_TRUE(near.has_value());
  EXPECT_EQ(near->miss, Miss::kOtherType);
  EXPECT_EQ(FindNearRule(*mapping, "a.b", SampleType::kTimer, nullptr)->miss,
            Miss::kAnotherRuleWins);
}

TEST(NearRuleTest, TheTakenRuleIsNotNearAndTheFirstOfTheOthersIsShown) {
  const auto mapping = Rules({{"a.b", MatchedType::kAny},
                              {"q.r", MatchedType::kAny},
                              {"a.*", MatchedType::kAny},
                              {"a.c", MatchedType::kAny}});
  const MappingRule* const taken = &mapping->config().rules[0];
  const auto near = FindNearRule(*mapping, "a.b", SampleType::kCounter, taken);
  ASSERT_TRUE(near.has_value());
  EXPECT_EQ(near->rule->line, 3);
  EXPECT_EQ(near->miss, Miss::kAnotherRuleWins);
}

TEST(NearRuleTest, RegularExpressionsMissByTypeAlone) {
  const auto mapping = Rules({{"^a\\.", MatchedType::kGauge}}, MatchType::kRegex);
  const auto near = FindNearRule(*mapping, "a.b", SampleType::kCounter, nullptr);
  ASSERT_TRUE(near.has_value());
  EXPECT_EQ(near->miss, Miss::kOtherType);
  EXPECT_FALSE(FindNearRule(*mapping, "b.a", SampleType::kCounter, nullptr).has_value());
}

}  // namespace
}  // namespace tallyd
