// Budgets, folding, eviction and return: shards and merger together.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

uint64_t SumOf(const std::map<std::string, std::string>& values, const std::string& family) {
  uint64_t sum = 0;
  for (const auto& [series, value] : values) {
    if (series == family || series.rfind(family + "{", 0) == 0) sum += std::stoull(value);
  }
  return sum;
}

void ExpectBalanced(const ShardFeeder& feeder) {
  EXPECT_EQ(feeder.Received(), feeder.Applied() + feeder.Dropped());
  EXPECT_EQ(feeder.Dropped(), 0u);
}

std::string N(int i) { return std::to_string(i); }

TEST(BudgetTest, AFamilyThatExplodesFoldsByTheLabelThatDoes) {
  ShardFeeder feeder({.shards = 2, .limits = {.family_series = 100}});
  for (int i = 0; i < 40; ++i) feeder.Send("quiet:1|c|#i:" + N(i), i % 2);
  for (int i = 0; i < 5000; ++i) {
    feeder.Send("loud:1|c|#id:" + N(i) + ",zone:" + (i % 2 == 0 ? "a" : "b"), i / 2 % 2);
    if (i % 500 == 0) feeder.Merge();
  }
  for (int i = 0; i < 40; ++i) feeder.Send("quiet:1|c|#i:" + N(i), i % 2);
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(SumOf(values, "loud"), 5000u);
  EXPECT_EQ(SumOf(values, "quiet"), 80u);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(values.at("quiet{i=\"" + N(i) + "\"}"), "2");
  EXPECT_EQ(values.at(R"(loud{id="__overflow__",zone="a"})"), "2450");
  EXPECT_EQ(values.at(R"(loud{id="__overflow__",zone="b"})"), "2450");
  EXPECT_EQ(feeder.Folded(), 4900u);
  EXPECT_EQ(feeder.merger().series(), 40u + 100 + 2);
  ExpectBalanced(feeder);

  const auto folded = feeder.merger().FoldedFamilies();
  ASSERT_EQ(folded.size(), 1u);
  EXPECT_EQ(folded[0].name, "loud");
  EXPECT_EQ(folded[0].labels, (std::vector<std::string>{"id"}));
}

TEST(BudgetTest, WhereTheOtherLabelsAreManyTooAllAreFolded) {
  ShardFeeder feeder({.limits = {.family_series = 10}});
  for (int i = 0; i < 3000; ++i) feeder.Send("f:1|c|#a:" + N(i) + ",b:" + N(i * 7 % 1000));
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(SumOf(values, "f"), 3000u);
  EXPECT_LE(feeder.merger().series(), 10u + SeriesBudget::kFamilyOverflow + 1);
  EXPECT_GT(std::stoull(values.at(R"(f{a="__overflow__",b="__overflow__"})")), 1000u);
  ExpectBalanced(feeder);
}

TEST(BudgetTest, NamesWithoutEndFoldOutside) {
  ShardFeeder feeder({.shards = 2, .limits = {.series = 50}});
  feeder.Send("known:1|c");
  for (int i = 0; i < 2000; ++i) {
    feeder.Send("c" + N(i) + ":2|c", i % 2);
    feeder.Send("t" + N(i) + ":5|ms", i % 2);
    feeder.Send("g" + N(i) + ":5|g", i % 2);
    feeder.Send("s" + N(i) + ":x|s", i % 2);
  }
  feeder.Send("known:1|c", 1);
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(values.at("known"), "2") << "a series that one shard knows is known to all";
  uint64_t counted = 0;
  uint64_t observed = 0;
  for (const auto& [series, value] : values) {
    if (series[0] == 'c') counted += std::stoull(value);
    if (series[0] == 't' && series.find("_count") != std::string::npos) {
      observed += std::stoull(value);
    }
  }
  counted += std::stoull(values.at("tallyd_overflow_total"));
  EXPECT_EQ(counted, 4000u);
  EXPECT_EQ(observed, 2000u) << "tallyd_overflow_histogram_count is among them";
  EXPECT_EQ(values.at("tallyd_overflow_set"), "1");
  EXPECT_EQ(feeder.merger().series(), 50u + 4);
  ExpectBalanced(feeder);
}

