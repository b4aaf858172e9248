// What `tallyctl explain` says of a line.

#include "daemon/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/rules/catalog_index.h"
#include "daemon/catalog_file.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::unique_ptr<Explainer> MakeExplainer(Explainer::Options options) {
  auto explainer = Explainer::Create(std::move(options));
  EXPECT_TRUE(explainer.ok()) << explainer.status();
  return *std::move(explainer);
}

Explanation Explain(const std::string& line) { return MakeExplainer({})->Explain(line, nullptr); }

std::vector<std::string> Categories(const Explanation& explanation) {
  std::vector<std::string> categories;
  for (const PeerDifference& difference : explanation.differences) {
    categories.emplace_back(InfoOf(difference.category).name);
  }
  return categories;
}

TEST(ExplainTest, AnAcceptedLineLeadsToItsSeries) {
  const Explanation explanation = Explain("page.views:1|c|@0.5|#env:prod,region:eu");
  EXPECT_TRUE(explanation.accepted());
  EXPECT_THAT(explanation.tokens,
              ElementsAre("page.views", "1", "c", "@0.5", "#env:prod,region:eu"));
  ASSERT_THAT(explanation.samples, SizeIs(1));
  EXPECT_EQ(explanation.samples[0].series, R"(page_views{env="prod",region="eu"})");
  EXPECT_EQ(explanation.samples[0].kind, SeriesKind::kCounter);
  EXPECT_EQ(explanation.samples[0].weight, 2);
  EXPECT_THAT(ExplanationText(explanation, nullptr), HasSubstr("adds 2\n"));
  EXPECT_THAT(explanation.differences, IsEmpty());
}

TEST(ExplainTest, SaysWhichEntryOfACatalogALineMeets) {
  std::vector<Catalog> catalogs;
  catalogs.push_back(ParseCatalog("service: s\n"
                                  "mode: enforce\n"
                                  "metrics:\n"
                                  "- name: s_a_total\n"
                                  "  type: counter\n"
                                  "  help: A.\n"
                                  "  sources: [a]\n"
                                  "  labels: {k: {values: [v]}}\n",
                                  "c.yml")
                         .value());
  Explainer::Options options;
  options.rules.catalog = CatalogIndex::Create(std::move(catalogs)).value();
  const auto explainer = MakeExplainer(options);
  const ExplainedSample folded = explainer->Explain("a:1|c|#k:w", nullptr).samples[0];
  EXPECT_EQ(folded.catalog, "c.yml:4  s_a_total, mode enforce");
  EXPECT_THAT(folded.departures, ElementsAre("label_value: folded and reported", "first label: k"));
  EXPECT_EQ(folded.series, "s_a_total{k=\"__overflow__\"}");
  const Explanation undeclared = explainer->Explain("b:1|c", nullptr);
  EXPECT_EQ(undeclared.samples[0].catalog, "none declares b, mode enforce");
  EXPECT_THAT(undeclared.samples[0].departures,
              ElementsAre("undeclared_metric: refused and reported"));
  EXPECT_THAT(ExplanationText(undeclared, nullptr),
              HasSubstr("  catalog   none declares b, mode enforce\n"
                        "  differs   undeclared_metric: refused and reported\n"
                        "  dropped   undeclared\n"));
  EXPECT_THAT(ExplanationJson(undeclared, nullptr),
              HasSubstr("\"departures\":[\"undeclared_metric: refused and reported\"]"));
  EXPECT_EQ(Explain("b:1|c").samples[0].catalog, "") << "without catalogs there is none to meet";
}

TEST(ExplainTest, PackedValuesAreSamplesOfTheirOwnAndTimersAreSeconds) {
  const Explanation explanation = Explain("latency:5:250|ms");
  ASSERT_THAT(explanation.samples, SizeIs(2));
  EXPECT_EQ(explanation.samples[0].value, 0.005);
  EXPECT_THAT(ExplanationText(explanation, nullptr), HasSubstr("observes 0.25 seconds"));
}

TEST(ExplainTest, ASignedGaugeIsAChangeUnlessTheDialectSaysOtherwise) {
  EXPECT_TRUE(Explain("depth:+3|g").samples[0].is_change);
  EXPECT_FALSE(Explain("depth:3|g").samples[0].is_change);
  Explainer::Options options;
  options.dialect = Dialect::kDogstatsd;
  const Explanation explanation = MakeExplainer(options)->Explain("depth:-3|g", nullptr);
  EXPECT_FALSE(explanation.samples[0].is_change);
  EXPECT_THAT(Categories(explanation), ElementsAre("signed-gauge"));
  EXPECT_THAT(ExplanationText(explanation, nullptr), HasSubstr("sets the gauge to -3"));
}

