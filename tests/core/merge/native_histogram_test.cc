#include "core/merge/native_histogram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace tallyd {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr auto kMaxTotal = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

// A cell of its own that values are observed in.
class Cell {
 public:
  explicit Cell(int schema = 8, int buckets = HistogramLayout::kMaxWindowBuckets) {
    layout_ = HistogramLayout::FromBounds({});
    layout_.schema = static_cast<int8_t>(schema);
    layout_.window_buckets = static_cast<uint8_t>(buckets);
    words_ = std::vector<CellWord>(HistogramCell::Words(0));
  }
  void Observe(double value) { HistogramCell(words_.data(), layout_).Observe(value, 1); }
  void ObserveSampled(double value, double rate) {
    HistogramCell(words_.data(), layout_).ObserveSampled(value, rate, 1);
  }
  void AddTo(ExponentialCounts* counts) {
    HistogramCell::WindowCounts window;
    ASSERT_TRUE(HistogramCell(words_.data(), layout_).ReadWindow(&window));
    counts->Add(window);
  }

 private:
  HistogramLayout layout_;
  std::vector<CellWord> words_;
};

// Reads buckets as a receiver does: bucket -> count, without the empty ones. Checks what it checks.
std::map<int32_t, uint64_t> Decode(const NativeBuckets& buckets) {
  std::map<int32_t, uint64_t> decoded;
  int32_t bucket = 0;
  int64_t count = 0;
  size_t at = 0;
  for (size_t i = 0; i < buckets.spans.size(); ++i) {
    const BucketSpan& span = buckets.spans[i];
    EXPECT_GT(span.length, 0u);
    if (i > 0) {
      EXPECT_GT(span.offset, 0);
    }
    bucket += span.offset;
    for (uint32_t n = 0; n < span.length; ++n, ++bucket) {
      if (at >= buckets.deltas.size()) {
        ADD_FAILURE() << "the spans are longer than the deltas";
        return decoded;
      }
      count += buckets.deltas[at++];
      EXPECT_GE(count, 0);
      if (count > 0) decoded[bucket] = static_cast<uint64_t>(count);
    }
  }
  EXPECT_EQ(at, buckets.deltas.size());
  return decoded;
}

uint64_t Total(const std::map<int32_t, uint64_t>& buckets) {
  uint64_t total = 0;
  for (const auto& [bucket, count] : buckets) total += count;
  return total;
}

void ExpectValid(const NativeHistogram& native, int max_buckets = NativeHistogram::kMaxBuckets) {
  EXPECT_GE(native.schema, -4);
  EXPECT_LE(native.schema, 8);
  EXPECT_EQ(native.zero_threshold, 2.938735877055719e-39);
  EXPECT_LE(native.positive.deltas.size() + native.negative.deltas.size(),
            static_cast<size_t>(max_buckets));
  const uint64_t sum =
      Total(Decode(native.positive)) + Total(Decode(native.negative)) + native.zero_count;
  EXPECT_EQ(native.count, sum);
  EXPECT_LE(native.count, kMaxTotal);
}

NativeHistogram Make(const ExponentialCounts& counts, int max_buckets = 160) {
  NativeHistogram native;
  MakeNativeHistogram(counts, max_buckets, &native);
  ExpectValid(native, max_buckets);
  return native;
}

// What `values` are at the resolution of a histogram, worked out one by one.
struct Expected {
  Expected(const std::vector<double>& values, int schema) {
    for (const double value : values) Add(value, schema);
  }
  void Add(double value, int schema) {
    if (value == kInfinity) {
      ++positive[NativeHistogram::OverflowBucket(schema)];
    } else if (value > 0x1p-128) {
      ++positive[Window::BucketOf(value, schema)];
    } else if (value < -0x1p-128) {
      ++negative[NativeHistogram::OverflowBucket(schema)];
    } else {
      ++zero;
    }
  }
  std::map<int32_t, uint64_t> positive;
  std::map<int32_t, uint64_t> negative;
  uint64_t zero = 0;
};