TEST(BudgetTest, NobodyCanSendToTheOverflowFamilies) {
  ShardFeeder feeder;
  feeder.Send("tallyd_overflow_total:1|c");
  EXPECT_EQ(feeder.Dropped(DropReason::kTypeConflict), 1u);
}

TEST(BudgetTest, FoldedKeysGetTheirSeriesOnceThereIsRoom) {
  ShardFeeder feeder({.limits = {.family_series = 2}, .ttl_ms = 1000});
  feeder.Send("f:1|c|#i:1\nf:1|c|#i:2\nf:1|c|#i:3");
  feeder.Merge();
  feeder.Advance(5 * kSecondNs);
  feeder.Turn();  // the first two expire
  feeder.Merge();
  feeder.Turn();  // and their places are free
  feeder.Advance(20 * kSecondNs);
  feeder.Send("f:1|c|#i:3");
  feeder.Send("f:1|c|#i:3");
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(f{i="__overflow__"})"), "1");
  EXPECT_EQ(values.at(R"(f{i="3"})"), "2");
  ExpectBalanced(feeder);
}

TEST(BudgetTest, AfterAReloadFoldedSamplesGoOnWhereTheyWent) {
  ShardFeeder feeder({.limits = {.family_series = 2}});
  for (int i = 0; i < 10; ++i) feeder.Send("f:1|c|#i:" + N(i));
  feeder.Merge();
  for (int round = 0; round < 3; ++round) {
    feeder.UseRules({});
    for (int i = 0; i < 10; ++i) feeder.Send("f:1|c|#i:" + N(i));
    feeder.Merge();
    feeder.Turn();
  }
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(f{i="__overflow__"})"), "32");
  EXPECT_EQ(feeder.Folded(), 32u);
  feeder.rules().Sweep();
  EXPECT_EQ(feeder.rules().generations(), 1u) << "an overflow series holds old rules";
}

TEST(BudgetTest, ACounterThatComesBackGoesOn) {
  ShardFeeder feeder({.shards = 2, .ttl_ms = 1000});
  feeder.Send("c:5|c", 0);
  feeder.Send("c:2.5|c", 1);
  feeder.Send("t:5|ms\nt:7|ms", 0);
  feeder.Merge();
  for (int round = 1; round <= 3; ++round) {
    feeder.Advance(5 * kSecondNs);
    feeder.Turn();
    EXPECT_EQ(feeder.MergeAndParse().size(), 0u);
    feeder.Turn();
    feeder.Send("c:1|c\nt:6|ms", round % 2);
    const auto values = feeder.MergeAndParse();
    EXPECT_EQ(values.at("c"), N(7 + round) + ".5");
    EXPECT_EQ(values.at("t_count"), N(2 + round));
    EXPECT_EQ(values.at("t_bucket{le=\"+Inf\"}"), N(2 + round));
  }
}

TEST(BudgetTest, UnderPressureTheLongestUnchangedGo) {
  ShardFeeder feeder({.limits = {.series = 100}, .merging = {.evict_idle_ns = 60 * kSecondNs}});
  for (int i = 0; i < 50; ++i) feeder.Send("old" + N(i) + ":1|c");
  feeder.Merge();
  feeder.Advance(30 * kSecondNs);
  for (int i = 0; i < 50; ++i) feeder.Send("young" + N(i) + ":1|c");
  feeder.Merge();
  feeder.Advance(100 * kSecondNs);
  feeder.Turn();
  EXPECT_EQ(feeder.Merge().series_evicted, 0u) << "without pressure nothing goes";
  feeder.Send("new:1|c");
  EXPECT_EQ(feeder.Merge().series_evicted, 10u) << "a tenth at a time";
  feeder.Turn();
  feeder.Merge();
  feeder.Turn();
  EXPECT_EQ(feeder.merger().series(), 100u - 10 + 1);
  auto values = feeder.MergeAndParse();
  int old = 0;
  for (const auto& [series, value] : values) old += series.rfind("old", 0) == 0 ? 1 : 0;
  EXPECT_EQ(old, 40);
  feeder.Send("new2:1|c");
  EXPECT_EQ(feeder.MergeAndParse().at("new2"), "1");
  // One that went comes back with what it had.
  for (int i = 0; i < 50; ++i) feeder.Send("old" + N(i) + ":1|c");
  values = feeder.MergeAndParse();
  int twos = 0;
  for (const auto& [series, value] : values) {
    if (series.rfind("old", 0) == 0) twos += value == "2" ? 1 : 0;
  }
  EXPECT_EQ(twos, 48) << "all for whom there was room, beside the overflow series";
}

