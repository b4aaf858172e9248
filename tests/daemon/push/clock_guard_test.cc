#include "daemon/push/clock_guard.h"

#include <gtest/gtest.h>

#include <optional>

namespace tallyd {
namespace {

constexpr int64_t kNow = 1'790'000'000'000;
constexpr int64_t kMinute = 60'000;
constexpr int64_t kDay = 24 * 60 * kMinute;

using State = ClockGuard::State;

class ClockGuardTest : public testing::Test {
 protected:
  // An interval of ten seconds in which the wall clock steps besides.
  void Pass(int64_t step_ms = 0) {
    monotonic_ns_ += 10'000'000'000;
    wall_ms_ += 10'000 + step_ms;
    guard_.Beat(monotonic_ns_, wall_ms_);
  }
  void Believe() {
    guard_.Beat(monotonic_ns_, wall_ms_);
    guard_.Compare(wall_ms_, wall_ms_);
    ASSERT_EQ(guard_.state(), State::kBelieved);
  }

  ClockGuard guard_;
  int64_t monotonic_ns_ = 5'000'000'000;
  int64_t wall_ms_ = kNow;
};

TEST_F(ClockGuardTest, BelievesNothingBeforeAComparison) {
  EXPECT_EQ(guard_.state(), State::kUnchecked);
  EXPECT_EQ(guard_.Take(kNow), std::nullopt);
  guard_.Compare(kNow, std::nullopt);
  EXPECT_EQ(guard_.state(), State::kBelieved);
  EXPECT_EQ(guard_.Take(kNow), kNow);
}

TEST_F(ClockGuardTest, TakesNoTimestampTwiceNorAnEarlierOne) {
  Believe();
  EXPECT_EQ(guard_.Take(kNow), kNow);
  EXPECT_EQ(guard_.Take(kNow), std::nullopt);
  EXPECT_EQ(guard_.Take(kNow - 1), std::nullopt);
  EXPECT_EQ(guard_.Take(kNow + 1), kNow + 1);
}

TEST_F(ClockGuardTest, TakesTheNextOneJustAfterTheLast) {
  Believe();
  EXPECT_EQ(guard_.Take(kNow), kNow);
  EXPECT_EQ(guard_.TakeNext(kNow), kNow + 1);
  EXPECT_EQ(guard_.TakeNext(kNow + 9), kNow + 9);
  EXPECT_EQ(guard_.TakeNext(kNow - kMinute), std::nullopt);
}

TEST_F(ClockGuardTest, BearsSmallCorrections) {
  Believe();
  for (const int64_t step : {59'000, -59'000, 500, -500}) {
    Pass(step);
    EXPECT_EQ(guard_.state(), State::kBelieved) << step;
  }
}

TEST_F(ClockGuardTest, SuspendsAfterAStepUntilTwoIntervalsAgreeAndTheTargetDoes) {
  for (const int64_t step : {10 * kDay, -kMinute * 60, kMinute + 1'000, -kMinute - 1'000}) {
    guard_ = ClockGuard();
    Believe();
    Pass(step);
    EXPECT_EQ(guard_.state(), State::kStepped) << step;
    EXPECT_EQ(guard_.Take(wall_ms_), std::nullopt);
    guard_.Compare(wall_ms_, wall_ms_);
    EXPECT_EQ(guard_.state(), State::kStepped) << "answers under way do not end it";
    Pass();
    EXPECT_EQ(guard_.state(), State::kStepped);
    Pass();
    EXPECT_EQ(guard_.state(), State::kUnchecked);
    EXPECT_EQ(guard_.Take(wall_ms_), std::nullopt);
    guard_.Compare(wall_ms_, wall_ms_);
    EXPECT_EQ(guard_.state(), State::kBelieved);
    EXPECT_EQ(guard_.Take(wall_ms_), wall_ms_);
  }
}

TEST_F(ClockGuardTest, AnotherStepBeginsTheWaitAnew) {
  Believe();
  Pass(kDay);
  Pass();
  Pass(-kDay);
  Pass();
  EXPECT_EQ(guard_.state(), State::kStepped);
  Pass();
  EXPECT_EQ(guard_.state(), State::kUnchecked);
}

// A step that stays is not believed as long as the target says otherwise.
TEST_F(ClockGuardTest, StaysSuspendedAheadOfTheTarget) {
  Believe();
  Pass(10 * kDay);
  Pass();
  Pass();
  guard_.Compare(wall_ms_, wall_ms_ - 10 * kDay);
  EXPECT_EQ(guard_.state(), State::kAheadOfTarget);
  EXPECT_EQ(guard_.Take(wall_ms_), std::nullopt);
  guard_.Compare(wall_ms_, std::nullopt);
  EXPECT_EQ(guard_.state(), State::kAheadOfTarget);
  guard_.Compare(wall_ms_, wall_ms_ - kMinute);
  EXPECT_EQ(guard_.state(), State::kBelieved);
}

// Samples of the past hurt nobody.
TEST_F(ClockGuardTest, MayBeBehindTheTarget) {
  guard_.Compare(kNow, kNow + kDay);
  EXPECT_EQ(guard_.state(), State::kBelieved);
}

TEST_F(ClockGuardTest, SaysNothingUntilTheClockIsPastWhatWasSent) {
  Believe();
  ASSERT_TRUE(guard_.Take(wall_ms_).has_value());
  Pass(-kMinute * 30);
  Pass();
  Pass();
  guard_.Compare(wall_ms_, std::nullopt);
  EXPECT_EQ(guard_.Take(wall_ms_), std::nullopt);
  EXPECT_EQ(guard_.Take(wall_ms_ + kMinute * 30), wall_ms_ + kMinute * 30);
}

}  // namespace
}  // namespace tallyd
