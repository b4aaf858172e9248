#include "daemon/mapping_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

MappingConfig Parse(std::string_view yaml) {
  auto config = ParseMapping(yaml, "m.yml");
  EXPECT_TRUE(config.ok()) << config.status() << "\nin:\n" << yaml;
  return config.ok() ? *std::move(config) : MappingConfig();
}

// The message of a file that is not taken, or "ok".
std::string RefusalOf(std::string_view yaml) {
  auto config = ParseMapping(yaml, "m.yml");
  if (!config.ok()) {
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(config.status().message());
  }
  const auto mapping = Mapping::Compile(*std::move(config));
  return mapping.ok() ? "ok" : std::string(mapping.status().message());
}

// One mapping with these lines besides match and name, which are lines 2 and 3.
std::string WithRule(std::string_view lines) {
  std::string yaml = "mappings:\n- match: a.*\n  name: n\n";
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    yaml.append("  ").append(lines.substr(begin, end - begin)).append("\n");
    begin = end + 1;
  }
  return yaml;
}

MappingRule ParseRule(std::string_view lines) {
  MappingConfig config = Parse(WithRule(lines));
  return config.rules.size() == 1 ? config.rules[0] : MappingRule();
}

std::string RefusalOfRule(std::string_view lines) { return RefusalOf(WithRule(lines)); }

// ---- The file ----

TEST(FileTest, NothingIsAValidFile) {
  for (const char* empty :
       {"", "\n", "# nothing\n", "---\n", "{}", "null", "~", "---\n...\n", "mappings:\n",
        "mappings: []\n", "mappings: ~\ndefaults: ~\n", "\xef\xbb\xbf", "\r\n"}) {
    const MappingConfig config = Parse(empty);
    EXPECT_TRUE(config.rules.empty()) << empty;
    EXPECT_EQ(config.defaults.observer_type, ObserverType::kHistogram);
    EXPECT_EQ(config.defaults.summary, SummaryOptions());
    EXPECT_EQ(config.defaults.histogram, HistogramOptions());
    EXPECT_EQ(config.defaults.ttl_ms, 0);
    EXPECT_FALSE(config.glob_disable_ordering);
    EXPECT_THAT(config.warnings, IsEmpty());
  }
}

