#include "core/wire/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/wire/line_fast.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;

// What a line held, each sample as "type name{tags}=value@rate" with repairs after it, or its
// reason.
class Recorder : public SampleSink {
 public:
  void OnSample(const Sample& sample) override { seen.push_back(Describe(sample)); }
  void OnDrop(DropReason reason) override { seen.emplace_back(Name(reason)); }

  static std::string Describe(const Sample& sample) {
    static constexpr const char* kTypes[] = {"", "c", "g", "ms", "h", "s"};
    std::string text = kTypes[static_cast<size_t>(sample.type)];
    text.append(" ").append(sample.name);
    if (!sample.tags.empty()) text.append("{").append(sample.tags).append("}");
    text += "=";
    if (sample.type == SampleType::kSet) {
      text.append(sample.member);
    } else {
      char number[64];
      std::snprintf(number, sizeof(number), "%s%.17g", sample.is_signed ? "signed " : "",
                    sample.value);
      text += number;
      if (sample.is_integer) text += "i" + std::to_string(sample.integer);
    }
    if (sample.rate != 1) text += "@" + std::to_string(sample.rate);
    if (sample.repairs.bad_rates != 0) text += " rates" + std::to_string(sample.repairs.bad_rates);
    if (sample.repairs.unknown_sections != 0) {
      text += " unknown" + std::to_string(sample.repairs.unknown_sections);
    }
    return text;
  }

  std::vector<std::string> seen;
};

std::vector<std::string> Parse(std::string_view line, const LineOptions& options = {}) {
  LineParser parser(options);
  Recorder recorder;
  parser.Parse(line, &recorder);
  return recorder.seen;
}

struct Case {
  const char* line;
  std::vector<std::string> samples;
};

class LineTable : public ::testing::TestWithParam<Case> {};

TEST_P(LineTable, GivesTheseSamples) { EXPECT_EQ(Parse(GetParam().line), GetParam().samples); }

INSTANTIATE_TEST_SUITE_P(
    Plain, LineTable,
    ::testing::Values(Case{"a:1|c", {"c a=1i1"}}, Case{"a.b-c:2.5|g", {"g a.b-c=2.5"}},
                      Case{"a:+3|g", {"g a=signed 3i3"}}, Case{"a:-3|g", {"g a=signed -3"}},
                      Case{"a:320|ms", {"ms a=320i320"}}, Case{"a:1|h", {"h a=1i1"}},
                      Case{"a:1|d", {"h a=1i1"}}, Case{"a:joe|s", {"s a=joe"}},
                      Case{"a:1:2|s", {"s a=1:2"}}, Case{"a:1|c\r", {"c a=1i1"}}, Case{"", {}},
                      Case{"\r", {}}, Case{"a b/c:1|c", {"c a b/c=1i1"}},
                      Case{"\xc3\xa9:1|c", {"c \xc3\xa9=1i1"}}));

INSTANTIATE_TEST_SUITE_P(
    Sections, LineTable,
    ::testing::Values(
        Case{"a:1|c|@0.5", {"c a=1i1@0.500000"}}, Case{"a:1|c|@0", {"c a=1i1"}},
        Case{"a:1|c|@x", {"c a=1i1 rates1"}}, Case{"a:1|c|@", {"c a=1i1 rates1"}},
        Case{"a:1|c|@nan", {"c a=1i1 rates1"}}, Case{"a:8|c|@0.5|@0.25", {"c a=16@0.250000"}},
        Case{"a:1|h|@0.5|@0.25", {"h a=1i1@0.250000"}}, Case{"a:1|c|#k:v", {"c a{k:v}=1i1"}},
        Case{"a:1|c|#k:v|@0.5", {"c a{k:v}=1i1@0.500000"}},
        Case{"a:1|c|@0.5|#k:v,x:y:z", {"c a{k:v,x:y:z}=1i1@0.500000"}},
        Case{"a:1|c|#k:v|#x:y", {"c a{k:v|#x:y}=1i1"}}, Case{"a:1|c|c:id", {"c a{|c:id}=1i1"}},
        Case{"a:1|c|#k:v|c:in-42", {"c a{k:v|c:in-42}=1i1"}},
        Case{"a:1|c|c:id|#k:v", {"c a{|c:id|#k:v}=1i1"}}, Case{"a:1|c|c:", {"bad_container_id"}},
        Case{"a:1|c|T1656581400", {"c a=1i1 unknown1"}},
        Case{"a:1|g|e:it-false|card:low|zz", {"g a=1i1 unknown3"}},
        Case{"a:1|c||#k:v", {"malformed_sample"}}, Case{"a:1|c|", {"malformed_sample"}},
        Case{"a:1|c|c:||T1", {"malformed_sample"}}, Case{"a:1|c|@0|@0.5", {"c a=1i1@0.500000"}},
        Case{"a:1|h|@0.5|@x", {"h a=1i1 rates1"}}, Case{"a:1|c|#", {"c a=1i1"}},
        Case{"a:1|c|#|#k:v", {"c a{k:v}=1i1"}}, Case{"a:1|c|@-0.5", {"c a=1i1@-0.500000"}},
        Case{"a:1|c|@inf", {"c a=1i1@inf"}}, Case{"a:1|c|#k:v|@x|@y", {"c a{k:v}=1i1 rates2"}},
        Case{"a:1|c|#k:v:w:1|c", {"c a{k:v:w:1}=1i1 unknown1"}}));

