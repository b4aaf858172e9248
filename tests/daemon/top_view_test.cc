// How `tallyctl top` shows a report.

#include "daemon/top_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TopReport Example() {
  TopReport report;
  report.version = "1.2.3";
  report.pid = 4711;
  report.shards = 2;
  report.up_seconds = 3725;
  report.resident_bytes = 45.25 * (1 << 20);
  report.received = 1'234'567;
  report.applied = 1'234'500;
  report.dropped = 67;
  report.series = 300;
  report.series_limit = 1'000'000;
  report.family_count = 3;
  report.sender_count = 2;
  report.families = {{.name = "requests_total",
                      .type = "counter",
                      .series = 100,
                      .changes = 9,
                      .limit = {},
                      .folded = {},
                      .changes_rate = 2.5},
                     {.name = "api_seconds",
                      .type = "histogram",
                      .series = 150,
                      .changes = 5,
                      .limit = {},
                      .folded = {},
                      .changes_rate = 9.0},
                     {.name = "zero",
                      .type = "gauge",
                      .series = 50,
                      .changes = 7,
                      .limit = {},
                      .folded = {},
                      .changes_rate = 0.0}};
  TopReport::Sender nginx;
  nginx.kind = "process";
  nginx.pid = 31'234;
  nginx.uid = 33;
  nginx.command = "nginx";
  nginx.unit = "nginx.service";
  nginx.samples = 1'000'000;
  nginx.samples_rate = 12'345.6;
  TopReport::Sender job;
  job.kind = "process";
  job.pid = 7;
  job.uid = 4'294'967'294;
  job.command = "job";
  job.ended = true;
  job.samples = 2;
  job.dropped = 1;
  TopReport::Sender unknown;
  unknown.kind = "unknown";
  unknown.samples = 234'565;
  report.senders = {job, unknown, nginx};
  report.listeners = {{.name = "udp:127.0.0.1:8125",
                       .samples = 234'565,
                       .connections = {},
                       .samples_rate = {},
                       .datagrams_rate = {}}};
  report.drops = {{.reason = "too_long", .count = 60, .rate = {}},
                  {.reason = "bad_value", .count = 0, .rate = {}},
                  {.reason = "malformed_line", .count = 7, .rate = 1.5}};
  report.repairs = {{.reason = "bad_tag", .count = 3, .rate = {}}};
  return report;
}

std::vector<std::string> Texts(const TopReport& report, const TopView& view) {
  std::vector<std::string> texts;
  for (const TopLine& line : TopLines(report, view)) texts.push_back(line.text);
  return texts;
}
std::string Text(const TopReport& report, const TopView& view) {
  std::string text;
  for (const std::string& line : Texts(report, view)) absl::StrAppend(&text, line, "\n");
  return text;
}
// The last words of the rows of the table whose titles have `title`.
std::vector<std::string> Names(const TopReport& report, const TopView& view,
                               const std::string& title) {
  std::vector<std::string> names;
  bool inside = false;
  for (const std::string& line : Texts(report, view)) {
    if (line.empty()) inside = false;
    if (inside) names.push_back(line.substr(line.rfind("  ") + 2));
    if (absl::StrContains(line, title)) inside = true;
  }
  return names;
}

TEST(TopViewTest, SaysAllOfItAsText) {
  EXPECT_EQ(Text(Example(), {.exact = true}),
            R"(tallyd 1.2.3  pid 4711  up 1h 2m  shards 2  rss 45.2 MiB
samples  received 1234567 = applied 1234500 + dropped 67  folded 0
a second received -  applied -  dropped -  datagrams -  bytes -
series   300 of 1000000  families 3  datagrams 0  lost in the kernel 0

SERIES  CHANGES/s  TYPE       FAMILY (3)
   150        9.0  histogram  api_seconds
   100        2.5  counter    requests_total
    50        0.0  gauge      zero

SAMPLES/s  SAMPLES  DROPPED  FOLDED  SERIES    PID         UID  COMMAND  SENDER (2)
  12345.6  1000000        0       0       0  31234          33  nginx    nginx.service
        -   234565        0       0       0      -           -  -        unknown (UDP, TCP)
        -        2        1       0       0      7  4294967294  job      job (ended)

SAMPLES/s  SAMPLES  DATAGRAMS  DATAGRAMS/s  BYTES  CUT  LOST  CONNS  LISTENER (1)
        -   234565          0            -      0    0     0      -  udp:127.0.0.1:8125

COUNT/s  COUNT  WHAT      REASON
    1.5      7  dropped   malformed_line
      -     60  dropped   too_long
      -      3  repaired  bad_tag
)");
}