void ExpectHolds(const NativeHistogram& native, const std::vector<double>& values) {
  const Expected expected(values, native.schema);
  EXPECT_EQ(native.count, values.size());
  EXPECT_EQ(native.zero_count, expected.zero);
  EXPECT_EQ(Decode(native.positive), expected.positive);
  EXPECT_EQ(Decode(native.negative), expected.negative);
}

TEST(NativeHistogramTest, Empty) {
  const NativeHistogram native = Make(ExponentialCounts());
  EXPECT_EQ(native.count, 0u);
  EXPECT_TRUE(native.positive.spans.empty());
  EXPECT_TRUE(native.negative.spans.empty());
}

TEST(NativeHistogramTest, BucketNumbersAreThoseOfTheFormat) {
  Cell cell(0);
  // Bucket i of schema 0 is (2^(i-1), 2^i].
  for (const double value : {1.0, 1.5, 2.0, 2.1, 100.0}) cell.Observe(value);
  ExponentialCounts counts;
  cell.AddTo(&counts);
  const NativeHistogram native = Make(counts);
  EXPECT_EQ(native.schema, 0);
  EXPECT_EQ(native.positive.spans,
            (std::vector<BucketSpan>{{.offset = 0, .length = 3}, {.offset = 4, .length = 1}}));
  EXPECT_EQ(native.positive.deltas, (std::vector<int64_t>{1, 1, -1, 0}));
}

TEST(NativeHistogramTest, SmallGapsAreFilledAndLargerOnesBeginASpan) {
  Cell cell(0);
  for (const double value : {1.0, 8.0, 128.0}) cell.Observe(value);  // buckets 0, 3 and 7
  ExponentialCounts counts;
  cell.AddTo(&counts);
  const NativeHistogram native = Make(counts);
  EXPECT_EQ(native.positive.spans,
            (std::vector<BucketSpan>{{.offset = 0, .length = 4}, {.offset = 3, .length = 1}}));
  EXPECT_EQ(native.positive.deltas, (std::vector<int64_t>{1, -1, 0, 1, 0}));
}

TEST(NativeHistogramTest, InfinityIsPastTheLargestValueAndCostsNoResolution) {
  Cell cell(5);
  for (const double value : {0.5, 1.0, kInfinity, kInfinity}) cell.Observe(value);
  ExponentialCounts counts;
  cell.AddTo(&counts);
  const NativeHistogram native = Make(counts);
  EXPECT_EQ(native.schema, 5);
  EXPECT_EQ(Decode(native.positive),
            (std::map<int32_t, uint64_t>{{-32, 1}, {0, 1}, {1024 * 32 + 1, 2}}));
  EXPECT_EQ(counts.Quantile(0.99), kInfinity);
  EXPECT_NEAR(counts.Quantile(0.25), 0.5, 0.01);
}

TEST(NativeHistogramTest, TheLargestValueIsNotInfinity) {
  for (const int schema : {-4, -1, 0, 1, 5, 8}) {
    Cell cell(schema);
    cell.Observe(std::numeric_limits<double>::max());
    cell.Observe(std::numeric_limits<double>::max());
    cell.Observe(kInfinity);
    ExponentialCounts counts;
    cell.AddTo(&counts);
    const NativeHistogram native = Make(counts);
    EXPECT_EQ(native.schema, schema);
    const int32_t largest = NativeHistogram::BucketOfLargest(schema);
    EXPECT_EQ(Decode(native.positive),
              (std::map<int32_t, uint64_t>{{largest, 2}, {largest + 1, 1}}));
  }
}

TEST(NativeHistogramTest, ValuesBelowZeroStandTogether) {
  Cell cell(3);
  for (const double value : {-1e300, -1.0, -1e-3, -kInfinity, -0.0, 0.0, 1e-40, 2.0}) {
    cell.Observe(value);
  }
  ExponentialCounts counts;
  cell.AddTo(&counts);
  const NativeHistogram native = Make(counts);
  EXPECT_EQ(native.schema, 3);
  EXPECT_EQ(native.zero_count, 3u);
  EXPECT_EQ(Decode(native.negative), (std::map<int32_t, uint64_t>{{1024 * 8 + 1, 4}}));
  EXPECT_EQ(Decode(native.positive), (std::map<int32_t, uint64_t>{{8, 1}}));
}

