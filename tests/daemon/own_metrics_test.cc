#include "daemon/own_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/gauge.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "daemon/own_metrics_text.h"
#include "tests/core/expose/family_reader.h"
#include "tests/daemon/aggregation.h"

namespace tallyd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::map<std::string, std::string> Samples(const std::string& text) {
  std::map<std::string, std::string> samples;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    EXPECT_TRUE(samples.emplace(line.substr(0, space), line.substr(space + 1)).second) << line;
  }
  return samples;
}

std::map<std::string, std::string> Samples(const OwnMetrics& own,
                                           ScrapeFormat format = ScrapeFormat::kPrometheus004) {
  const OwnMetrics::Text text = own.Render(format);
  return Samples(text.process + text.tallyd);
}

std::string FamilyText(const MetricFamily& family,
                       ScrapeFormat format = ScrapeFormat::kPrometheus004) {
  std::string text;
  AppendFamily(family, format, &text);
  return text;
}

// Else what a crash leaves would have more samples applied than received, for ever.
TEST(LedgerTotalsTest, WhatIsAccountedForWasReceivedAlsoWhileABatchEnds) {
  constexpr int kBatches = 50'000;
  Aggregation aggregation;
  std::atomic<bool> done = false;
  std::thread sender([&] {
    for (int i = 0; i < kBatches; ++i) aggregation.Send("a:1|c\nb:1|nothing");
    done = true;
  });
  uint64_t torn = 0;
  while (!done) {
    const LedgerTotals totals = SumLedgers({&aggregation.ledger(0)}, Ledger::kMaxListeners);
    torn += totals.received < totals.applied + totals.all_dropped ? 1 : 0;
  }
  sender.join();
  EXPECT_EQ(torn, 0);
}

TEST(OwnMetricsTest, EveryReasonIsThereFromTheStart) {
  Aggregation aggregation;
  const auto samples = Samples(aggregation.own_metrics());
  for (const std::string_view reason : kDropReasonNames) {
    const std::string series =
        "tallyd_dropped_samples_total{reason=\"" + std::string(reason) + "\"}";
    ASSERT_TRUE(samples.contains(series)) << series;
    EXPECT_EQ(samples.at(series), "0");
  }
  for (const std::string_view reason : kRepairReasonNames) {
    const std::string series = "tallyd_repaired_total{reason=\"" + std::string(reason) + "\"}";
    ASSERT_TRUE(samples.contains(series)) << series;
    EXPECT_EQ(samples.at(series), "0");
  }
}

TEST(OwnMetricsTest, EventsAreCountedByKindAndAreNoSamples) {
  Aggregation aggregation;
  const std::string event = "tallyd_received_events_total{kind=\"event\"}";
  const std::string check = "tallyd_received_events_total{kind=\"service_check\"}";
  auto samples = Samples(aggregation.own_metrics());
  EXPECT_EQ(samples.at(event), "0");
  EXPECT_EQ(samples.at(check), "0");

  aggregation.Send("_e{1,2}:a|bc\n_sc|db|0\n_e{5,1}:a|b\na:1|c");
  aggregation.Send("_e{1,0}:5|", 1);
  samples = Samples(aggregation.own_metrics());
  EXPECT_EQ(samples.at(event), "2");
  EXPECT_EQ(samples.at(check), "1");
  EXPECT_EQ(samples.at("tallyd_received_samples_total{listener=\"udp:127.0.0.1:8125\"}"), "2");
  EXPECT_EQ(samples.at("tallyd_applied_samples_total"), "1");
  EXPECT_EQ(samples.at("tallyd_dropped_samples_total{reason=\"bad_event\"}"), "1");
}