INSTANTIATE_TEST_SUITE_P(
    Several, LineTable,
    ::testing::Values(Case{"a:1:2:3|ms", {"ms a=1i1", "ms a=2i2", "ms a=3i3"}},
                      Case{"a:1:2|c|#k:v", {"c a{k:v}=1i1", "c a{k:v}=2i2"}},
                      Case{"a:1::x:4|g", {"g a=1i1", "bad_value", "bad_value", "g a=4i4"}},
                      Case{"a:1:2|q", {"bad_packing"}}, Case{"a:1|c:2|ms", {"c a=1i1", "ms a=2i2"}},
                      Case{"a:1|c:x|c:3|g|@0.5", {"c a=1i1", "bad_value", "g a=3i3@0.500000"}},
                      Case{"a:1|c:2", {"c a=1i1", "malformed_sample"}},
                      Case{"a:1|c|c:2|c", {"c a{|c:2}=1i1 unknown1"}},
                      Case{"a:1|s:2|s", {"s a=1", "s a=2"}},
                      Case{"a:1|c::2|c", {"c a=1i1", "malformed_sample", "c a=2i2"}},
                      Case{"a:1:2|c|@x", {"c a=1i1 rates1", "c a=2i2 rates1"}},
                      Case{"a:1:2|c|", {"malformed_sample", "malformed_sample"}},
                      // Labels hold for the samples after theirs, unless theirs was no sample.
                      Case{"a:1|c|c:id:2|g", {"c a{|c:id}=1i1", "g a{|c:id}=2i2"}},
                      Case{"a:1|c|c:i:2|g|c:j", {"c a{|c:i}=1i1", "g a{|c:j}=2i2"}},
                      Case{"a:1|c|c:i|x|c:j:2|g:3|g|c:k|x|c:l:4|g",
                           {"c a{|c:i|c:j}=1i1 unknown1", "g a{|c:i|c:j}=2i2",
                            "g a{|c:k|c:l}=3i3 unknown1", "g a{|c:k|c:l}=4i4"}},
                      Case{"a:1|x|c:id:2|g", {"bad_type", "g a{|c:id}=2i2"}},
                      Case{"a:x|c|c:id:2|g", {"bad_value", "g a=2i2"}},
                      Case{"a:1|c|c:id|:2|g", {"malformed_sample", "g a=2i2"}}));

INSTANTIATE_TEST_SUITE_P(
    Bad, LineTable,
    ::testing::Values(Case{"a", {"malformed_line"}}, Case{":1|c", {"malformed_line"}},
                      Case{"a:1", {"malformed_line"}}, Case{"a|c", {"malformed_line"}},
                      Case{"a:1|c\xff", {"malformed_line"}},
                      Case{"\xc0\xaf:1|c", {"malformed_line"}}, Case{"a:|c", {"bad_value"}},
                      Case{"a: 1|c", {"bad_value"}}, Case{"a:1e999|c", {"bad_value"}},
                      Case{"a:nan|c", {"bad_value"}}, Case{"a:nan|ms", {"bad_value"}},
                      Case{"a:|s", {"bad_value"}}, Case{"a:1|x", {"bad_type"}},
                      Case{"a:1|C", {"bad_type"}}, Case{"a:1|m", {"bad_type"}},
                      Case{"a:x|q", {"bad_value"}}, Case{"a:1|", {"bad_type"}},
                      Case{"a:x|c|", {"bad_value"}}));

