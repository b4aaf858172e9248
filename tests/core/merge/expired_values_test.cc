#include "core/merge/expired_values.h"

#include <gtest/gtest.h>

#include <utility>

namespace tallyd {
namespace {

constexpr ExpiredValues::Shape kCounter = {.kind = SeriesKind::kCounter};
constexpr ExpiredValues::Shape kHistogram = {.kind = SeriesKind::kHistogram, .layout = 3};

CountedValue Counter(uint64_t n) {
  CountedValue value;
  value.counter.whole = n;
  return value;
}

TEST(ExpiredValuesTest, GivesBackWhatItKept) {
  ExpiredValues values(1 << 20);
  values.Keep(1, kCounter, Counter(7));
  CountedValue histogram;
  histogram.sum = 2.5;
  histogram.buckets = {1, 2, 3};
  values.Keep(2, kHistogram, std::move(histogram));
  EXPECT_EQ(values.size(), 2u);

  CountedValue value;
  EXPECT_FALSE(values.Take(3, kCounter, &value));
  EXPECT_FALSE(values.Take(2, {.kind = SeriesKind::kHistogram, .layout = 4}, &value))
      << "it has other buckets now";
  EXPECT_TRUE(values.Take(1, kCounter, &value));
  EXPECT_EQ(value.counter.whole, 7u);
  EXPECT_FALSE(values.Take(1, kCounter, &value));
  EXPECT_TRUE(values.Take(2, kHistogram, &value));
  EXPECT_EQ(value.buckets, (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(value.sum, 2.5);
  EXPECT_EQ(values.bytes(), 0u);
}

TEST(ExpiredValuesTest, AValueOfAnotherShapeIsAnotherValue) {
  ExpiredValues values(1 << 20);
  constexpr ExpiredValues::Shape kSummary = {.kind = SeriesKind::kSummary, .layout = 3};
  values.Keep(1, kCounter, Counter(7));
  for (const ExpiredValues::Shape shape : {kHistogram, kSummary}) {
    CountedValue value;
    value.sum = shape == kHistogram ? 1 : 2;
    values.Keep(1, shape, std::move(value));
  }
  EXPECT_EQ(values.size(), 3u);

  CountedValue value;
  EXPECT_TRUE(values.Take(1, kHistogram, &value));
  EXPECT_EQ(value.sum, 1);
  EXPECT_TRUE(values.Take(1, kSummary, &value));
  EXPECT_EQ(value.sum, 2);
  EXPECT_TRUE(values.Take(1, kCounter, &value));
  EXPECT_EQ(value.counter.whole, 7u);
  EXPECT_EQ(values.bytes(), 0u);
}

TEST(ExpiredValuesTest, ForgetsTheOldestPastItsBound) {
  ExpiredValues values(10'000);
  for (uint64_t i = 0; i < 1000; ++i) {
    values.Keep(i, kCounter, Counter(i));
    EXPECT_LE(values.bytes(), 10'000u);
  }
  EXPECT_EQ(values.forgotten(), 1000 - values.size());
  CountedValue value;
  EXPECT_FALSE(values.Take(0, kCounter, &value));
  EXPECT_TRUE(values.Take(999, kCounter, &value));
  EXPECT_EQ(value.counter.whole, 999u);
}

// One that comes and goes all the time is never the oldest, and what is noted of it does not pile
// up.
TEST(ExpiredValuesTest, AValueKeptAnewIsNew) {
  ExpiredValues values(10'000);
  CountedValue value;
  for (uint64_t i = 1; i < 100'000; ++i) {
    values.Keep(0, kCounter, Counter(i));
    if (i % 3 == 0) values.Keep(i, kCounter, Counter(1));
    ASSERT_TRUE(values.Take(0, kCounter, &value));
    ASSERT_EQ(value.counter.whole, i);
    ASSERT_LE(values.bytes(), 10'000u);
  }
}

}  // namespace
}  // namespace tallyd