TEST(ExplainTest, TagsInTheNameAreTakenOffIt) {
  const Explanation explanation = Explain("a,k=v:1|c");
  EXPECT_EQ(explanation.samples[0].name, "a");
  EXPECT_EQ(explanation.samples[0].series, "a{k=\"v\"}");
  Explainer::Options options;
  options.rules.tags.influxdb = false;
  EXPECT_EQ(MakeExplainer(options)->Explain("a,k=v:1|c", nullptr).samples[0].series, "a_k_v");
}

TEST(ExplainTest, RefusalsHaveAReasonAndARemedy) {
  const struct {
    const char* line;
    DropReason reason;
  } refused[] = {{"no colon", DropReason::kMalformedLine},
                 {"a:1|c||", DropReason::kMalformedSample},
                 {"a:x|c", DropReason::kBadValue},
                 {"a:1|q", DropReason::kBadType},
                 {"a,k=v:1|c|#l:w", DropReason::kMixedTagDialects},
                 {"a:-1|c", DropReason::kNegativeCounter},
                 {"tallyd_series:1|g", DropReason::kTypeConflict},
                 {"#a=b:1|c", DropReason::kEmptyName},
                 {"_e{9,9}:short|x", DropReason::kBadEvent},
                 {"a:1|c|#__name__:x", DropReason::kBadLabel}};
  for (const auto& [line, reason] : refused) {
    const Explanation explanation = Explain(line);
    EXPECT_FALSE(explanation.accepted()) << line;
    ASSERT_THAT(explanation.samples, SizeIs(1)) << line;
    EXPECT_EQ(Name(explanation.samples[0].reason), Name(reason)) << line;
    EXPECT_THAT(ExplanationText(explanation, nullptr), HasSubstr("remedy")) << line;
  }
}

TEST(ExplainTest, EveryReasonHasAdvice) {
  for (size_t i = 0; i < kDropReasons; ++i) {
    const Advice advice = AdviceFor(static_cast<DropReason>(i));
    EXPECT_STRNE(advice.why, "") << kDropReasonNames[i];
    EXPECT_STRNE(advice.remedy, "") << kDropReasonNames[i];
  }
}

TEST(ExplainTest, OfOneLineTheFirstTypeHolds) {
  const Explanation explanation = Explain("a:1|c:2|g");
  ASSERT_THAT(explanation.samples, SizeIs(2));
  EXPECT_TRUE(explanation.samples[0].accepted);
  EXPECT_EQ(explanation.samples[1].reason, DropReason::kTypeConflict);
}

TEST(ExplainTest, TheTypesOfARunningDaemonHold) {
  FamilyTypes running(64, 1);
  running.ClaimFor("a", SeriesKind::kGauge);
  const Explanation explanation = MakeExplainer({})->Explain("a:1|c", &running);
  EXPECT_EQ(explanation.samples[0].reason, DropReason::kTypeConflict);
  EXPECT_THAT(ExplanationText(explanation, nullptr), HasSubstr("family    is a gauge"));
  EXPECT_TRUE(MakeExplainer({})->Explain("a:1|g", &running).accepted());
  EXPECT_TRUE(MakeExplainer({})->Explain("b:1|c", &running).accepted());
  SeriesKind kind;
  EXPECT_FALSE(running.Lookup("b", &kind));  // asking claims nothing
}

TEST(ExplainTest, NamesWhatWasPutRight) {
  const Explanation explanation = Explain("a:1|c|@zero|T1656581400|#bare,k:1,k:2");
  EXPECT_TRUE(explanation.accepted());
  EXPECT_THAT(explanation.samples[0].repairs,
              ElementsAre(HasSubstr("bad_sample_rate: 1"), HasSubstr("unknown_section: 1"),
                          HasSubstr("bad_tag: 1"), HasSubstr("overridden_label: 1")));
}

TEST(ExplainTest, AnEmptyLineIsSkippedAndAnEventIsNoMetric) {
  EXPECT_TRUE(Explain("").accepted());
  EXPECT_THAT(Explain("").samples, IsEmpty());
  EXPECT_THAT(ExplanationText(Explain(""), nullptr), HasSubstr("skipped"));
  const Explanation check = Explain("_sc|db|0|d:1600|h:web");
  EXPECT_TRUE(check.accepted());
  EXPECT_EQ(check.event, "service_check");
  EXPECT_THAT(Categories(check), ElementsAre("event"));
  EXPECT_THAT(ExplanationText(check, nullptr), HasSubstr("summary _sc_db_0_d observes 1600"));
}

