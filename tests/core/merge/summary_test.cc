// Summaries: quantiles over a window, count and sum for ever.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>

#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

std::shared_ptr<const Mapping> SummaryMapping(int64_t max_age_ms = 10'000, int age_buckets = 5) {
  MappingConfig config;
  config.defaults.observer_type = ObserverType::kSummary;
  config.defaults.summary = {.quantiles = {{0.5, 0.05}, {0.99, 0.001}},
                             .max_age_ms = max_age_ms,
                             .age_buckets = age_buckets};
  return Mapping::Compile(std::move(config)).value();
}

class SummaryTest : public testing::Test {
 protected:
  double Value(const std::string& series) {
    const std::map<std::string, std::string> values = feeder_.MergeAndParse();
    const auto found = values.find(series);
    return found == values.end() ? -1 : std::stod(found->second);
  }
  void Pass(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      feeder_.Advance(1'000'000'000);
      feeder_.Turn();
      feeder_.Merge();
    }
  }

  ShardFeeder feeder_{ShardFeeder::Options{.shards = 2, .mapping = SummaryMapping()}};
};

TEST_F(SummaryTest, ShowsQuantilesSumAndCount) {
  for (int i = 1; i <= 100; ++i) feeder_.Send("t:" + std::to_string(i * 1000) + "|ms|#a:b", i % 2);
  feeder_.Merge();
  const std::string text = feeder_.Text();
  EXPECT_NE(text.find("# TYPE t summary\n"), std::string::npos) << text;
  EXPECT_NEAR(Value(R"(t{a="b",quantile="0.5"})"), 50, 1.2);
  EXPECT_NEAR(Value(R"(t{a="b",quantile="0.99"})"), 99, 2.2);
  EXPECT_EQ(Value(R"(t_sum{a="b"})"), 5050);
  EXPECT_EQ(Value(R"(t_count{a="b"})"), 100);
}

TEST_F(SummaryTest, WithoutLabels) {
  feeder_.Send("t:8|h");
  EXPECT_NEAR(Value(R"(t{quantile="0.5"})"), 8, 0.1);
  EXPECT_EQ(Value("t_count"), 1);
}

TEST_F(SummaryTest, QuantilesForgetWhatIsOlderThanTheWindow) {
  feeder_.Send("t:1|h");
  feeder_.Send("t:1|h", 1);
  EXPECT_NEAR(Value(R"(t{quantile="0.99"})"), 1, 0.02);
  Pass(5);
  feeder_.Send("t:100|h");
  EXPECT_NEAR(Value(R"(t{quantile="0.5"})"), 1, 0.022);
  EXPECT_NEAR(Value(R"(t{quantile="0.99"})"), 100, 2);
  Pass(6);
  EXPECT_NEAR(Value(R"(t{quantile="0.5"})"), 100, 2) << "the first two are 11 s old";
  EXPECT_EQ(Value("t_count"), 3);
  EXPECT_EQ(Value("t_sum"), 102);
  Pass(11);
  EXPECT_TRUE(std::isnan(Value(R"(t{quantile="0.5"})")));
  EXPECT_EQ(Value("t_count"), 3);
}

TEST_F(SummaryTest, NothingIsForgottenBeforeItsTime) {
  feeder_.Send("t:1|h");
  Pass(7);
  EXPECT_NEAR(Value(R"(t{quantile="0.5"})"), 1, 0.02);
  feeder_.Send("t:1|h");
  Pass(7);
  EXPECT_NEAR(Value(R"(t{quantile="0.5"})"), 1, 0.02);
}

TEST_F(SummaryTest, ReservesTheNamesOfItsSamples) {
  feeder_.Send("t:1|h\nt_count:1|c\nt_sum:1|g");
  EXPECT_EQ(feeder_.Dropped(DropReason::kTypeConflict), 2u);
}

// A cell that is gone still counts, in the window too.
TEST(SummaryOfManyShardsTest, RetiredCells) {
  ShardFeeder feeder({.shards = 2, .ttl_ms = 3000, .mapping = SummaryMapping(60'000, 5)});
  feeder.Send("t:1|h\nt:1|h\nt:1|h", 0);
  feeder.Send("t:50|h", 1);
  feeder.Merge();
  for (int i = 0; i < 5; ++i) {
    feeder.Advance(1'000'000'000);
    feeder.Send("t:50|h", 1);
    feeder.Turn();
    feeder.Merge();
  }
  const auto values = feeder.MergeAndParse();
  EXPECT_EQ(feeder.shard(0).ledger().live_series.Get(), 0u) << "the first cell has expired";
  EXPECT_EQ(values.at("t_count"), "9");
  EXPECT_EQ(values.at("t_sum"), "303");
  EXPECT_NEAR(std::stod(values.at(R"(t{quantile="0.5"})")), 50, 1.2);
}

}  // namespace
}  // namespace tallyd
