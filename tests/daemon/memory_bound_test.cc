// The worst-case memory: what it grows with, and what it knows of the parts. That a daemon stays
// below it is tried end to end.

#include "daemon/memory_bound.h"

#include <gtest/gtest.h>

#include <string>

#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

uint64_t Part(const std::string& name, const Options& options, const SeriesShape& shape,
              int connections = 0) {
  for (const MemoryPart& part : BoundMemory(options, connections, shape)) {
    if (part.name == name) return part.bytes;
  }
  ADD_FAILURE() << "no part is called " << name;
  return 0;
}

Options WithSeries(uint32_t series, int shards) {
  Options options;
  options.series_limit = series;
  options.shards = shards;
  return options;
}

TEST(MemoryBoundTest, EachPartGrowsWithWhatItHolds) {
  const Options small = WithSeries(10'000, 1);
  const Options larger = WithSeries(1'000'000, 1);
  const Options sharded = WithSeries(10'000, 4);
  const SeriesShape shape;
  for (const char* name : {"cells", "slots", "keys", "key tables"}) {
    EXPECT_GT(Part(name, larger, shape), 10 * Part(name, small, shape)) << name;
    EXPECT_EQ(Part(name, sharded, shape), 4 * Part(name, small, shape)) << name;
  }
  for (const char* name : {"family types", "series table", "pages"}) {
    EXPECT_GT(Part(name, larger, shape), 10 * Part(name, small, shape)) << name;
  }
  EXPECT_EQ(Part("receive buffers", sharded, shape), 4 * Part("receive buffers", small, shape));
}

TEST(MemoryBoundTest, CellsAreOfTheirKind) {
  const Options options = WithSeries(64'000, 1);
  SeriesShape shape;
  const uint64_t counters = Part("cells", options, shape);
  shape.kind = BoundKind::kSets;
  const uint64_t sets = Part("cells", options, shape);
  EXPECT_GE(sets, uint64_t{64'000} * SetCell::kWords * 8);
  EXPECT_GT(sets, 100 * counters);
  shape.kind = BoundKind::kHistograms;
  const uint64_t few_bounds = Part("cells", options, shape);
  const uint64_t few_lines = Part("pages", options, shape);
  shape.histogram_bounds = 111;
  EXPECT_GE(Part("cells", options, shape), few_bounds + uint64_t{64'000} * 90 * 8);
  EXPECT_GE(Part("pages", options, shape), few_lines + uint64_t{64'000} * 100 * 256);
}

TEST(MemoryBoundTest, SummariesRememberEachAge) {
  const Options options = WithSeries(1'000, 1);
  SeriesShape shape;
  shape.kind = BoundKind::kSummaries;
  shape.summary_ages = 2;
  const uint64_t few = Part("values of several cells", options, shape);
  shape.summary_ages = 12;
  EXPECT_GE(Part("values of several cells", options, shape), few + uint64_t{1'000} * 10 * 1'280);
}

TEST(MemoryBoundTest, KeyMemoryHasAnEnd) {
  const Options options = WithSeries(1'000'000, 3);
  SeriesShape shape;
  shape.text_bytes = 40'000;
  EXPECT_EQ(Part("keys", options, shape), uint64_t{3} << 30);
  EXPECT_EQ(MaxTextBytes(options), (uint64_t{1} << 30) / 1'000'000);
  EXPECT_EQ(MaxTextBytes(WithSeries(10, 1)), 8'192u + 32'768u);
}

TEST(MemoryBoundTest, NoShardHasMoreSlotsThanItsMemory) {
  const SeriesShape shape;
  EXPECT_EQ(Part("slots", WithSeries(4'294'967'295, 1), shape),
            Part("slots", WithSeries(4'194'304, 1), shape));
}

TEST(MemoryBoundTest, WhatIsOffCostsNothing) {
  Options options = WithSeries(1'000, 2);
  const SeriesShape shape;
  EXPECT_EQ(Part("relay packets", options, shape), 0u);
  EXPECT_EQ(Part("mapping rules", options, shape), 0u);
  EXPECT_EQ(Part("sender connections", options, shape, 0), 0u);
  EXPECT_GE(Part("sender connections", options, shape, 10), 10u * 65'536);
  EXPECT_GT(Part("pages of slow scrapes", options, shape), 0u);
  options.relay_address = "127.0.0.1:9";
  EXPECT_GE(Part("relay packets", options, shape), 2u * 1'400);
  options.web.clear();
  EXPECT_EQ(Part("pages of slow scrapes", options, shape), 0u);
  EXPECT_EQ(Part("web connections", options, shape), 0u);
}

TEST(MemoryBoundTest, PushersAndTlsArePartOfWebConnections) {
  Options options = WithSeries(1'000, 1);
  const SeriesShape shape;
  const uint64_t plain = Part("web connections", options, shape);
  options.push = {"127.0.0.1:9091"};
  const uint64_t with_pushers = Part("web connections", options, shape);
  EXPECT_GE(with_pushers, plain + 128 * 2 * 8'192);
  options.web_config_file = "web.yml";
  EXPECT_GE(Part("web connections", options, shape), with_pushers + (512 + 128) * 4 * 17'408);
}

TEST(MemoryBoundTest, PeersArePartOfTheTotalAlone) {
  const std::vector<MemoryPart> parts = BoundMemory(WithSeries(1'000, 1), 100, SeriesShape{});
  uint64_t all = 0;
  uint64_t for_peers = 0;
  for (const MemoryPart& part : parts) {
    all += part.bytes;
    if (part.for_peers) for_peers += part.bytes;
  }
  EXPECT_EQ(TotalBytes(parts), all);
  EXPECT_EQ(TotalBytesWithoutPeers(parts), all - for_peers);
  EXPECT_GT(for_peers, 0u);
}

TEST(MemoryBoundTest, TheKernelGrantsTwiceWhatIsAskedFor) {
  Options options = WithSeries(1, 3);
  options.read_buffer_bytes = 1'000;
  EXPECT_EQ(KernelBufferBytes(options), 2u * 1'000 * 2 * 3);  // two addresses, three shards
}

}  // namespace
}  // namespace tallyd
