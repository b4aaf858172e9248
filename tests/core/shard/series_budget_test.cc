#include "core/shard/series_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace tallyd {

// The two steps of SeriesRoll::Enter.
class SeriesRollPeer {
 public:
  static auto* Put(SeriesRoll* roll, uint64_t hash) {
    return roll->Put(hash, SeriesRoll::Holder::kSlot);
  }
  template <class Word>
  static bool Stays(SeriesRoll* roll, Word* mine, uint64_t hash) {
    return roll->Stays(mine, hash, SeriesRoll::Holder::kSlot);
  }
  static bool ShareABucket(const SeriesRoll& roll, uint64_t a, uint64_t b) {
    return roll.BucketOf(0, a) == roll.BucketOf(0, b);
  }
};

namespace {

using Answer = SeriesBudget::Answer;
using Purpose = SeriesBudget::Purpose;

class SeriesBudgetTest : public testing::Test {
 protected:
  SeriesBudget::Charge ChargeOf(const SeriesBudget& budget, const std::string& family, int series) {
    uint16_t layout = 0;
    families_.ClaimFor({.family = family, .kind = SeriesKind::kCounter}, &layout);
    const std::string labels = "i=\"" + std::to_string(series) + "\"";
    return {.hash = budget.HashOf(family, labels),
            .label_bytes = static_cast<uint32_t>(labels.size()),
            .family = families_.NotesOf(family)};
  }

  FamilyTypes families_{1000, 1};
};

TEST_F(SeriesBudgetTest, BoundsSeriesInAll) {
  SeriesBudget budget({.series = 10});
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(budget.Admit(ChargeOf(budget, "f" + std::to_string(i), 0)), Answer::kGranted);
  }
  EXPECT_FALSE(budget.HasRoom());
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "g", 0)), Answer::kSeries);
  EXPECT_EQ(budget.refusals(Answer::kSeries), 1u);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f3", 0)), Answer::kGranted) << "known to another shard";
  EXPECT_EQ(budget.series(), 10u);

  budget.Release(ChargeOf(budget, "f3", 0));
  EXPECT_EQ(budget.series(), 10u) << "the other shard still has it";
  budget.Release(ChargeOf(budget, "f3", 0));
  EXPECT_EQ(budget.series(), 9u);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "g", 0)), Answer::kGranted);
}

TEST_F(SeriesBudgetTest, BoundsTheSeriesOfAFamily) {
  SeriesBudget budget({.series = 100, .family_series = 5});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", i)), Answer::kGranted);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 5)), Answer::kFamily);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "g", 5)), Answer::kGranted);
  SeriesBudget::Charge declared = ChargeOf(budget, "h", 1);
  declared.family_limit = 1;
  EXPECT_EQ(budget.Admit(declared), Answer::kGranted);
  declared = ChargeOf(budget, "h", 2);
  declared.family_limit = 1;
  EXPECT_EQ(budget.Admit(declared), Answer::kFamily);
}

TEST_F(SeriesBudgetTest, BoundsTheBytesOfLabels) {
  SeriesBudget budget({.series = 100, .label_bytes = 10});
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 1)), Answer::kGranted);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 2)), Answer::kGranted);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 3)), Answer::kLabelBytes);
  EXPECT_EQ(budget.label_bytes(), 10u);
}

TEST_F(SeriesBudgetTest, OverflowHasRoomOfItsOwn) {
  SeriesBudget budget({.series = 8, .family_series = 4});
  for (int i = 0; i < 4; ++i) budget.Admit(ChargeOf(budget, "f", i));
  for (int i = 0; i < 4; ++i) budget.Admit(ChargeOf(budget, "g", i));
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 100), Purpose::kOverflow), Answer::kGranted);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 101), Purpose::kOverflow), Answer::kGranted);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 102), Purpose::kOverflow), Answer::kSeries);
  EXPECT_EQ(budget.Admit(ChargeOf(budget, "f", 103), Purpose::kLastResort), Answer::kGranted);
  EXPECT_LE(budget.series(), SeriesBudget::MostSeries(8));
}

TEST_F(SeriesBudgetTest, ACatalogThatWasRefusedTakesNobodysPlace) {
  SeriesRoll roll(100);
  constexpr uint64_t kHash = 0x1234567890abcdef;
  EXPECT_EQ(roll.Enter(kHash), SeriesRoll::Entered::kNew);
  EXPECT_FALSE(roll.Remove(kHash, SeriesRoll::Holder::kCatalog));
  EXPECT_TRUE(roll.AddToKnown(kHash, SeriesRoll::Holder::kCatalog));
  EXPECT_FALSE(roll.Remove(kHash));
  EXPECT_FALSE(roll.Remove(kHash));
  EXPECT_TRUE(roll.Remove(kHash, SeriesRoll::Holder::kCatalog));
}

