// `tallyctl migrate check`: what it finds in a mapping file and in captured lines.

#include "daemon/migrate_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/mapping_file.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kMapping[] = R"(defaults:
  timer_type: histogram
mappings:
- match: "api.*.time.p99"
  name: "p99"
- match: "api.*.time"
  name: "api_time"
  labels:
    route: "$1"
- match: "pct.*"
  name: "pct"
  labels:
    what: "50% of ${1}"
- match: "q.*"
  name: "q"
  observer_type: summary
- match: "q.*"
  name: "q2"
)";

std::unique_ptr<MigrateCheck> Check(const std::string& yaml) {
  auto config = ParseMapping(yaml, "rules.yml");
  EXPECT_TRUE(config.ok()) << config.status();
  auto mapping = Mapping::Compile(*std::move(config));
  EXPECT_TRUE(mapping.ok()) << mapping.status();
  Explainer::Options options;
  options.rules.mapping = *std::move(mapping);
  auto check = MigrateCheck::Create(std::move(options));
  EXPECT_TRUE(check.ok()) << check.status();
  return *std::move(check);
}

MigrateReport Report(const std::string& yaml, const std::vector<std::string>& lines) {
  const auto check = Check(yaml);
  for (const std::string& line : lines) check->Add(line);
  return check->Report();
}

std::vector<std::string> Categories(const MigrateReport& report) {
  std::vector<std::string> categories;
  for (const MigrateFinding& finding : report.findings) {
    categories.push_back(std::string(InfoOf(finding.category).name) + " " +
                         std::to_string(finding.lines));
  }
  return categories;
}

std::vector<std::string> InMapping(const MigrateReport& report) {
  std::vector<std::string> findings;
  for (const MappingFinding& finding : report.mapping) {
    findings.push_back(std::to_string(finding.line) + " " +
                       std::string(InfoOf(finding.category).name));
  }
  return findings;
}

constexpr char kSaysHistogram[] = "defaults: {observer_type: histogram}\n";

TEST(MigrateCheckTest, LinesThatBothReadAlikeAreNoDifference) {
  const MigrateReport report =
      Report(kSaysHistogram, {"a:1|c", "", "t:5:6|ms|#k:v", "g:-1|g", "bad", "a:-1|c", "a:1|g",
                              "# a comment", "t:1|h|@0.5"});
  EXPECT_THAT(report.mapping, IsEmpty());
  EXPECT_THAT(report.findings, SizeIs(0));
  EXPECT_EQ(report.lines, 7U);
  EXPECT_EQ(report.samples_here, 5U);
  EXPECT_EQ(report.samples_there, 5U);
  EXPECT_EQ(report.series_here, 4U);
  EXPECT_EQ(report.series_there, 4U);
  EXPECT_FALSE(report.differs());
  EXPECT_THAT(MigrateText(report), HasSubstr("No differences.\n"));
}

TEST(MigrateCheckTest, EachCategoryHasItsFirstLineAndItsCount) {
  const MigrateReport report = Report(
      kSaysHistogram, {"a:1|c", "b:1:2|c", "c:1|c|c:abc", "b:3:4:5|c", "d:1|c|e:x", "b:6:7|c"});
  EXPECT_THAT(Categories(report), ElementsAre("packed 3", "container-id 1", "unknown-section 1"));
  EXPECT_EQ(report.findings[0].line_number, 2U);
  EXPECT_EQ(report.findings[0].line, "b:1:2|c");
  EXPECT_EQ(report.differing_lines, 5U);
  EXPECT_EQ(report.samples_here, 10U);
  EXPECT_EQ(report.samples_there, 1U);
}

TEST(MigrateCheckTest, TypesHoldFromLineToLineOnBothSides) {
  // A set is nothing there, so the counter after it is the first of its name.
  EXPECT_THAT(Categories(Report(kSaysHistogram, {"x:bob|s", "x:1|c"})),
              ElementsAre("set 1", "type-conflict-here 1"));
  // There a gauge keeps the names of a histogram's samples to itself.
  EXPECT_THAT(Categories(Report(kSaysHistogram, {"x:1|g", "x_count:1|g"})),
              ElementsAre("type-conflict-there 1"));
}

TEST(MigrateCheckTest, ANameAloneIsTriedAsEveryType) {
  const MigrateReport report = Report("", {"api.time", "x"});
  EXPECT_THAT(Categories(report), ElementsAre("default-observer 2"));
  EXPECT_EQ(report.names, 2U);
  EXPECT_EQ(report.findings[0].line, "api.time:1|ms");
  EXPECT_EQ(report.samples_here, 0U);
}

TEST(MigrateCheckTest, ALongLineIsShownInPart) {
  const MigrateReport report = Report(kSaysHistogram, {std::string(5000, 'a') + ":1:2|c"});
  EXPECT_THAT(report.findings[0].line, SizeIs(MigrateCheck::kMaxExampleBytes));
}

TEST(MigrateCheckTest, TheMappingItselfIsLookedAt) {
  const MigrateReport report = Report(kMapping, {});
  EXPECT_THAT(InMapping(report),
              ElementsAre("0 summary-error", "2 legacy-key", "6 rule-unreachable-there",
                          "10 template", "17 rule-moved-there"));
  EXPECT_EQ(report.mapping[2].message,
            "never found there: it is the beginning of the rule of line 4");
  EXPECT_FALSE(report.replayed);
  EXPECT_TRUE(report.differs());
}