// Where retired slots are held, nobody has room before the state is saved.
TEST(BudgetTest, NobodyElseGoesBeforeThereIsTheRoomOfThoseWhoWent) {
  ShardFeeder feeder({.limits = {.series = 100},
                      .merging = {.evict_idle_ns = 60 * kSecondNs},
                      .session = {.session = 1, .holds_retired = 1}});
  for (int i = 0; i < 100; ++i) feeder.Send("old" + N(i) + ":1|c");
  feeder.Merge();
  feeder.Advance(100 * kSecondNs);
  uint64_t evicted = 0;
  for (int i = 0; i < 20; ++i) {
    feeder.Send("new" + N(i) + ":1|c");
    evicted += feeder.Merge().series_evicted;
    feeder.Advance(11 * kSecondNs);
    feeder.Turn();
  }
  EXPECT_EQ(evicted, 10u);
  SavedHead head;
  head.session = head.sequence = 1;
  feeder.merger().SaveState(std::move(head));
  feeder.merger().Release(1);
  for (int i = 0; i < 3; ++i) {
    feeder.Turn();
    evicted += feeder.Merge().series_evicted;
  }
  EXPECT_EQ(evicted, 20u) << "for those who have asked meanwhile";
}

TEST(BudgetTest, SeriesThatChangeAreNotEvicted) {
  ShardFeeder feeder({.limits = {.series = 20}, .merging = {.evict_idle_ns = 10 * kSecondNs}});
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 20; ++i) feeder.Send("known" + N(i) + ":1|c");
    for (int i = 0; i < 100; ++i) feeder.Send("x" + N(round * 100 + i) + ":1|c");
    feeder.Merge();
    feeder.Advance(5 * kSecondNs);
    feeder.Turn();
  }
  const auto values = feeder.MergeAndParse();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(values.at("known" + N(i)), "20");
  EXPECT_EQ(values.at("tallyd_overflow_total"), "2000");
}

SeriesSpec Spec(SeriesKind kind, std::string name, std::string labels) {
  SeriesSpec spec;
  spec.kind = kind;
  spec.name = std::move(name);
  spec.labels = std::move(labels);
  return spec;
}

TEST(BudgetTest, DeclaredSeriesAreThereFromTheStartAndStay) {
  ShardFeeder feeder({.shards = 2, .ttl_ms = 1000});
  const std::vector<SeriesSpec> declared = {Spec(SeriesKind::kCounter, "c_total", R"(op="a")"),
                                            Spec(SeriesKind::kCounter, "c_total", R"(op="b")"),
                                            Spec(SeriesKind::kGauge, "g", ""),
                                            Spec(SeriesKind::kHistogram, "h", "")};
  feeder.merger().Declare(declared, 0);
  auto values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(c_total{op="a"})"), "0");
  EXPECT_EQ(values.at(R"(c_total{op="b"})"), "0");
  EXPECT_EQ(values.at("g"), "0");
  EXPECT_EQ(values.at("h_count"), "0");
  EXPECT_EQ(values.at(R"(h_bucket{le="+Inf"})"), "0");
  EXPECT_EQ(feeder.budget().series(), 4u);

  feeder.Send("c_total:3|c|#op:a\ng:4|g\nh:1|h", 1);
  values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(c_total{op="a"})"), "3");
  EXPECT_EQ(values.at("g"), "4");
  EXPECT_EQ(values.at("h_count"), "1");

  feeder.Advance(5 * kSecondNs);
  feeder.Turn();
  values = feeder.MergeAndParse();
  feeder.Turn();
  EXPECT_EQ(values.at(R"(c_total{op="a"})"), "3") << "declared series do not leave";
  EXPECT_EQ(values.at("h_count"), "1");
  feeder.Send("c_total:1|c|#op:a", 0);
  EXPECT_EQ(feeder.MergeAndParse().at(R"(c_total{op="a"})"), "4");

  feeder.merger().Declare({declared[1]}, 0);
  values = feeder.MergeAndParse();
  EXPECT_EQ(values.at(R"(c_total{op="a"})"), "4") << "a cell feeds it";
  EXPECT_EQ(values.at(R"(c_total{op="b"})"), "0");
  EXPECT_FALSE(values.contains("g"));
  EXPECT_EQ(feeder.budget().series(), 2u);
}

