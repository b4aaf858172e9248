// The model of statsd_exporter: each row of the book's table of disagreements, and its hazards.

#include "daemon/peer_reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

PeerReading Read(std::string_view line) { return PeerReader({}, nullptr).ReadAlone(line); }

// A sample as one text: "counter a{b=\"c\"} 1", "lost malformed_value", "crash".
std::string Text(const PeerSample& sample) {
  if (sample.hazard != PeerHazard::kNone) return PeerHazardName(sample.hazard);
  if (!sample.taken()) return "lost " + PeerMetric(sample);
  std::string text = sample.type + " " + sample.series + " ";
  if (sample.is_change) text += "change ";
  if (sample.value == std::floor(sample.value) && std::abs(sample.value) < 1e15) {
    text += std::to_string(static_cast<int64_t>(sample.value));
  } else {
    text += std::to_string(sample.value);
  }
  return sample.times == 1 ? text : text + " times " + std::to_string(sample.times);
}

std::vector<std::string> Texts(const PeerReading& reading) {
  std::vector<std::string> texts;
  for (const PeerSample& sample : reading) texts.push_back(Text(sample));
  return texts;
}

constexpr char kLostComponent[] = "lost sample_errors_total{reason=\"malformed_component\"}";
constexpr char kLostFactor[] = "lost sample_errors_total{reason=\"invalid_sample_factor\"}";
constexpr char kLostValue[] = "lost sample_errors_total{reason=\"malformed_value\"}";
constexpr char kLostEvent[] = "lost sample_errors_total{reason=\"illegal_event\"}";
constexpr char kLostContainer[] = "lost sample_errors_total{reason=\"malformed_container_id\"}";
constexpr char kLostPacking[] =
    "lost sample_errors_total{reason=\"invalid_extended_aggregate_type\"}";
constexpr char kLostMixed[] = "lost sample_errors_total{reason=\"mixed_tagging_styles\"}";
constexpr char kLostLine[] = "lost sample_errors_total{reason=\"malformed_line\"}";
constexpr char kLostParts[] = "lost sample_errors_total{reason=\"not_enough_parts_after_colon\"}";
constexpr char kLostNegative[] = "lost events_error_total{reason=\"illegal_negative_counter\"}";