TEST(OwnMetricsTest, TheNamesOfTheContractAreThere) {
  Aggregation aggregation;
  const OwnMetrics::Text text = aggregation.own_metrics().Render(ScrapeFormat::kPrometheus004);
  for (const char* name : {"tallyd_received_datagrams_total counter",
                           "tallyd_received_bytes_total counter",
                           "tallyd_received_samples_total counter",
                           "tallyd_applied_samples_total counter",
                           "tallyd_dropped_samples_total counter",
                           "tallyd_repaired_total counter",
                           "tallyd_folded_samples_total counter",
                           "tallyd_received_events_total counter",
                           "tallyd_kernel_dropped_datagrams_total counter",
                           "tallyd_truncated_datagrams_total counter",
                           "tallyd_series gauge",
                           "tallyd_series_limit gauge",
                           "tallyd_merge_duration_seconds histogram",
                           "tallyd_snapshot_age_seconds gauge",
                           "tallyd_scrape_duration_seconds histogram",
                           "tallyd_config_last_reload_successful gauge",
                           "tallyd_build_info gauge",
                           "tallyd_receive_buffer_bytes gauge",
                           "tallyd_receive_buffer_asked_bytes gauge",
                           "tallyd_refused_scrapes_total counter"}) {
    EXPECT_THAT(text.tallyd, HasSubstr(std::string("\n# TYPE ") + name + "\n"));
  }
  for (const char* name :
       {"process_cpu_seconds_total counter", "process_resident_memory_bytes gauge",
        "process_virtual_memory_bytes gauge", "process_open_fds gauge", "process_max_fds gauge",
        "process_start_time_seconds gauge"}) {
    EXPECT_THAT(text.process, HasSubstr(std::string("\n# TYPE ") + name + "\n"));
  }
}

TEST(OwnMetricsTest, ReloadsAreCountedAndTheLastSuccessIsDated) {
  Aggregation aggregation;
  OwnMetrics& own = aggregation.own_metrics();
  auto samples = Samples(own);
  const std::string time = "tallyd_config_last_reload_success_timestamp_seconds";
  EXPECT_EQ(samples.at("tallyd_config_reloads_total{outcome=\"success\"}"), "0");
  EXPECT_EQ(samples.at("tallyd_config_reloads_total{outcome=\"failure\"}"), "0");
  EXPECT_EQ(samples.at("tallyd_config_last_reload_successful"), "1");
  EXPECT_EQ(samples.at("tallyd_mapping_rules"), "0");
  EXPECT_GT(std::stod(samples.at(time)), 1.6e9);

  const std::string started = samples.at(time);
  own.SetReloadSuccessful(false);
  samples = Samples(own);
  EXPECT_EQ(samples.at("tallyd_config_reloads_total{outcome=\"failure\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_config_last_reload_successful"), "0");
  EXPECT_EQ(samples.at(time), started);

  own.SetReloadSuccessful(true);
  own.SetMappingRules(7);
  samples = Samples(own);
  EXPECT_EQ(samples.at("tallyd_config_reloads_total{outcome=\"success\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_config_last_reload_successful"), "1");
  EXPECT_EQ(samples.at("tallyd_mapping_rules"), "7");
  EXPECT_GE(std::stod(samples.at(time)), std::stod(started));
}

TEST(OwnMetricsTest, ARelayHasMetricsOnlyIfThereIsOne) {
  Aggregation aggregation;
  OwnMetrics& own = aggregation.own_metrics();
  EXPECT_THAT(own.Render(ScrapeFormat::kPrometheus004).tallyd, Not(HasSubstr("tallyd_relay")));
  const Relay relay("127.0.0.1:9", 4, 1);
  own.SetRelay(&relay);
  relay.taps()[0]->OnLines({}, "too long");
  const auto samples = Samples(own);
  const std::string target = "{target=\"127.0.0.1:9\"}";
  EXPECT_EQ(samples.at("tallyd_relay_packets_total" + target), "0");
  EXPECT_EQ(samples.at("tallyd_relay_lines_total" + target), "0");
  EXPECT_EQ(samples.at("tallyd_relay_long_lines_total" + target), "1");
  EXPECT_EQ(samples.at("tallyd_relay_dropped_lines_total" + target), "0");
}

TEST(OwnMetricsTest, FamiliesAreSortedAndHaveTheirPart) {
  Aggregation aggregation;
  const std::vector<MetricFamily> families = aggregation.own_metrics().Collect();
  EXPECT_TRUE(std::is_sorted(families.begin(), families.end(),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));
  const OwnMetrics::Text text = aggregation.own_metrics().Render(ScrapeFormat::kPrometheus004);
  EXPECT_THAT(text.process, AllOf(StartsWith("# HELP process_"), Not(HasSubstr("tallyd_"))));
  EXPECT_THAT(text.tallyd, AllOf(StartsWith("# HELP tallyd_"), Not(HasSubstr("process_cpu"))));
}

