#include "core/merge/exponential_counts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

namespace tallyd {
namespace {

// A cell of its own that values are observed in.
class Cell {
 public:
  Cell() : layout_(HistogramLayout::FromOptions(SummaryOptions{})) {
    words_ = std::make_unique<CellWord[]>(HistogramCell::Words(layout_.bounds.size()));
    for (size_t i = 0; i < HistogramCell::Words(layout_.bounds.size()); ++i) {
      StoreWord(words_[i], 0);
    }
  }
  void Observe(double value) { HistogramCell(words_.get(), layout_).Observe(value, 1); }
  HistogramCell::WindowCounts Window() const {
    HistogramCell::WindowCounts counts;
    EXPECT_TRUE(HistogramCell(words_.get(), layout_).ReadWindow(&counts));
    return counts;
  }

 private:
  HistogramLayout layout_;
  std::unique_ptr<CellWord[]> words_;
};

double Exact(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
  return values[rank == 0 ? 0 : rank - 1];
}

TEST(ExponentialCountsTest, QuantilesAreWithinHalfABucket) {
  std::mt19937_64 random(7);
  // Values within a factor of 20 keep the resolution: 2^(1/32).
  std::uniform_real_distribution<double> uniform(1, 20);
  Cell cell;
  std::vector<double> values;
  for (int i = 0; i < 10'000; ++i) {
    values.push_back(uniform(random));
    cell.Observe(values.back());
  }
  ExponentialCounts counts;
  counts.Add(cell.Window());
  EXPECT_EQ(counts.schema(), 5);
  EXPECT_EQ(counts.total(), 10'000u);
  for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 1.0}) {
    const double exact = Exact(values, q);
    EXPECT_NEAR(counts.Quantile(q) / exact, 1, 0.011) << q;
  }
}

TEST(ExponentialCountsTest, WideRangesCostResolution) {
  std::mt19937_64 random(8);
  std::lognormal_distribution<double> values_of(0, 2);
  Cell cell;
  std::vector<double> values;
  for (int i = 0; i < 10'000; ++i) {
    values.push_back(values_of(random));
    cell.Observe(values.back());
  }
  ExponentialCounts counts;
  counts.Add(cell.Window());
  EXPECT_GE(counts.schema(), 2);
  for (const double q : {0.01, 0.5, 0.99}) {
    EXPECT_NEAR(counts.Quantile(q) / Exact(values, q), 1, 0.1) << q;
  }
}

TEST(ExponentialCountsTest, SumsOfDifferentResolutions) {
  Cell narrow;
  Cell wide;
  for (int i = 0; i < 100; ++i) narrow.Observe(3);
  wide.Observe(1e-9);
  wide.Observe(1e9);
  ExponentialCounts sum;
  sum.Add(narrow.Window());
  sum.Add(wide.Window());
  ExponentialCounts other_order;
  other_order.Add(wide.Window());
  other_order.Add(narrow.Window());
  EXPECT_EQ(sum.total(), 102u);
  EXPECT_EQ(sum.schema(), wide.Window().header.schema);
  EXPECT_EQ(sum.schema(), other_order.schema());
  EXPECT_EQ(sum.Quantile(0.5), other_order.Quantile(0.5));
  const double factor = std::exp2(std::exp2(-sum.schema()));
  EXPECT_NEAR(sum.Quantile(0.5) / 3, 1, factor - 1);
}

TEST(ExponentialCountsTest, WhatWasEarlierCanBeTakenAway) {
  Cell cell;
  for (int i = 0; i < 10; ++i) cell.Observe(1);
  ExponentialCounts earlier;
  earlier.Add(cell.Window());
  for (int i = 0; i < 5; ++i) cell.Observe(1000);
  cell.Observe(1e12);  // the resolution halves on the way
  ExponentialCounts now;
  now.Add(cell.Window());
  now.Subtract(earlier);
  EXPECT_EQ(now.total(), 6u);
  EXPECT_NEAR(now.Quantile(0.5) / 1000, 1, 0.3);
  ExponentialCounts nothing = earlier;
  nothing.Subtract(earlier);
  EXPECT_EQ(nothing.total(), 0u);
  EXPECT_TRUE(std::isnan(nothing.Quantile(0.5)));
}

TEST(ExponentialCountsTest, ZeroAndNegativeValues) {
  Cell cell;
  cell.Observe(0);
  cell.Observe(0);
  cell.Observe(8);
  ExponentialCounts counts;
  counts.Add(cell.Window());
  EXPECT_EQ(counts.Quantile(0.5), 0);
  EXPECT_NEAR(counts.Quantile(0.99), 8, 0.1);
  cell.Observe(-1);
  cell.Observe(-2);
  ExponentialCounts below;
  below.Add(cell.Window());
  EXPECT_TRUE(std::isnan(below.Quantile(0.1)));
  EXPECT_EQ(below.Quantile(0.6), 0);
}

TEST(ExponentialCountsTest, NumberOfBucketsIsBounded) {
  ExponentialCounts sum;
  for (int exponent = -120; exponent <= 1000; exponent += 40) {
    Cell cell;
    cell.Observe(std::exp2(exponent) * 1.5);
    cell.Observe(std::exp2(exponent) * 1.9);
    sum.Add(cell.Window());
    EXPECT_LE(sum.buckets().size(), size_t{ExponentialCounts::kMaxBuckets});
  }
  EXPECT_EQ(sum.total(), 58u);
}

}  // namespace
}  // namespace tallyd