TEST(BudgetTest, WhatACatalogNoLongerDeclaresGivesBackWhatItWasCharged) {
  ShardFeeder feeder({.ttl_ms = 1000});
  const SeriesSpec a = Spec(SeriesKind::kCounter, "c_total", R"(op="a")");
  const SeriesSpec b = Spec(SeriesKind::kCounter, "c_total", R"(op="b")");
  feeder.merger().Declare({a, b}, 0);
  feeder.Send("c_total:1|c|#op:a");
  feeder.Merge();
  feeder.merger().Declare({}, 0);
  feeder.Advance(5 * kSecondNs);
  for (int i = 0; i < 2; ++i) {
    feeder.Turn();
    feeder.Merge();
  }
  ASSERT_EQ(feeder.budget().series(), 0u);
  EXPECT_EQ(feeder.families().NotesOf("c_total")->series.load(), 0u);
  feeder.Send("c_total:1|c|#op:c");
  EXPECT_EQ(feeder.MergeAndParse().at(R"(c_total{op="c"})"), "1");
}

TEST(BudgetTest, WhatIsDeclaredAndNoMoreLeavesTheFamilysBoundAsItWas) {
  ShardFeeder feeder({.limits = {.family_series = 10}});
  for (int i = 0; i < 10; ++i) feeder.Send("c_total:1|c|#i:" + N(i));
  std::vector<SeriesSpec> declared;
  for (int i = 5; i < 15; ++i) {  // some that senders have, and some that are new
    declared.push_back(Spec(SeriesKind::kCounter, "c_total", "i=\"" + N(i) + "\""));
  }
  feeder.Merge();
  for (int round = 0; round < 3; ++round) {
    feeder.merger().Declare(declared, 0);
    EXPECT_EQ(feeder.families().NotesOf("c_total")->series.load(), 5u);
    feeder.merger().Declare({}, 0);
    EXPECT_EQ(feeder.families().NotesOf("c_total")->series.load(), 10u);
  }
}

TEST(BudgetTest, WhatADeclaredSeriesHadCountedOutlivesItsDeclaration) {
  ShardFeeder feeder({.ttl_ms = 1000});
  const std::vector<SeriesSpec> declared = {Spec(SeriesKind::kCounter, "c_total", "")};
  feeder.merger().Declare(declared, 0);
  feeder.Send("c_total:100|c");
  feeder.Merge();
  feeder.Advance(5 * kSecondNs);
  feeder.Turn();
  ASSERT_EQ(feeder.MergeAndParse().at("c_total"), "100");
  feeder.merger().Declare({}, 0);
  feeder.Turn();
  EXPECT_EQ(feeder.MergeAndParse().size(), 0u);
  feeder.Send("c_total:1|c");
  EXPECT_EQ(feeder.MergeAndParse().at("c_total"), "101");
}

// Its copies in sessions of jobs have room, however few it declares.
TEST(BudgetTest, WhatACatalogDeclaresTakesNoRoomOfItsFamily) {
  ShardFeeder feeder({.limits = {.family_series = 1}});
  feeder.merger().Declare({Spec(SeriesKind::kCounter, "c_total", "")}, 0);
  feeder.Send("c_total:1|c|#job:a");
  EXPECT_EQ(feeder.MergeAndParse().at(R"(c_total{job="a"})"), "1");
}