TEST(OwnMetricsTest, EveryFamilyHasHelp) {
  Aggregation aggregation;
  for (const MetricFamily& family : aggregation.own_metrics().Collect()) {
    EXPECT_NE(family.help, "") << family.name;
  }
}

TEST(OwnMetricsTest, AddsTheLedgersOfAllShardsUp) {
  Aggregation aggregation;
  aggregation.Send("a:1|c\nb:2|g\nnonsense\nc:1|what\n", 0, 0);
  aggregation.Send("a:1|c", 1, 0);
  aggregation.Send("t:1:2:3|ms", 1, 1);
  aggregation.ledger(0).listeners[0].kernel_dropped.Add(7);
  aggregation.ledger(1).listeners[0].kernel_dropped.Add(5);
  const auto samples = Samples(aggregation.own_metrics());
  EXPECT_EQ(samples.at("tallyd_received_samples_total{listener=\"udp:127.0.0.1:8125\"}"), "5");
  EXPECT_EQ(samples.at("tallyd_received_samples_total{listener=\"tcp:127.0.0.1:9125\"}"), "3");
  EXPECT_EQ(samples.at("tallyd_received_datagrams_total{listener=\"udp:127.0.0.1:8125\"}"), "2");
  EXPECT_EQ(samples.at("tallyd_applied_samples_total"), "6");
  EXPECT_EQ(samples.at("tallyd_dropped_samples_total{reason=\"malformed_line\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_dropped_samples_total{reason=\"bad_type\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_kernel_dropped_datagrams_total{listener=\"udp:127.0.0.1:8125\"}"),
            "12");
}

TEST(OwnMetricsTest, AtRestReceivedIsAppliedAndDropped) {
  Aggregation aggregation;
  aggregation.Send("a:1|c\n:::\nb:x|c\nc:-1|c\nd:1:2|h|@0.5\n_e{1,1}:a|b\nb:1|g\nb:1|c", 0);
  aggregation.Send("__x__:1|c|#__name__:y\n|||\nq:1|g|#,:", 1, 1);
  const LedgerTotals totals = aggregation.own_metrics().totals();
  EXPECT_GT(totals.received, 8u);
  EXPECT_EQ(totals.received, totals.applied + totals.all_dropped);
}

TEST(OwnMetricsTest, CountsSeriesMergesAndScrapes) {
  Aggregation aggregation;
  OwnMetrics& own = aggregation.own_metrics();
  aggregation.Send("a:1|c\nb:1|c\nc:1|g");
  aggregation.merge_thread().MergeNow();
  own.SetSeriesLimit(500);
  own.CountScrape(absl::Milliseconds(2));
  own.CountRefusedScrape();
  own.SetReloadSuccessful(false);
  // A merge is told of once it is over, which is after MergeNow's caller goes on.
  ASSERT_TRUE(
      Eventually([&] { return Samples(own).at("tallyd_merge_duration_seconds_count") == "2"; }));
  const auto samples = Samples(own);
  EXPECT_EQ(samples.at("tallyd_series"), "3");
  EXPECT_EQ(samples.at("tallyd_families"), "3");
  EXPECT_EQ(samples.at("tallyd_series_limit"), "500");
  EXPECT_EQ(samples.at("tallyd_merge_added_series_total"), "3");
  EXPECT_EQ(samples.at("tallyd_scrape_duration_seconds_bucket{le=\"0.001\"}"), "0");
  EXPECT_EQ(samples.at("tallyd_scrape_duration_seconds_bucket{le=\"0.003\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_scrape_duration_seconds_count"), "1");
  EXPECT_EQ(samples.at("tallyd_refused_scrapes_total"), "1");
  EXPECT_EQ(samples.at("tallyd_config_last_reload_successful"), "0");
  const double age = std::stod(samples.at("tallyd_snapshot_age_seconds"));
  EXPECT_GT(age, 0);
  EXPECT_LT(age, 60);
}

