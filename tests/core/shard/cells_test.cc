#include "core/shard/cells.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace tallyd {
namespace {

class HistogramFixture {
 public:
  explicit HistogramFixture(HistogramLayout layout = HistogramLayout::Default())
      : layout_(std::move(layout)), words_(HistogramCell::Words(layout_.bounds.size())) {}

  HistogramCell cell() { return {words_.data(), layout_}; }
  std::vector<uint64_t> Buckets() {
    std::vector<uint64_t> buckets(layout_.bounds.size() + 1);
    cell().AddBuckets(buckets);
    return buckets;
  }
  uint64_t Count() {
    const auto buckets = Buckets();
    return std::accumulate(buckets.begin(), buckets.end(), uint64_t{0});
  }
  HistogramCell::WindowCounts WindowNow() {
    HistogramCell::WindowCounts counts;
    EXPECT_TRUE(cell().ReadWindow(&counts));
    return counts;
  }
  uint64_t WindowCount() {
    const auto counts = WindowNow();
    return std::accumulate(std::begin(counts.buckets), std::end(counts.buckets),
                           counts.zero + counts.negative + counts.infinite);
  }
  uint64_t InWindow(int32_t bucket) { return WindowNow().buckets[Window::PlaceOf(bucket)]; }

 private:
  HistogramLayout layout_;
  std::vector<CellWord> words_;
};

TEST(CounterCellTest, IntegersDoNotWrap) {
  std::vector<CellWord> words(CounterCell::kWords);
  CounterCell cell(words.data());
  cell.Add(uint64_t{1} << 53);
  cell.Add(uint64_t{1});
  cell.Add(2.0);
  EXPECT_EQ(cell.whole(), (uint64_t{1} << 53) + 3);
  cell.Add(0.5);
  EXPECT_EQ(cell.rest(), 0.5);
  cell.Add(UINT64_MAX);
  cell.Add(uint64_t{1} << 63);
  EXPECT_EQ(cell.whole(), (uint64_t{1} << 53) + 3);
  EXPECT_EQ(cell.rest(), 0.5 + 18446744073709551616.0 + 9223372036854775808.0);
}

TEST(HistogramCellTest, AValueEqualToABoundIsInItsBucket) {
  HistogramFixture histogram;
  const std::vector<double> bounds = HistogramLayout::Default().bounds;
  for (const double bound : bounds) {
    histogram.cell().Observe(bound, 1);
    histogram.cell().Observe(std::nextafter(bound, 1e9), 1);
  }
  std::vector<uint64_t> expected(bounds.size() + 1, 2);
  expected.front() = 1;
  expected.back() = 1;
  EXPECT_EQ(histogram.Buckets(), expected);
}

TEST(HistogramCellTest, ManyBoundsAreSearched) {
  std::vector<double> bounds(HistogramLayout::kMaxBounds);
  std::iota(bounds.begin(), bounds.end(), 0);
  HistogramFixture histogram(HistogramLayout::FromBounds(bounds));
  for (int i = 0; i < HistogramLayout::kMaxBounds; ++i) histogram.cell().Observe(i - 0.5, 1);
  histogram.cell().Observe(1e9, 1);
  EXPECT_EQ(histogram.Buckets(), std::vector<uint64_t>(HistogramLayout::kMaxBounds + 1, 1));
}

TEST(HistogramCellTest, WeightsAddUpToTheirSum) {
  HistogramFixture histogram;
  for (int i = 0; i < 1000; ++i) histogram.cell().ObserveSampled(1, 0.6, i + 1);
  EXPECT_NEAR(static_cast<double>(histogram.Count()), 1000 / 0.6, 1);
  EXPECT_EQ(static_cast<double>(histogram.Count()), histogram.cell().sum());
  EXPECT_EQ(histogram.WindowCount(), histogram.Count());
}

TEST(HistogramCellTest, AbsurdRatesNeitherLoopNorWrap) {
  HistogramFixture histogram;
  histogram.cell().ObserveSampled(1, 0.3, 1);
  EXPECT_EQ(histogram.Count(), 3u);
  histogram.cell().ObserveSampled(1, -0.5, 2);
  histogram.cell().ObserveSampled(1, std::numeric_limits<double>::infinity(), 3);
  EXPECT_EQ(histogram.Count(), 3u);
  for (int i = 0; i < 5000; ++i) histogram.cell().ObserveSampled(1, 1e-300, 4);
  EXPECT_EQ(histogram.Count(), uint64_t{1} << 63);
}

TEST(HistogramCellTest, ANegativeRateTakesNothingFromTheCarry) {
  HistogramFixture histogram;
  histogram.cell().ObserveSampled(1, 0.4, 1);  // 2.5: two, and half a one to carry
  EXPECT_EQ(histogram.Count(), 2u);
  histogram.cell().ObserveSampled(1, -10, 2);
  histogram.cell().ObserveSampled(1, 2, 3);
  EXPECT_EQ(histogram.Count(), 3u);
}

TEST(HistogramCellTest, FullBucketsNeverGoBack) {
  HistogramFixture histogram;
  uint64_t last = 0;
  const auto expect_no_less = [&] {
    const uint64_t now = histogram.Buckets()[7];
    EXPECT_GE(now, last);
    last = now;
  };
  for (int i = 0; i < 1100; ++i) {
    histogram.cell().ObserveSampled(1, 1e-300, 1);
    histogram.cell().Observe(1, 1);
    expect_no_less();
  }
  EXPECT_GE(last, uint64_t{1} << 63);
}

TEST(HistogramCellTest, HalvingDoesNotWrapFullBuckets) {
  HistogramFixture histogram;
  for (int i = 0; i < 1025; ++i) {
    histogram.cell().ObserveSampled(1.04, 1e-300, 1);  // neighbours at schema 3
    histogram.cell().ObserveSampled(1.12, 1e-300, 1);
  }
  histogram.cell().Observe(1e30, 1);
  const auto counts = histogram.WindowNow();
  ASSERT_LT(counts.header.schema, 3);
  EXPECT_GE(histogram.InWindow(Window::BucketOf(1.12, counts.header.schema)), uint64_t{1} << 63);
}

TEST(WindowTest, BoundsBelongToTheBucketBelow) {
  for (int schema = Window::kMinSchema; schema <= Window::kMaxSchema; ++schema) {
    for (const int exponent : {-100, -3, 0, 1, 2, 60}) {
      // 2^exponent is a bound at every schema above zero, and where 2^-schema divides it below.
      if (schema < 0 && exponent % (1 << -schema) != 0) continue;
      const double bound = std::ldexp(1, exponent);
      const int32_t bucket = Window::BucketOf(bound, schema);
      EXPECT_EQ(bucket, schema >= 0 ? exponent * (1 << schema) : exponent / (1 << -schema));
      EXPECT_EQ(Window::BucketOf(std::nextafter(bound, 1e300), schema), bucket + 1);
      EXPECT_EQ(Window::BucketOf(std::nextafter(bound, 0), schema), bucket);
    }
  }
}

TEST(WindowTest, BucketsHoldWhatTheirFormulaSays) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 100'000; ++i) {
    const int schema = static_cast<int>(random() % 13) - 4;
    const double value = std::exp2(static_cast<double>(random() % 200'000) / 1000 - 100);
    const double step = std::exp2(-schema);
    const int32_t bucket = Window::BucketOf(value, schema);
    // Exact but for the rounding of log2 itself.
    EXPECT_LE(std::log2(value), bucket * step + 1e-12) << value << " schema " << schema;
    EXPECT_GT(std::log2(value), (bucket - 1) * step - 1e-12) << value << " schema " << schema;
  }
}

TEST(WindowTest, HalvingKeepsEveryCountInItsBucket) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 200; ++round) {
    HistogramFixture histogram;
    std::vector<double> values;
    const double spread = 1 + static_cast<double>(random() % 120);
    for (int i = 0; i < 500; ++i) {
      values.push_back(std::exp2((static_cast<double>(random() % 2001) / 1000 - 1) * spread));
      histogram.cell().Observe(values.back(), i + 1);
    }
    const auto counts = histogram.WindowNow();
    EXPECT_LT(counts.header.highest - counts.header.lowest, Window::kBuckets);
    std::vector<uint64_t> expected(Window::kBuckets);
    for (const double value : values) {
      ++expected[Window::PlaceOf(Window::BucketOf(value, counts.header.schema))];
    }
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), std::begin(counts.buckets)));
  }
}

TEST(WindowTest, ExtremesFindABucket) {
  HistogramFixture histogram;
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value :
       {0.0, -0.0, 1e-300, -1e-300, std::numeric_limits<double>::denorm_min(), -5.0, -infinity,
        infinity, 1e300, 1e-30, 1.0, std::numeric_limits<double>::max()}) {
    histogram.cell().Observe(value, 1);
  }
  EXPECT_EQ(histogram.Count(), 12u);
  EXPECT_EQ(histogram.WindowCount(), 12u);
  EXPECT_EQ(histogram.WindowNow().zero, 5u);
  EXPECT_EQ(histogram.WindowNow().negative, 2u);
}

}  // namespace
}  // namespace tallyd
