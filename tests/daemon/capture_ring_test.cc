// The ring between a shard and a capture: whole lines, in order, or counted as dropped.

#include "daemon/capture_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

namespace tallyd {
namespace {

constexpr size_t kMuch = size_t{1} << 20;

std::string TakeAll(CaptureRing* ring, size_t max_bytes = kMuch) {
  std::string lines;
  ring->Take(max_bytes, &lines);
  return lines;
}

TEST(CaptureRingTest, EveryLineEndsWithALineFeed) {
  CaptureRing ring(64);
  ring.OnLines({}, "a:1|c\nb:2|c");
  ring.OnLines({}, "c:3|c\n");
  ring.OnLines({}, "");
  EXPECT_FALSE(ring.empty());
  EXPECT_EQ(TakeAll(&ring), "a:1|c\nb:2|c\nc:3|c\n");
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.dropped_lines(), 0U);
}

TEST(CaptureRingTest, WhatFindsNoRoomIsDroppedAndCounted) {
  CaptureRing ring(16);
  ring.OnLines({}, "0123456789");
  ring.OnLines({}, "ab\ncd");  // six bytes with its last LF, five are left
  EXPECT_EQ(ring.dropped_lines(), 2U);
  ring.OnLines({}, "wxyz");
  EXPECT_EQ(TakeAll(&ring), "0123456789\nwxyz\n");
  ring.OnLines({}, "ab\ncd\n");
  EXPECT_EQ(TakeAll(&ring), "ab\ncd\n");
  EXPECT_EQ(ring.dropped_lines(), 2U);
}

TEST(CaptureRingTest, OnlyWholeLinesAreTaken) {
  CaptureRing ring(64);
  ring.OnLines({}, "aaa\nbbbb\ncc");
  EXPECT_EQ(TakeAll(&ring, 3), "");  // less than the first line
  EXPECT_EQ(TakeAll(&ring, 10), "aaa\nbbbb\n");
  EXPECT_EQ(TakeAll(&ring, 10), "cc\n");
}

TEST(CaptureRingTest, LinesGoAroundTheEnd) {
  CaptureRing ring(8);
  for (int i = 0; i < 100; ++i) {
    const std::string line = std::string(static_cast<size_t>(i % 7), 'x') + "\n";
    ring.OnLines({}, line);
    ASSERT_EQ(TakeAll(&ring), line);
  }
}

// Property: what the reader gets is what the writer wrote, less whole datagrams that were dropped,
// and both numbers add up to all lines.
TEST(CaptureRingTest, AReaderSeesWholeLinesInOrderWhileTheyAreWritten) {
  constexpr int kLines = 200'000;
  CaptureRing ring(1 << 12);
  std::thread writer([&ring] {
    for (int i = 0; i < kLines; i += 2) {
      ring.OnLines({}, std::to_string(i) + "\n" + std::to_string(i + 1));
    }
  });
  std::string all;
  uint64_t lines = 0;
  int last = -1;
  const auto check = [&] {
    size_t at = 0;
    for (size_t end = 0; (end = all.find('\n', at)) != std::string::npos; at = end + 1) {
      const int number = std::stoi(all.substr(at, end - at));
      ASSERT_GT(number, last);
      last = number;
      ++lines;
    }
    ASSERT_EQ(at, all.size());
    all.clear();
  };
  while (lines + ring.dropped_lines() < kLines) {
    ring.Take(1000, &all);
    check();
  }
  writer.join();
  ring.Take(kMuch, &all);
  check();
  EXPECT_EQ(lines + ring.dropped_lines(), static_cast<uint64_t>(kLines));
  EXPECT_GT(lines, 0U);
}

}  // namespace
}  // namespace tallyd
