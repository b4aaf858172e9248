// Property: on every line, LineParser says what the book says; and where the fast parser takes a
// line, it says so too. Lines are put together from the pieces of the grammar and then damaged.

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"
#include "tests/core/wire/reference_parser.h"

namespace tallyd {
namespace {

class LineMaker {
 public:
  explicit LineMaker(unsigned seed) : random_(seed) {}

  LineOptions NextOptions() {
    const auto flags = random_();
    LineOptions options;
    options.max_line_bytes = flags % 64 == 0 ? 20 : kMaxLineBytes;
    options.tags = {.dogstatsd = (flags >> 6) % 4 != 0,
                    .influxdb = (flags >> 8) % 4 != 0,
                    .librato = (flags >> 10) % 4 != 0,
                    .signalfx = (flags >> 12) % 4 != 0};
    return options;
  }

  std::string Next() {
    if (random_() % 16 == 0) return NextEvent();
    std::string line = MakeName() + ":";
    for (unsigned i = random_() % 4; i > 0; --i) line += Pick(kValues) + ":";
    line += MakeSample();
    while (random_() % 4 == 0) line += ":" + MakeSample();
    return Finish(std::move(line));
  }

  // Of the kind that the fast parser is made for, or nearly so.
  std::string NextOrdinary() {
    std::string line = MakeName() + ":" + std::to_string(random_() % 100'000'000) + "|" +
                       std::string(kTypes[random_() % 8]);
    if (random_() % 4 == 0) line += "|@0." + std::to_string(random_() % 1000);
    if (random_() % 2 == 0) line += "|#a:b,c:d";
    while (random_() % 2 == 0) line += "|" + Pick(kSections);
    return Finish(std::move(line));
  }

  std::string NextEvent() {
    const std::string title = Pick(kTexts);
    const std::string text = Pick(kTexts);
    std::string line = random_() % 2 == 0
                           ? "_sc|" + title + "|" + Pick(kStatus)
                           : "_e{" + std::to_string(title.size()) + "," +
                                 std::to_string(text.size()) + "}:" + title + "|" + text;
    while (random_() % 3 != 0) line += "|" + Pick(kFields);
    return Finish(std::move(line));
  }

 private:
  static constexpr std::array<std::string_view, 14> kNames = {
      "a",    "a.b", "api.latency", "a|b", "a b", "-",   "é", "名",
      "\xff", "",    "_e",          "_sc", "_",   "_e{x"};
  static constexpr std::array<std::string_view, 18> kNameTags = {
      ",a=b", "#a=b",  "[a=b]", "[a=b]c", ",a=b,c=d", "#a=b#c", ",",       "#",     "[]",
      "[",    "]a=b[", ",a",    ",=b",    ",a=",      "#,a=b",  "[a],b=c", "],a=b", ",,#a==b"};
  static constexpr std::array<std::string_view, 9> kTexts = {
      "a", "a b", "a|b", "a:b", "a}:b", "é", "", "5|c", "_e{1,1}:a|b"};
  static constexpr std::array<std::string_view, 8> kStatus = {"0", "1", "2",  "3",
                                                              "4", "",  "00", "x"};
  static constexpr std::array<std::string_view, 9> kFields = {
      "d:1600", "h:web", "p:low", "p:odd", "t:error", "#a:b,c", "c:id", "m:a|b|c", ""};
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

  std::string MakeName() {
    std::string name = Pick(kNames);
    if (random_() % 4 == 0) name += Pick(kNameTags);
    return name;
  }

  std::string Finish(std::string line) {
    if (random_() % 10 == 0) line += '\r';
    for (unsigned i = random_() % 8; i > 5; --i) Damage(&line);
    return line;
  }

  std::string MakeSample() {
    std::string sample = Pick(kValues);
    if (random_() % 20 != 0) sample += "|" + Pick(kTypes);
    while (random_() % 3 != 0) sample += "|" + Pick(kSections);
    return sample;
  }

  void Damage(std::string* line) {
    static constexpr std::string_view kBytes =
        ":::|||##@,+-.0159cgmshdeTx_ []={}\r\xc3\xa9\xe2\x82\xac";
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

// The options change with every line; a parser has those that it was made with.
class ParserFor {
 public:
  LineParser& operator()(const LineOptions& options) {
    const size_t index = (options.max_line_bytes == kMaxLineBytes ? 0u : 16u) +
                         (options.tags.dogstatsd ? 8u : 0u) + (options.tags.influxdb ? 4u : 0u) +
                         (options.tags.librato ? 2u : 0u) + (options.tags.signalfx ? 1u : 0u);
    if (parsers_[index] == nullptr) parsers_[index] = std::make_unique<LineParser>(options);
    return *parsers_[index];
  }

 private:
  std::array<std::unique_ptr<LineParser>, 32> parsers_;
};

TEST(ReferenceTest, LineParserSaysWhatTheBookSays) {
  LineMaker lines(20261121);
  ParserFor parser_for;
  size_t samples = 0;
  size_t drops = 0;
  size_t events = 0;
  for (int i = 0; i < 400'000; ++i) {
    const std::string line = lines.Next();
    const LineOptions options = lines.NextOptions();
    Comparison comparison(line, options);
    parser_for(options).Parse(line, &comparison);
    ASSERT_TRUE(comparison.ok()) << '"' << line << '"';
    samples += comparison.samples();
    drops += comparison.drops();
    events += comparison.events();
  }
  EXPECT_GT(samples, 100'000u) << "hardly a line was good";
  EXPECT_GT(drops, 100'000u) << "hardly a line was bad";
  EXPECT_GT(events, 10'000u) << "hardly a line was an event";
}

TEST(ReferenceTest, FastParserSaysWhatTheBookSays) {
  LineMaker lines(7);
  int taken = 0;
  int mixed = 0;
  for (int i = 0; i < 400'000; ++i) {
    const std::string line = i % 2 == 0 ? lines.Next() : lines.NextOrdinary();
    if (line.empty()) continue;
    LineOptions options = lines.NextOptions();
    options.max_line_bytes = kMaxLineBytes;  // whoever calls the fast parser looks to the length
    std::string padded = line + "\n";
    padded.resize(padded.size() + kReadPadding, '|');
    Sample sample;
    const char* const end = ParseLineFast(padded.data(), &sample);
    if (end == nullptr) continue;
    ++taken;
    ASSERT_EQ(end, padded.data() + line.size()) << '"' << line << '"';
    ASSERT_TRUE(FastAgrees(line, options, sample)) << '"' << line << '"';
    mixed += ParseByTheBook(line, options)[0].drop ? 1 : 0;
  }
  EXPECT_GT(taken, 50'000) << "the fast parser took hardly a line";
  EXPECT_GT(mixed, 1'000) << "hardly a line was left to the rules";
}

}  // namespace
}  // namespace tallyd