// One shard joins a word that the shard which made it is about to withdraw for an earlier one.
TEST_F(SeriesBudgetTest, AWordThatAThirdShardHasJoinedStays) {
  SeriesRoll roll(100);
  constexpr uint64_t kHash = 0x1234567890abcdef;
  uint64_t other = 0x1000;
  while (!SeriesRollPeer::ShareABucket(roll, other, kHash)) other += 0x1000;
  roll.Enter(other);
  auto* const later = SeriesRollPeer::Put(&roll, kHash);
  EXPECT_TRUE(roll.AddToKnown(kHash));
  EXPECT_TRUE(roll.Remove(other));
  auto* const first = SeriesRollPeer::Put(&roll, kHash);
  ASSERT_LT(first, later);
  int entered = SeriesRollPeer::Stays(&roll, first, kHash) ? 1 : 0;
  if (SeriesRollPeer::Stays(&roll, later, kHash)) {
    ++entered;
  } else {
    EXPECT_TRUE(roll.AddToKnown(kHash));
  }
  int removed = 0;
  for (int i = 0; i < 3; ++i) removed += roll.Remove(kHash) ? 1 : 0;
  EXPECT_EQ(removed, entered);
  EXPECT_FALSE(roll.AddToKnown(kHash));
}

TEST_F(SeriesBudgetTest, OfTwoWordsThatNobodyJoinedTheFirstStays) {
  SeriesRoll roll(100);
  constexpr uint64_t kHash = 0x1234567890abcdef;
  auto* const first = SeriesRollPeer::Put(&roll, kHash);
  auto* const later = SeriesRollPeer::Put(&roll, kHash);
  EXPECT_FALSE(SeriesRollPeer::Stays(&roll, later, kHash));
  EXPECT_TRUE(SeriesRollPeer::Stays(&roll, first, kHash));
  EXPECT_TRUE(roll.Remove(kHash));
  EXPECT_FALSE(roll.AddToKnown(kHash));
}

TEST_F(SeriesBudgetTest, WhatWasNeverChargedIsNotGivenBack) {
  SeriesBudget budget({.series = 10});
  const SeriesBudget::Charge charge = ChargeOf(budget, "f", 0);
  SeriesBudget::Charge of_no_family = charge;
  of_no_family.family = nullptr;
  ASSERT_EQ(budget.Admit(of_no_family), Answer::kGranted);
  budget.Release(charge);
  EXPECT_EQ(charge.family->series.load(), 0u);
  EXPECT_EQ(budget.series(), 0u);
}

// A million random series come and go on a roll of the size that the default limit makes.
TEST_F(SeriesBudgetTest, TheRollFindsWhatWasEntered) {
  SeriesRoll roll(100'000);
  std::mt19937_64 random(1);
  std::vector<uint64_t> hashes(100'000);
  for (uint64_t& hash : hashes) {
    hash = random();
    EXPECT_FALSE(roll.AddToKnown(hash));
    EXPECT_EQ(roll.Enter(hash), SeriesRoll::Entered::kNew);
  }
  for (const uint64_t hash : hashes) EXPECT_TRUE(roll.AddToKnown(hash));
  for (const uint64_t hash : hashes) EXPECT_FALSE(roll.Remove(hash));
  for (const uint64_t hash : hashes) EXPECT_TRUE(roll.Remove(hash));
  for (const uint64_t hash : hashes) EXPECT_FALSE(roll.AddToKnown(hash));
  for (int i = 0; i < 900'000; ++i) {
    const uint64_t hash = random();
    ASSERT_EQ(roll.Enter(hash), SeriesRoll::Entered::kNew)
        << "places of those that left are not used again";
    ASSERT_TRUE(roll.Remove(hash));
  }
}

// All threads meet the same series at the same time: each counts once.
TEST_F(SeriesBudgetTest, ASeriesThatAllMeetAtOnceCountsOnce) {
  constexpr int kThreads = 4;
  constexpr uint64_t kSeries = 50'000;
  SeriesBudget budget({.series = kSeries + kThreads, .family_series = UINT32_MAX});
  const SeriesBudget::Charge first = ChargeOf(budget, "f", 0);
  std::atomic<uint64_t> refused{0};
  std::atomic<uint64_t> step{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 1; i <= kSeries; ++i) {
        // In step, as far as threads can be.
        if (i % 64 == 0) {
          const uint64_t all = (step.fetch_add(1) / kThreads + 1) * kThreads;
          while (step.load() < all) std::this_thread::yield();
        }
        SeriesBudget::Charge charge = first;
        charge.hash = i * 0x9e3779b97f4a7c15u;
        if (budget.Admit(charge) != Answer::kGranted) ++refused;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(budget.series(), kSeries);
}

// Threads take and give back at random; never is more out than the limit, and at the end nothing.
TEST_F(SeriesBudgetTest, HoldsItsLimitsWhileThreadsRace) {
  constexpr uint64_t kLimit = 50;
  SeriesBudget budget({.series = kLimit, .family_series = 30});
  const SeriesBudget::Charge first = ChargeOf(budget, "f", 0);
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      std::vector<SeriesBudget::Charge> mine;
      for (int i = 0; i < 20'000; ++i) {
        if (random() % 2 == 0 || mine.empty()) {
          SeriesBudget::Charge charge = first;
          charge.hash = (random() % 80 + 1) * 0x9e3779b97f4a7c15u;
          if (budget.Admit(charge) == Answer::kGranted) mine.push_back(charge);
        } else {
          budget.Release(mine.back());
          mine.pop_back();
        }
        if (first.family->series.load() > 30) over = true;
      }
      for (const SeriesBudget::Charge& charge : mine) budget.Release(charge);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(over);
  EXPECT_EQ(budget.series(), 0u);
  EXPECT_EQ(budget.label_bytes(), 0u);
  EXPECT_EQ(first.family->series.load(), 0u);
}

}  // namespace
}  // namespace tallyd
