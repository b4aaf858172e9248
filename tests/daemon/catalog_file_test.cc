#include "daemon/catalog_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::SizeIs;
using testing::StartsWith;

Catalog Parse(std::string_view yaml) {
  auto catalog = ParseCatalog(yaml, "c.yml");
  EXPECT_TRUE(catalog.ok()) << catalog.status() << "\nin:\n" << yaml;
  return catalog.ok() ? *std::move(catalog) : Catalog();
}

// The message of a file that is not taken, or "ok".
std::string RefusalOf(std::string_view yaml) {
  auto catalog = ParseCatalog(yaml, "c.yml");
  if (catalog.ok()) return "ok";
  EXPECT_EQ(catalog.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(catalog.status().message());
}

// A gauge x in line 3, and what else is said of it from line 6 on.
std::string WithMetric(std::string_view lines, std::string_view name = "x",
                       std::string_view type = "gauge") {
  std::string yaml = absl::StrCat("service: s\nmetrics:\n- name: ", View(name),
                                  "\n  type: ", View(type), "\n  help: Some help.\n");
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    yaml.append("  ").append(lines.substr(begin, end - begin)).append("\n");
    begin = end + 1;
  }
  return yaml;
}

DeclaredMetric ParseMetric(std::string_view lines, std::string_view name = "x",
                           std::string_view type = "gauge") {
  Catalog catalog = Parse(WithMetric(lines, name, type));
  return catalog.metrics.size() == 1 ? catalog.metrics[0] : DeclaredMetric();
}

std::string RefusalOfMetric(std::string_view lines, std::string_view name = "x",
                            std::string_view type = "gauge") {
  return RefusalOf(WithMetric(lines, name, type));
}

std::string RefusalOfName(std::string_view name, std::string_view type) {
  return RefusalOf(WithMetric("", name, type));
}

// ---- What is read ----