TEST(ExplainTest, DifferencesFromStatsdExporterHaveTheirCategory) {
  const struct {
    const char* line;
    std::vector<std::string> categories;
  } lines[] = {
      {"a:1|c", {}},
      {"a:-1|c", {}},
      {"a:1|c|T1656581400", {}},
      {"a:1|h|@inf", {}},  // no observation on either side
      {"a:1:2|c", {"packed"}},
      {"a:1|c|c:abc", {"container-id"}},
      {"a:1|c|#k:v|e:it", {"unknown-section"}},
      {"a:1|c|card:low", {"unknown-section"}},
      {"a:1|c:x|c|e:it", {"unknown-section"}},
      {"a:1|c|later", {"unknown-section"}},
      {"a:1|c|@1|T1|T2|T3|T4", {"too-many-sections"}},
      {"a:1|c\r", {"carriage-return"}},
      {"a:1|c|#k:v\r", {"carriage-return"}},
      {"a:member|s", {"set"}},
      {"a:1|ms", {"default-observer"}},
      {"a:1|h|@0.3", {"default-observer", "sampled-weight"}},
      {"a:1|h|@2", {"sampled-weight"}},
      {"tallyd_x:1|c", {"own-name"}},
      {"a:1|h|#le:1", {"reserved-label"}},
      {"_e{1,1}:5|c", {"event"}},
      {"process_x:1|c", {"own-name"}},
      {"a]b[:1|c", {"hazard-crash"}},
      {"a:1|c|#__x:1", {"hazard-scrape"}},
      {"go_goroutines:1|g", {"hazard-scrape"}},
      {"a:1|h|@0.0000001", {"hazard-flood"}},
      {"a:nan|c", {"hazard-poison"}},
      {"a:nan|g", {}},
  };
  for (const auto& [line, categories] : lines) {
    EXPECT_EQ(Categories(Explain(line)), categories) << line;
  }
}

TEST(ExplainTest, NothingThatASenderWroteSteersTheTerminal) {
  const std::string text = ExplanationText(Explain("a\x1b[2J:1|c|#k:\xc2\x9b,\\x1b:1"), nullptr);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\xc2\x9b")));
  EXPECT_THAT(text, HasSubstr("a\\x1b[2J"));
  EXPECT_THAT(text, HasSubstr("\\\\x1b"));
}

TEST(ExplainTest, JsonHoldsWhatTheTextHolds) {
  EXPECT_EQ(ExplanationJson(Explain("a:1|c|#k:\"v\""), nullptr),
            "{\"line\":\"a:1|c|#k:\\\"v\\\"\",\"dialect\":\"statsd\",\"accepted\":true,"
            "\"tokens\":[\"a\",\"1\",\"c\",\"#k:\\\"v\\\"\"],\"samples\":[{\"accepted\":true,"
            "\"name\":\"a\",\"type\":\"c\",\"kind\":\"counter\",\"value\":\"1\","
            "\"meaning\":\"adds 1\",\"rate\":1,\"weight\":1,\"tags\":\"k:\\\"v\\\"\","
            "\"repairs\":[],\"series\":\"a{k=\\\"\\\\\\\"v\\\\\\\"\\\"}\",\"ttl_seconds\":0}],"
            "\"statsd_exporter\":[]}\n");
  EXPECT_THAT(ExplanationJson(Explain("\xff"), nullptr),
              HasSubstr(R"("line":"\u00ff","dialect":"statsd","accepted":false)"));
}

// With rules.

class ExplainRulesTest : public ::testing::Test {
 protected:
  MappingRule& Rule(std::string match, std::string name) {
    MappingRule& rule = config_.rules.emplace_back();
    rule.line = static_cast<int>(2 * config_.rules.size());
    rule.match = std::move(match);
    rule.name = std::move(name);
    return rule;
  }
  Explanation Explain(const std::string& line) {
    config_.file = "rules.yml";
    auto mapping = Mapping::Compile(config_);
    EXPECT_TRUE(mapping.ok()) << mapping.status();
    Explainer::Options options;
    options.rules.mapping = *mapping;
    explainer_ = MakeExplainer(std::move(options));
    return explainer_->Explain(line, nullptr);
  }
  std::string Text(const Explanation& explanation) {
    return ExplanationText(explanation, &explainer_->options().rules.mapping->config());
  }