// A colon in a section that is known to have one, or in one that nobody knows, starts no sample.
INSTANTIATE_TEST_SUITE_P(
    SectionsWithColons, LineTable,
    ::testing::Values(
        Case{"a:1|c|c:id", {"c a{|c:id}=1i1"}},
        Case{"a:1|c|c:id|@0.5", {"c a{|c:id}=1i1@0.500000"}},
        Case{"a:1|c|e:it-false,cn-x|c:in-7|card:low|T1656581400", {"c a{|c:in-7}=1i1 unknown3"}},
        Case{"a:1|c|z:new", {"c a=1i1 unknown1"}}, Case{"a:1|c|zz:1:2|T1", {"c a=1i1 unknown2"}},
        Case{"a:1|c|cards:x", {"c a=1i1 unknown1"}}, Case{"a:1|c|C:id", {"c a=1i1 unknown1"}},
        Case{"a:1:2|c|c:id", {"c a{|c:id}=1i1", "c a{|c:id}=2i2"}},
        Case{"a:1|c|zz:2|c", {"c a=1i1 unknown1", "c a=2i2"}},
        Case{"a:1|c|zz:joe|s", {"c a=1i1 unknown1", "s a=joe"}},
        Case{"a:1|c|zz:x|c", {"c a=1i1 unknown2"}},
        Case{"a:1|c|T12:2|c", {"c a=1i1 unknown1", "c a=2i2"}},
        Case{"a:1|c|T12:x|c", {"c a=1i1 unknown1", "bad_value"}},
        Case{"a:1|c|@0.5:x|c", {"c a=1i1@0.500000", "bad_value"}},
        Case{"a:1|c|e:x:2|c", {"c a=1i1 unknown1", "c a=2i2"}},
        Case{"a:1|c|card:low:2|c|card:x", {"c a=1i1 unknown1", "c a=2i2 unknown1"}},
        Case{"a:1|cc:2|c", {"bad_type", "c a=2i2"}},
        Case{"a:1|c:id", {"c a=1i1", "malformed_sample"}},
        Case{"a:1|c|card:", {"c a=1i1 unknown1"}}, Case{"a:1|c|e:", {"c a=1i1 unknown1"}},
        Case{"a:1|c|c:|c:x", {"bad_container_id"}},
        Case{"a:1|c|#k:v|e:x|card:y|z:1", {"c a{k:v}=1i1 unknown3"}}));

// The name is kept as it was sent; only a line with good tags in it and a tag section is refused.
INSTANTIATE_TEST_SUITE_P(
    NameTags, LineTable,
    ::testing::Values(
        Case{"a,b=c:1|c", {"c a,b=c=1i1"}}, Case{"a#b=c:1|c|@0.5", {"c a#b=c=1i1@0.500000"}},
        Case{"a[b=c]d:1|c", {"c a[b=c]d=1i1"}}, Case{"a]b[:1|c", {"c a]b[=1i1"}},
        Case{"a,b=c:1:2|ms", {"ms a,b=c=1i1", "ms a,b=c=2i2"}},
        Case{"a,b=c:1|c:2|g", {"c a,b=c=1i1", "g a,b=c=2i2"}},
        Case{"a,b=c:1|c|c:id", {"c a,b=c{|c:id}=1i1"}}, Case{"#b=c:1|c", {"c #b=c=1i1"}},
        Case{"a,b=c:1|c|#k:v", {"mixed_tag_dialects"}}, Case{"a#b=c:1|c|#", {"mixed_tag_dialects"}},
        Case{"a[b=c]:1|c|@0.5|#k:v", {"mixed_tag_dialects"}},
        Case{"#b=c:1|c|#k:v", {"mixed_tag_dialects"}}, Case{"a,b=c:x|q|#", {"mixed_tag_dialects"}},
        Case{"a,b=c:1:2:3|q|#k:v", {"mixed_tag_dialects"}},
        Case{"a,b=c:1|c:2|g|#k:v", {"mixed_tag_dialects"}},
        Case{"a,b=c:|#", {"mixed_tag_dialects"}},
        Case{"a,b=c:1|s|c:x|#k:v", {"mixed_tag_dialects"}},
        // Without a good label in the name both are read.
        Case{"a,b:1|c|#k:v", {"c a,b{k:v}=1i1"}}, Case{"a[b=c:1|c|#k:v", {"c a[b=c{k:v}=1i1"}},
        Case{"a,:1|c|#", {"c a,=1i1"}}, Case{"a]b=c[:1|c|#k:v", {"c a]b=c[{k:v}=1i1"}},
        Case{"a,b=c\xff:1|c|#k:v", {"malformed_line"}}));

TEST(LineTest, DialectsThatAreOffDoNotMix) {
  LineOptions options;
  options.tags = {.dogstatsd = true, .influxdb = false, .librato = true, .signalfx = false};
  EXPECT_THAT(Parse("a,b=c:1|c|#k:v", options), ElementsAre("c a,b=c{k:v}=1i1"));
  EXPECT_THAT(Parse("a[b=c]:1|c|#k:v", options), ElementsAre("c a[b=c]{k:v}=1i1"));
  EXPECT_THAT(Parse("a#b=c:1|c|#k:v", options), ElementsAre("mixed_tag_dialects"));
}