TEST(TopViewTest, WhatDoesNotAddUpIsNotSaidTo) {
  TopReport report = Example();
  --report.applied;
  EXPECT_THAT(Text(report, {}), HasSubstr("received 1234567  applied 1234499  dropped 67"));
}

TEST(TopViewTest, SortsByWhatIsAskedFor) {
  const TopReport report = Example();
  const auto by = [&](TopSort sort, const std::string& title) {
    return Names(report, {.sort = sort}, title);
  };
  EXPECT_THAT(by(TopSort::kRate, "FAMILY"), ElementsAre("api_seconds", "requests_total", "zero"));
  EXPECT_THAT(by(TopSort::kTotal, "FAMILY"), ElementsAre("requests_total", "zero", "api_seconds"));
  EXPECT_THAT(by(TopSort::kSeries, "FAMILY"), ElementsAre("api_seconds", "requests_total", "zero"));
  EXPECT_THAT(by(TopSort::kName, "FAMILY"), ElementsAre("api_seconds", "requests_total", "zero"));
  EXPECT_THAT(by(TopSort::kDropped, "SENDER"),
              ElementsAre("job (ended)", "nginx.service", "unknown (UDP, TCP)"));
  EXPECT_THAT(by(TopSort::kName, "REASON"), ElementsAre("bad_tag", "malformed_line", "too_long"));
  EXPECT_THAT(by(TopSort::kTotal, "REASON"), ElementsAre("too_long", "malformed_line", "bad_tag"));
  EXPECT_EQ(TopSortOf("folded"), TopSort::kFolded);
  EXPECT_EQ(TopSortOf("pid"), std::nullopt);
  EXPECT_EQ(TopSortName(TopSort::kDropped), "dropped");
}

TEST(TopViewTest, FitsAnyScreen) {
  TopReport report = Example();
  for (int i = 0; i < 300; ++i) {
    TopReport::Family& family = report.families.emplace_back();
    family.name = std::string(static_cast<size_t>(i), 'n');
    family.type = "counter";
    report.senders.push_back(report.senders.front());
    report.senders.back().command = std::string(static_cast<size_t>(i), 'c');
    report.senders.back().unit = std::string(static_cast<size_t>(i), 'u');
  }
  for (const size_t width : {1, 20, 79, 80, 81, 99, 100, 200, 400}) {
    for (const size_t height : {1, 2, 5, 6, 7, 10, 24, 60, 1000}) {
      for (const bool keys : {false, true}) {
        const std::vector<std::string> lines =
            Texts(report, {.width = width, .height = height, .keys = keys});
        EXPECT_LE(lines.size(), height);
        EXPECT_TRUE(!keys || lines.size() == height) << "the keys are at the foot";
        for (const std::string& line : lines) EXPECT_LE(line.size(), width);
      }
    }
  }
  // All tables are there on a usual screen, and the keys.
  const std::string usual = Text(report, {.width = 80, .height = 24, .keys = true});
  for (const char* title : {"FAMILY (3)", "SENDER (2)", "LISTENER (1)", "REASON", "q quit"}) {
    EXPECT_THAT(usual, HasSubstr(title));
  }
  EXPECT_THAT(usual, Not(HasSubstr("COMMAND")));
  EXPECT_THAT(Text(report, {.width = 200, .height = 24}), HasSubstr("COMMAND"));
}

TEST(TopViewTest, LongNamesKeepTheirEnds) {
  TopReport report = Example();
  report.families.resize(1);
  report.families[0].name = "beginning_" + std::string(200, 'x') + "_end";
  const std::string text = Text(report, {.width = 80});
  EXPECT_THAT(text, HasSubstr("beginning_"));
  EXPECT_THAT(text, HasSubstr("_end\n"));
  EXPECT_THAT(text, HasSubstr(".."));
  EXPECT_THAT(Text(report, {}), HasSubstr(report.families[0].name)) << "a file has room";
}

