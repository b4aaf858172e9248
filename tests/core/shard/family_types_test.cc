#include "core/shard/family_types.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace tallyd {
namespace {

using Claim = FamilyTypes::Claim;

TEST(FamilyTypesTest, TheFirstTypeHolds) {
  FamilyTypes types(100, 1);
  EXPECT_EQ(types.ClaimFor("x", SeriesKind::kCounter), Claim::kGranted);
  EXPECT_EQ(types.ClaimFor("x", SeriesKind::kCounter), Claim::kGranted);
  EXPECT_EQ(types.ClaimFor("x", SeriesKind::kGauge), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("x", SeriesKind::kHistogram), Claim::kConflict);
  SeriesKind kind;
  ASSERT_TRUE(types.Lookup("x", &kind));
  EXPECT_EQ(kind, SeriesKind::kCounter);
  EXPECT_FALSE(types.Lookup("y", &kind));
}

TEST(FamilyTypesTest, AHistogramTakesTheNamesOfItsSamples) {
  FamilyTypes types(100, 1);
  EXPECT_EQ(types.ClaimFor("h", SeriesKind::kHistogram), Claim::kGranted);
  EXPECT_EQ(types.ClaimFor("h_count", SeriesKind::kCounter), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("h_bucket", SeriesKind::kGauge), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("h_sum", SeriesKind::kHistogram), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("g_sum", SeriesKind::kGauge), Claim::kGranted);
  EXPECT_EQ(types.ClaimFor("g", SeriesKind::kHistogram), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("g_count", SeriesKind::kCounter), Claim::kGranted)
      << "a refused histogram keeps no names";
}

TEST(FamilyTypesTest, SaysWhenItIsFull) {
  FamilyTypes types(4, 1);
  Claim last = Claim::kGranted;
  for (int i = 0; i < 100; ++i) last = types.ClaimFor("f" + std::to_string(i), SeriesKind::kGauge);
  EXPECT_EQ(last, Claim::kFull);
}

// New names keep coming when there is no more room: each must be refused by a short look.
TEST(FamilyTypesTest, StaysQuickWhenItIsFull) {
  constexpr size_t kRoom = 1 << 18;
  FamilyTypes types(kRoom, 1);
  size_t granted = 0;
  for (size_t i = 0; i < 2'000'000; ++i) {
    granted += types.ClaimFor("f" + std::to_string(i), SeriesKind::kGauge) == Claim::kGranted;
  }
  EXPECT_EQ(granted, kRoom);
  EXPECT_EQ(types.ClaimFor("f0", SeriesKind::kGauge), Claim::kGranted) << "known names go on";
  EXPECT_EQ(types.ClaimFor("f0", SeriesKind::kCounter), Claim::kConflict);
  EXPECT_EQ(types.ClaimFor("new", SeriesKind::kHistogram), Claim::kFull);
}

// However threads race for a name, exactly one type is granted, and to all who ask for that type.
TEST(FamilyTypesTest, RacingThreadsAgree) {
  constexpr int kFamilies = 2000;
  FamilyTypes types(kFamilies * 4, 1);
  const std::vector<SeriesKind> kinds = {SeriesKind::kCounter, SeriesKind::kGauge,
                                         SeriesKind::kHistogram};
  std::vector<std::vector<bool>> granted(kinds.size(), std::vector<bool>(kFamilies));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kinds.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kFamilies; ++i) {
        granted[t][static_cast<size_t>(i)] =
            types.ClaimFor("f" + std::to_string(i), kinds[t]) == Claim::kGranted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < kFamilies; ++i) {
    EXPECT_EQ(granted[0][i] + granted[1][i] + granted[2][i], 1) << i;
  }
}

}  // namespace
}  // namespace tallyd