TEST(LineTest, ATagSectionKeepsALineOneSampleWhoeverReadsIt) {
  LineOptions options;
  options.tags.dogstatsd = false;
  EXPECT_THAT(Parse("a:1|c|#k:v:2|c", options), ElementsAre("c a{k:v:2}=1i1 unknown1"));
  EXPECT_THAT(Parse("a,b=c:1|c|#k:v", options), ElementsAre("mixed_tag_dialects"));
}

TEST(LineTest, NamesMayHoldAnythingButAColonAndALineEnd) {
  for (int byte = 0; byte < 128; ++byte) {
    if (byte == ':' || byte == '\n') continue;
    const std::string name = std::string("a") + static_cast<char>(byte) + "b";
    EXPECT_THAT(Parse(name + ":1|c"), ElementsAre("c " + name + "=1i1"));
  }
  EXPECT_THAT(Parse(std::string("\0:1|c", 5)), ElementsAre(std::string("c \0=1i1", 7)));
}

TEST(LineTest, OneCarriageReturnIsNoPartOfTheLine) {
  EXPECT_THAT(Parse("a:1|c\r\r"), ElementsAre("bad_type"));
  EXPECT_THAT(Parse("a:1|c|#k:v\r"), ElementsAre("c a{k:v}=1i1"));
  EXPECT_THAT(Parse("a:1|c|#k:v\r\r"), ElementsAre("c a{k:v\r}=1i1"));
  EXPECT_THAT(Parse("a:x|s\r"), ElementsAre("s a=x"));
  EXPECT_THAT(Parse("a:1|c|\r"), ElementsAre("malformed_sample"));
}

TEST(LineTest, NanIsAGauge) {
  LineParser parser;
  Recorder recorder;
  parser.Parse("a:NaN|g", &recorder);
  EXPECT_THAT(recorder.seen, ElementsAre(::testing::StartsWith("g a=")));
}

// Whether each sample continues its line.
std::vector<bool> Continues(std::string_view line) {
  class Sink : public SampleSink {
   public:
    void OnSample(const Sample& sample) override { seen.push_back(sample.continues); }
    void OnDrop(DropReason) override {}
    std::vector<bool> seen;
  };
  static LineParser parser;
  Sink sink;
  parser.Parse(line, &sink);
  return sink.seen;
}

TEST(LineTest, SamplesAfterTheFirstSayThatTheyContinueTheLine) {
  EXPECT_THAT(Continues("a:1|c"), ElementsAre(false));
  EXPECT_THAT(Continues("a:1:2:3|ms"), ElementsAre(false, true, true));
  EXPECT_THAT(Continues("a:1|c:2|g"), ElementsAre(false, true));
  EXPECT_THAT(Continues("a:x:2:3|ms"), ElementsAre(false, true)) << "the first sample is the 2";
}