TEST(TopViewTest, PanelsAreHiddenAndTablesScrolled) {
  const TopReport report = Example();
  TopView view;
  view.shown = {};
  view.shown[static_cast<size_t>(TopPanel::kFamilies)] = true;
  EXPECT_THAT(Text(report, view), Not(HasSubstr("SENDER")));
  view.skipped_rows = 1;
  EXPECT_THAT(Names(report, view, "FAMILY"), ElementsAre("requests_total", "zero"));
  view.skipped_rows = 1000;
  EXPECT_THAT(Names(report, view, "FAMILY"), ElementsAre("zero"));
}

TEST(TopViewTest, NothingThatASenderChoseSteersTheTerminal) {
  TopReport report = Example();
  const std::string evil =
      "\x1b[2J\r\n\x07\x9b"
      "31m\xe2\x80\xae\xc3\xa9\t\x7f\\x41";
  report.version = evil;
  report.families[0].name = evil;
  report.families[0].type = evil;
  report.senders[0].command = evil;
  report.senders[0].unit = evil;
  report.listeners[0].name = evil;
  report.drops[0].reason = evil;
  report.budgets.emplace().over.push_back(
      {.of = evil, .family = evil, .label = evil, .sender = evil});
  for (const size_t width : {0, 80, 200}) {
    for (const TopLine& line : TopLines(report, {.width = width, .message = evil})) {
      for (const char c : line.text) {
        EXPECT_TRUE(c >= ' ' && c <= '~') << line.text;
      }
    }
  }
  EXPECT_THAT(Text(report, {}), HasSubstr("\\x1b[2J\\x0d\\x0a\\x07\\x9b31m\\xe2\\x80\\xae"));
}

TEST(TopViewTest, WhatIsOverBudgetComesFirst) {
  TopReport report = Example();
  report.families[0].limit = 100;
  report.families[0].folded = 12;
  report.budgets.emplace();
  EXPECT_THAT(Text(report, {}), Not(HasSubstr("OVER BUDGET")));
  report.budgets->over.push_back({.of = "family",
                                  .family = "requests_total",
                                  .label = "conversation_id",
                                  .sender = "chat.service",
                                  .series = 100,
                                  .limit = 100,
                                  .folded = 12});
  const std::string text = Text(report, {});
  EXPECT_LT(text.find("OVER BUDGET"), text.find("FAMILY (3)"));
  EXPECT_THAT(text, HasSubstr("conversation_id  chat.service  requests_total"));
  EXPECT_THAT(text, HasSubstr("LIMIT  FOLDED  CHANGES/s"));
}

TEST(TopViewTest, NumbersAreShort) {
  EXPECT_EQ(ShortNumber(0), "0");
  EXPECT_EQ(ShortNumber(0.25), "0.2");
  EXPECT_EQ(ShortNumber(9.5), "9.5");
  EXPECT_EQ(ShortNumber(12.7), "13");
  EXPECT_EQ(ShortNumber(9999), "9999");
  EXPECT_EQ(ShortNumber(9999.6), "10.0k");
  EXPECT_EQ(ShortNumber(12'345), "12.3k");
  EXPECT_EQ(ShortNumber(999'499), "999k");
  EXPECT_EQ(ShortNumber(999'500), "1.00M");
  EXPECT_EQ(ShortNumber(1'234'567), "1.23M");
  EXPECT_EQ(ShortNumber(18446744073709551615.0), "18.4E");
  EXPECT_EQ(ShortNumber(1e300), "1e+300");
  EXPECT_EQ(ShortTime(59.9), "59s");
  EXPECT_EQ(ShortTime(3599), "59m 59s");
  EXPECT_EQ(ShortTime(86'399), "23h 59m");
  EXPECT_EQ(ShortTime(90'000), "1d 1h");
  EXPECT_EQ(ShortTime(-1), "0s");
}

TEST(TopViewTest, TheHelpFitsToo) {
  for (const TopLine& line : TopHelp({.width = 80, .height = 24})) EXPECT_LE(line.text.size(), 80u);
  EXPECT_LE(TopHelp({.width = 80, .height = 24}).size(), 24u);
  EXPECT_LE(TopHelp({.width = 10, .height = 3}).size(), 3u);
}

}  // namespace
}  // namespace tallyd
