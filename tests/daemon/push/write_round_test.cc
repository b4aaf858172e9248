#include "daemon/push/write_round.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/expose/remote_write.h"

namespace tallyd {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr FamilyView kDepth = {.name = "depth", .help = "", .type = FamilyType::kGauge};

// Series depth{i="..."} of a range, a page for each hundred.
WritePages Pages(int begin, int end) {
  RemoteWriteEncoder::Options options;
  options.timestamp_ms = 1'000;
  const RemoteWriteEncoder encoder(options);
  WritePages pages;
  std::string page;
  for (int i = begin; i < end; ++i) {
    encoder.Gauge(kDepth, "i=\"" + std::to_string(i) + "\"", i, &page);
    if (i % 100 != 99 && i + 1 != end) continue;
    pages.push_back(std::make_shared<const std::string>(std::move(page)));
    page.clear();
  }
  return pages;
}

std::vector<std::string> Texts(const std::vector<EndedSeries>& ended) {
  std::vector<std::string> texts;
  for (const EndedSeries& series : ended) texts.push_back(SeriesText(series.labels));
  return texts;
}

TEST(SentSeriesTest, SaysWhichEnded) {
  SentSeries sent;
  EXPECT_THAT(sent.Replace(Pages(0, 250)), IsEmpty());
  EXPECT_THAT(sent.Replace(Pages(0, 250)), IsEmpty());
  EXPECT_THAT(Texts(sent.Replace(Pages(2, 300))),
              UnorderedElementsAre("depth{i=\"0\"}", "depth{i=\"1\"}"));
  EXPECT_THAT(sent.Replace(Pages(2, 300)), IsEmpty());
  EXPECT_EQ(sent.size(), 298u);
}

TEST(SentSeriesTest, SaysSoOfAll) {
  SentSeries sent;
  sent.Replace(Pages(0, 3));
  EXPECT_THAT(sent.Replace({}), SizeIs(3));
  EXPECT_EQ(sent.size(), 0u);
  sent.Replace(Pages(5, 6));
  EXPECT_THAT(Texts(sent.TakeAll()), UnorderedElementsAre("depth{i=\"5\"}"));
  EXPECT_THAT(sent.Replace(Pages(0, 1)), IsEmpty());
}

// docs/push.md says so.
TEST(SentSeriesTest, TakesAFewTensOfBytesASeries) {
  SentSeries sent;
  sent.Replace(Pages(0, 100'000));
  EXPECT_LT(sent.bytes(), 100'000u * 40);
}

TEST(WriteCursorTest, ConnectionsShareTheSeriesOutAmongThem) {
  const WritePages pages = Pages(0, 5'000);
  std::set<uint64_t> seen;
  for (int connection = 0; connection < 4; ++connection) {
    WriteCursor cursor(&pages, connection, 4);
    size_t total = 0;
    for (;;) {
      std::string records;
      const size_t taken = cursor.Take(300, &records);
      WriteRecord record;
      size_t read = 0;
      for (WriteRecordReader reader(records); reader.Next(&record); ++read) {
        EXPECT_TRUE(seen.insert(record.hash).second);
      }
      EXPECT_EQ(read, taken);
      total += taken;
      if (taken == 0) break;
    }
    EXPECT_GT(total, 1'000u);
    EXPECT_LT(total, 1'500u);
  }
  EXPECT_THAT(seen, SizeIs(5'000));
}

TEST(WriteCursorTest, FillsBatchesOverPages) {
  const WritePages pages = Pages(0, 250);
  WriteCursor cursor(&pages, 0, 1);
  std::string records;
  EXPECT_EQ(cursor.Take(120, &records), 120u);
  EXPECT_EQ(cursor.Take(120, &records), 120u);
  EXPECT_EQ(cursor.Take(120, &records), 10u);
  EXPECT_EQ(cursor.Take(120, &records), 0u);
}

TEST(WriteCursorTest, OfNothingTakesNothing) {
  std::string records;
  EXPECT_EQ(WriteCursor().Take(10, &records), 0u);
  const WritePages none;
  EXPECT_EQ(WriteCursor(&none, 0, 1).Take(10, &records), 0u);
}

}  // namespace
}  // namespace tallyd
