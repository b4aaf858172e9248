// Naps: long when little comes, short when buffers fill, none when the shard cannot keep up.

#include "daemon/nap_policy.h"

#include <gtest/gtest.h>

namespace tallyd {
namespace {

constexpr int64_t kBuffer = 16 << 20;

NapPolicy::Drain Low() { return {kBuffer / 100, true}; }

TEST(NapPolicyTest, StartsShortAndDoublesToTheBoundWhileLittleIsQueued) {
  NapPolicy naps(kBuffer);
  EXPECT_EQ(naps.AfterDrain(Low()), 500'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 1'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 2'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 4'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 5'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 5'000'000);
}

TEST(NapPolicyTest, NeverNapsLongerThanTheWorstRateNeedsToFillHalfTheBuffer) {
  constexpr int64_t kStockBuffer = 425'984;  // what a stock kernel grants
  NapPolicy naps(kStockBuffer);
  for (int i = 0; i < 20; ++i) {
    const int64_t nap_ns = naps.AfterDrain({0, true});
    EXPECT_LE(nap_ns * NapPolicy::kWorstBytesPerSecond / 1'000'000'000, kStockBuffer / 2);
    EXPECT_GT(nap_ns, 0);
  }
}

TEST(NapPolicyTest, HalvesWhenMoreThanAQuarterIsQueued) {
  NapPolicy naps(kBuffer);
  for (int i = 0; i < 8; ++i) naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, true}), 2'500'000);
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, true}), 1'250'000);
}

TEST(NapPolicyTest, HoldsItsLengthInBetween) {
  NapPolicy naps(kBuffer);
  for (int i = 0; i < 2; ++i) naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 5, true}), 2'000'000);
  EXPECT_EQ(naps.AfterDrain({kBuffer / 5, true}), 2'000'000);
}

TEST(NapPolicyTest, DoesNotNapWhileASocketCouldNotBeEmptied) {
  NapPolicy naps(kBuffer);
  for (int i = 0; i < 8; ++i) naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, false}), 0);
  EXPECT_EQ(naps.AfterDrain(Low()), 500'000);
}

TEST(NapPolicyTest, ShortWaitsMakeNapsLongerAndLongOnesReset) {
  NapPolicy naps(kBuffer);
  naps.AfterWait(4'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 1'000'000);
  naps.AfterWait(1'000'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 500'000);
}

}  // namespace
}  // namespace tallyd
