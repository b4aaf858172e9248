// New rules under way: what goes on, what starts anew, and that no sample is lost.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/merge/exposition.h"
#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

MappingRule Rule(std::string match, std::string name) {
  MappingRule rule;
  rule.match = std::move(match);
  rule.name = std::move(name);
  return rule;
}

Rules::Options Mapped(std::vector<MappingRule> rules) {
  MappingConfig config;
  config.rules = std::move(rules);
  return {.mapping = Mapping::Compile(std::move(config)).value()};
}

MappingRule Buckets(std::string name, std::vector<double> buckets) {
  MappingRule rule = Rule(name, name);
  rule.histogram.buckets = std::move(buckets);
  return rule;
}

using Values = std::map<std::string, std::string>;

TEST(ReloadTest, SeriesThatStayTheSameGoOn) {
  ShardFeeder feeder({.shards = 2});
  feeder.Send("c:1|c|#a:b\ng:5|g\nt:100|ms", 0);
  feeder.Send("c:10|c|#a:b", 1);
  const uint64_t keys = feeder.shard().ledger().key_bytes.Get();
  for (int i = 0; i < 5; ++i) {
    feeder.UseRules(Mapped({Rule("other" + std::to_string(i), "x")}));
    feeder.Send("c:1|c|#a:b\ng:+1|g\nt:100|ms", 0);
    feeder.Merge();
  }
  const Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(c{a="b"})"), "16");
  EXPECT_EQ(values.at("g"), "10");
  EXPECT_EQ(values.at("t_count"), "6");
  EXPECT_EQ(feeder.merger().series(), 3u);
  EXPECT_EQ(feeder.shard().ledger().live_series.Get(), 3u);
  EXPECT_EQ(feeder.shard().ledger().key_bytes.Get(), keys) << "keys are not stored twice";
  EXPECT_EQ(feeder.Applied(), feeder.Received());
  EXPECT_LE(feeder.rules().generations(), 3u) << "the second shard's slot is of the first set";
}

TEST(ReloadTest, SpellingsOfASeriesAreKnownAgain) {
  ShardFeeder feeder;
  for (int i = 0; i < 3; ++i) {
    feeder.Send("a.b:1|c|#x:1,y:2\na.b:1|c|#y:2,x:1\na-b:1|c|#x:1,y:2");
    feeder.UseRules(Mapped({}));
  }
  EXPECT_EQ(feeder.MergeAndParse().at(R"(a_b{x="1",y="2"})"), "9");
  EXPECT_EQ(feeder.merger().series(), 1u);
}

TEST(ReloadTest, RenamedSeriesLeaveTheOldOnesAsTheyAre) {
  ShardFeeder feeder;
  feeder.Send("old:3|c");
  feeder.UseRules(Mapped({Rule("old", "renamed")}));
  feeder.Send("old:4|c");
  const Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.at("old"), "3");
  EXPECT_EQ(values.at("renamed"), "4");
  // And back again.
  feeder.UseRules(Mapped({}));
  feeder.Send("old:5|c");
  EXPECT_EQ(feeder.MergeAndParse().at("old"), "8");
}

TEST(ReloadTest, NewBoundsBeginANewSeries) {
  ShardFeeder feeder({.shards = 2});
  feeder.UseRules(Mapped({Buckets("h", {1, 2})}));
  feeder.Send("h:1|h|#s:0\nh:1|h|#s:x", 0);
  feeder.Send("h:1|h|#s:0", 1);
  EXPECT_EQ(feeder.MergeAndParse().at(R"(h_count{s="0"})"), "2");
  feeder.UseRules(Mapped({Buckets("h", {5})}));
  EXPECT_EQ(feeder.MergeAndParse().at(R"(h_count{s="0"})"), "2") << "until a sample comes";
  feeder.Send("h:1|h|#s:0", 0);
  Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(h_count{s="0"})"), "1");
  EXPECT_EQ(values.at(R"(h_bucket{s="0",le="5"})"), "1");
  EXPECT_EQ(values.count(R"(h_bucket{s="0",le="2"})"), 0u);
  EXPECT_EQ(values.count(R"(h_count{s="x"})"), 0u) << "a family has one list of buckets";
  feeder.Send("h:1|h|#s:0\nh:1|h|#s:x", 1);
  values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(h_count{s="0"})"), "2");
  EXPECT_EQ(values.at(R"(h_count{s="x"})"), "1");
  EXPECT_EQ(feeder.Applied(), feeder.Received());
}

