// Framing: however the bytes are cut on their way, the same units come out.

#include "core/wire/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/wire/sample.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What a framer made of a stream.
struct Taken {
  std::vector<std::string> units;  // frames, or single lines
  FrameError error = FrameError::kNone;
  bool partial = false;

  bool operator==(const Taken&) const = default;
};

class Reader {
 public:
  explicit Reader(std::unique_ptr<Framer> framer, bool lines)
      : framer_(std::move(framer)), lines_(lines) {}

  void Feed(const std::string& piece) {
    buffer_.assign(piece.begin(), piece.end());
    buffer_.resize(piece.size() + kReadPadding, '#');
    taken_.error = framer_->Feed(buffer_.data(), piece.size(),
                                 [this](char* unit, size_t size) { Take(unit, size); });
  }
  Taken Finish() {
    framer_->Finish([this](char* unit, size_t size) { Take(unit, size); });
    taken_.partial = taken_.error == FrameError::kNone && framer_->has_partial();
    return taken_;
  }
  Framer& framer() { return *framer_; }
  const std::vector<std::string>& units() const { return taken_.units; }

 private:
  void Take(const char* unit, size_t size) {
    std::string text(unit, size);
    if (!lines_) {
      taken_.units.push_back(text);
      return;
    }
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = std::min(text.find('\n', at), text.size());
      taken_.units.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }

  std::unique_ptr<Framer> framer_;
  bool lines_;
  std::vector<char> buffer_;
  Taken taken_;
};

using MakeReader = std::function<Reader()>;

Reader Frames(size_t limit = 64) { return Reader(std::make_unique<LengthFramer>(limit), false); }
Reader Lines(size_t limit = 64) { return Reader(std::make_unique<LineFramer>(limit), true); }

std::string Frame(const std::string& body) {
  const uint32_t size = static_cast<uint32_t>(body.size());
  std::string frame(4, '\0');
  for (int i = 0; i < 4; ++i) frame[static_cast<size_t>(i)] = static_cast<char>(size >> (8 * i));
  return frame + body;
}

Taken ReadWhole(Reader reader, const std::string& stream) {
  reader.Feed(stream);
  return reader.Finish();
}

Taken ReadPieces(Reader reader, const std::string& stream, const std::vector<size_t>& cuts) {
  size_t at = 0;
  for (const size_t cut : cuts) {
    reader.Feed(stream.substr(at, cut - at));
    at = cut;
  }
  reader.Feed(stream.substr(at));
  return reader.Finish();
}

// All ways to cut a stream in two and in three, and one byte at a time.
void ExpectSplitsChangeNothing(const MakeReader& make, const std::string& stream) {
  const Taken whole = ReadWhole(make(), stream);
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      ASSERT_EQ(ReadPieces(make(), stream, {first, second}), whole) << first << " " << second;
    }
  }
  std::vector<size_t> every;
  for (size_t i = 1; i < stream.size(); ++i) every.push_back(i);
  EXPECT_EQ(ReadPieces(make(), stream, every), whole);
}

TEST(LengthFramerTest, TakesFramesApart) {
  const Taken taken = ReadWhole(Frames(), Frame("a:1|c") + Frame("b:2|c\nc:3|c"));
  EXPECT_THAT(taken.units, ElementsAre("a:1|c", "b:2|c\nc:3|c"));
  EXPECT_FALSE(taken.partial);
}

TEST(LengthFramerTest, AnEmptyFrameIsAFrame) {
  const Taken taken = ReadWhole(Frames(), Frame("") + Frame("a:1|c") + Frame(""));
  EXPECT_THAT(taken.units, ElementsAre("", "a:1|c", ""));
  EXPECT_FALSE(taken.partial);
}

TEST(LengthFramerTest, AFrameOfTheLimitPassesAndOneByteMoreDoesNot) {
  EXPECT_THAT(ReadWhole(Frames(5), Frame("abcde")).units, ElementsAre("abcde"));
  const Taken over = ReadWhole(Frames(5), Frame("ok") + Frame("abcdef") + Frame("no"));
  EXPECT_THAT(over.units, ElementsAre("ok"));
  EXPECT_EQ(over.error, FrameError::kFrameTooLong);
}

