#include "bench/load/latency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace tallyd::bench {
namespace {

TEST(LatencyHistogramTest, NothingAddedGivesZeros) {
  const LatencyHistogram latency;
  EXPECT_EQ(latency.count(), 0u);
  EXPECT_EQ(latency.QuantileNs(0.99), 0u);
}

TEST(LatencyHistogramTest, SmallValuesAreExact) {
  LatencyHistogram latency;
  for (uint64_t ns = 1; ns <= 100; ++ns) latency.Add(ns);
  EXPECT_EQ(latency.QuantileNs(0.5), 50u);
  EXPECT_EQ(latency.QuantileNs(0.99), 99u);
  EXPECT_EQ(latency.QuantileNs(1), 100u);
}

TEST(LatencyHistogramTest, AQuantileIsAtMostOnePercentAboveTheTrueOne) {
  for (uint64_t ns = 1; ns < uint64_t{1} << 60; ns = ns * 3 / 2 + 1) {
    LatencyHistogram latency;
    latency.Add(ns);
    latency.Add(~uint64_t{0});
    EXPECT_GE(latency.QuantileNs(0.5), ns);
    EXPECT_LE(static_cast<double>(latency.QuantileNs(0.5)), static_cast<double>(ns) * 1.01);
  }
}

TEST(LatencyHistogramTest, TheMaximumIsExact) {
  LatencyHistogram latency;
  latency.Add(5);
  latency.Add(123'456'789);
  EXPECT_EQ(latency.max_ns(), 123'456'789u);
  EXPECT_EQ(latency.QuantileNs(0.999), 123'456'789u);
}

}  // namespace
}  // namespace tallyd::bench