TEST(ReloadTest, AShardThatIsLateDoesNotBringTheOldBoundsBack) {
  ShardFeeder feeder({.shards = 2});
  feeder.UseRules(Mapped({Buckets("h", {1})}));
  feeder.Send("h:1|h|#s:0", 0);
  feeder.Send("h:1|h|#s:1", 1);
  feeder.Merge();
  const uint16_t generation = feeder.rules().Publish(Mapped({Buckets("h", {5})})).value();
  feeder.rules().Hold(generation);
  feeder.shard(0).UseRules(generation);
  feeder.Send("h:1|h|#s:0", 0);
  feeder.Merge();
  feeder.Send("h:1|h|#s:1\nh:1|h|#s:new", 1);  // by the old rules still
  Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(h_bucket{s="0",le="5"})"), "1");
  EXPECT_EQ(values.count(R"(h_bucket{s="1",le="1"})"), 0u);
  feeder.rules().Hold(generation);
  feeder.shard(1).UseRules(generation);
  feeder.Send("h:1|h|#s:1", 1);
  values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(h_bucket{s="1",le="5"})"), "1");
  EXPECT_EQ(values.at(R"(h_bucket{s="new",le="5"})"), "1") << "it was the new list that it got";
  EXPECT_EQ(feeder.Applied(), feeder.Received());
}

TEST(ReloadTest, HistogramsBecomeSummariesAndBack) {
  ShardFeeder feeder;
  feeder.Send("h:1|h");
  feeder.Merge();
  MappingRule summary = Rule("h", "h");
  summary.observer_type = ObserverType::kSummary;
  feeder.UseRules(Mapped({summary}));
  feeder.Send("h:1|h\nh:1|h");
  feeder.Merge();
  EXPECT_NE(feeder.Text().find("# TYPE h summary"), std::string::npos);
  EXPECT_EQ(feeder.MergeAndParse().at("h_count"), "2");
  feeder.UseRules(Mapped({}));
  feeder.Send("h:1|h");
  feeder.Merge();
  EXPECT_NE(feeder.Text().find("# TYPE h histogram"), std::string::npos);
  EXPECT_EQ(feeder.MergeAndParse().at("h_count"), "2") << "it goes on from what it had as one";
  EXPECT_EQ(feeder.merger().families(), 1u);
  EXPECT_EQ(feeder.Applied(), 4u);
}

TEST(ReloadTest, AnOperatorCanGiveANameAnotherType) {
  ShardFeeder feeder({.shards = 2});
  feeder.Send("x:7|c\nq.depth:3|g", 0);
  feeder.Merge();
  feeder.UseRules(Mapped({Rule("q.depth", "x")}));
  feeder.Send("q.depth:4|g", 1);
  feeder.Merge();
  EXPECT_NE(feeder.Text().find("# TYPE x gauge"), std::string::npos) << feeder.Text();
  EXPECT_EQ(feeder.MergeAndParse().at("x"), "4");
  feeder.Send("x:1|c", 0);
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 1u) << "the first of the new set holds";
}

