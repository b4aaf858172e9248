#include "bench/load/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tallyd::bench {
namespace {

using ::testing::HasSubstr;

Plan MustBuild(const Workload& workload) {
  absl::StatusOr<Plan> plan = BuildPlan(workload);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

Workload SmallPreset(absl::string_view name) {
  Workload w = *WorkloadPreset(name);
  w.series = 500;
  w.ring_lines = 3000;
  return w;
}

// The payloads of all packets in the loops, sender by sender.
std::vector<std::string> Payloads(const Plan& plan) {
  std::vector<std::string> out;
  for (const PacketRing& ring : plan.rings) {
    for (size_t i = 0; i < ring.size(); ++i) out.emplace_back(ring.Payload(ring.At(i)));
  }
  return out;
}

uint64_t LinesSent(const PacketRing& ring, uint64_t quota) {
  uint64_t lines = 0;
  for (uint64_t seq = 0; seq < quota; ++seq) {
    const std::vector<std::string> parts = absl::StrSplit(ring.Payload(ring.At(seq)), '\n');
    EXPECT_EQ(parts.size(), ring.At(seq).lines);
    lines += parts.size();
  }
  return lines;
}

TEST(PlanTest, EqualSeedsGiveEqualPackets) {
  Workload w = SmallPreset("W2");
  const std::vector<std::string> first = Payloads(MustBuild(w));
  EXPECT_EQ(first, Payloads(MustBuild(w)));
  w.seed = 2;
  EXPECT_NE(first, Payloads(MustBuild(w)));
}

TEST(PlanTest, PacketsKeepTheirLimits) {
  for (const absl::string_view preset : {"W1", "W2", "W3", "W4", "W5"}) {
    const Plan plan = MustBuild(SmallPreset(preset));
    for (const std::string& payload : Payloads(plan)) {
      EXPECT_LE(payload.size(), plan.workload.packet_bytes);
      if (preset == "W3") {
        EXPECT_EQ(payload.find('\n'), std::string::npos);
      }
    }
  }
}

TEST(PlanTest, LinesAreAsLongAsTheWorkloadsSay) {
  const auto bytes_a_line = [](absl::string_view preset) {
    const Plan plan = MustBuild(*WorkloadPreset(preset));
    uint64_t bytes = 0;
    for (const std::string& payload : Payloads(plan)) bytes += payload.size() + 1;
    return static_cast<double>(bytes) / static_cast<double>(plan.ring_lines);
  };
  EXPECT_NEAR(bytes_a_line("W1"), 41.5, 0.5);
  EXPECT_NEAR(bytes_a_line("W2"), 88.5, 0.5);
}

TEST(PlanTest, EverySeriesIsInTheRingAndHasANameOfItsOwn) {
  for (const absl::string_view preset : {"W1", "W2"}) {
    const Plan plan = MustBuild(SmallPreset(preset));
    std::set<uint32_t> series;
    std::set<std::string> exposed;
    for (const PacketRing& ring : plan.rings) {
      for (const Packet& packet : ring.packets()) {
        for (const Line& line : ring.Lines(packet)) {
          series.insert(line.series);
          exposed.insert(plan.catalog.Exposed(line.series));
        }
      }
    }
    EXPECT_EQ(series.size(), plan.workload.series);
    EXPECT_EQ(exposed.size(), plan.workload.series);
  }
}

TEST(PlanTest, TheMixIsThatOfTheSeries) {
  for (const uint32_t tags : {0u, 4u}) {
    Workload w;
    w.tags = tags;
    const Catalog catalog(w);
    std::array<int, kKinds> counts = {};
    for (uint32_t series = 0; series < w.series; ++series) {
      ++counts[static_cast<size_t>(catalog.KindOf(series))];
    }
    EXPECT_NEAR(counts[0], 6000, 100);
    EXPECT_NEAR(counts[1], 2000, 100);
    EXPECT_NEAR(counts[2], 2000, 100);
    EXPECT_EQ(counts[3], 0);
  }
}

TEST(PlanTest, LabelsAreSortedByName) {
  Workload w = *WorkloadPreset("W2");
  EXPECT_EQ(Catalog(w).Exposed(151),
            "load_catalog_database_requests"
            "{env=\"staging\",host=\"web-00000\",region=\"eu-west-1\",version=\"v1\"}");
}

TEST(PlanTest, ChurnGivesNewNamesAndKeepsTheKinds) {
  for (const uint32_t tags : {0u, 4u}) {
    Workload w;
    w.tags = tags;
    w.series = 100;
    w.churn_lines = 100;
    w.ring_lines = 300;
    const Plan plan = MustBuild(w);
    std::set<std::string> exposed;
    for (uint32_t series = 0; series < 300; ++series) {
      exposed.insert(plan.catalog.Exposed(series));
      EXPECT_EQ(plan.catalog.KindOf(series), plan.catalog.KindOf(series % 100));
    }
    EXPECT_EQ(exposed.size(), 300u);
    const std::string last = Payloads(plan).back();
    EXPECT_THAT(last, HasSubstr(tags == 0 ? ".g2:" : "-g2"));
  }
}

TEST(PlanTest, AGaugeHasOneSender) {
  Workload w = SmallPreset("W1");
  w.senders = 3;
  const Plan plan = MustBuild(w);
  std::map<uint32_t, std::set<size_t>> senders;
  for (size_t i = 0; i < plan.rings.size(); ++i) {
    for (const Packet& packet : plan.rings[i].packets()) {
      for (const Line& line : plan.rings[i].Lines(packet)) senders[line.series].insert(i);
    }
  }
  for (const auto& [series, indices] : senders) {
    if (plan.catalog.KindOf(series) == Kind::kGauge) {
      EXPECT_EQ(indices.size(), 1u);
    }
  }
}

TEST(PlanTest, FramingsWrapTheSamePayload) {
  const Plan plan = MustBuild(SmallPreset("W2"));
  const PacketRing& ring = plan.rings[0];
  for (const Packet& packet : ring.packets()) {
    const std::string payload(ring.Payload(packet));
    EXPECT_EQ(ring.Bytes(packet, Framing::kNewline), payload + "\n");
    const std::string length = {static_cast<char>(payload.size() & 0xff),
                                static_cast<char>(payload.size() >> 8), 0, 0};
    EXPECT_EQ(ring.Bytes(packet, Framing::kLengthPrefixed), length + payload);
  }
}

TEST(PlanTest, QuotasGiveExactlyTheLinesAskedFor) {
  for (const uint64_t lines : {1u, 33u, 34u, 2999u, 3000u, 3001u, 10'007u}) {
    Workload w = SmallPreset("W1");
    w.senders = 3;
    Plan plan = MustBuild(w);
    const std::vector<uint64_t> quotas = QuotasForLines(lines, &plan);
    uint64_t sent = 0;
    for (size_t i = 0; i < quotas.size(); ++i) sent += LinesSent(plan.rings[i], quotas[i]);
    EXPECT_EQ(sent, lines);
  }
}

TEST(PlanTest, ASequentialRingHasEverySeriesOnceInOrder) {
  Workload w = SmallPreset("W2");
  w.sequential = true;
  w.ring_lines = w.series;
  const Plan plan = MustBuild(w);
  uint32_t expected = 0;
  for (const Packet& packet : plan.rings[0].packets()) {
    for (const Line& line : plan.rings[0].Lines(packet)) EXPECT_EQ(line.series, expected++);
  }
  EXPECT_EQ(expected, w.series);
}

TEST(PlanTest, WhatCannotBeBuiltIsRefused) {
  const auto refused = [](auto change) {
    Workload w = SmallPreset("W1");
    change(w);
    return !BuildPlan(w).ok();
  };
  EXPECT_TRUE(refused([](Workload& w) { w.series = 0; }));
  EXPECT_TRUE(refused([](Workload& w) { w.mix = {0, 0, 0, 0}; }));
  EXPECT_TRUE(refused([](Workload& w) { w.packet_bytes = 20; }));
  EXPECT_TRUE(refused([](Workload& w) { w.prefix = "a:b"; }));
  EXPECT_TRUE(refused([](Workload& w) { w.sampled = 2; }));
  EXPECT_TRUE(refused([](Workload& w) { w.senders = 0; }));
  EXPECT_TRUE(refused([](Workload& w) { w.series = 10'000'000, w.churn_lines = 1; }));
  EXPECT_FALSE(ParseMix("60:20").ok());
  EXPECT_FALSE(ParseMix("60:20:x").ok());
  EXPECT_FALSE(WorkloadPreset("W9").ok());
}

}  // namespace
}  // namespace tallyd::bench