TEST(OwnMetricsTest, ShowsBuffersAndConnectionsOfThoseThatHaveThem) {
  Aggregation aggregation;
  OwnMetrics& own = aggregation.own_metrics();
  EXPECT_THAT(own.Render(ScrapeFormat::kPrometheus004).tallyd, Not(HasSubstr("connections")));
  ConnectionCounts counts;
  own.SetConnectionCounts(&counts);
  counts.Opened(1);
  counts.Opened(1);
  counts.Closed(1, CloseReason::kIdleTimeout);
  const auto samples = Samples(own);
  EXPECT_EQ(samples.at("tallyd_connections{listener=\"tcp:127.0.0.1:9125\"}"), "1");
  EXPECT_FALSE(samples.contains("tallyd_connections{listener=\"udp:127.0.0.1:8125\"}"));
  EXPECT_EQ(samples.at("tallyd_closed_connections_total{reason=\"idle_timeout\"}"), "1");
  EXPECT_EQ(samples.at("tallyd_closed_connections_total{reason=\"peer\"}"), "0");
  EXPECT_EQ(samples.at("tallyd_receive_buffer_bytes{listener=\"udp:127.0.0.1:8125\"}"), "2000");
  EXPECT_FALSE(samples.contains("tallyd_receive_buffer_bytes{listener=\"tcp:127.0.0.1:9125\"}"));
}

TEST(OwnMetricsTest, TellsOfTheProcess) {
  Aggregation aggregation;
  const auto samples = Samples(aggregation.own_metrics());
  EXPECT_GT(std::stod(samples.at("process_resident_memory_bytes")), 1e5);
  EXPECT_GT(std::stod(samples.at("process_cpu_seconds_total")), 0);
  EXPECT_GE(std::stod(samples.at("process_open_fds")), 3);
  EXPECT_GT(std::stod(samples.at("process_start_time_seconds")), 1.6e9);
}

TEST(OwnMetricsTest, BothFormatsShowTheSameSeries) {
  Aggregation aggregation;
  std::vector<std::string> text;
  std::vector<std::string> open_metrics;
  for (const auto& [name, value] : Samples(aggregation.own_metrics())) text.push_back(name);
  for (const auto& [name, value] :
       Samples(aggregation.own_metrics(), ScrapeFormat::kOpenMetrics100)) {
    open_metrics.push_back(name);
  }
  EXPECT_EQ(text, open_metrics);
  EXPECT_THAT(aggregation.own_metrics().Render(ScrapeFormat::kOpenMetrics100).tallyd,
              HasSubstr("\n# TYPE tallyd_applied_samples counter\ntallyd_applied_samples_total 0"));
}

TEST(OwnMetricsTest, TakesWhatOthersRegister) {
  Aggregation aggregation;
  prometheus::BuildGauge()
      .Name("tallyd_zeal")
      .Help("More.")
      .Register(aggregation.own_metrics().registry())
      .Add({})
      .Set(4);
  EXPECT_EQ(Samples(aggregation.own_metrics()).at("tallyd_zeal"), "4");
}

TEST(OwnMetricsTextTest, EscapesHelpAndLabels) {
  ClientMetric metric;
  metric.label = {{"b", "C:\\x \"y\"\nz"}, {"a", "1"}};
  metric.gauge.value = 0.1;
  const MetricFamily family{"g", "Back\\slash, \"quotes\"\nand more.", MetricType::Gauge, {metric}};
  EXPECT_EQ(FamilyText(family),
            "# HELP g Back\\\\slash, \"quotes\"\\nand more.\n# TYPE g gauge\n"
            "g{a=\"1\",b=\"C:\\\\x \\\"y\\\"\\nz\"} 0.1\n");
  EXPECT_THAT(FamilyText(family, ScrapeFormat::kOpenMetrics100), HasSubstr("\\\"quotes\\\"\\nand"));
}

TEST(OwnMetricsTextTest, WritesShortestDoublesAndWholeIntegers) {
  ClientMetric metric;
  const auto text = [&metric](double value) {
    metric.counter.value = value;
    const std::string all = FamilyText({"c_total", "", MetricType::Counter, {metric}});
    return all.substr(all.rfind("c_total ") + 8);
  };
  EXPECT_EQ(text(0.1 + 0.2), "0.30000000000000004\n");
  EXPECT_EQ(text(1e15), "1000000000000000\n");
  EXPECT_EQ(text(2.5), "2.5\n");
  EXPECT_EQ(text(1e300), "1e+300\n");
}