TEST(ReloadTest, AnObserverEndsFamiliesThatAreCalledLikeItsSamples) {
  ShardFeeder feeder({.shards = 2});
  feeder.Send("request_count:1|c\nrequest_sum:2|g\nrequests:3|c", 0);
  feeder.Send("request_count:1|c\nrequest:5|ms", 1);
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 1u);
  feeder.Merge();
  MappingRule rule = Rule("request", "request");
  rule.observer_type = ObserverType::kHistogram;
  feeder.UseRules(Mapped({rule}));
  feeder.Send("request:5000|ms", 1);
  feeder.Merge();
  const Exposition shown(feeder.Text());
  EXPECT_TRUE(shown.ok()) << shown.error();
  EXPECT_EQ(shown.values().at("request_count"), "1");
  EXPECT_EQ(shown.values().at("request_sum"), "5");
  EXPECT_EQ(shown.values().at("requests"), "3");
  feeder.Send("request_count:1|c", 0);
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 2u);
  EXPECT_EQ(feeder.merger().families(), 2u);
}

TEST(ReloadTest, AShardThatIsLateDoesNotBringThemBack) {
  ShardFeeder feeder({.shards = 2});
  feeder.Send("request_count:1|c", 0);
  feeder.Send("request_count:1|c", 1);
  feeder.Merge();
  const uint16_t generation = feeder.rules().Publish(Mapped({Buckets("request", {1})})).value();
  feeder.rules().Hold(generation);
  feeder.shard(0).UseRules(generation);
  feeder.Send("request:5|h", 0);
  feeder.Merge();
  feeder.Send("request_count:1|c\nrequest_count:1|c|#new:yes", 1);  // by the old rules still
  feeder.Merge();
  const Exposition shown(feeder.Text());
  EXPECT_TRUE(shown.ok()) << shown.error();
  EXPECT_EQ(shown.values().at("request_count"), "1");
  EXPECT_EQ(feeder.merger().families(), 1u);
}

TEST(ReloadTest, ACounterEndsTheObserverThatHasASampleOfItsName) {
  ShardFeeder feeder;
  feeder.Send("request:5|h");
  feeder.Merge();
  feeder.UseRules(Mapped({Rule("total", "request_sum")}));
  feeder.Send("total:7|c");
  feeder.Merge();
  const Exposition shown(feeder.Text());
  EXPECT_TRUE(shown.ok()) << shown.error();
  EXPECT_EQ(shown.values().at("request_sum"), "7");
  EXPECT_EQ(feeder.merger().families(), 1u);
  feeder.Send("request:5|h");
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 1u);
}

TEST(ReloadTest, ADeclaredObserverEndsFamiliesThatAreCalledLikeItsSamples) {
  ShardFeeder feeder;
  feeder.Send("request_count:1|c");
  feeder.Merge();
  SeriesSpec declared;
  declared.kind = SeriesKind::kHistogram;
  declared.name = "request";
  feeder.UseRules({});
  feeder.merger().Declare({declared}, feeder.rules().At(feeder.rules().newest()).sequence());
  feeder.Merge();
  const Exposition shown(feeder.Text());
  EXPECT_TRUE(shown.ok()) << shown.error();
  EXPECT_EQ(shown.values().at("request_count"), "0");
}

TEST(ReloadTest, ASenderCannot) {
  ShardFeeder feeder;
  feeder.Send("x:7|c");
  feeder.UseRules(Mapped({}));
  feeder.Send("x:1|g\nx:1|ms\nx_count:3|c");
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 2u);
  EXPECT_EQ(feeder.MergeAndParse().at("x"), "7");
}

TEST(ReloadTest, RefusalsAreAskedAgain) {
  ShardFeeder feeder;
  MappingRule drop = Rule("x", "x");
  drop.drop = true;
  feeder.UseRules(Mapped({drop}));
  feeder.Send("x:1|c\nx:-1|c\nx:1|c");
  EXPECT_EQ(feeder.Dropped(DropReason::kMappingDrop), 3u) << "before it is looked at";
  feeder.UseRules(Mapped({}));
  feeder.Send("x:1|c\nx:-1|c");
  EXPECT_EQ(feeder.Dropped(DropReason::kMappingDrop), 3u);
  EXPECT_EQ(feeder.Dropped(DropReason::kNegativeCounter), 1u);
  EXPECT_EQ(feeder.MergeAndParse().at("x"), "1");
}