TEST(MigrateCheckTest, WithoutAnObserverTypeTheMappingDiffers) {
  const MigrateReport report = Report("mappings: [{match: a.b, name: ab}]\n", {});
  EXPECT_THAT(InMapping(report), ElementsAre("0 default-observer"));
  EXPECT_THAT(InMapping(Report(kSaysHistogram, {})), IsEmpty());
}

TEST(MigrateCheckTest, AHiddenRuleSaysForWhichTypes) {
  const MigrateReport report = Report(
      "defaults: {observer_type: histogram}\n"
      "mappings:\n"
      "- {match: a.b.c, name: long, match_metric_type: gauge}\n"
      "- {match: a.b, name: short}\n",
      {"a.b:1|g"});
  ASSERT_THAT(InMapping(report), ElementsAre("4 rule-unreachable-there"));
  EXPECT_THAT(report.mapping[0].message, HasSubstr("for gauges: "));
  EXPECT_THAT(Categories(report), ElementsAre("rule-unreachable-there 1"));
}

TEST(MigrateCheckTest, AMappingThatIsRefusedIsAFindingForEachMistake) {
  const auto config = ParseMapping(
      "mappings:\n- {match: a..b, name: x, foo: 1}\n- {match: a, name: b, labels: {__l: x}}\n",
      "bad.yml");
  const absl::Status error = config.ok() ? Mapping::Compile(*config).status() : config.status();
  ASSERT_FALSE(error.ok());
  const MigrateReport report = RefusedMapping("bad.yml", error);
  EXPECT_FALSE(report.mapping_loaded);
  ASSERT_FALSE(report.mapping.empty());
  EXPECT_EQ(report.mapping[0].line, 2);
  EXPECT_EQ(InfoOf(report.mapping[0].category).name, "mapping-refused");
  EXPECT_THAT(MigrateText(report), HasSubstr("bad.yml: not loaded\n"));
}

TEST(MigrateCheckTest, TheReportReadsWell) {
  const MigrateReport report =
      Report(kMapping, {"api.login.time:250|ms", "x:1:2|c", "q.x:1|h|@0.3"});
  EXPECT_EQ(MigrateText(report), R"(mapping   rules.yml: 5 rules, 5 findings
lines     3 read, 3 differ
samples   4 count here, 2 in statsd_exporter
series    3 here, 2 in statsd_exporter

In the mapping file
  summary-error
    1 rule makes summaries: quantile errors are of the rank there, of the value
    here
  legacy-key
    line 2  defaults.timer_type: is old; write observer_type
  rule-unreachable-there
    line 6  never found there: it is the beginning of the rule of line 4
  template
    line 10  name or labels come out garbled there
  rule-moved-there
    line 17  has the match of line 14 once more, which comes in this one's place
    there

What statsd_exporter reads differently

  packed                                                        1 line
    statsd_exporter refuses several values in one line unless they are ms, h or
    d
    line    2: x:1:2|c
    here    2 samples, the first counter x + 1
    there   lost: sample_errors_total{reason="invalid_extended_aggregate_type"}
    do      expect higher counts here: these samples were lost before

  sampled-weight                                                1 line
    statsd_exporter cuts 1/rate to a whole number, tallyd carries the fraction
    line    3: q.x:1|h|@0.3
    here    summary q observes 1, 3.33333 times
    there   summary q observes 1, 3 times
    do      nothing: the counts here are the unbiased ones; with rates above 1
            the samples were lost

  rule-unreachable-there                                        1 line
    statsd_exporter does not find the first rule that fits: its tree loses a
    rule that is the beginning of an earlier one, and moves a rule that comes
    twice
    line    1: api.login.time:250|ms
    here    histogram api_time{route="login"} observes 0.25
    there   histogram api_login_time observes 0.25
    do      decide which rule you want and remove the other
)");
}

TEST(MigrateCheckTest, TheGuideNamesEveryCategory) {
  std::ifstream file(TALLYD_SOURCE_DIR "/docs/migrating-from-statsd_exporter.md");
  const std::string guide{std::istreambuf_iterator<char>(file), {}};
  for (size_t i = 0; i < kPeerCategories; ++i) {
    const PeerCategoryInfo& info = InfoOf(static_cast<PeerCategory>(i));
    EXPECT_FALSE(info.meaning.empty() || info.remedy.empty()) << info.name;
    EXPECT_THAT(guide, HasSubstr("`" + std::string(info.name) + "`"));
  }
}

TEST(MigrateCheckTest, TheReportIsJsonToo) {
  const MigrateReport report = Report("defaults: {observer_type: histogram}\n", {"x:1:2|c"});
  EXPECT_EQ(MigrateJson(report),
            "{\"mapping\":{\"file\":\"rules.yml\",\"loaded\":true,\"rules\":0,\"findings\":[]},"
            "\"lines\":1,\"names\":0,\"too_long\":0,\"differing_lines\":1,"
            "\"samples\":{\"here\":2,\"there\":0},\"series\":{\"here\":1,\"there\":0},"
            "\"complete\":true,\"differences\":[{\"category\":\"packed\",\"lines\":1,"
            "\"meaning\":\"statsd_exporter refuses several values in one line unless they are ms, "
            "h or d\",\"remedy\":\"expect higher counts here: these samples were lost before\","
            "\"first\":{\"number\":1,\"line\":\"x:1:2|c\",\"sample\":0,"
            "\"here\":\"2 samples, the first counter x + 1\","
            "\"there\":\"lost: sample_errors_total{reason=\\\"invalid_extended_aggregate_type\\\"}"
            "\"}}]}\n");
}

}  // namespace
}  // namespace tallyd
