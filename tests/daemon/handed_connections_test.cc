// Records of connections between two processes: they come back as they were, or not at all.

#include "daemon/handed_connections.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tallyd {
namespace {

std::vector<ConnectionRecord> Records() {
  return {{7, "unixstream:/run/tallyd/stream.sock", std::string("\x05\0\0\0a:", 6), 1'000},
          {9, "tcp:127.0.0.1:9125", "", 0}};
}

TEST(ConnectionRecordTest, ComesBackAsItWas) {
  const auto decoded = DecodeRecords(EncodeRecords(Records()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_EQ(decoded->size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const ConnectionRecord expected = Records()[i];
    EXPECT_EQ((*decoded)[i].cookie, expected.cookie);
    EXPECT_EQ((*decoded)[i].listener, expected.listener);
    EXPECT_EQ((*decoded)[i].partial_untrusted, expected.partial_untrusted);
    EXPECT_EQ((*decoded)[i].partial_age_ns, expected.partial_age_ns);
  }
}

TEST(ConnectionRecordTest, CutOffAnywhereIsRefused) {
  const std::string whole = EncodeRecords(Records());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(DecodeRecords(std::string_view(whole).substr(0, size)).ok()) << size;
  }
}

TEST(ConnectionRecordTest, WithAnyBitFlippedIsRefused) {
  const std::string whole = EncodeRecords(Records());
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeRecords(flipped).ok()) << bit;
  }
}

}  // namespace
}  // namespace tallyd