TEST(ReloadTest, ScalesChange) {
  ShardFeeder feeder;
  MappingRule scaled = Rule("x", "x");
  scaled.scale = 10;
  MappingRule timer = Rule("t", "t");
  timer.scale = 0.1;
  timer.histogram.buckets = {1};
  MappingRule gauge = Rule("g", "g");
  gauge.scale = 2;
  feeder.UseRules(Mapped({scaled, timer, gauge}));
  feeder.Send("x:3|c|@0.5\nt:5000|ms\ng:3|g\ng:+1|g");
  Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.at("x"), "60");
  EXPECT_EQ(values.at("t_sum"), "0.5");
  EXPECT_EQ(values.at("g"), "8");
  scaled.scale = -1;
  feeder.UseRules(Mapped({scaled}));
  feeder.Send("x:3|c\nx:-3|c\ny:-1|c");
  values = feeder.MergeAndParse();
  EXPECT_EQ(values.at("x"), "63") << "a negative factor makes increments of decrements";
  EXPECT_EQ(feeder.Dropped(DropReason::kNegativeCounter), 2u);
}

TEST(ReloadTest, TimesToLive) {
  ShardFeeder feeder;
  MappingRule rule = Rule("x", "x");
  rule.ttl_ms = 2000;
  feeder.UseRules(Mapped({rule}));
  feeder.Send("x:1|c\ny:1|c");
  feeder.Merge();
  rule.ttl_ms = 10'000;
  feeder.UseRules(Mapped({rule}));
  feeder.Send("x:1|c");
  feeder.Advance(5'000'000'000);
  feeder.Turn();
  EXPECT_EQ(feeder.MergeAndParse().at("x"), "2") << "the new time holds once a sample came";
  feeder.Advance(6'000'000'000);
  feeder.Turn();
  const Values values = feeder.MergeAndParse();
  EXPECT_EQ(values.count("x"), 0u);
  EXPECT_EQ(values.at("y"), "1");
}

TEST(ReloadTest, HelpOfARule) {
  ShardFeeder feeder;
  MappingRule rule = Rule("x", "x");
  rule.help = "All \"x\"\nthere are.";
  feeder.UseRules(Mapped({rule}));
  feeder.Send("x:1|c\ny:1|c");
  feeder.Merge();
  const std::string text = feeder.Text();
  EXPECT_NE(text.find("# HELP x All \"x\"\\nthere are.\n"), std::string::npos) << text;
  EXPECT_NE(text.find("# HELP y Metric autogenerated by statsd_exporter.\n"), std::string::npos);
}

TEST(ReloadTest, BadTagsOfANameCountOnceALine) {
  ShardFeeder feeder;
  feeder.Send("x,bad,a=b:1|c:2|c:3|c");
  EXPECT_EQ(feeder.Repaired(RepairReason::kBadTag), 1u);
  feeder.Send("x:1:2:3|c|#bad");
  EXPECT_EQ(feeder.Repaired(RepairReason::kBadTag), 4u) << "those of a section once a sample";
  EXPECT_EQ(feeder.MergeAndParse().at(R"(x{a="b"})"), "6");
}

// Old slots hold old rules only while they are there.
TEST(ReloadTest, OldSetsGoWithTheirSeries) {
  ShardFeeder feeder({.ttl_ms = 1000});
  for (int i = 0; i < 2000; ++i) {
    feeder.UseRules([&] {
      Rules::Options options = Mapped({Rule("k", "series" + std::to_string(i))});
      options.default_ttl_ms = 1000;
      return options;
    }());
    feeder.Send("k:1|c");
    feeder.Advance(100'000'000);
    feeder.Turn();
    feeder.Merge();
    ASSERT_LE(feeder.rules().generations(), 20u) << i;
  }
  EXPECT_EQ(feeder.Applied(), 2000u);
}

}  // namespace
}  // namespace tallyd