TEST(PeerReadingTest, LinesAreReadAsStatsdExporterReadsThem) {
  const struct {
    std::string line;
    std::vector<std::string> samples;
  } lines[] = {
      // The rows of the table of disagreements.
      {"g:+3|g", {"gauge g change 3"}},
      {"g:-3|g", {"gauge g change -3"}},
      {"a:1:2|c", {kLostPacking}},
      {"a:1:2|g", {kLostPacking}},
      {"a:1000:x:2000|ms", {"summary a 1", kLostValue, "summary a 2"}},
      {"a:1|c:2|c", {"counter a 1", "counter a 2"}},
      {"a:1|c|c:abc", {kLostContainer, kLostComponent}},
      {"a:1|c|#k:v|c:abc", {"counter a{container_id=\"abc\",k=\"v\"} 1"}},
      {"a:1|c|#k:v|e:it-false", {kLostFactor}},
      {"a:1|c|#k:v|card:low", {kLostContainer}},
      {"a:1|c|zzz", {kLostFactor}},
      {"a:1|c|T1656581400", {"counter a 1"}},
      {"a:1|c|", {kLostComponent}},
      {"a:1|c||@1", {kLostComponent}},
      {"a:1|c|@x", {"counter a 1"}},
      {"a:1|c|@", {"counter a 1"}},
      {"a:1|c|@0", {"counter a 1"}},
      {"a:1|h|@0", {"summary a 1"}},
      {"a:1|h|@0.3", {"summary a 1 times 3"}},
      {"a:1|h|@0.15", {"summary a 1 times 6"}},
      {"a:1|h|@2", {"lost "}},
      {"a:1|h|@-1", {"lost "}},
      {"a:1|h|@inf", {"lost "}},
      {"a:1|c|@0.5|@0.5", {"counter a 4"}},
      {"a:1|h|@0.5|@0.25", {"summary a 1 times 4"}},
      {"a:-1|c", {kLostNegative}},
      {"a:1|c|@-1", {kLostNegative}},
      {"a:-1000|ms", {"summary a -1"}},
      {"a:nan|c", {"poison"}},
      {"a:nan|h", {"poison"}},
      {"a:nan|g|", {kLostComponent}},
      {"a:1|c|#urgent,k:v", {"counter a{k=\"v\"} 1"}},
      {"a:x|s", {kLostValue}},
      {"a:1|s", {kLostEvent}},
      {"_e{1,1}:5|c", {"counter _e_1 5"}},
      {"_e{5,4}:title|text", {kLostValue}},
      {"_sc|db|0|d:1600|h:web", {"summary _sc_db_0_d 1600", kLostComponent}},
      {"a:1|c\r", {kLostEvent}},
      {"a:1|c|@0.5\r", {"counter a 1"}},
      {"a:1|c|#k:v\r", {"counter a{k=\"v\r\"} 1"}},
      {"a\xff:1|c", {kLostLine}},
      {"a:0x10|c", {kLostValue}},
      {"a: 5|c", {kLostValue}},
      {"a:5abc|c", {kLostValue}},
      // The order of the steps.
      {"no colon", {kLostLine}},
      {":1|c", {kLostLine}},
      {"a:1", {kLostParts}},
      {"a,k=v:1|c|#l:w", {kLostMixed}},
      {"a,bad:1|c|#l:w", {"counter a{l=\"w\"} 1"}},
      {"a:1|c|@1|@1|@1|@1|@1", {kLostComponent}},
      {"a:x|q", {kLostValue}},
      {"a:1|q", {kLostEvent}},
      {"a:1|c|@1e400", {"counter a 0"}},
      // Tags in the name.
      {"a,k=v,l=w:1|c", {"counter a{k=\"v\",l=\"w\"} 1"}},
      {"a#k=v#l:1|c", {"counter a{k=\"v#l\"} 1"}},
      {"a[k=v]b,c:1|c", {"counter ab_c{k=\"v\"} 1"}},
      {"a[b:1|c", {"counter a_b 1"}},
      {"a,k=1,k=2:1|c", {"counter a{k=\"2\"} 1"}},
      // What harms it.
      {"a]b[:1|c", {"crash"}},
      {"x:5|ms|#quantile:1", {"crash"}},
      {"x:5|c|#quantile:1", {"counter x{quantile=\"1\"} 5"}},
      {"x:1|c|#__name__:y", {"broken-scrape"}},
      {"x:1|c|#\u00e9\u00e9:y", {"broken-scrape"}},
      {"#a=b:1|c", {"broken-scrape"}},
      {"process_cpu_seconds_total:5|g", {"broken-scrape"}},
      {"go_gc_duration_seconds_sum:5|g", {"broken-scrape"}},
      {"x:1|ms|@0.000000001", {"flood"}},
  };
  for (const auto& [line, samples] : lines) EXPECT_EQ(Texts(Read(line)), samples) << line;
}

TEST(PeerReadingTest, AnEmptyLineIsNothing) { EXPECT_THAT(Read(""), IsEmpty()); }

TEST(PeerReadingTest, DialectsCanBeSwitchedOff) {
  TagDialects none;
  none.dogstatsd = none.influxdb = none.librato = none.signalfx = false;
  const PeerReader reader(none, nullptr);
  EXPECT_THAT(Texts(reader.ReadAlone("a[k=v],l=w#m:1|c")), ElementsAre("counter a_k_v__l_w_m 1"));
  // The section still keeps the line one sample.
  EXPECT_THAT(Texts(reader.ReadAlone("a:1|c|#k:2|T3")), ElementsAre("counter a 1"));
}

TEST(PeerReadingTest, TheFirstTypeOfANameHolds) {
  PeerReader reader({}, nullptr);
  EXPECT_THAT(Texts(reader.Read("x:1|c")), ElementsAre("counter x 1"));
  EXPECT_THAT(Texts(reader.Read("x:1|g")),
              ElementsAre("lost events_conflict_total{type=\"gauge\",metric_name=\"x\"}"));
  EXPECT_THAT(Texts(reader.Read("t:1000|ms")), ElementsAre("summary t 1"));
  EXPECT_THAT(Texts(reader.Read("t_sum:1|c")),
              ElementsAre("lost events_conflict_total{type=\"counter\",metric_name=\"t_sum\"}"));
  // Needlessly, beside a gauge too; beside a counter a counter is fine.
  EXPECT_TRUE(reader.Read("g:1|g")[0].taken());
  EXPECT_FALSE(reader.Read("g_count:1|g")[0].taken());
  EXPECT_TRUE(reader.Read("x_count:1|c")[0].taken());
  // And the other way round.
  EXPECT_TRUE(reader.Read("u_count:1|g")[0].taken());
  EXPECT_EQ(reader.Read("u:1|ms")[0].loss, PeerLoss::kTypeConflict);
  EXPECT_EQ(reader.series(), 5U);
  EXPECT_TRUE(reader.ReadAlone("x:1|g")[0].taken());
}