TEST(OwnMetricsTextTest, WritesSummariesAndUntypedToo) {
  ClientMetric metric;
  metric.label = {{"a", "b"}};
  metric.summary = {.sample_count = 3, .sample_sum = 1.5, .quantile = {{0.5, 0.25}}};
  EXPECT_EQ(FamilyText({"s", "S.", MetricType::Summary, {metric}}),
            "# HELP s S.\n# TYPE s summary\ns{a=\"b\",quantile=\"0.5\"} 0.25\ns_sum{a=\"b\"} 1.5\n"
            "s_count{a=\"b\"} 3\n");
  metric.untyped.value = 7;
  EXPECT_EQ(FamilyText({"u", "", MetricType::Untyped, {metric}}),
            "# TYPE u untyped\nu{a=\"b\"} 7\n");
  EXPECT_EQ(FamilyText({"u", "", MetricType::Untyped, {metric}}, ScrapeFormat::kOpenMetrics100),
            "# TYPE u unknown\nu{a=\"b\"} 7\n");
}

// prometheus-cpp's own serializer is the reference for everything but the digits it rounds.
TEST(OwnMetricsTextTest, ShowsWhatPrometheusCppShows) {
  Aggregation aggregation;
  aggregation.Send("a:1|c\nnonsense");
  const std::vector<MetricFamily> families = aggregation.own_metrics().Collect();
  std::string text;
  for (const MetricFamily& family : families)
    AppendFamily(family, ScrapeFormat::kPrometheus004, &text);
  // It writes labels in the order in which they were given, and we in theirs.
  std::vector<MetricFamily> sorted = families;
  for (MetricFamily& family : sorted) {
    for (ClientMetric& metric : family.metric) std::sort(metric.label.begin(), metric.label.end());
  }
  const auto expected = Samples(prometheus::TextSerializer().Serialize(sorted));
  const auto shown = Samples(text);
  ASSERT_EQ(shown.size(), expected.size());
  for (const auto& [series, value] : shown) {
    ASSERT_TRUE(expected.contains(series)) << series;
    const double reference = std::strtod(expected.at(series).c_str(), nullptr);
    EXPECT_NEAR(std::strtod(value.c_str(), nullptr), reference, std::abs(reference) * 1e-14);
  }
}

// In protobuf there are the same values as in text.
TEST(OwnMetricsTextTest, ProtobufHasAllOfThem) {
  Aggregation aggregation;
  aggregation.Send("a:1|c\nnonsense");
  std::string bytes;
  ClientMetric untyped;
  untyped.untyped.value = 7;
  ClientMetric summary;
  summary.summary = {.sample_count = 3, .sample_sum = 1.5, .quantile = {{0.5, 0.25}}};
  std::vector<MetricFamily> all = aggregation.own_metrics().Collect();
  all.push_back({"u", "", MetricType::Untyped, {untyped}});
  all.push_back({"s", "S.", MetricType::Summary, {summary}});
  for (const MetricFamily& family : all) AppendFamily(family, ScrapeFormat::kProtobuf, &bytes);
  std::vector<PbFamily> families;
  ASSERT_EQ(ReadFamilies(bytes, &families), "");
  ASSERT_EQ(families.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(families[i].name(), all[i].name);
    EXPECT_EQ(families[i].help(), all[i].help);
    ASSERT_EQ(families[i].metric_size(), static_cast<int>(all[i].metric.size()));
    for (int n = 0; n < families[i].metric_size(); ++n) {
      const ClientMetric& metric = all[i].metric[static_cast<size_t>(n)];
      const auto& read = families[i].metric(n);
      EXPECT_EQ(read.label_size(), static_cast<int>(metric.label.size()));
      EXPECT_EQ(read.counter().value(), metric.counter.value);
      EXPECT_EQ(read.gauge().value(), metric.gauge.value);
      EXPECT_EQ(read.untyped().value(), metric.untyped.value);
      EXPECT_EQ(read.histogram().sample_count(), metric.histogram.sample_count);
      EXPECT_EQ(read.histogram().sample_sum(), metric.histogram.sample_sum);
      EXPECT_EQ(read.summary().sample_count(), metric.summary.sample_count);
      EXPECT_EQ(read.summary().quantile_size(), static_cast<int>(metric.summary.quantile.size()));
    }
  }
}

}  // namespace
}  // namespace tallyd
