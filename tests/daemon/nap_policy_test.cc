// Naps: long when little comes, short when buffers fill, none when the shard cannot keep up.

#include "daemon/nap_policy.h"

#include <gtest/gtest.h>

namespace tallyd {
namespace {

constexpr int64_t kBuffer = 16 << 20;

NapPolicy::Drain Low() { return {kBuffer / 100, true}; }

constexpr int64_t kMs = 1'000'000;

TEST(NapPolicyTest, StartsShortAndDoublesToTheBoundWhileLittleIsQueued) {
  NapPolicy naps(kBuffer);
  EXPECT_EQ(naps.AfterDrain(Low()), 1 * kMs);
  EXPECT_EQ(naps.AfterDrain(Low()), 2 * kMs);
  EXPECT_EQ(naps.AfterDrain(Low()), 4 * kMs);
  EXPECT_EQ(naps.AfterDrain(Low()), 5 * kMs);
  EXPECT_EQ(naps.AfterDrain(Low()), 5 * kMs);
}

TEST(NapPolicyTest, NeverNapsSoLongThatTheWorstRateFillsTwoThirdsOfTheBuffer) {
  for (const int64_t buffer : {425'984, 800'000, 1'500'000, 8 << 20}) {
    NapPolicy naps(buffer);
    for (int i = 0; i < 20; ++i) {
      const int64_t nap_ns = naps.AfterDrain({0, true});
      EXPECT_LE(nap_ns / 1000 * NapPolicy::kWorstBytesPerSecond / 1'000'000, buffer * 2 / 3);
      EXPECT_GE(nap_ns, kMs);
    }
  }
}

TEST(NapPolicyTest, DoesNotNapWithABufferThatAMillisecondFills) {
  NapPolicy naps(100'000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(naps.AfterDrain({0, true}), 0);
  naps.AfterWait(0);
  EXPECT_EQ(naps.AfterDrain({90'000, true}), 0);
}

TEST(NapPolicyTest, HalvesWhenMoreThanAQuarterIsQueued) {
  NapPolicy naps(kBuffer);
  for (int i = 0; i < 8; ++i) naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, true}), 2 * kMs);
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, true}), 1 * kMs);
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, true}), 1 * kMs);
}

TEST(NapPolicyTest, HoldsItsLengthInBetween) {
  NapPolicy naps(kBuffer);
  naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 5, true}), 2 * kMs);
  EXPECT_EQ(naps.AfterDrain({kBuffer / 5, true}), 2 * kMs);
}

TEST(NapPolicyTest, DoesNotNapWhileASocketCouldNotBeEmptied) {
  NapPolicy naps(kBuffer);
  for (int i = 0; i < 8; ++i) naps.AfterDrain(Low());
  EXPECT_EQ(naps.AfterDrain({kBuffer / 3, false}), 0);
  EXPECT_EQ(naps.AfterDrain(Low()), 1 * kMs);
}

TEST(NapPolicyTest, ShortWaitsMakeNapsLongerAndLongOnesReset) {
  NapPolicy naps(kBuffer);
  naps.AfterWait(4'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 2 * kMs);
  naps.AfterWait(1'000'000'000);
  EXPECT_EQ(naps.AfterDrain(Low()), 1 * kMs);
}

}  // namespace
}  // namespace tallyd