TEST(CatalogFileTest, AllKeysAreRead) {
  const Catalog catalog = Parse(R"yaml(
service: meeting_controller
description: Runs meetings.
mode: enforce
owner: team-realtime
runbook_base: https://runbooks.example.org/mc
scrape_interval: 30s
dashboard: {title: Meetings, uid: mc-1}
metrics:
- name: mc_depth
  type: gauge
  help: Messages that wait.
  sources: [mc.mailbox.depth]
  labels: [actor_type]
  non_negative: true
  single_sender: true
  ttl: 5m
  owner: somebody
  panel: {row: Actors, title: Depth, kind: timeseries, expr: sum(mc_depth)}
- name: mc_join_duration_seconds
  type: histogram
  unit: seconds
  help: How long joining takes.
  sources: ["mc.join.*", "mc.rejoin.*"]
  labels:
    region: {max: 20, from: $1, help: Where.}
    actor_type:
  buckets: [0.05, 1, 5]
  scale: 0.001
  runbook: https://runbooks.example.org/join
- name: mc_queue_depth
  type: gauge
  help: Entries.
  labels: {queue: {values: [main, 2]}}
  observed:
  - {socket: /run/mc/admin.sock, query: "depth\n", interval: 10s, timeout: 200ms, labels: {queue: main}}
  - {file: /run/mc/depth, labels: {queue: 2}}
labels:
  actor_type: {values: [controller, meeting], help: Which kind.}
recording_rules:
- record: mc:a:b
  expr: sum(a)
alerts:
- name: McDrops
  expr: mc:a:b > 0.01
  for: 5m
  severity: warning
  summary: Drops.
  description: Many.
  owner: x
  reason: It is so.
  runbook: https://runbooks.example.org/drops
  tests:
  - {fires: true, at: 15m, series: {"a_total": 0+5x60, 'b{c="d"}': 1 2 3}}
)yaml");
  EXPECT_EQ(catalog.file, "c.yml");
  EXPECT_EQ(catalog.service, "meeting_controller");
  EXPECT_EQ(catalog.description, "Runs meetings.");
  EXPECT_EQ(catalog.mode, CatalogMode::kEnforce);
  EXPECT_EQ(catalog.owner, "team-realtime");
  EXPECT_EQ(catalog.runbook_base, "https://runbooks.example.org/mc");
  EXPECT_EQ(catalog.scrape_interval_ms, 30'000);
  EXPECT_EQ(catalog.dashboard_title, "Meetings");
  EXPECT_EQ(catalog.dashboard_uid, "mc-1");
  ASSERT_THAT(catalog.metrics, SizeIs(3));

  const DeclaredMetric& depth = catalog.metrics[0];
  EXPECT_EQ(depth.name, "mc_depth");
  EXPECT_EQ(depth.line, 10);
  EXPECT_EQ(depth.type, DeclaredType::kGauge);
  EXPECT_EQ(depth.unit, "");
  EXPECT_EQ(depth.help, "Messages that wait.");
  EXPECT_THAT(depth.sources, ElementsAre("mc.mailbox.depth"));
  ASSERT_THAT(depth.labels, SizeIs(1));
  EXPECT_THAT(depth.labels[0].values, ElementsAre("controller", "meeting"));
  EXPECT_EQ(depth.labels[0].help, "Which kind.");
  EXPECT_TRUE(depth.non_negative);
  EXPECT_TRUE(depth.single_sender);
  EXPECT_EQ(depth.ttl_ms, 300'000);
  EXPECT_EQ(depth.owner, "somebody");
  EXPECT_EQ(depth.panel.row, "Actors");
  EXPECT_EQ(depth.panel.title, "Depth");
  EXPECT_EQ(depth.panel.kind, "timeseries");
  EXPECT_EQ(depth.panel.expr, "sum(mc_depth)");
  EXPECT_EQ(depth.EnumerableSeries(), 2U);

  const DeclaredMetric& join = catalog.metrics[1];
  EXPECT_EQ(join.unit, "seconds");
  ASSERT_THAT(join.labels, SizeIs(2));
  EXPECT_EQ(join.labels[0].name, "actor_type") << "labels are sorted";
  EXPECT_THAT(join.labels[0].values, SizeIs(2));
  EXPECT_EQ(join.labels[1].max_values, 20U);
  EXPECT_EQ(join.labels[1].from, "$1");
  EXPECT_THAT(join.buckets, ElementsAre(0.05, 1.0, 5.0));
  EXPECT_EQ(join.scale, 0.001);
  EXPECT_EQ(join.runbook, "https://runbooks.example.org/join");
  EXPECT_EQ(join.EnumerableSeries(), 0U);
  EXPECT_EQ(join.MaxSeries(), 40U);

  const DeclaredMetric& queue = catalog.metrics[2];
  ASSERT_THAT(queue.observed, SizeIs(2));
  EXPECT_EQ(queue.observed[0].socket, "/run/mc/admin.sock");
  EXPECT_EQ(queue.observed[0].query, "depth\n");
  EXPECT_EQ(queue.observed[0].interval_ms, 10'000);
  EXPECT_EQ(queue.observed[0].timeout_ms, 200);
  EXPECT_THAT(queue.observed[0].labels, ElementsAre(Pair("queue", "main")));
  EXPECT_EQ(queue.observed[1].file, "/run/mc/depth");
  EXPECT_EQ(queue.observed[1].interval_ms, 5'000);
  EXPECT_EQ(queue.EnumerableSeries(), 0U) << "nobody has read it yet";
  EXPECT_EQ(queue.MaxSeries(), 2U);

  ASSERT_THAT(catalog.recording_rules, SizeIs(1));
  EXPECT_EQ(catalog.recording_rules[0].record, "mc:a:b");
  EXPECT_EQ(catalog.recording_rules[0].expr, "sum(a)");
  ASSERT_THAT(catalog.alerts, SizeIs(1));
  const DeclaredAlert& alert = catalog.alerts[0];
  EXPECT_EQ(alert.name, "McDrops");
  EXPECT_EQ(alert.expr, "mc:a:b > 0.01");
  EXPECT_EQ(alert.for_ms, 300'000);
  EXPECT_EQ(alert.severity, "warning");
  EXPECT_EQ(alert.summary, "Drops.");
  EXPECT_EQ(alert.description, "Many.");
  EXPECT_EQ(alert.owner, "x");
  EXPECT_EQ(alert.reason, "It is so.");
  EXPECT_EQ(alert.runbook, "https://runbooks.example.org/drops");
  ASSERT_THAT(alert.tests, SizeIs(1));
  EXPECT_TRUE(alert.tests[0].fires);
  EXPECT_EQ(alert.tests[0].at_ms, 900'000);
  EXPECT_THAT(alert.tests[0].series,
              ElementsAre(Pair("a_total", "0+5x60"), Pair("b{c=\"d\"}", "1 2 3")));
}

TEST(CatalogFileTest, WhatIsNotSaidHasDefaults) {
  const Catalog catalog = Parse(WithMetric("", "x_seconds", "histogram"));
  EXPECT_EQ(catalog.mode, CatalogMode::kWarn);
  EXPECT_EQ(catalog.scrape_interval_ms, 15'000);
  const DeclaredMetric& metric = catalog.metrics[0];
  EXPECT_EQ(metric.buckets, HistogramOptions().buckets);
  EXPECT_EQ(metric.unit, "seconds") << "as the name says";
  EXPECT_THAT(metric.SourcesOrName(), ElementsAre("x_seconds"));
  EXPECT_EQ(metric.EnumerableSeries(), 1U);
  EXPECT_EQ(ParseMetric("", "x", "summary").quantiles, SummaryOptions().quantiles);
  EXPECT_EQ(ParseMetric("", "x_bytes_total", "counter").unit, "bytes");
}

TEST(CatalogFileTest, BucketsAreDoublesHoweverTheyAreWritten) {
  const std::vector<double> doubles = {1, 5, 10, 1000};
  EXPECT_EQ(ParseMetric("buckets: [1, 5, 10, 1000]", "x", "histogram").buckets, doubles);
  EXPECT_EQ(ParseMetric("buckets: [1.0, 5., 1e1, 1000]", "x", "histogram").buckets, doubles);
  EXPECT_EQ(ParseMetric("buckets:\n- 1\n- 5.0\n- 10\n- 1_000", "x", "histogram").buckets, doubles);
}

TEST(CatalogFileTest, OwnLabelsTakeTheBoundOfSharedOnes) {
  const Catalog catalog = Parse(R"(
service: s
labels: {op: {values: [read, write], from: $1}}
metrics:
- {name: a_total, type: counter, help: A., sources: [a.*], labels: [op]}
- {name: b_total, type: counter, help: B., sources: ["b.*.*"], labels: {op: {from: $2}}}
- {name: c_total, type: counter, help: C., labels: [{op: {values: [x]}}, {id: {max: 3}}]}
)");
  ASSERT_THAT(catalog.metrics, SizeIs(3));
  EXPECT_EQ(catalog.metrics[0].labels[0].from, "$1");
  EXPECT_EQ(catalog.metrics[1].labels[0].from, "$2");
  EXPECT_THAT(catalog.metrics[1].labels[0].values, ElementsAre("read", "write"));
  EXPECT_EQ(catalog.metrics[2].labels[0].max_values, 3U);
  EXPECT_THAT(catalog.metrics[2].labels[1].values, ElementsAre("x"));
}

TEST(CatalogFileTest, ProductsOfBoundsSaturate) {
  std::string lines = "labels:";
  for (int i = 0; i < 20; ++i) absl::StrAppend(&lines, "\n  l", i, ": {max: 1000000}");
  EXPECT_EQ(ParseMetric(lines).MaxSeries(), ~size_t{0});
}

TEST(CatalogFileTest, DurationsArePrometheusOnes) {
  const auto interval = [](std::string_view text) {
    return Parse(absl::StrCat(WithMetric(""), "scrape_interval: ", View(text))).scrape_interval_ms;
  };
  EXPECT_EQ(interval("1d"), 86'400'000);
  EXPECT_EQ(interval("1h30m"), 5'400'000);
  EXPECT_EQ(interval("1s500ms"), 1'500);
  for (const std::string_view wrong :
       {"15", "1.5s", "1s1s", "1s1m", "s", "-1s", "1 s", "\"\"", "99999999s", "[1s]", "~", "1x"}) {
    EXPECT_THAT(RefusalOf(absl::StrCat(WithMetric(""), "scrape_interval: ", View(wrong))),
                AllOf(StartsWith("c.yml:6: scrape_interval: "), HasSubstr("is no duration")))
        << wrong;
  }
}

// ---- What is refused ----

TEST(CatalogFileTest, EverythingIsSaidAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(RefusalOf(R"(mode: strict
metrics:
- name: a
  type: counter
  help: A.
- name: b_ms
  type: gauge
  help: B.
  unit: ms
  labels: {id: {}}
  buckets: [1]
)"),
            R"(c.yml:1: mode: "strict" is not known; write open, warn or enforce
c.yml:1: service: is missing; write the name of the service
c.yml:3: metrics.a.name: is a counter's, which ends in _total; write a_total
c.yml:9: metrics.b_ms.unit: "ms" is no base unit; write seconds, and a scale where samples come in another one
c.yml:10: metrics.b_ms.labels.id: has no bound; list its values, or write max: how many there may be
c.yml:11: metrics.b_ms.buckets: are a histogram's; write type: histogram)");
}

TEST(CatalogFileTest, MoreThanTwentyAreCounted) {
  std::string yaml = "service: s\nmetrics:\n";
  for (int i = 0; i < 25; ++i) {
    absl::StrAppend(&yaml, "- {name: a", i, ", type: counter, help: A.}\n");
  }
  const std::string refusal = RefusalOf(yaml);
  EXPECT_THAT(refusal, HasSubstr("\nand 5 more"));
  EXPECT_EQ(std::count(refusal.begin(), refusal.end(), '\n'), 20);
}

TEST(CatalogFileTest, UnknownKeysAreNamedWithTheNearest) {
  EXPECT_EQ(RefusalOfMetric("bucket: [1]"),
            "c.yml:6: metrics.x.bucket: is no key here; did you mean buckets?");
  EXPECT_THAT(RefusalOf("servise: s"), HasSubstr("c.yml:1: servise: is no key here; did you mean "
                                                 "service?"));
  EXPECT_THAT(RefusalOfMetric("panel: {zzzzzzzz: 1}"),
              HasSubstr("use one of row, title, expr, kind"));
  EXPECT_THAT(RefusalOfMetric("help: again"), HasSubstr("c.yml:6: metrics.x.help: is there twice"));
  EXPECT_THAT(RefusalOfMetric("<<: {unit: seconds}"), HasSubstr("merge keys are not read"));
}

TEST(CatalogFileTest, ValuesOfTheWrongKindAreRefused) {
  EXPECT_THAT(RefusalOf("- a\n- b"), HasSubstr("is no map"));
  EXPECT_THAT(RefusalOf("service: s\nmetrics: {a: b}"), HasSubstr("is no list"));
  EXPECT_THAT(RefusalOf("service: s\nmetrics: [a]"), HasSubstr("is no metric"));
  EXPECT_THAT(RefusalOf(""), HasSubstr("metrics: are missing"));
  EXPECT_THAT(RefusalOf("service: [a"), StartsWith("c.yml:"));
  EXPECT_THAT(RefusalOf("service: Bad-Name"), HasSubstr("is no name of a service"));
  EXPECT_THAT(RefusalOfMetric("non_negative: maybe"), HasSubstr("is no truth value"));
  EXPECT_THAT(RefusalOfMetric("scale: fast"), HasSubstr("is no number"));
  EXPECT_THAT(RefusalOfMetric("scale: 0"), HasSubstr("scale: is not above 0"));
  EXPECT_THAT(RefusalOfMetric("scale: .inf"), HasSubstr("scale: is not above 0"));
  EXPECT_THAT(RefusalOfMetric("sources: [{a: b}]"), HasSubstr("has a map"));
  EXPECT_THAT(RefusalOfMetric("ttl: 10"), HasSubstr("is no duration"));
  EXPECT_THAT(RefusalOfMetric("panel: {kind: pie}"), HasSubstr("timeseries, stat or heatmap"));
  EXPECT_THAT(
      RefusalOf(absl::StrCat(WithMetric(""), "dashboard: {uid: \"", std::string(41, 'a'), "\"}")),
      HasSubstr("c.yml:6: dashboard.uid: "));
  EXPECT_THAT(RefusalOf(absl::StrCat(WithMetric(""), "runbook_base: here")),
              HasSubstr("c.yml:6: runbook_base: \"here\" is no link"));
  EXPECT_THAT(RefusalOf("service: s\nmetrics: [{name: x, help: X.}]"),
              HasSubstr("metrics.x.type: is missing"));
}

TEST(CatalogFileTest, NamesSayTypeAndUnit) {
  EXPECT_EQ(RefusalOfName("x_total", "counter"), "ok");
  EXPECT_THAT(RefusalOfName("x", "counter"), HasSubstr("which ends in _total; write x_total"));
  EXPECT_THAT(RefusalOfName("_total", "counter"), HasSubstr("which ends in _total"));
  for (const std::string_view type : {"gauge", "histogram", "summary", "set"}) {
    EXPECT_THAT(RefusalOfName("x_total", type), HasSubstr("is no counter's; write x, or type"));
  }
  for (const std::string_view name : {"x_bucket", "x_sum", "x_count", "x_created"}) {
    EXPECT_THAT(RefusalOfName(name, "gauge"), HasSubstr("which samples of histograms")) << name;
  }
  for (const std::string_view name :
       {"x_ms", "x_milliseconds", "x_kb", "x_percent", "x_minutes", "x_bits", "x_s"}) {
    EXPECT_THAT(RefusalOfName(name, "gauge"), HasSubstr("which is no base unit")) << name;
  }
  EXPECT_THAT(RefusalOfName("x_ms_total", "counter"), HasSubstr("ends in ms, which is no base"));
  for (const std::string_view name : {"x_seconds", "x_bytes", "x_ratio", "x_celsius", "x_depth_min",
                                      "ms", "x_items", "x_items_per_second"}) {
    EXPECT_EQ(RefusalOfName(name, "gauge"), "ok") << name;
  }
  for (const std::string_view name : {"a.b", "5xx", "a:b", "\"\"", "\"a b\"", "a-b"}) {
    EXPECT_THAT(RefusalOfName(name, "gauge"), HasSubstr("name: ")) << name;
  }
  for (const std::string_view name : {"tallyd_x", "process_x"}) {
    EXPECT_THAT(RefusalOfName(name, "gauge"), HasSubstr("begins as our own metrics do")) << name;
  }
}

TEST(CatalogFileTest, UnitsAreBaseUnitsAndTheSuffix) {
  EXPECT_EQ(RefusalOfMetric("unit: seconds", "x_seconds"), "ok");
  EXPECT_EQ(RefusalOfMetric("unit: bytes", "x_bytes_total", "counter"), "ok");
  EXPECT_EQ(RefusalOfMetric("unit: milliseconds", "x_milliseconds"),
            "c.yml:6: metrics.x_milliseconds.unit: \"milliseconds\" is no base unit; write "
            "seconds, and a scale where samples come in another one");
  EXPECT_THAT(RefusalOfMetric("unit: parsecs"), HasSubstr("write one such as seconds"));
  EXPECT_EQ(RefusalOfMetric("unit: bytes", "x_size"),
            "c.yml:6: metrics.x_size.unit: bytes is not the name's suffix; name the metric "
            "x_size_bytes");
  EXPECT_THAT(RefusalOfMetric("unit: bytes", "x_seconds_total", "counter"),
              HasSubstr("x_seconds_bytes_total"));
}

TEST(CatalogFileTest, LabelsAreBoundedAndDistinct) {
  EXPECT_EQ(RefusalOfMetric("labels: {a: {values: [x, y]}, b: {max: 3}}"), "ok");
  EXPECT_THAT(RefusalOfMetric("labels: {a: {help: x}}"), HasSubstr("has no bound"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {values: [x], max: 3}}"),
              HasSubstr("has values and max"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {values: [x, x]}}"), HasSubstr("\"x\" twice"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {values: [x, \"\"]}}"), HasSubstr("an empty value"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {values: []}}"), HasSubstr("values: are none"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {values: [__overflow__]}}"), HasSubstr("is folded"));
  for (const std::string_view max : {"0", "-1", "2.5", "many", "5000000000"}) {
    EXPECT_THAT(RefusalOfMetric(absl::StrCat("labels: {a: {max: ", View(max), "}}")),
                HasSubstr("labels.a.max: "))
        << max;
  }
  EXPECT_THAT(RefusalOfMetric("labels: {a: {max: 2000000}}"), HasSubstr("what has more values"));
  EXPECT_THAT(RefusalOfMetric("labels: [a]"), HasSubstr("labels.a: is no shared label"));
  EXPECT_THAT(RefusalOfMetric("labels: [{a: {max: 1}}, {a: {max: 1}}]"),
              HasSubstr("labels.a: is there twice"));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {max: 1}, a: {max: 1}}"), HasSubstr("is there twice"));
  EXPECT_THAT(RefusalOf(absl::StrCat("labels: {actor: {max: 1}}\n", WithMetric("labels: [actr]"))),
              HasSubstr("did you mean actor?"));
}

TEST(CatalogFileTest, NamesOfLabelsAreThoseOfPrometheus) {
  for (const std::string_view name : {"__a", "a-b", "\"\"", "5a", "a.b"}) {
    EXPECT_THAT(RefusalOfMetric(absl::StrCat("labels: {", View(name), ": {max: 1}}")),
                StartsWith("c.yml:6: metrics.x.labels."))
        << name;
  }
  EXPECT_THAT(RefusalOfMetric("labels: {le: {max: 1}}", "x", "histogram"),
              HasSubstr("every histogram has itself"));
  EXPECT_THAT(RefusalOfMetric("labels: {quantile: {max: 1}}", "x", "summary"),
              HasSubstr("every summary has itself"));
  EXPECT_EQ(RefusalOfMetric("labels: {le: {max: 1}}"), "ok");
}

TEST(CatalogFileTest, EnumerableSeriesAreBounded) {
  std::string values;
  for (int i = 0; i < 400; ++i) absl::StrAppend(&values, i == 0 ? "" : ", ", i);
  EXPECT_THAT(RefusalOfMetric(absl::StrCat("labels: {a: {values: [", values, "]}, b: {values: [",
                                           values, "]}}")),
              HasSubstr("make 160000 series that are there from the start"));
}

TEST(CatalogFileTest, BucketsAscendAndAreFinite) {
  const auto refusal = [](std::string_view buckets) {
    return RefusalOfMetric(absl::StrCat("buckets: ", View(buckets)), "x", "histogram");
  };
  EXPECT_EQ(refusal("[1, 2]"), "ok");
  EXPECT_THAT(refusal("[]"), HasSubstr("c.yml:6: metrics.x.buckets: are none"));
  EXPECT_THAT(refusal("~"), HasSubstr("are none"));
  EXPECT_THAT(refusal("[1, 3, 2]"), HasSubstr("do not ascend: 2 follows 3; sort them"));
  EXPECT_THAT(refusal("[1, 1.0]"), HasSubstr("have 1 twice; keep one"));
  EXPECT_THAT(refusal("[1, .inf]"), HasSubstr("are not all finite"));
  EXPECT_THAT(refusal("[.nan]"), HasSubstr("are not all finite"));
  EXPECT_THAT(refusal("[1, x]"), HasSubstr("\"x\" is no number"));
  EXPECT_THAT(refusal("[\"1\"]"), HasSubstr("without quotes"));
  EXPECT_THAT(refusal("5"), HasSubstr("is no list"));
  std::string many = "[0";
  for (int i = 1; i <= 200; ++i) absl::StrAppend(&many, ", ", i);
  EXPECT_THAT(refusal(many + "]"), HasSubstr("are 201, and at most 200 are possible"));
  EXPECT_THAT(RefusalOfMetric("quantiles: [1.5]", "x", "summary"), HasSubstr("is no quantile"));
  EXPECT_THAT(RefusalOfMetric("quantiles: [0.5, 0.50]", "x", "summary"), HasSubstr("0.5 twice"));
  EXPECT_THAT(RefusalOfMetric("quantiles: [0.5]"), HasSubstr("are a summary's"));
}

TEST(CatalogFileTest, KeepingFitsTheType) {
  EXPECT_EQ(RefusalOfMetric("ttl: 5m", "x", "set"), "ok");
  EXPECT_THAT(RefusalOfMetric("ttl: 5m", "x_total", "counter"),
              HasSubstr("is for gauges and sets"));
  EXPECT_THAT(RefusalOfMetric("non_negative: true", "x_total", "counter"),
              HasSubstr("non_negative: is for gauges"));
  EXPECT_THAT(RefusalOfMetric("single_sender: true", "x", "set"),
              HasSubstr("single_sender: is for gauges"));
}

TEST(CatalogFileTest, TemplatesFitTheirGlobs) {
  const auto refusal = [](std::string_view from, std::string_view sources) {
    return RefusalOfMetric(absl::StrCat("labels: {ab: {max: 2, from: \"", View(from),
                                        "\"}}\nsources: [", View(sources), "]"));
  };
  EXPECT_EQ(refusal("$1", "a.*"), "ok");
  EXPECT_EQ(refusal("${2}-$1", "a.*.*"), "ok");
  EXPECT_EQ(refusal("constant", "a"), "ok");
  EXPECT_THAT(refusal("$2", "a.*"),
              HasSubstr("labels.ab: comes from \"$2\", but the source \"a.*\" has 1 stars"));
  EXPECT_THAT(refusal("$1", "\"a.*\", a.b"), HasSubstr("the source \"a.b\" has 0 stars"));
  EXPECT_THAT(refusal("$0", "a.*"), HasSubstr("\"$0\""));
  EXPECT_THAT(refusal("$1_x", "a.*"), HasSubstr("\"$1_x\"")) << "a reference to 1_x";
  EXPECT_THAT(refusal("a$", "a.*"), HasSubstr("\"$\""));
  EXPECT_THAT(RefusalOfMetric("labels: {ab: {max: 2, from: $1}}"), HasSubstr("source \"x\""));
  EXPECT_THAT(RefusalOfMetric("labels: {a: {max: 2, from: $1}}\nsources: [\"a.*\"]"),
              HasSubstr("is too short for a mapping"));
}

TEST(CatalogFileTest, SourcesAreGlobsOfOneMetric) {
  for (const std::string_view wrong : {"a..b", "\"a b\"", "\"a*\"", "5a", "\"\""}) {
    EXPECT_THAT(RefusalOfMetric(absl::StrCat("sources: [", View(wrong), "]")),
                HasSubstr("metrics.x.sources: "))
        << wrong;
  }
  const auto pair = [](std::string_view first, std::string_view second) {
    return RefusalOf(absl::StrCat("service: s\nmetrics:\n- {name: x, type: gauge, help: X., ",
                                  View(first), "}\n- {name: y, help: Y., ", View(second), "}"));
  };
  EXPECT_EQ(pair("sources: [a.b]", "type: gauge, sources: [\"a.*\"]"), "ok");
  EXPECT_EQ(pair("sources: [a.b]", "type: histogram, sources: [a.b]"), "ok")
      << "they are told apart by type";
  EXPECT_EQ(pair("sources: [a.b]", "type: gauge, sources: [a.b]"),
            "c.yml:4: metrics.y.sources: \"a.b\" is taken by \"a.b\" of x at c.yml:3 already; a "
            "source feeds one metric of each type");
  EXPECT_THAT(pair("sources: [\"a.*\"]", "type: set, sources: [a.b]"),
              HasSubstr("\"a.b\" is taken by \"a.*\" of x at c.yml:3 already; declare the "
                        "narrower one first"));
  EXPECT_THAT(pair("sources: [\"*\"]", "type: gauge"), HasSubstr("\"y\" is taken by \"*\""));
  EXPECT_THAT(RefusalOfMetric("sources: [\"a.*\", a.b]"),
              HasSubstr("\"a.b\" is taken by \"a.*\" beside it already; leave it out"));
}

TEST(CatalogFileTest, NamesAreDeclaredOnce) {
  const auto pair = [](std::string_view first, std::string_view second) {
    return RefusalOf(absl::StrCat("service: s\nmetrics:\n- {help: X., ", View(first),
                                  "}\n- {help: Y., ", View(second), "}"));
  };
  EXPECT_EQ(pair("name: x, type: gauge", "name: x, type: histogram"),
            "c.yml:4: metrics.x.name: is declared at c.yml:3 already; keep one of them");
  EXPECT_THAT(pair("name: x, type: histogram", "name: x_sum, type: gauge"),
              HasSubstr("metrics.x_sum.name: clashes with x at c.yml:3, as both have x_sum"));
  EXPECT_THAT(pair("name: x_bucket, type: gauge", "name: x, type: histogram"),
              HasSubstr("metrics.x.name: clashes with x_bucket at c.yml:3"));
  EXPECT_THAT(pair("name: x, type: gauge", "name: x_total, type: counter"),
              HasSubstr("metrics.x_total.name: clashes with x at c.yml:3, as both have x;"));
}

TEST(CatalogFileTest, ObservedGaugesHaveOneSourceEach) {
  const auto refusal = [](std::string_view source) {
    return RefusalOfMetric(
        absl::StrCat("labels: {q: {values: [a, b]}}\nobserved:\n- {", View(source), "}\n"));
  };
  EXPECT_EQ(refusal("file: /x, labels: {q: a}"), "ok");
  EXPECT_EQ(refusal("socket: /x, query: \"q\", labels: {q: a}"), "ok");
  EXPECT_THAT(refusal("labels: {q: a}"),
              HasSubstr("c.yml:8: metrics.x.observed: has neither file nor socket"));
  EXPECT_THAT(refusal("file: /x, socket: /y, labels: {q: a}"), HasSubstr("has file and socket"));
  EXPECT_THAT(refusal("file: x, labels: {q: a}"), HasSubstr("is no absolute path"));
  EXPECT_THAT(refusal("socket: x, labels: {q: a}"), HasSubstr("is no absolute path"));
  EXPECT_THAT(refusal(absl::StrCat("socket: /", std::string(107, 'a'), ", labels: {q: a}")),
              HasSubstr("longer than 107 bytes"));
  EXPECT_THAT(refusal("file: /x, query: q, labels: {q: a}"), HasSubstr("query: is for sockets"));
  EXPECT_THAT(refusal("file: /x"), HasSubstr("observed.labels.q: has no value"));
  EXPECT_THAT(refusal("file: /x, labels: {q: c}"), HasSubstr("is not among the values"));
  EXPECT_THAT(refusal("file: /x, labels: {q: a, r: b}"), HasSubstr("is no label of this metric"));
  EXPECT_THAT(refusal("file: /x, interval: 10ms, labels: {q: a}"), HasSubstr("is below 100ms"));
  EXPECT_THAT(refusal("file: /x, timeout: 10s, labels: {q: a}"), HasSubstr("and the interval"));
  EXPECT_THAT(refusal("file: /x, labels: {q: a}}\n- {file: /y, labels: {q: a}"),
              HasSubstr("c.yml:9: metrics.x.observed.labels: are those of another source"));
  EXPECT_THAT(RefusalOfMetric("observed: [{file: /x}]", "x_total", "counter"),
              HasSubstr("observed: is for gauges"));
  EXPECT_THAT(RefusalOfMetric("observed: [{file: /x}]\nsources: [a]"),
              HasSubstr("observed: is given beside sources"));
}

TEST(CatalogFileTest, AlertsAreComplete) {
  const auto refusal = [](std::string_view alert) {
    return RefusalOf(absl::StrCat(WithMetric(""), "alerts:\n- {", View(alert), "}\n"));
  };
  constexpr std::string_view kGood = "expr: x > 1, severity: info, summary: S.";
  const auto with = [&](std::string_view more) {
    return refusal(absl::StrCat("name: XIsHigh, ", View(kGood), ", ", View(more)));
  };
  EXPECT_EQ(with("for: 5m"), "ok");
  const std::string all = refusal("name: bad_name, severity: page, runbook: here, for: x");
  EXPECT_THAT(all, AllOf(HasSubstr("c.yml:7: alerts.bad_name.name: "),
                         HasSubstr("alerts.bad_name.expr: is missing"),
                         HasSubstr("alerts.bad_name.severity: \"page\" is not known; write "
                                   "critical, warning or info"),
                         HasSubstr("alerts.bad_name.summary: is missing"),
                         HasSubstr("alerts.bad_name.runbook: \"here\" is no link")));
  EXPECT_THAT(all, HasSubstr("alerts.bad_name.for: \"x\" is no duration"));
  EXPECT_THAT(refusal("name: A, expr: x, summary: S."), HasSubstr("severity: is missing"));
  EXPECT_THAT(with("tests: [{at: 5m, series: {x: 1}}]"), HasSubstr("does not say whether it"));
  EXPECT_THAT(with("tests: [{fires: true, series: {x: 1}}]"), HasSubstr("has no moment"));
  EXPECT_THAT(with("tests: [{fires: true, at: 5m}]"), HasSubstr("has no series"));
  EXPECT_THAT(with("tests: [{fires: true, at: 5m, series: {x: \"\"}}]"), HasSubstr("no values"));
  EXPECT_THAT(refusal(absl::StrCat("name: A, ", View(kGood), "}\n- {name: A, ", View(kGood))),
              HasSubstr("c.yml:8: alerts.A: is declared at c.yml:7 already"));
  EXPECT_THAT(RefusalOf(absl::StrCat(WithMetric(""), "recording_rules: [{record: a b}]")),
              AllOf(HasSubstr("recording_rules.record: "), HasSubstr("expr: is missing")));
}

// ---- Several files ----

class CatalogFilesTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, std::string_view yaml) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path) << yaml;
    return path;
  }

  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / "catalog_files";
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(CatalogFilesTest, HoldBesideEachOther) {
  const std::string a = Write("a.yml", WithMetric("sources: [s.a]", "a"));
  const std::string b = Write("b.yml", WithMetric("sources: [s.b]", "b"));
  const auto catalogs = LoadCatalogs({a, b});
  ASSERT_TRUE(catalogs.ok()) << catalogs.status();
  ASSERT_THAT(*catalogs, SizeIs(2));
  EXPECT_EQ((*catalogs)[1].metrics[0].name, "b");
  EXPECT_THAT(LoadCatalogs({}).value(), IsEmpty());
}

TEST_F(CatalogFilesTest, WhatIsWrongWithAnyIsSaidAtOnce) {
  const std::string a = Write("a.yml", WithMetric("unit: ms", "a"));
  const std::string b = Write("b.yml", WithMetric("", "a"));
  const std::string c = (folder_ / "missing.yml").string();
  const auto catalogs = LoadCatalogs({a, b, c});
  ASSERT_FALSE(catalogs.ok());
  const std::string message(catalogs.status().message());
  EXPECT_THAT(message, HasSubstr(absl::StrCat(a, ":6: metrics.a.unit: ")));
  EXPECT_THAT(message,
              HasSubstr(absl::StrCat(b, ":3: metrics.a.name: is declared at ", a, ":3 already")));
  EXPECT_THAT(message, HasSubstr(absl::StrCat("cannot read ", c)));
  EXPECT_THAT(message, Not(HasSubstr("sources"))) << "one cause, one line";
}

TEST_F(CatalogFilesTest, SourcesOfAnotherFileAreTaken) {
  const std::string a = Write("a.yml", WithMetric("sources: [\"s.*\"]", "a"));
  const std::string b = Write("b.yml", WithMetric("sources: [s.b]", "b"));
  EXPECT_THAT(std::string(LoadCatalogs({a, b}).status().message()),
              HasSubstr(absl::StrCat(
                  b, ":6: metrics.b.sources: \"s.b\" is taken by \"s.*\" of a at ", a, ":6")));
}

}  // namespace
}  // namespace tallyd
