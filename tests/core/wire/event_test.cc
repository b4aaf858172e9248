#include "core/wire/event.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"

namespace tallyd {
namespace {

// What became of a line: "event", "service_check", "sample", or the reason for a loss.
std::vector<std::string> Outcomes(std::string_view line) {
  class Sink : public SampleSink {
   public:
    void OnSample(const Sample&) override { seen.emplace_back("sample"); }
    void OnDrop(DropReason reason) override { seen.emplace_back(Name(reason)); }
    void OnEvent(EventKind kind) override { seen.emplace_back(Name(kind)); }
    std::vector<std::string> seen;
  };
  static LineParser parser;
  Sink sink;
  parser.Parse(line, &sink);
  return sink.seen;
}

struct Case {
  std::string line;
  std::string outcome;
};

class EventTable : public ::testing::TestWithParam<Case> {};

TEST_P(EventTable, HasThisOutcome) {
  EXPECT_EQ(Outcomes(GetParam().line), std::vector<std::string>{GetParam().outcome})
      << GetParam().line;
}

// The lengths are bytes and decide alone where title and text end.
INSTANTIATE_TEST_SUITE_P(
    Events, EventTable,
    ::testing::Values(
        Case{"_e{5,4}:title|text", "event"}, Case{"_e{1,1}:5|c", "event"},
        Case{"_e{1,0}:a|", "event"}, Case{"_e{3,3}:a|b|c|d", "event"},
        Case{"_e{3,3}:a:b|c:d", "event"}, Case{"_e{2,1}:\xc3\xa9|x", "event"},
        Case{"_e{01,002}:a|bc", "event"}, Case{"_e{1,4}:a|b\\nc", "event"},
        Case{"_e{1,1}:a|b\r", "event"}, Case{std::string("_e{1,1}:a|\0", 11), "event"},
        Case{"_e{1,1}:a|b|d:1600|h:web|k:key|p:low|s:src|t:error|#a:b,c|c:id|e:x|card:low",
             "event"},
        Case{"_e{1,1}:a|b|d:x|p:odd||t:|#|zz", "event"}, Case{"_e{2,2}:}:|}:", "event"}));

INSTANTIATE_TEST_SUITE_P(
    MalformedEvents, EventTable,
    ::testing::Values(Case{"_e{0,1}:|b", "bad_event"}, Case{"_e{1,3}:a|b", "bad_event"},
                      Case{"_e{9,1}:a|b", "bad_event"}, Case{"_e{1,1}:ab|c", "bad_event"},
                      Case{"_e{1,1}:a|bc", "bad_event"}, Case{"_e{1,1}:a:b", "bad_event"},
                      Case{"_e{1,1}a|b", "bad_event"}, Case{"_e{1}:a|b", "bad_event"},
                      Case{"_e{1,}:a|b", "bad_event"}, Case{"_e{,1}:a|b", "bad_event"},
                      Case{"_e{a,b}:a|b", "bad_event"}, Case{"_e{+1,1}:a|b", "bad_event"},
                      Case{"_e{-1,1}:a|b", "bad_event"}, Case{"_e{ 1,1}:a|b", "bad_event"},
                      Case{"_e{1,1,1}:a|b", "bad_event"}, Case{"_e{", "bad_event"},
                      Case{"_e{1,1}", "bad_event"}, Case{"_e{1,1}:", "bad_event"},
                      Case{"_e{x:1|c", "bad_event"}, Case{"_e{1,1}:\xff|c", "bad_event"},
                      Case{"_e{1,2}:a|b\r", "bad_event"},
                      Case{"_e{18446744073709551615,2}:a|bc", "bad_event"},
                      Case{"_e{1,18446744073709551615}:a|bc", "bad_event"},
                      Case{"_e{18446744073709551616,1}:a|b", "bad_event"},
                      Case{"_e{99999999999999999999999999,1}:a|b", "bad_event"}));

INSTANTIATE_TEST_SUITE_P(
    ServiceChecks, EventTable,
    ::testing::Values(Case{"_sc|db|0", "service_check"}, Case{"_sc|db|3|m:x", "service_check"},
                      Case{"_sc|db.up:main|1", "service_check"},
                      Case{"_sc|db|2|d:1600|h:web|#a:b,c|c:id|m:a|b|c", "service_check"},
                      Case{"_sc|db|0||d:x|zz", "service_check"},
                      Case{"_sc|db|1\r", "service_check"},
                      Case{"_sc|\xe5\x90\x8d|1", "service_check"}));

INSTANTIATE_TEST_SUITE_P(
    MalformedServiceChecks, EventTable,
    ::testing::Values(Case{"_sc|", "bad_event"}, Case{"_sc|db", "bad_event"},
                      Case{"_sc|db|", "bad_event"}, Case{"_sc|db|4", "bad_event"},
                      Case{"_sc|db|00", "bad_event"}, Case{"_sc|db|-1", "bad_event"},
                      Case{"_sc|db|0x", "bad_event"}, Case{"_sc||0", "bad_event"},
                      Case{"_sc|db:1|c", "bad_event"}, Case{"_sc|\xff|0", "bad_event"}));

// Only the exact openings count.
INSTANTIATE_TEST_SUITE_P(Metrics, EventTable,
                         ::testing::Values(Case{"_event.x:1|c", "sample"}, Case{"_e:1|c", "sample"},
                                           Case{"_scan.x:1|c", "sample"}, Case{"_sc:1|c", "sample"},
                                           Case{"_:1|c", "sample"}, Case{" _e{1,1}:5|c", "sample"},
                                           Case{"_E{1,1}:5|c", "sample"},
                                           Case{"_sc", "malformed_line"},
                                           Case{"_e", "malformed_line"}));

TEST(EventTest, TheFastParserDeclinesThem) {
  Sample sample;
  for (const std::string line : {"_e{1,1}:5|c", "_sc|db:1|c", "_e{:1|c", "_sc|:1|c"}) {
    const std::string padded = line + "\n" + std::string(kReadPadding, '|');
    EXPECT_EQ(ParseLineFast(padded.data(), &sample), nullptr) << line;
  }
  for (const std::string line : {"_e:1|c", "_sc:1|c", "_event:1|c", "_:1|c"}) {
    const std::string padded = line + "\n" + std::string(kReadPadding, '|');
    EXPECT_NE(ParseLineFast(padded.data(), &sample), nullptr) << line;
  }
}

TEST(EventTest, ALongOneIsTooLong) {
  const std::string text(65'535, 'x');
  EXPECT_EQ(Outcomes("_e{1,65535}:a|" + text), std::vector<std::string>{"too_long"});
  EXPECT_EQ(Outcomes("_e{1,65520}:a|" + text.substr(0, 65'520)), std::vector<std::string>{"event"});
}

}  // namespace
}  // namespace tallyd