TEST(BudgetTest, ACatalogMayDeclareMoreThanAFamilysBound) {
  ShardFeeder feeder({.limits = {.family_series = 10}});
  std::vector<SeriesSpec> declared;
  for (int i = 0; i < 500; ++i) {
    declared.push_back(Spec(SeriesKind::kCounter, "c_total", "i=\"" + N(i) + "\""));
  }
  feeder.merger().Declare(declared, 0);
  for (int i = 0; i < 500; ++i) feeder.Send("c_total:1|c|#i:" + N(i));
  EXPECT_EQ(feeder.budget().series(), 500u);
  EXPECT_EQ(feeder.budget().refusals(SeriesBudget::Answer::kFamily), 0u);
  EXPECT_EQ(feeder.Folded(), 0u);
}

std::shared_ptr<const CatalogIndex> NonNegative(std::string name) {
  Catalog catalog;
  catalog.file = "catalog.yaml";
  catalog.service = "test";
  DeclaredMetric gauge;
  gauge.name = std::move(name);
  gauge.type = DeclaredType::kGauge;
  gauge.help = "Of things that cannot be fewer than none.";
  gauge.non_negative = true;
  catalog.metrics.push_back(gauge);
  return CatalogIndex::Create({catalog}).value();
}

uint64_t Underflows(const ShardFeeder& feeder) {
  return feeder.Repaired(RepairReason::kGaugeUnderflow);
}

TEST(BudgetTest, ANonNegativeGaugeStopsAtZero) {
  ShardFeeder feeder({.shards = 2, .catalog = NonNegative("depth")});
  feeder.merger().Declare(feeder.rules().At(feeder.rules().newest()).DeclaredSeries(), 0);
  feeder.Send("depth:-1|g\ndepth:+1|g");
  EXPECT_EQ(feeder.MergeAndParse().at("depth"), "1") << "not what is left of -1 and 1";
  EXPECT_EQ(Underflows(feeder), 1u);
  feeder.Send("depth:+2|g\ndepth:-5|g\ndepth:+4|g");
  EXPECT_EQ(feeder.MergeAndParse().at("depth"), "4");
  EXPECT_EQ(Underflows(feeder), 2u);
  feeder.Send("other:-1|g");
  EXPECT_EQ(feeder.MergeAndParse().at("other"), "-1") << "nothing is declared of it";
  EXPECT_EQ(Underflows(feeder), 2u);
  ExpectBalanced(feeder);
}

// What one shard counts up and another down is no underflow in either.
TEST(BudgetTest, ANonNegativeGaugeOfSeveralShardsAddsUp) {
  ShardFeeder feeder({.shards = 2, .catalog = NonNegative("depth")});
  feeder.merger().Declare(feeder.rules().At(feeder.rules().newest()).DeclaredSeries(), 0);
  feeder.Send("depth:+1|g", 0);
  feeder.Send("depth:+1|g", 1);
  for (int i = 0; i < 10; ++i) {
    feeder.Send("depth:+3|g", 0);
    feeder.Send("depth:-3|g", 1);
  }
  EXPECT_EQ(feeder.MergeAndParse().at("depth"), "2");
  EXPECT_EQ(Underflows(feeder), 0u);
  feeder.Send("depth:-5|g", 1);
  EXPECT_EQ(feeder.MergeAndParse().at("depth"), "0");
}

TEST(BudgetTest, ADeclaredGaugeShowsWhatIsObserved) {
  ShardFeeder feeder;
  const SeriesSpec depth = Spec(SeriesKind::kGauge, "depth", R"(queue="x")");
  EXPECT_FALSE(feeder.merger().Observe(depth, 1));
  feeder.merger().Declare({depth}, 0);
  EXPECT_TRUE(feeder.merger().Observe(depth, 42));
  EXPECT_EQ(feeder.MergeAndParse().at(R"(depth{queue="x"})"), "42");
  EXPECT_TRUE(feeder.merger().Observe(depth, 0.5));
  EXPECT_EQ(feeder.MergeAndParse().at(R"(depth{queue="x"})"), "0.5");
}

}  // namespace
}  // namespace tallyd