TEST(LengthFramerTest, HugeAnnouncedLengthsAreOffences) {
  for (const char* header : {"\xff\xff\xff\xff", "\x00\x00\x00\x80", "\x01\x00\x01\x00"}) {
    const Taken taken = ReadWhole(Frames(65'536), std::string(header, 4) + "x");
    EXPECT_EQ(taken.error, FrameError::kFrameTooLong);
    EXPECT_THAT(taken.units, IsEmpty());
  }
}

TEST(LengthFramerTest, SaysThatTheEndCutAFrame) {
  EXPECT_TRUE(ReadWhole(Frames(), Frame("abc").substr(0, 6)).partial);
  EXPECT_TRUE(ReadWhole(Frames(), Frame("abc").substr(0, 2)).partial);
  EXPECT_TRUE(ReadWhole(Frames(), Frame("abc").substr(0, 4)).partial);
}

TEST(LengthFramerTest, SplitsChangeNothing) {
  ExpectSplitsChangeNothing([] { return Frames(); },
                            Frame("a:1|c") + Frame("") + Frame("bb:2|ms\nb:3|c") + Frame("x"));
  ExpectSplitsChangeNothing([] { return Frames(); }, Frame("a:1|c") + Frame("cut").substr(0, 6));
  ExpectSplitsChangeNothing([] { return Frames(8); },
                            Frame("a") + Frame("more than eight") + Frame("b"));
}

TEST(LengthFramerTest, TenThousandFramesInOneWrite) {
  std::string stream;
  for (int i = 0; i < 10'000; ++i) stream += Frame("n:" + std::to_string(i) + "|g");
  const Taken taken = ReadWhole(Frames(), stream);
  ASSERT_EQ(taken.units.size(), 10'000u);
  EXPECT_EQ(taken.units.back(), "n:9999|g");
}

TEST(LengthFramerTest, EmittedFramesStayUntilTheNextFeed) {
  LengthFramer framer(64);
  std::string stream = Frame("first") + Frame("second") + Frame("third").substr(0, 7);
  stream.append(kReadPadding, '#');
  std::vector<std::pair<const char*, size_t>> units;
  const auto take = [&units](char* unit, size_t size) { units.emplace_back(unit, size); };
  framer.Feed(stream.data(), 6, take);
  framer.Feed(stream.data() + 6, stream.size() - kReadPadding - 6, take);
  ASSERT_EQ(units.size(), 2u);
  EXPECT_EQ(std::string(units[0].first, units[0].second), "first");
  EXPECT_EQ(std::string(units[1].first, units[1].second), "second");
}

TEST(LineFramerTest, TakesLinesApartAndTheLastNeedsNoLf) {
  EXPECT_THAT(ReadWhole(Lines(), "a:1|c\nb:2|c\n\nc:3|c").units,
              ElementsAre("a:1|c", "b:2|c", "", "c:3|c"));
  EXPECT_FALSE(ReadWhole(Lines(), "a:1|c\nb").partial);
}

TEST(LineFramerTest, LeavesTheCarriageReturnToTheParser) {
  EXPECT_THAT(ReadWhole(Lines(), "a:1|c\r\nb:2|c\r\n").units, ElementsAre("a:1|c\r", "b:2|c\r"));
}

TEST(LineFramerTest, ALineOfTheLimitPassesAndOneByteMoreDoesNot) {
  EXPECT_THAT(ReadWhole(Lines(5), "abcde\nfghij").units, ElementsAre("abcde", "fghij"));
  const Taken over = ReadWhole(Lines(5), "ok\nabcdef\nno\n");
  EXPECT_THAT(over.units, ElementsAre("ok"));
  EXPECT_EQ(over.error, FrameError::kLineTooLong);
  EXPECT_EQ(ReadWhole(Lines(5), "abcdef").error, FrameError::kLineTooLong);
}

TEST(LineFramerTest, SplitsChangeNothing) {
  ExpectSplitsChangeNothing([] { return Lines(); }, "a:1|c\n\nbb:2|ms\r\nb:3|c\nlast:1|c");
  ExpectSplitsChangeNothing([] { return Lines(6); }, "a:1|c\nb:22|c\nccccccc\nd:1|c\n");
  ExpectSplitsChangeNothing([] { return Lines(6); }, "a:1|c\nccccccc");
}

TEST(FramerTest, RandomSplitsOfLongStreamsChangeNothing) {
  std::mt19937 random(20261121);
  for (int round = 0; round < 200; ++round) {
    std::string frames;
    std::string lines;
    for (int i = 0; i < 50; ++i) {
      const std::string body(random() % 40, static_cast<char>('a' + i % 26));
      frames += Frame(body);
      lines += body + "\n";
    }
    std::vector<size_t> cuts;
    for (int i = 0; i < 30; ++i) cuts.push_back(random() % lines.size());
    std::sort(cuts.begin(), cuts.end());
    ASSERT_EQ(ReadPieces(Frames(), frames, cuts), ReadWhole(Frames(), frames));
    ASSERT_EQ(ReadPieces(Lines(), lines, cuts), ReadWhole(Lines(), lines));
  }
}

TEST(FramerTest, AnotherGoesOnWhereOneStopped) {
  const auto check = [](const MakeReader& make, const std::string& stream) {
    Reader whole = make();
    whole.Feed(stream);
    const std::vector<std::string> expected = whole.Finish().units;
    for (size_t cut = 0; cut <= stream.size(); ++cut) {
      Reader first = make();
      first.Feed(stream.substr(0, cut));
      std::vector<std::string> units = first.units();
      Reader second = make();
      second.Feed(first.framer().Partial());
      ASSERT_THAT(second.units(), IsEmpty()) << cut;
      ASSERT_EQ(second.framer().has_partial(), first.framer().has_partial()) << cut;
      second.Feed(stream.substr(cut));
      for (const std::string& unit : second.Finish().units) units.push_back(unit);
      ASSERT_EQ(units, expected) << cut;
    }
  };
  check([] { return Frames(); }, Frame("a:1|c") + Frame("") + Frame("b:2|c\nc:3|c") + Frame("d"));
  check([] { return Lines(); }, "a:1|c\nb:2|c\r\n\nc:3|c");
}

TEST(PartialUnitTest, GrowsWithWhatWasReceived) {
  PartialUnit partial;
  partial.Append("abc", 3);
  EXPECT_LT(partial.memory(), 1024u);
  partial.Release();
  EXPECT_EQ(partial.memory(), 0u);
}

}  // namespace
}  // namespace tallyd
