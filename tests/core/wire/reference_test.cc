// Property: on every line, LineParser says what the book says; and where the fast parser takes a
// line, it says so too. Lines are put together from the pieces of the grammar and then damaged.

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"
#include "tests/core/wire/reference_parser.h"

namespace tallyd {
namespace {

class LineMaker {
 public:
  explicit LineMaker(unsigned seed) : random_(seed) {}

  std::string Next() {
    std::string line = Pick(kNames) + ":";
    for (unsigned i = random_() % 4; i > 0; --i) line += Pick(kValues) + ":";
    line += MakeSample();
    while (random_() % 4 == 0) line += ":" + MakeSample();
    if (random_() % 10 == 0) line += '\r';
    for (unsigned i = random_() % 8; i > 5; --i) Damage(&line);
    return line;
  }

 private:
  static constexpr std::array<std::string_view, 10> kNames = {
      "a", "a.b", "api.latency", "a|b", "a b", "-", "é", "名", "\xff", ""};
  static constexpr std::array<std::string_view, 40> kValues = {"1",
                                                               "2",
                                                               "0",
                                                               "-0",
                                                               "+5",
                                                               "-5",
                                                               "3.25",
                                                               ".5",
                                                               "5.",
                                                               "1e3",
                                                               "1e400",
                                                               "1e-400",
                                                               "0x1p4",
                                                               "0x10",
                                                               "1_000",
                                                               "_1",
                                                               "inf",
                                                               "-inf",
                                                               "nan",
                                                               "NaN",
                                                               "+nan",
                                                               "joe",
                                                               "",
                                                               " 1",
                                                               "1 ",
                                                               "--1",
                                                               "12345",
                                                               "12345678",
                                                               "1.2.",
                                                               "1.5e",
                                                               "0012",
                                                               "9007199254740993",
                                                               "18446744073709551616",
                                                               "123456789012345",
                                                               "1234567890.12345",
                                                               "0.1",
                                                               "c",
                                                               "é",
                                                               "@",
                                                               "#"};
  static constexpr std::array<std::string_view, 14> kTypes = {
      "c", "c", "g", "g", "ms", "ms", "h", "d", "s", "C", "mS", "", "x", "cc"};
  static constexpr std::array<std::string_view, 28> kSections = {
      "@0.5", "@0.25",    "@1", "@0",       "@-1",     "@inf",    "@nan", "@",  "@x",     "@1e999",
      "#a:b", "#a:b,c:d", "#",  "##a:b",    "#a,,b:",  "#a:b:c",  "c:id", "c:", "c:in-4", "c",
      "T165", "e:it-x",   "e",  "card:low", "cards:x", "unknown", "",     "x:1"};

  template <size_t kSize>
  std::string Pick(const std::array<std::string_view, kSize>& from) {
    return std::string(from[random_() % kSize]);
  }

  std::string MakeSample() {
    std::string sample = Pick(kValues);
    if (random_() % 20 != 0) sample += "|" + Pick(kTypes);
    while (random_() % 3 != 0) sample += "|" + Pick(kSections);
    return sample;
  }

  void Damage(std::string* line) {
    static constexpr std::string_view kBytes = ":::|||##@,+-.0159cgmshdeTx_ \r\xc3\xa9\xe2\x82\xac";
    if (line->empty()) return;
    const size_t at = random_() % line->size();
    const char byte = kBytes[random_() % kBytes.size()];
    switch (random_() % 4) {
      case 0:
        (*line)[at] = byte;
        break;
      case 1:
        line->insert(at, 1, byte);
        break;
      case 2:
        line->erase(at, 1);
        break;
      default:
        line->insert(at, line->substr(random_() % line->size(), random_() % 6));
    }
  }

  std::mt19937 random_;
};

// Holds what the parser gives against what the book says, one by one.
class Comparison : public SampleSink {
 public:
  explicit Comparison(const std::string& line) : expected_(ParseByTheBook(line)) {}

  void OnSample(const Sample& sample) override {
    ok_ = ok_ && seen_ < expected_.size() && Agrees(expected_[seen_], sample);
    ++seen_;
  }
  void OnDrop(DropReason reason) override {
    ok_ = ok_ && seen_ < expected_.size() && expected_[seen_].drop == reason;
    ++seen_;
  }
  bool ok() const { return ok_ && seen_ == expected_.size(); }
  size_t drops() const {
    size_t drops = 0;
    for (const ReferenceSample& sample : expected_) drops += sample.drop ? 1 : 0;
    return drops;
  }
  size_t samples() const { return expected_.size() - drops(); }

 private:
  std::vector<ReferenceSample> expected_;
  size_t seen_ = 0;
  bool ok_ = true;
};

TEST(ReferenceTest, LineParserSaysWhatTheBookSays) {
  LineMaker lines(20261121);
  LineParser parser;
  size_t samples = 0;
  size_t drops = 0;
  for (int i = 0; i < 300'000; ++i) {
    const std::string line = lines.Next();
    Comparison comparison(line);
    parser.Parse(line, &comparison);
    ASSERT_TRUE(comparison.ok()) << '"' << line << '"';
    samples += comparison.samples();
    drops += comparison.drops();
  }
  EXPECT_GT(samples, 100'000u) << "hardly a line was good";
  EXPECT_GT(drops, 100'000u) << "hardly a line was bad";
}

TEST(ReferenceTest, FastParserSaysWhatTheBookSays) {
  LineMaker lines(7);
  int taken = 0;
  for (int i = 0; i < 300'000; ++i) {
    const std::string line = lines.Next();
    if (line.empty()) continue;
    std::string padded = line + "\n";
    padded.resize(padded.size() + kReadPadding, '|');
    Sample sample;
    const char* const end = ParseLineFast(padded.data(), &sample);
    if (end == nullptr) continue;
    ++taken;
    ASSERT_EQ(end, padded.data() + line.size()) << '"' << line << '"';
    Comparison comparison(line);
    comparison.OnSample(sample);
    ASSERT_TRUE(comparison.ok()) << '"' << line << '"';
  }
  EXPECT_GT(taken, 2000) << "the fast parser took hardly a line";
}

}  // namespace
}  // namespace tallyd
