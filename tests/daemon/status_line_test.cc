// What the service manager shows of us.

#include "daemon/status_line.h"

#include <gtest/gtest.h>

namespace tallyd {
namespace {

StatusNumbers Numbers(uint64_t received, uint64_t dropped, uint64_t kernel, uint64_t series) {
  StatusNumbers numbers;
  numbers.received = received;
  numbers.dropped = dropped;
  numbers.kernel_dropped = kernel;
  numbers.series = series;
  return numbers;
}

TEST(StatusTextTest, ShowsRatesBetweenTwoLooks) {
  EXPECT_EQ(StatusText(Numbers(100, 0, 7, 1), Numbers(600, 10, 7, 42), absl::Seconds(5)),
            "100 samples/s, 42 series, 2 dropped/s");
}

TEST(StatusTextTest, NamesWhatTheKernelDropped) {
  EXPECT_EQ(StatusText(Numbers(0, 0, 0, 0), Numbers(0, 0, 30, 0), absl::Seconds(10)),
            "0 samples/s, 0 series, 0 dropped/s, 3 datagrams/s dropped by the kernel");
}

TEST(StatusTextTest, NoTimeHasNoRate) {
  EXPECT_EQ(StatusText({}, Numbers(9, 9, 0, 1), absl::ZeroDuration()),
            "0 samples/s, 1 series, 0 dropped/s");
}

}  // namespace
}  // namespace tallyd