TEST(NativeHistogramTest, TheLowestSchemaHoldsEverything) {
  Cell cell;
  std::vector<double> values = {-1, 0, kInfinity};
  for (double value = 0x1.1p-128; std::isfinite(value); value *= 1.7) values.push_back(value);
  for (const double value : values) cell.Observe(value);
  ExponentialCounts counts;
  cell.AddTo(&counts);
  for (const int max : {160, 100, NativeHistogram::kMinMaxBuckets}) {
    ExpectHolds(Make(counts, max), values);
  }
}

// Claims of any weight: nothing wraps, and count and buckets still agree.
TEST(NativeHistogramTest, CountsEndAtTheLimit) {
  ExponentialCounts counts;
  for (int i = 0; i < 3; ++i) {
    Cell cell(8 - i);
    for (int n = 0; n < 3000; ++n) cell.ObserveSampled(1 + n % 7, 1e-17);
    cell.ObserveSampled(-1, 1e-17);
    cell.AddTo(&counts);
  }
  EXPECT_EQ(Make(counts).count, kMaxTotal);
}

// Values of one kind of distribution, chosen at random.
class RandomValues {
 public:
  explicit RandomValues(uint64_t seed) : random_(seed) {
    center_ = std::uniform_real_distribution<>(-20, 20)(random_);
    width_ = std::uniform_real_distribution<>(0, 1)(random_) < 0.5
                 ? std::uniform_real_distribution<>(0, 3)(random_)
                 : std::uniform_real_distribution<>(0, 300)(random_);
    odd_ = std::uniform_real_distribution<>(0, 1)(random_) < 0.3 ? 0.1 : 0;
  }
  double Next() {
    if (std::uniform_real_distribution<>(0, 1)(random_) < odd_) return Odd();
    return std::exp2(std::normal_distribution<>(center_, width_)(random_));
  }
  int UpTo(int n) { return std::uniform_int_distribution<>(0, n)(random_); }

 private:
  double Odd() {
    switch (UpTo(4)) {
      case 0:
        return kInfinity;
      case 1:
        return -kInfinity;
      case 2:
        return 0;
      case 3:
        return std::exp2(UpTo(2000) - 1000);  // a bound of every schema
      default:
        return -Next();
    }
  }

  std::mt19937_64 random_;
  double center_;
  double width_;
  double odd_;
};

// Thousands of series of random values over a few cells: each value is in its bucket.
TEST(NativeHistogramTest, RandomSeriesHoldTheirValues) {
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    RandomValues random(seed);
    ExponentialCounts counts;
    std::vector<double> values;
    const int max_buckets = 80 + random.UpTo(80);
    for (int cells = 0; cells <= random.UpTo(3); ++cells) {
      Cell cell(random.UpTo(12) - 4, 80 + random.UpTo(80));
      const int observations = random.UpTo(200);
      for (int i = 0; i < observations; ++i) {
        values.push_back(random.Next());
        cell.Observe(values.back());
      }
      cell.AddTo(&counts);
    }
    ExpectHolds(Make(counts, max_buckets), values);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

// A receiver takes any bucket that goes down for a restart. Halving the resolution is none.
TEST(NativeHistogramTest, NoBucketGoesDownAtALowerResolution) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RandomValues random(seed);
    Cell cell;
    NativeHistogram before;
    for (int i = 0; i < 30; ++i) {
      for (int n = 0; n < 10; ++n) cell.Observe(random.Next());
      ExponentialCounts counts;
      cell.AddTo(&counts);
      const NativeHistogram now = Make(counts);
      ASSERT_TRUE(i == 0 || now.schema <= before.schema);
      const std::map<int32_t, uint64_t> buckets = Decode(now.positive);
      std::map<int32_t, uint64_t> lowered;
      for (const auto& [finer, count] : Decode(before.positive)) {
        int32_t bucket = finer;
        for (int s = before.schema; s > now.schema; --s) bucket = (bucket + 1) >> 1;
        lowered[bucket] += count;
      }
      for (const auto& [bucket, count] : lowered) {
        ASSERT_TRUE(buckets.contains(bucket) && buckets.at(bucket) >= count) << seed;
      }
      before = now;
    }
  }
}

}  // namespace
}  // namespace tallyd