TEST(FileTest, AllKeysAreRead) {
  const MappingConfig config = Parse(R"yaml(
defaults:
  observer_type: summary
  match_type: regex
  glob_disable_ordering: true
  ttl: 1h
  summary_options:
    quantiles:
    - quantile: 0.5
      error: 0.1
    max_age: 2m
    age_buckets: 3
    buf_cap: 1000
  histogram_options:
    buckets: [1, 2]
    native_histogram_bucket_factor: 1.5
    native_histogram_max_buckets: 100
mappings:
- match: "a.(.*)"
  name: "first"
- match: b.*
  match_type: glob
  name: second_${1}
  labels:
    host: $1
    kind: fixed
  honor_labels: true
  match_metric_type: observer
  action: drop
  observer_type: histogram
  histogram_options:
    buckets: [3, 4]
  ttl: 90s
  scale: 0.001
  help: What it is.
)yaml");
  EXPECT_TRUE(config.glob_disable_ordering);
  EXPECT_THAT(config.warnings, IsEmpty());
  ASSERT_EQ(config.rules.size(), 2U);
  const MappingRule& first = config.rules[0];
  EXPECT_EQ(first.line, 19);
  EXPECT_EQ(first.match, "a.(.*)");
  EXPECT_EQ(first.match_type, MatchType::kRegex);
  EXPECT_EQ(first.name, "first");
  EXPECT_THAT(first.labels, IsEmpty());
  EXPECT_FALSE(first.honor_labels);
  EXPECT_EQ(first.matched_type, MatchedType::kAny);
  EXPECT_FALSE(first.drop);
  EXPECT_EQ(first.observer_type, ObserverType::kSummary);
  EXPECT_EQ(first.summary.quantiles, (std::vector<Quantile>{{0.5, 0.1}}));
  EXPECT_EQ(first.summary.max_age_ms, 120'000);
  EXPECT_EQ(first.summary.age_buckets, 3);
  EXPECT_EQ(first.ttl_ms, 3'600'000);
  EXPECT_EQ(first.scale, 1);
  EXPECT_EQ(first.help, "");
  const MappingRule& second = config.rules[1];
  EXPECT_EQ(second.line, 21);
  EXPECT_EQ(second.match_type, MatchType::kGlob);
  EXPECT_EQ(second.name, "second_${1}");
  EXPECT_THAT(second.labels, ElementsAre(Pair("host", "$1"), Pair("kind", "fixed")));
  EXPECT_TRUE(second.honor_labels);
  EXPECT_EQ(second.matched_type, MatchedType::kObserver);
  EXPECT_TRUE(second.drop);
  EXPECT_EQ(second.observer_type, ObserverType::kHistogram);
  EXPECT_EQ(second.histogram.buckets, (std::vector<double>{3, 4}));
  EXPECT_EQ(second.histogram.native_factor, 1.5);
  EXPECT_EQ(second.histogram.native_max_buckets, 100U);
  EXPECT_EQ(second.ttl_ms, 90'000);
  EXPECT_EQ(second.scale, 0.001);
  EXPECT_EQ(second.help, "What it is.");
}

TEST(FileTest, LineEndsByteOrderMarkAndLaterDocuments) {
  const MappingConfig config = Parse(
      "\xef\xbb\xbf%YAML 1.1\r\n---\r\nmappings:\r\n- match: a\r\n  name: n\r\n  help: |\r\n"
      "    two\r\n    lines\r\n---\r\nmappings:\r\n- match: b\r\n  name: m\r\nfoo: bar\r\n");
  ASSERT_EQ(config.rules.size(), 1U);
  EXPECT_EQ(config.rules[0].match, "a");
  EXPECT_EQ(config.rules[0].help, "two\nlines\n");
  EXPECT_EQ(config.rules[0].line, 4);
}

TEST(FileTest, FlowStyleIsAsGood) {
  const MappingConfig config =
      Parse(R"({"defaults": {ttl: 5s}, mappings: [{match: 'a.*', name: n, labels: {ab: "$1"}}]})");
  ASSERT_EQ(config.rules.size(), 1U);
  EXPECT_EQ(config.rules[0].ttl_ms, 5000);
  EXPECT_THAT(config.rules[0].labels, ElementsAre(Pair("ab", "$1")));
}

TEST(FileTest, TheDefaultsMayStandBehindTheMappings) {
  const MappingConfig config =
      Parse("mappings: [{match: a, name: n}]\ndefaults: {ttl: 5s, match_type: regex}\n");
  EXPECT_EQ(config.rules[0].ttl_ms, 5000);
  EXPECT_EQ(config.rules[0].match_type, MatchType::kRegex);
}

// ---- Scalars ----

TEST(ScalarTest, TextIsTakenAsItIsWritten) {
  const MappingRule rule = ParseRule(
      "labels:\n"
      "  float: 1.50\n"
      "  truth: true\n"
      "  octal: 010\n"
      "  date: 2024-01-05\n"
      "  hex: 0x14\n"
      "  group: 1_000\n"
      "  inf: .inf\n"
      "  quoted: \"x\\ty\"\n"
      "  single: 'it''s'\n"
      "  tagged: !!str 1.50\n"
      "  none: null\n"
      "  empty: ''\n"
      "  1: one\n"
      "  yes: two\n"
      "help: 5.0");
  EXPECT_THAT(rule.labels,
              ElementsAre(Pair("float", "1.50"), Pair("truth", "true"), Pair("octal", "010"),
                          Pair("date", "2024-01-05"), Pair("hex", "0x14"), Pair("group", "1_000"),
                          Pair("inf", ".inf"), Pair("quoted", "x\ty"), Pair("single", "it's"),
                          Pair("tagged", "1.50"), Pair("none", ""), Pair("empty", ""),
                          Pair("1", "one"), Pair("yes", "two")));
  EXPECT_EQ(rule.help, "5.0");
}

TEST(ScalarTest, TruthValues) {
  for (const char* yes :
       {"true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON"}) {
    EXPECT_TRUE(ParseRule("honor_labels: " + std::string(yes)).honor_labels) << yes;
  }
  for (const char* no :
       {"false", "False", "FALSE", "no", "No", "NO", "n", "N", "off", "Off", "OFF", "null", ""}) {
    EXPECT_FALSE(ParseRule("honor_labels: " + std::string(no)).honor_labels) << no;
  }
  for (const char* bad : {"\"true\"", "'yes'", "1", "0", "tRUE", "yEs", "!!str true", "[]", "{}"}) {
    EXPECT_THAT(RefusalOfRule("honor_labels: " + std::string(bad)),
                AllOf(StartsWith("m.yml:4: honor_labels: "), HasSubstr("is no truth value")))
        << bad;
  }
}

TEST(ScalarTest, Numbers) {
  const std::vector<std::pair<const char*, double>> rows = {
      {"1", 1},
      {"-1", -1},
      {"+1", 1},
      {"0", 0},
      {"1.5", 1.5},
      {".5", 0.5},
      {"5.", 5},
      {"1e3", 1000},
      {"1E-3", 0.001},
      {"1.5e+2", 150},
      {"0x14", 20},
      {"-0x14", -20},
      {"0X1F", 31},
      {"010", 8},
      {"0o17", 15},
      {"0b101", 5},
      {"-0b11", -3},
      {"08", 8},
      {"09.5", 9.5},
      {"1_000", 1000},
      {"1_0.2_5", 10.25},
      {"0x_ff", 255},
      {"18446744073709551615", 18446744073709551615.0},
      {"36893488147419103232", 36893488147419103232.0},
      {"1e-400", 0},
      {"!!float 5", 5},
      {"!!int 5", 5},
      {"!!float \"5\"", 5}};
  for (const auto& [text, number] : rows) {
    EXPECT_EQ(ParseRule("scale: " + std::string(text)).scale, number) << text;
  }
  for (const char* bad :
       {"\"1\"", "'1'", "x",   "1e",   "1.2.3",    "0x",    "0xg",        "1:30", "1 000",
        "1,5",   "--1", "inf", "nan",  "Infinity", "1e309", "1d",         "0b2",  ". 5",
        "+",     ".",   "_1",  "true", "!!str 1",  "0x1p4", "2024-01-05", "[1]",  "{}"}) {
    EXPECT_THAT(RefusalOfRule("scale: " + std::string(bad)),
                AllOf(StartsWith("m.yml:4: scale: "), HasSubstr("is no number; write one")))
        << bad;
  }
  EXPECT_THAT(RefusalOfRule("scale: .inf"), HasSubstr("scale: is not finite"));
  EXPECT_THAT(RefusalOfRule("scale: .NaN"), HasSubstr("scale: is not finite"));
  EXPECT_EQ(ParseRule("histogram_options: {buckets: [1, .inf]}").histogram.buckets,
            (std::vector<double>{1, kInfinity}));
  EXPECT_EQ(ParseRule("histogram_options: {buckets: [-.Inf, +.INF]}").histogram.buckets,
            (std::vector<double>{-kInfinity, kInfinity}));
}

TEST(ScalarTest, Durations) {
  const std::vector<std::pair<const char*, int64_t>> rows = {{"5s", 5000},
                                                             {"1h30m", 5'400'000},
                                                             {"1.5h", 5'400'000},
                                                             {"500ms", 500},
                                                             {"1h2m3s4ms", 3'723'004},
                                                             {"\"90s\"", 90'000},
                                                             {"0", 0},
                                                             {"0s", 0},
                                                             {"\"0\"", 0},
                                                             {"null", 0},
                                                             {"1000us", 1},
                                                             {"1000\u00b5s", 1},
                                                             {"1000\u03bcs", 1},
                                                             {"1ns", 1},
                                                             {"1100us", 2},
                                                             {".5s", 500},
                                                             {"+5s", 5000},
                                                             {"2000000000", 2000},
                                                             {"2_000_000_000", 2000},
                                                             {"1e9", 1000},
                                                             {"5", 1}};
  for (const auto& [text, ms] : rows) {
    EXPECT_EQ(ParseRule("ttl: " + std::string(text)).ttl_ms, ms) << text;
  }
  for (const char* bad : {"5d", "1w", "5 s", "s", "5x", "\"5\"", "1h 30m", "inf", "-inf", "forever",
                          "9999999h", "1e30", ".inf", ".nan", "true", "[5s]", "''"}) {
    EXPECT_THAT(RefusalOfRule("ttl: " + std::string(bad)),
                AllOf(StartsWith("m.yml:4: ttl: "), HasSubstr("is no duration; write one")))
        << bad;
  }
  for (const char* negative : {"-5s", "-1", "-1ns"}) {
    EXPECT_THAT(RefusalOfRule("ttl: " + std::string(negative)),
                StartsWith("m.yml:4: ttl: is negative"))
        << negative;
  }
}

TEST(ScalarTest, ANumberForADurationIsWarnedOf) {
  EXPECT_THAT(Parse(WithRule("ttl: 300")).warnings,
              ElementsAre("m.yml:4: ttl: a number without a unit is nanoseconds; for seconds write "
                          "300s"));
  EXPECT_THAT(Parse(WithRule("ttl: 0")).warnings, IsEmpty());
}

TEST(ScalarTest, Counts) {
  const auto age_buckets = [](const std::string& text) {
    return ParseRule("summary_options: {age_buckets: " + text + "}").summary.age_buckets;
  };
  EXPECT_EQ(age_buckets("7"), 7);
  EXPECT_EQ(age_buckets("7.9"), 7);
  EXPECT_EQ(age_buckets("0"), 5) << "as if it were not there";
  EXPECT_EQ(age_buckets("null"), 5);
  for (const char* bad : {"-1", "4294967296", "x", "'7'", "[]"}) {
    EXPECT_THAT(RefusalOfRule("summary_options: {age_buckets: " + std::string(bad) + "}"),
                AllOf(StartsWith("m.yml:4: summary_options.age_buckets: "),
                      HasSubstr("no number from 0 to")))
        << bad;
  }
}

TEST(ScalarTest, Words) {
  EXPECT_EQ(ParseRule("match_metric_type: counter").matched_type, MatchedType::kCounter);
  EXPECT_EQ(ParseRule("match_metric_type: gauge").matched_type, MatchedType::kGauge);
  EXPECT_EQ(ParseRule("match_metric_type: observer").matched_type, MatchedType::kObserver);
  EXPECT_EQ(ParseRule("match_metric_type: ~").matched_type, MatchedType::kAny);
  EXPECT_EQ(ParseRule("match_type: ''").match_type, MatchType::kGlob);
  EXPECT_FALSE(ParseRule("action: map").drop);
  EXPECT_FALSE(ParseRule("action: ''").drop);
  EXPECT_TRUE(ParseRule("action: drop").drop);
  EXPECT_EQ(ParseRule("observer_type: ''").observer_type, ObserverType::kSummary);
  for (const char* bad :
       {"match_metric_type: ''", "match_metric_type: histogram", "match_metric_type: Counter",
        "match_type: globs", "match_type: [glob]", "action: Drop", "action: keep",
        "observer_type: gauge", "observer_type: Summary", "observer_type: {}"}) {
    const std::string key = std::string(bad).substr(0, std::string(bad).find(':'));
    EXPECT_THAT(RefusalOfRule(bad),
                AllOf(StartsWith("m.yml:4: " + key + ": "), HasSubstr("is not known; write")))
        << bad;
  }
  EXPECT_EQ(RefusalOfRule("match_metric_type: timers"),
            "m.yml:4: match_metric_type: \"timers\" is not known; write counter or gauge or "
            "observer");
}

// ---- Defaults ----

TEST(DefaultsTest, OptionsThatARuleDoesNotGiveComeFromTheDefaults) {
  const MappingConfig config = Parse(R"(
defaults:
  observer_type: summary
  ttl: 1m
  summary_options: {max_age: 30s, age_buckets: 2}
mappings:
- match: a
  name: a
  summary_options: {quantiles: [{quantile: 0.25}], max_age: 0, age_buckets: 4}
  ttl: 0
- match: b
  name: b
  match_type: ""
  summary_options: {quantiles: []}
)");
  ASSERT_EQ(config.rules.size(), 2U);
  const SummaryOptions& first = config.rules[0].summary;
  EXPECT_EQ(first.quantiles, (std::vector<Quantile>{{0.25, 0}}));
  EXPECT_EQ(first.max_age_ms, 30'000) << "0 is as good as nothing";
  EXPECT_EQ(first.age_buckets, 4);
  EXPECT_EQ(config.rules[0].ttl_ms, 60'000) << "and so it is for the ttl";
  EXPECT_EQ(config.rules[1].summary.quantiles, SummaryOptions().quantiles);
  EXPECT_EQ(config.rules[1].summary.age_buckets, 2);
}

TEST(DefaultsTest, AnEmptyMatchTypeIsAGlobWhateverTheDefault) {
  const MappingConfig config = Parse(
      "defaults: {match_type: regex}\nmappings:\n- {match: a, name: n, match_type: ''}\n"
      "- {match: a, name: n, match_type: ~}\n");
  EXPECT_EQ(config.rules[0].match_type, MatchType::kGlob);
  EXPECT_EQ(config.rules[1].match_type, MatchType::kRegex);
}

TEST(DefaultsTest, ErrorsSayThatTheyAreTheDefaults) {
  EXPECT_THAT(RefusalOf("defaults:\n  ttl: 5d\n"), StartsWith("m.yml:2: defaults.ttl: "));
  EXPECT_THAT(RefusalOf("defaults:\n  foo: 1\n"), StartsWith("m.yml:2: defaults.foo: is no key"));
  EXPECT_THAT(RefusalOf("defaults:\n  histogram_options:\n    buckets: [2, 1]\n"),
              StartsWith("m.yml:3: defaults.histogram_options.buckets: do not rise"));
  EXPECT_THAT(RefusalOf("\ndefaults: 5\n"), StartsWith("m.yml:2: defaults: \"5\" is no map"));
}

// ---- Which observer ----

ObserverType TypeOf(const std::string& defaults, const std::string& rule) {
  return Parse("defaults: {" + defaults + "}\nmappings:\n- {match: a, name: n" +
               (rule.empty() ? "" : ", ") + rule + "}\n")
      .rules[0]
      .observer_type;
}

TEST(ObserverTest, WithoutATypeTheOptionsSayWhatIsMeant) {
  constexpr auto kHistogram = ObserverType::kHistogram;
  constexpr auto kSummary = ObserverType::kSummary;
  EXPECT_EQ(TypeOf("", ""), kHistogram);
  EXPECT_EQ(TypeOf("", "summary_options: {}"), kSummary);
  EXPECT_EQ(TypeOf("", "summary_options: ~"), kHistogram);
  EXPECT_EQ(TypeOf("", "histogram_options: {}"), kHistogram);
  EXPECT_EQ(TypeOf("", "quantiles: [{quantile: 0.5}]"), kSummary);
  EXPECT_EQ(TypeOf("", "buckets: [1]"), kHistogram);
  EXPECT_EQ(TypeOf("", "summary_options: {}, histogram_options: {}"), kSummary);
  EXPECT_EQ(TypeOf("summary_options: {max_age: 1m}", ""), kSummary);
  EXPECT_EQ(TypeOf("summary_options: {max_age: 1m}", "histogram_options: {}"), kHistogram);
  EXPECT_EQ(TypeOf("histogram_options: {}", "summary_options: {}"), kSummary);
  EXPECT_EQ(TypeOf("observer_type: summary", ""), kSummary);
  EXPECT_EQ(TypeOf("observer_type: summary", "observer_type: histogram"), kHistogram);
  EXPECT_EQ(TypeOf("observer_type: histogram", "observer_type: ~"), kHistogram);
  EXPECT_EQ(TypeOf("observer_type: histogram", "observer_type: ''"), kSummary);
  EXPECT_EQ(TypeOf("observer_type: summary", "observer_type: histogram, histogram_options: {}"),
            kHistogram);
  EXPECT_EQ(TypeOf("observer_type: ''", ""), kSummary);
  EXPECT_EQ(TypeOf("observer_type: '', timer_type: histogram", ""), kSummary);
  EXPECT_EQ(TypeOf("timer_type: summary", ""), kSummary);
  EXPECT_EQ(TypeOf("timer_type: summary, observer_type: histogram", ""), kHistogram);
  EXPECT_EQ(TypeOf("", "timer_type: summary"), kSummary);
  EXPECT_EQ(TypeOf("", "timer_type: summary, observer_type: histogram"), kHistogram);
}

TEST(ObserverTest, ItIsKnownWhetherTheFileSaysIt) {
  const auto given = [](const std::string& defaults, const std::string& rule) {
    return Parse("defaults: {" + defaults + "}\nmappings:\n- {match: a, name: n" + rule + "}\n");
  };
  EXPECT_FALSE(given("", "").rules[0].observer_type_given);
  EXPECT_FALSE(given("", ", histogram_options: {}").rules[0].observer_type_given);
  EXPECT_TRUE(given("", ", observer_type: histogram").rules[0].observer_type_given);
  EXPECT_FALSE(given("", ", observer_type: histogram").defaults.observer_type_given);
  EXPECT_TRUE(given("observer_type: summary", "").rules[0].observer_type_given);
  EXPECT_TRUE(given("timer_type: summary", "").defaults.observer_type_given);
  EXPECT_TRUE(given("", ", observer_type: ''").rules[0].observer_type_given);
}

TEST(ObserverTest, OptionsOfTheOtherTypeAreRefused) {
  EXPECT_THAT(RefusalOfRule("observer_type: histogram\nsummary_options: {}"),
              AllOf(StartsWith("m.yml:5: summary_options: are given"), HasSubstr("histogram;")));
  EXPECT_THAT(RefusalOfRule("observer_type: summary\nhistogram_options: {}"),
              AllOf(StartsWith("m.yml:5: histogram_options: are given"), HasSubstr("summary;")));
  EXPECT_THAT(
      RefusalOf("defaults: {observer_type: histogram}\nmappings:\n- match: a\n  name: n\n"
                "  summary_options: {}\n"),
      AllOf(StartsWith("m.yml:5: summary_options: are given"), HasSubstr("by the defaults")));
  EXPECT_THAT(RefusalOf("defaults: {observer_type: summary}\nmappings:\n- match: a\n  name: n\n"
                        "  action: drop\n  histogram_options: {}\n"),
              StartsWith("m.yml:6: histogram_options: are given"));
  EXPECT_THAT(RefusalOfRule("observer_type: ''\nhistogram_options: {}"),
              StartsWith("m.yml:5: histogram_options: are given"));
}

// ---- Anchors, aliases, merge keys ----

TEST(MergeTest, AliasesStandForTheirAnchors) {
  const MappingConfig config = Parse(R"(
defaults: {histogram_options: {buckets: &bounds [1, 2]}}
mappings:
- &first
  match: a
  name: n
  labels: &labels {host: x}
- *first
- match: b
  name: n
  labels: *labels
  histogram_options: {buckets: *bounds}
)");
  ASSERT_EQ(config.rules.size(), 3U);
  EXPECT_EQ(config.rules[1].match, "a");
  EXPECT_EQ(config.rules[1].line, 4) << "where its text is";
  EXPECT_THAT(config.rules[2].labels, ElementsAre(Pair("host", "x")));
  EXPECT_EQ(config.rules[2].histogram.buckets, (std::vector<double>{1, 2}));
}

TEST(MergeTest, KeysBesideAMergeKeyWin) {
  const MappingConfig config = Parse(R"(
mappings:
- &base
  match: a
  name: base
  ttl: 5s
  scale: 2
  labels: {host: x, env: prod}
  summary_options: {max_age: 1m, age_buckets: 2}
- <<: *base
  match: b
  scale: ~
  labels: {host: y, more: z}
  summary_options: {age_buckets: 3}
- match: c
  <<: *base
)");
  ASSERT_EQ(config.rules.size(), 3U);
  const MappingRule& merged = config.rules[1];
  EXPECT_EQ(merged.match, "b");
  EXPECT_EQ(merged.name, "base");
  EXPECT_EQ(merged.ttl_ms, 5000);
  EXPECT_EQ(merged.scale, 1) << "null takes away what was merged";
  EXPECT_THAT(merged.labels,
              ElementsAre(Pair("host", "y"), Pair("env", "prod"), Pair("more", "z")));
  EXPECT_EQ(merged.summary.max_age_ms, 60'000);
  EXPECT_EQ(merged.summary.age_buckets, 3);
  EXPECT_EQ(config.rules[2].match, "c") << "wherever the merge key stands";
  EXPECT_EQ(config.rules[2].name, "base");
}

TEST(MergeTest, OfAListOfMapsTheEarlierWins) {
  const MappingConfig config = Parse(R"(
mappings:
- &one {match: a, name: one, ttl: 1s}
- &two {match: a, name: two, help: two, labels: {host: x}}
- <<: [*one, *two, {help: three, scale: 3}]
  labels: {<<: {env: p, host: q}, env: r}
)");
  ASSERT_EQ(config.rules.size(), 3U);
  const MappingRule& rule = config.rules[2];
  EXPECT_EQ(rule.name, "one");
  EXPECT_EQ(rule.ttl_ms, 1000);
  EXPECT_EQ(rule.help, "two");
  EXPECT_EQ(rule.scale, 3);
  EXPECT_THAT(rule.labels, ElementsAre(Pair("host", "q"), Pair("env", "r")));
}

TEST(MergeTest, AQuotedMergeKeyIsAKey) {
  EXPECT_THAT(RefusalOfRule("'<<': {ttl: 5s}"), StartsWith("m.yml:4: <<: is no key here"));
  EXPECT_THAT(RefusalOfRule("<<: 5"), StartsWith("m.yml:4: <<: is no map"));
  EXPECT_THAT(RefusalOfRule("<<: [{ttl: 5s}, 5]"), StartsWith("m.yml:4: <<: is no map"));
}

// ---- Legacy keys ----

TEST(LegacyTest, OldKeysAreReadWithAWarning) {
  const MappingConfig config = Parse(R"(
defaults:
  timer_type: histogram
  buckets: [1, 2]
  quantiles: [{quantile: 0.75, error: 0.1}]
mappings:
- match: a
  name: n
  match_metric_type: timer
  buckets: [3]
- match: b
  name: n
  timer_type: summary
  quantiles: [{quantile: 0.25, error: 0.1}]
)");
  ASSERT_EQ(config.rules.size(), 2U);
  EXPECT_EQ(config.defaults.histogram.buckets, (std::vector<double>{1, 2}));
  EXPECT_EQ(config.defaults.summary.quantiles, (std::vector<Quantile>{{0.75, 0.1}}));
  EXPECT_EQ(config.rules[0].matched_type, MatchedType::kObserver);
  EXPECT_EQ(config.rules[0].observer_type, ObserverType::kHistogram);
  EXPECT_EQ(config.rules[0].histogram.buckets, (std::vector<double>{3}));
  EXPECT_EQ(config.rules[1].observer_type, ObserverType::kSummary);
  EXPECT_EQ(config.rules[1].summary.quantiles, (std::vector<Quantile>{{0.25, 0.1}}));
  EXPECT_THAT(config.warnings,
              ElementsAre("m.yml:3: defaults.timer_type: is old; write observer_type",
                          "m.yml:4: defaults.buckets: is old; write histogram_options.buckets",
                          "m.yml:5: defaults.quantiles: is old; write summary_options.quantiles",
                          "m.yml:9: match_metric_type: is old; write observer",
                          "m.yml:10: buckets: is old; write histogram_options.buckets",
                          "m.yml:13: timer_type: is old; write observer_type",
                          "m.yml:14: quantiles: is old; write summary_options.quantiles"));
}

TEST(LegacyTest, OldAndNewTogetherAreRefused) {
  EXPECT_THAT(RefusalOfRule("buckets: [1]\nhistogram_options: {buckets: [2]}"),
              StartsWith("m.yml:4: buckets: are in histogram_options too"));
  EXPECT_THAT(RefusalOfRule("quantiles: [{quantile: 0.5}]\nsummary_options: {quantiles: []}"),
              StartsWith("m.yml:4: quantiles: are in summary_options too"));
  EXPECT_EQ(RefusalOfRule("buckets: [1]\nhistogram_options: {native_histogram_max_buckets: 5}"),
            "ok");
}

TEST(LegacyTest, ErrorsInOldKeysHaveTheirLines) {
  EXPECT_THAT(RefusalOfRule("help: x\nbuckets: [2, 1]"),
              StartsWith("m.yml:5: histogram_options.buckets: do not rise"));
}

TEST(LegacyTest, ManyWarningsAreCounted) {
  std::string yaml = "mappings:\n";
  for (int i = 0; i < 30; ++i) yaml += "- {match: a, name: n, timer_type: summary}\n";
  const MappingConfig config = Parse(yaml);
  ASSERT_EQ(config.warnings.size(), 21U);
  EXPECT_EQ(config.warnings.back(), "m.yml: and 10 more");
}

// ---- What is refused, with its line ----

TEST(RefusalTest, KeysAndShapes) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"foo: 1\n", "m.yml:1: foo: is no key here; use one of defaults, mappings"},
      {"mappings: []\nmappings: []\n", "m.yml:2: mappings: is there twice; keep one of them"},
      {"- a\n", "m.yml:1: file: a list is no map"},
      {"text\n", "m.yml:1: file: \"text\" is no map"},
      {"mappings: 5\n", "m.yml:1: mappings: \"5\" is no list"},
      {"mappings: {a: b}\n", "m.yml:1: mappings: a map is no list"},
      {"mappings:\n- 5\n", "m.yml:2: mappings: \"5\" is no mapping"},
      {"mappings:\n- ~\n", "m.yml:2: mappings: null is no mapping"},
      {"mappings:\n- {}\n", "m.yml:2: match: is missing"},
      {"mappings:\n- match: a\n", "m.yml:2: name: is missing"},
      {"mappings:\n- name: a\n", "m.yml:2: match: is missing"},
      {"mappings:\n- name: a\n  match_type: regex\n", "m.yml:2: match: is missing"},
      {WithRule("macth: x"), "m.yml:4: macth: is no key here; use one of match, match_type, name,"},
      {WithRule("name: x"), "m.yml:4: name: is there twice"},
      {WithRule("labels: {ab: x, ab: y}"), "m.yml:4: labels.ab: is there twice"},
      {WithRule("labels: [ab]"), "m.yml:4: labels: a list is no map"},
      {WithRule("labels: {ab: [x]}"), "m.yml:4: labels.ab: is a list; write text"},
      {WithRule("labels:\n  a: x"), "m.yml:5: labels.\"a\": is no name of a label"},
      {WithRule("labels:\n  ok: x\n  __b: y"), "m.yml:6: labels.__b: is reserved"},
      {WithRule("labels:\n  le: y"), "m.yml:5: labels.le: is a label that every histogram has"},
      {WithRule("help: {a: b}"), "m.yml:4: help: is a map; write text"},
      {WithRule("[a]: b"), "m.yml:4: file: a key is a list; write text"},
      {WithRule("histogram_options: 5"), "m.yml:4: histogram_options: \"5\" is no map"},
      {WithRule("histogram_options:\n  bucket: [1]"),
       "m.yml:5: histogram_options.bucket: is no key here; use one of buckets, "
       "native_histogram_bucket_factor, native_histogram_max_buckets"},
      {WithRule("histogram_options:\n  buckets: 5"),
       "m.yml:5: histogram_options.buckets: \"5\" is no list"},
      {WithRule("histogram_options:\n  buckets:\n  - 1\n  - x"),
       "m.yml:7: histogram_options.buckets: \"x\" is no number"},
      {WithRule("histogram_options:\n  buckets:\n  - 1\n  - ~"),
       "m.yml:7: histogram_options.buckets: null is no number"},
      {WithRule("histogram_options:\n  buckets: [1, 1]"),
       "m.yml:5: histogram_options.buckets: do not rise: 1 follows 1"},
      {WithRule("summary_options:\n  quantiles: [0.5]"),
       "m.yml:5: summary_options.quantiles: \"0.5\" is no map"},
      {WithRule("summary_options:\n  quantiles:\n  - quantile: 50"),
       "m.yml:5: summary_options.quantiles: 50 is no quantile"},
      {WithRule("summary_options:\n  quantiles:\n  - quantil: 1"),
       "m.yml:6: summary_options.quantiles.quantil: is no key here; use one of quantile, error"},
      {WithRule("summary_options:\n  max_age: -1s"),
       "m.yml:5: summary_options.max_age: is not above 0"},
      {"mappings:\n- name: n\n  match: a..b\n", "m.yml:3: match: \"a..b\" is no glob"},
      {"mappings:\n- name: n\n  match: (\n  match_type: regex\n",
       "m.yml:3: match: \"(\" is no regular expression, missing ): (; write"},
      {"mappings:\n- match: a\n  name: a-b\n", "m.yml:3: name: \"a-b\" is no name of a metric"},
  };
  for (const auto& [yaml, message] : rows) {
    EXPECT_THAT(RefusalOf(yaml), StartsWith(message)) << yaml;
  }
}

TEST(RefusalTest, AllThatIsWrongIsSaid) {
  const std::string message = RefusalOfRule("ttl: 5d\nfoo: bar\nscale: x");
  EXPECT_THAT(message, StartsWith("m.yml:4: ttl: "));
  EXPECT_THAT(message, HasSubstr("\nm.yml:5: foo: "));
  EXPECT_THAT(message, HasSubstr("\nm.yml:6: scale: "));
}

TEST(RefusalTest, BrokenYaml) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"mappings:\n- match: a\n name: n\n", "m.yml:3: YAML: "},
      {"mappings: [\n", "m.yml:2: YAML: "},
      {"mappings:\n- match: \"a\n", "m.yml:3: YAML: illegal document indicator in scalar; close"},
      {"mappings:\n- match: 'a\n  name: n", "m.yml:4: YAML: illegal document indicator in scalar"},
      {"mappings:\n- match: *.a\n  name: n\n", "m.yml:2: YAML: "},
      {"mappings:\n- match: a\n  name: n: m\n", "m.yml:3: YAML: "},
      {"a: &x [*x]\n", "m.yml:1: YAML: an alias within what it stands for"},
      {"mappings:\n- match: a\n  name: n\n  help: !!binary aGk=\n",
       "m.yml:4: YAML: the tag !!binary is not known here"},
      {"mappings:\n- match: a\n  name: n\n  help: \"\xff\"\n", "m.yml:4: YAML: "},
      {"\t\tmappings: 5\n", "m.yml:1: YAML: "},
  };
  for (const auto& [yaml, message] : rows) {
    EXPECT_THAT(RefusalOf(yaml), StartsWith(message)) << yaml;
  }
  EXPECT_THAT(RefusalOf("mappings:\n- match: *.a\n"), HasSubstr("begin with * or & in quotes"));
}