TEST(LineTest, LongLinesAreOneSample) {
  EXPECT_THAT(Parse(std::string(65'532, 'a') + ":1|c"), ElementsAre("too_long"));
  EXPECT_EQ(Parse(std::string(65'531, 'a') + ":1|c").size(), 1u);
  EXPECT_NE(Parse(std::string(65'531, 'a') + ":1|c")[0], "too_long");
}

TEST(LineTest, TheLimitCountsTheLineWithoutItsEnd) {
  LineOptions options;
  options.max_line_bytes = 5;
  EXPECT_THAT(Parse("a:1|c", options), ElementsAre("c a=1i1"));
  EXPECT_THAT(Parse("a:1|c\r", options), ElementsAre("c a=1i1"));
  EXPECT_THAT(Parse("a:12|c", options), ElementsAre("too_long"));
  EXPECT_THAT(Parse(std::string(100'000, 'x'), LineOptions{.max_line_bytes = 1 << 20, .tags = {}}),
              ElementsAre("too_long"))
      << "sizes of names are kept in 16 bits";
}

TEST(LineTest, SectionsHaveNoLimitInNumber) {
  std::string line = "a:1|c";
  for (int i = 0; i < 2'000; ++i) line += "|T1";
  EXPECT_THAT(Parse(line + "|@0.5"), ElementsAre("c a=1i1@0.500000 unknown2000"));
}

TEST(LineTest, TheFastParserLeavesEmptyTagSectionsToTheRule) {
  Sample sample;
  for (const std::string line : {"a,b=c:1|c|#", "a:1|c|#\r", "a:1|c|@0.5|#"}) {
    EXPECT_EQ(ParseLineFast((line + "\n" + std::string(kReadPadding, 'x')).data(), &sample),
              nullptr)
        << line;
  }
}

TEST(LineTest, TheFastParserTakesWhatClientsSendWithEveryLine) {
  Sample sample;
  for (const std::string line :
       {"a:1|c|#k:v|c:id", "a:1|c|@0.5|#k:v|c:ci-1,in-2|e:it-x|card:low|T1656581400\r",
        "a:1|c|c:id", "a:1|c|@0.5|c:in-7\r", "a:1|ms|#k:v|zz|c", "a,b=c:1|c|c:id"}) {
    EXPECT_NE(ParseLineFast((line + "\n" + std::string(kReadPadding, 'x')).data(), &sample),
              nullptr)
        << line;
  }
  for (const std::string line :
       {"a:1|c|c:", "a:1|c|#k:v|c:\r", "a:1|c|c:id:2|c", "a:1|c|#k:v|T1|c:id", "a:1|c|#k:v|#x:y",
        "a:1|c|#k:v|@1", "a:1|c|#k:v|", "a:1|c|#k:v|\r", "a:1|c|#k:v||c:id", "a:1|c|c:id|c:id",
        "a:1|c|c:id|T1", "a:1|c|#k:v|c:\xc3\xa9", "a:1|c|#|c:id"}) {
    EXPECT_EQ(ParseLineFast((line + "\n" + std::string(kReadPadding, 'x')).data(), &sample),
              nullptr)
        << line;
  }
}

// The fast parser may decline a line, but never read it differently.
void ExpectFastAgrees(const std::string& line) {
  std::string padded = line + "\n";
  padded.resize(padded.size() + kReadPadding, '#');
  Sample sample;
  if (padded[0] == '\n') return;
  const char* const end = ParseLineFast(padded.data(), &sample);
  if (end == nullptr) return;
  ASSERT_EQ(end, padded.data() + line.size()) << line;
  EXPECT_THAT(Parse(line), ElementsAre(Recorder::Describe(sample))) << line;
}

TEST(LineTest, FastAgreesOnMutatedLines) {
  const std::vector<std::string> seeds = {
      "a:1|c",
      "api.latency.p:320|ms|@0.1|#region:eu-1,host:a",
      "g:-12.25|g|#k:v\r",
      "h:1.5e3|h",
      "long.name.with.many.parts.in.it.for.sixty.four.bytes.and.more.of.them:7|d",
      "x:123456789|c",
      "x:1234567|c|@0.25",
      "x:12345678901234567890|c",
      "x:0.1|g",
      "x:1.|ms",
      "x:1|c|#k:v|c:id|e:it-x|card:low|T1",
      "x:1|c|c:in-7"};
  const std::string alphabet = "ab:|#@,.+-0123456789cgmshd\r\xc3\xa9 TE_";
  std::mt19937 random(11);
  size_t accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string line = seeds[random() % seeds.size()];
    for (unsigned edits = random() % 4; edits > 0 && !line.empty(); --edits) {
      const size_t at = random() % line.size();
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 3) {
        case 0:
          line[at] = c;
          break;
        case 1:
          line.insert(at, 1, c);
          break;
        default:
          line.erase(at, 1);
      }
    }
    ExpectFastAgrees(line);
    if (HasFatalFailure()) return;
    std::string padded = line + "\n" + std::string(kReadPadding, '#');
    Sample sample;
    accepted += !line.empty() && ParseLineFast(padded.data(), &sample) != nullptr ? 1 : 0;
  }
  EXPECT_GT(accepted, 50'000u) << "the fast parser declines nearly everything";
}

// Each sample brings a container id. What the samples have for keys is no longer than the line.
TEST(LineTest, KeysDoNotGrowFromSampleToSample) {
  class Sizes : public SampleSink {
   public:
    void OnSample(const Sample& sample) override {
      ++samples;
      longest = std::max(longest, sample.tags.size());
    }
    void OnDrop(DropReason reason) override { FAIL() << Name(reason); }
    size_t samples = 0;
    size_t longest = 0;
  };
  for (const std::string more : {":1|c|c:x", ":1|c|c:x|y|c:z"}) {
    std::string line = "a:1|c|c:x";
    while (line.size() + more.size() < kMaxLineBytes) line += more;
    LineParser parser;
    Sizes sizes;
    parser.Parse(line, &sizes);
    EXPECT_EQ(sizes.samples, 1 + (line.size() - 9) / more.size());
    EXPECT_LE(sizes.longest, 10u);
  }
}

}  // namespace
}  // namespace tallyd
