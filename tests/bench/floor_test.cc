// The floors shall do the work that they are the floor of.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "bench/floor/lines.h"
#include "bench/floor/table.h"
#include "bench/load/plan.h"

namespace tallyd::bench {
namespace {

using ::testing::ElementsAreArray;

std::vector<std::string> ObviousLines(const std::string& payload) {
  std::vector<std::string> lines = absl::StrSplit(payload, '\n');
  if (lines.back().empty()) lines.pop_back();
  return lines;
}

TEST(ForEachLineTest, FindsTheLinesOfAnyPayload) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string payload(random() % 200, 'x');
    for (char& c : payload) c = random() % 20 == 0 ? '\n' : 'x';
    std::vector<std::string> plain, sse2;
    ForEachLine(payload, [&](absl::string_view line) { plain.emplace_back(line); });
    const auto add = [&](absl::string_view line) { sse2.emplace_back(line); };
    line_ends_internal::Sse2(payload.data(), payload.size(), add);
    EXPECT_THAT(plain, ElementsAreArray(ObviousLines(payload)));
    EXPECT_THAT(sse2, ElementsAreArray(ObviousLines(payload)));
  }
}

TEST(ParseLineTest, TakesALineApart) {
  ParsedLine line;
  ASSERT_TRUE(ParseLine("a.b:-12.75|g|#k:v,l:w", &line));
  EXPECT_EQ(line.name, "a.b");
  EXPECT_EQ(line.tags, "k:v,l:w");
  EXPECT_EQ(line.type, 'g');
  EXPECT_EQ(line.value, -12.75);
  ASSERT_TRUE(ParseLine("t:30|ms|@0.5", &line));
  EXPECT_EQ(line.type, 'm');
  EXPECT_EQ(line.tags, "");
  EXPECT_EQ(line.value, 60);
  EXPECT_EQ(line.weight, 2);
  for (const char* bad : {"", "a", "a:", "a:1", "a:1|", "a|c"}) {
    EXPECT_FALSE(ParseLine(bad, &line)) << bad;
  }
}

// The value of a line of one value, in its own unit.
double TrueValue(const Plan& plan, const PacketRing& ring, const Line& line) {
  const double value = ring.Values(line)[0];
  return plan.catalog.KindOf(line.series) == Kind::kGauge ? value / 4 : value;
}

TEST(FloorTableTest, AddsUpWhatThePacketsSay) {
  for (const char* preset : {"W1", "W2"}) {
    Workload workload = *WorkloadPreset(preset);
    workload.series = 500;
    workload.ring_lines = 5000;
    const absl::StatusOr<Plan> plan = BuildPlan(workload);
    ASSERT_TRUE(plan.ok());
    const PacketRing& ring = plan->rings[0];
    FloorTable table;
    double total = 0;
    for (const Packet& packet : ring.packets()) {
      ForEachLine(ring.Payload(packet), [&](absl::string_view text) {
        ParsedLine line;
        ASSERT_TRUE(ParseLine(text, &line)) << text;
        table.Add(line);
      });
      for (const Line& line : ring.Lines(packet)) total += TrueValue(*plan, ring, line);
    }
    EXPECT_EQ(table.size(), workload.series);
    EXPECT_EQ(table.Total(), total);
  }
}

}  // namespace
}  // namespace tallyd::bench