// ---- Bounds ----

TEST(BoundsTest, AnExplodingFileIsRefusedAtOnce) {
  std::string yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string from = "*a" + std::to_string(i - 1);
    yaml += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) yaml += (j == 0 ? "" : ", ") + from;
    yaml += "]\n";
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(RefusalOf(yaml),
              AllOf(StartsWith("m.yml:7: YAML: more than 2000000 values"), HasSubstr("; shorten")));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(BoundsTest, DeepNestingIsRefused) {
  EXPECT_THAT(RefusalOf(std::string(100'000, '[')), HasSubstr("YAML: nested too deeply"));
  EXPECT_THAT(RefusalOf(std::string(100'000, '{')), HasSubstr("YAML: nested too deeply"));
  std::string blocks;
  for (int i = 0; i < 2000; ++i) blocks += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(RefusalOf(blocks), HasSubstr("YAML: nested too deeply"));
}

TEST(BoundsTest, LargeFilesAreRefused) {
  EXPECT_EQ(RefusalOf(std::string(kMaxMappingBytes, '\n')), "ok");
  EXPECT_EQ(RefusalOf(std::string(kMaxMappingBytes + 1, '\n')),
            "m.yml:1: file: is larger than 16777216 bytes; split or shorten it");
}

// ---- The example of the documentation ----

class ExampleTest : public testing::Test {
 protected:
  void SetUp() override {
    auto mapping = LoadMapping(TALLYD_SOURCE_DIR "/docs/examples/mapping.yaml");
    ASSERT_TRUE(mapping.ok()) << mapping.status();
    mapping_ = *std::move(mapping);
  }

  // As "name label=value label=value".
  std::string MapTo(std::string_view name, SampleType type) {
    Mapped mapped;
    if (!mapping_->Map(name, type, &mapped)) return "no rule";
    rule_ = mapped.rule;
    std::string text = mapped.name;
    for (const auto& [label, value] : mapped.labels) {
      text.append(" ").append(label).append("=").append(value);
    }
    return text;
  }

  std::shared_ptr<const Mapping> mapping_;
  const MappingRule* rule_ = nullptr;  // the last one found
};

TEST_F(ExampleTest, DoesWhatItsCommentsSay) {
  EXPECT_THAT(mapping_->config().warnings, IsEmpty());
  EXPECT_EQ(MapTo("api.get.users.200", SampleType::kCounter),
            "http_requests method=get handler=users code=200");
  EXPECT_EQ(MapTo("api.get.users.time", SampleType::kTimer),
            "http_get_seconds handler=users tier=front");
  EXPECT_EQ(rule_->histogram.buckets, (std::vector<double>{0.01, 0.1, 1, 10}));
  EXPECT_EQ(MapTo("backend.get.users.time", SampleType::kTimer),
            "backend_get_seconds handler=users tier=back");
  EXPECT_EQ(rule_->help, "Time to answer.");
  EXPECT_EQ(MapTo("batch.nightly.duration", SampleType::kHistogram),
            "batch_duration_seconds job=nightly");
  EXPECT_EQ(rule_->observer_type, ObserverType::kSummary);
  EXPECT_EQ(rule_->summary.max_age_ms, 120'000);
  EXPECT_EQ(MapTo("worker.7.memory_kb", SampleType::kGauge), "worker_memory_bytes worker=7");
  EXPECT_EQ(rule_->scale, 1024);
  EXPECT_EQ(rule_->ttl_ms, 300'000);
  EXPECT_EQ(MapTo("jobs.done", SampleType::kCounter), "jobs_done env=production");
  EXPECT_TRUE(rule_->honor_labels);
  EXPECT_EQ(MapTo("debug.x", SampleType::kCounter), "");
  EXPECT_TRUE(rule_->drop);
  EXPECT_EQ(MapTo("disk.sda.writes", SampleType::kCounter),
            "disk_operations device=sda operation=write");
  EXPECT_EQ(MapTo("legacy.a.b.c", SampleType::kCounter), "legacy_a.b.c origin=legacy");
  EXPECT_EQ(MapTo("other", SampleType::kCounter), "no rule");
}

// ---- Loading ----

TEST(LoadTest, ReadsParsesAndCompiles) {
  const std::string path = testing::TempDir() + "/mapping_file_test.yml";
  std::ofstream(path) << "mappings:\n- match: a.*\n  name: n_${1}\n";
  const auto mapping = LoadMapping(path);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  Mapped mapped;
  ASSERT_TRUE((*mapping)->Map("a.b", SampleType::kCounter, &mapped));
  EXPECT_EQ(mapped.name, "n_b");
  EXPECT_EQ((*mapping)->config().file, path);

  std::ofstream(path) << "mappings:\n- match: a\n  name: 1n\n";
  EXPECT_THAT(std::string(LoadMapping(path).status().message()), StartsWith(path + ":3: name: "));
  std::filesystem::remove(path);
}

TEST(LoadTest, FilesThatCannotBeReadSayWhy) {
  EXPECT_THAT(LoadMapping("/no/such/file.yml").status().ToString(),
              HasSubstr("/no/such/file.yml: No such file or directory"));
  EXPECT_THAT(LoadMapping("/tmp").status().ToString(), HasSubstr("/tmp: Is a directory"));
  EXPECT_THAT(LoadMapping("/dev/zero").status().ToString(), HasSubstr("is larger than"));
}

}  // namespace
}  // namespace tallyd
