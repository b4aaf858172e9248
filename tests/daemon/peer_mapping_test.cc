// The model of statsd_exporter's rules: its tree with the defects, its templates with the garbling.

#include "daemon/peer_mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

MappingRule Glob(std::string match, std::string name, MatchedType type = MatchedType::kAny) {
  MappingRule rule;
  rule.match = std::move(match);
  rule.name = std::move(name);
  rule.matched_type = type;
  return rule;
}

std::shared_ptr<const Mapping> Compiled(MappingConfig config) {
  int line = 0;
  for (MappingRule& rule : config.rules) rule.line = ++line;
  auto mapping = Mapping::Compile(std::move(config));
  EXPECT_TRUE(mapping.ok()) << mapping.status();
  return *mapping;
}

PeerMapping Peer(std::vector<MappingRule> rules, bool unordered = false) {
  MappingConfig config;
  config.rules = std::move(rules);
  config.glob_disable_ordering = unordered;
  return PeerMapping(Compiled(std::move(config)));
}

std::string NameOf(const PeerMapping& mapping, std::string_view name,
                   MatchedType type = MatchedType::kCounter) {
  PeerMapped mapped;
  return mapping.Map(name, type, &mapped) ? mapped.name : "unmapped";
}

TEST(PeerMappingTest, TheFirstRuleInTheFileWins) {
  const PeerMapping mapping = Peer({Glob("a.*.c", "star_${1}"), Glob("a.b.*", "literal_${1}")});
  EXPECT_EQ(NameOf(mapping, "a.b.c"), "star_b");
  EXPECT_EQ(NameOf(mapping, "a.b.d"), "literal_d");
  EXPECT_EQ(NameOf(mapping, "a.b"), "unmapped");
}

TEST(PeerMappingTest, ARuleThatIsTheBeginningOfAnEarlierOneIsNeverFound) {
  const PeerMapping hidden = Peer({Glob("a.b.c", "long"), Glob("a.b", "short")});
  EXPECT_EQ(NameOf(hidden, "a.b"), "unmapped");
  ASSERT_THAT(hidden.defects(), SizeIs(3));  // one for each type
  EXPECT_EQ(hidden.defects()[0].kind, PeerMapping::Defect::Kind::kHidden);
  EXPECT_EQ(hidden.defects()[0].rule->line, 2);
  EXPECT_EQ(hidden.defects()[0].earlier->line, 1);

  const PeerMapping found = Peer({Glob("a.b", "short"), Glob("a.b.c", "long")});
  EXPECT_EQ(NameOf(found, "a.b"), "short");
  EXPECT_THAT(found.defects(), IsEmpty());
}

TEST(PeerMappingTest, ItIsHiddenOnlyFromTheTypesOfTheEarlierRule) {
  const PeerMapping mapping =
      Peer({Glob("a.b.c", "long", MatchedType::kCounter), Glob("a.b", "short")});
  EXPECT_EQ(NameOf(mapping, "a.b", MatchedType::kCounter), "unmapped");
  EXPECT_EQ(NameOf(mapping, "a.b", MatchedType::kGauge), "short");
  ASSERT_THAT(mapping.defects(), SizeIs(1));
  EXPECT_EQ(mapping.defects()[0].type, MatchedType::kCounter);
}

TEST(PeerMappingTest, ASecondRuleWithTheSameMatchMovesTheFirstBack) {
  const PeerMapping mapping =
      Peer({Glob("a.*", "first"), Glob("*.b", "between"), Glob("a.*", "second")});
  EXPECT_EQ(NameOf(mapping, "a.b"), "between");
  EXPECT_EQ(NameOf(mapping, "a.c"), "first");
  EXPECT_EQ(mapping.defects()[0].kind, PeerMapping::Defect::Kind::kDuplicate);
}

TEST(PeerMappingTest, WithoutOrderingTheEarliestLiteralDecides) {
  const PeerMapping mapping = Peer({Glob("*.b", "star_first"), Glob("a.*", "literal_first")}, true);
  EXPECT_EQ(NameOf(mapping, "a.b"), "literal_first");
}

TEST(PeerMappingTest, WithoutOrderingDeadEndsAreLeftOnlyWhereItThinksThatNeeded) {
  // The book's example: each rule contains or is contained in another.
  const std::vector<MappingRule> nested = {Glob("aa.*.cc", "x"), Glob("aa.bb.dd", "y"),
                                           Glob("aa.*.*", "z")};
  EXPECT_EQ(NameOf(Peer(nested, true), "aa.bb.cc"), "unmapped");
  EXPECT_EQ(NameOf(Peer(nested, false), "aa.bb.cc"), "x");
  const std::vector<MappingRule> apart = {Glob("aa.*.cc", "x"), Glob("aa.bb.dd", "y")};
  EXPECT_EQ(NameOf(Peer(apart, true), "aa.bb.cc"), "x");
}

TEST(PeerMappingTest, ASegmentThatIsAStarIsNotCaptured) {
  const PeerMapping mapping = Peer({Glob("*.*", "n_${1}_${2}")});
  EXPECT_EQ(NameOf(mapping, "*.b"), "n_b_");
}

TEST(PeerMappingTest, GlobsComeBeforeRegularExpressions) {
  MappingRule regex = Glob("a\\.(.*)", "regex_$1");
  regex.match_type = MatchType::kRegex;
  regex.labels = {{"rest", "$1"}};
  const PeerMapping mapping = Peer({regex, Glob("a.b", "glob")});
  EXPECT_EQ(NameOf(mapping, "a.b"), "glob");
  PeerMapped mapped;
  ASSERT_TRUE(mapping.Map("a.c.d", MatchedType::kGauge, &mapped));
  EXPECT_EQ(mapped.rule->line, 1);
  EXPECT_THAT(mapped.labels, ElementsAre(Pair("rest", "c.d")));
}

TEST(PeerTemplateTest, ReferencesAreReplacedAsStatsdExporterDoes) {
  const std::vector<std::string_view> three = {"x", "y", "z"};
  const struct {
    const char* text;
    const char* expanded;
  } templates[] = {
      {"plain", "plain"},
      {"50% of all", "50% of all"},  // no reference, no format
      {"a_$1_b", "a_"},              // the run is 1_b
      {"a_${1}_b", "a_x_b"},
      {"$1-$2", "x-y"},
      {"$1.$2", "x.y"},
      {"$1$2", ""},
      {"${1}${2}", "xy"},
      {"$0", ""},
      {"$4", ""},
      {"${name}", ""},
      {"$$1", ""},
      {"${1", "x"},
      {"$ 5", "$ 5"},
      {"US$", "US$"},
      {"$1-$1", "x-x"},
      {"${002}", "y"},
      {"50% of ${1}", "50%!o(string=x)f %!s(MISSING)"},
      {"${1}%", "x%!(NOVERB)"},
      {"100%% ${1}", "100% x"},
      {"%d ${1} ${2}", "%!d(string=x) y %!s(MISSING)"},
      {"$1-$11", "x-%!s(MISSING)1"},
      {"%", "%"},
  };
  for (const auto& [text, expanded] : templates) {
    EXPECT_EQ(ExpandPeerTemplate(text, three, 3), expanded) << text;
  }
}

}  // namespace
}  // namespace tallyd