  MappingConfig config_;
  std::unique_ptr<Explainer> explainer_;
};

TEST_F(ExplainRulesTest, TheRuleAndTheOneThatNearlyFitsAreShownWithTheirPlace) {
  Rule("api.*.time.p99", "p99");
  MappingRule& rule = Rule("api.*.time", "api_time");
  rule.labels = {{"route", "${1}"}};
  rule.observer_type_given = true;
  rule.histogram.buckets = {0.1, 1};
  rule.ttl_ms = 90'000;
  const Explanation explanation = Explain("api.login.time:250|ms");
  EXPECT_EQ(Text(explanation),
            "line    api.login.time:250|ms\n"
            "tokens  api.login.time  250  ms\n"
            "dialect statsd\n"
            "sample 1\n"
            "  name      api.login.time\n"
            "  type      ms (histogram)\n"
            "  value     0.25  observes 0.25 seconds\n"
            "  rule      rules.yml:4  \"api.*.time\" -> \"api_time\"\n"
            "  nearly    rules.yml:2  \"api.*.time.p99\" -> \"p99\"\n"
            "            the rule has one segment more, \"p99\"\n"
            "  series    api_time{route=\"login\"}\n"
            "  ttl       1m30s\n"
            "  buckets   0.1 1\n"
            "statsd_exporter reads this differently\n"
            "  rule-unreachable-there, sample 1\n"
            "    statsd_exporter does not find the first rule that fits: its tree loses a\n"
            "    rule that is the beginning of an earlier one, and moves a rule that comes\n"
            "    twice\n"
            "    here   histogram api_time{route=\"login\"} observes 0.25\n"
            "    there  summary api_login_time observes 0.25\n");
  const std::string json =
      ExplanationJson(explanation, &explainer_->options().rules.mapping->config());
  EXPECT_THAT(json,
              HasSubstr("\"rule\":{\"file\":\"rules.yml\",\"line\":4,\"match\":\"api.*.time\","
                        "\"action\":\"map\",\"name\":\"api_time\"}"));
  EXPECT_THAT(json, HasSubstr("\"miss\":\"segment-more\",\"segment\":4"));
  EXPECT_THAT(json, HasSubstr("\"ttl_seconds\":90,\"buckets\":[0.1,1]"));
}

TEST_F(ExplainRulesTest, ARuleMayDropAndScale) {
  Rule("gone.*", "gone").drop = true;
  Rule("kib", "bytes").scale = 1024;
  const Explanation gone = Explain("gone.x:1|c");
  EXPECT_EQ(gone.samples[0].reason, DropReason::kMappingDrop);
  EXPECT_THAT(gone.differences, IsEmpty());
  EXPECT_THAT(Text(gone), HasSubstr("rules.yml:2  \"gone.*\" -> dropped"));
  EXPECT_THAT(Text(Explain("kib:2|c")), HasSubstr("adds 2048"));
}

TEST_F(ExplainRulesTest, ASummaryShowsItsQuantiles) {
  MappingRule& rule = Rule("t", "t");
  rule.observer_type_given = true;
  rule.observer_type = ObserverType::kSummary;
  rule.summary.quantiles = {{0.5, 0.05}, {0.95, 0.01}};
  const Explanation explanation = Explain("t:1|h");
  EXPECT_THAT(explanation.samples[0].quantiles, ElementsAre("0.5", "0.95"));
  EXPECT_THAT(Categories(explanation), IsEmpty());
}

TEST_F(ExplainRulesTest, GarbledTemplatesAndLeakedLabelsAreNamed) {
  Rule("pct.*", "pct").labels = {{"what", "50% of ${1}"}};
  MappingRule& counters = Rule("both", "count");
  counters.matched_type = MatchedType::kCounter;
  counters.labels = {{"from", "counter"}};
  EXPECT_THAT(Categories(Explain("pct.cpu:1|c")), ElementsAre("template"));
  EXPECT_THAT(Categories(Explain("both:1|c:2|g")), ElementsAre("leaked-label"));
}

TEST_F(ExplainRulesTest, WithRulesNoneMayFit) {
  Rule("a.b", "ab");
  EXPECT_THAT(Text(Explain("x.y:1|c")), HasSubstr("rule      none fits\n"));
}

}  // namespace
}  // namespace tallyd