// With rules.

class PeerRulesTest : public ::testing::Test {
 protected:
  MappingRule& Rule(std::string match, std::string name) {
    MappingRule& rule = config_.rules.emplace_back();
    rule.line = static_cast<int>(config_.rules.size());
    rule.match = std::move(match);
    rule.name = std::move(name);
    return rule;
  }
  PeerReader Reader() {
    auto mapping = Mapping::Compile(config_);
    EXPECT_TRUE(mapping.ok()) << mapping.status();
    return PeerReader({}, std::make_shared<PeerMapping>(*mapping));
  }

  MappingConfig config_;
};

TEST_F(PeerRulesTest, WithoutAWordAboutItAnObserverIsASummary) {
  Rule("silent", "silent");
  MappingRule& rule = Rule("said", "said");
  rule.observer_type_given = true;
  PeerReader reader = Reader();
  EXPECT_EQ(reader.Read("silent:1|h")[0].type, "summary");
  EXPECT_EQ(reader.Read("unmapped:1|h")[0].type, "summary");
  EXPECT_EQ(reader.Read("said:1|h")[0].type, "histogram");
  EXPECT_THAT(Texts(reader.Read("said:1|h|#le:1")), ElementsAre("crash"));
}

TEST_F(PeerRulesTest, RulesDropScaleAndName) {
  Rule("gone", "gone").drop = true;
  Rule("scaled", "bytes").scale = 1024;
  Rule("*.empty", "$2");
  PeerReader reader = Reader();
  EXPECT_THAT(Texts(reader.Read("gone:-1|c")),
              ElementsAre("lost events_actions_total{action=\"drop\"}"));
  EXPECT_THAT(Texts(reader.Read("scaled:2|c|@0.5")), ElementsAre("counter bytes 4096"));
  EXPECT_THAT(Texts(reader.Read("a.empty:1|c")),
              ElementsAre("lost events_error_total{reason=\"empty_metric_name\"}"));
}

TEST_F(PeerRulesTest, LabelsOfARuleTakeTheTagsPlaceUnlessTheyAreHonoured) {
  Rule("a", "a").labels = {{"env", "rule"}};
  MappingRule& honest = Rule("h", "h");
  honest.labels = {{"env", "rule"}};
  honest.honor_labels = true;
  PeerReader reader = Reader();
  EXPECT_THAT(Texts(reader.Read("a:1|c|#env:tag")), ElementsAre("counter a{env=\"rule\"} 1"));
  EXPECT_THAT(Texts(reader.Read("h:1|c|#env:tag")), ElementsAre("counter h{env=\"tag\"} 1"));
}

TEST_F(PeerRulesTest, LabelsOfTheFirstSamplesRuleLeakIntoTheNext) {
  MappingRule& rule = Rule("a", "a");
  rule.matched_type = MatchedType::kCounter;
  rule.labels = {{"from", "counter"}};
  PeerReader reader = Reader();
  const PeerReading reading = reader.Read("a:1|c:2|ms");
  ASSERT_THAT(reading, SizeIs(2));
  EXPECT_FALSE(reading[0].leaked_label);
  EXPECT_TRUE(reading[1].leaked_label);
  EXPECT_EQ(reading[1].family, "a");
  EXPECT_EQ(reading[1].loss, PeerLoss::kTypeConflict);
}

TEST_F(PeerRulesTest, TwoHelpTextsOfANameBreakTheScrape) {
  Rule("one", "name").help = "One.";
  Rule("two", "name").help = "Two.";
  PeerReader reader = Reader();
  EXPECT_TRUE(reader.Read("one:1|c")[0].taken());
  EXPECT_EQ(reader.Read("two:1|c")[0].hazard, PeerHazard::kNone);  // the same labels
  EXPECT_EQ(reader.Read("two:1|c|#k:v")[0].hazard, PeerHazard::kBrokenScrape);
}

}  // namespace
}  // namespace tallyd
