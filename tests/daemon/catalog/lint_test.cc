// What lint says, and what it leaves alone.

#include "daemon/catalog/lint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/daemon/catalog/sample_catalog.h"

namespace tallyd {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> TextsOf(const Catalog& catalog) {
  std::vector<std::string> texts;
  for (const LintFinding& finding : LintCatalog(catalog)) texts.push_back(finding.ToText());
  return texts;
}

// What is said of the sample catalog's alert with another expression.
std::vector<std::string> OfExpr(const std::string& expr) {
  Catalog catalog = SampleCatalog();
  catalog.alerts[0].expr = expr;
  return TextsOf(catalog);
}

template <typename Change>
std::vector<std::string> OfAlert(Change change) {
  Catalog catalog = SampleCatalog();
  change(&catalog.alerts[0]);
  return TextsOf(catalog);
}

template <typename Change>
std::vector<std::string> OfMetric(const std::string& name, Change change) {
  Catalog catalog = SampleCatalog();
  for (DeclaredMetric& metric : catalog.metrics) {
    if (metric.name == name) change(&metric);
  }
  return TextsOf(catalog);
}

void ExpectSays(const std::vector<std::string>& texts, const std::string& what) {
  EXPECT_THAT(texts, Contains(HasSubstr(what)));
}

TEST(Lint, HasNothingToSayOfAGoodCatalog) { EXPECT_THAT(TextsOf(SampleCatalog()), IsEmpty()); }

TEST(Lint, SaysWhereWhoWhatAndWhatToDo) {
  const auto texts = OfAlert([](DeclaredAlert* alert) { alert->severity = ""; });
  ASSERT_EQ(texts.size(), 1U);
  EXPECT_EQ(texts[0],
            "etc/shop.yaml:40: alert ShopOrdersFail: has no severity; write critical, warning or "
            "info");
}

TEST(Lint, AlertsThatFireOnAnySingleEvent) {
  const std::string single = "fires on any single event of shop_errors_total";
  ExpectSays(OfExpr("rate(shop_errors_total[5m]) > 0"), single);
  ExpectSays(OfExpr("sum(increase(shop_errors_total[5m])) > 0"), single);
  ExpectSays(OfExpr("increase(shop_errors_total[5m]) >= 1"), single);
  ExpectSays(OfExpr("0 < rate(shop_errors_total[5m])"), single);
  ExpectSays(OfExpr("rate(shop_errors_total[5m]) != 0"), single);
  ExpectSays(OfExpr("shop:orders_failed:ratio_rate5m > 0"), "compares a ratio with 0");
  EXPECT_THAT(OfExpr("rate(shop_errors_total[5m]) > 10"), IsEmpty());
  EXPECT_THAT(OfExpr("increase(shop_errors_total[5m]) > 5"), IsEmpty());
  EXPECT_THAT(OfExpr("shop_open_carts > 0"), IsEmpty());
  EXPECT_THAT(OfExpr("rate(shop_errors_total[5m]) < 1"), IsEmpty());
}

TEST(Lint, AReasonAnswersAMatterOfJudgementOnly) {
  const auto with_reason = [](DeclaredAlert* alert) {
    alert->expr = "increase(shop_errors_total[5m]) > 0";
    alert->reason = "Each of them is a customer who waits.";
    alert->for_ms = 0;
  };
  EXPECT_THAT(OfAlert(with_reason), IsEmpty());
  ExpectSays(OfAlert([&](DeclaredAlert* alert) {
               with_reason(alert);
               alert->expr = "increase(shop_erors_total[5m]) > 0";
             }),
             "did you mean shop_errors_total?");
}

TEST(Lint, AlertsWithoutAThreshold) {
  const std::string none = "has no threshold";
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m])) / sum(rate(shop_orders_total[5m]))"), none);
  ExpectSays(OfExpr("shop_open_carts"), none);
  ExpectSays(OfExpr("shop_open_carts > 5 or shop_room_celsius"), none);
  ExpectSays(OfExpr("shop_open_carts > bool 5"), "\"bool\"");
  EXPECT_THAT(OfExpr("absent(shop_open_carts)"), IsEmpty());
  EXPECT_THAT(OfExpr("shop_open_carts > 5 and shop_room_celsius"), IsEmpty());
  EXPECT_THAT(OfExpr("up{job=\"shop\"} == 0"), IsEmpty());
}

TEST(Lint, RatiosDivideLikeByLike) {
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m])) / sum(increase(shop_orders_total[5m])) > 1"),
             "divides rate[5m] by increase[5m]");
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m])) / sum(rate(shop_orders_total[10m])) > 0.1"),
             "divides rate[5m] by rate[10m]");
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m])) / sum(shop_open_carts) > 0.1"),
             "divides a rate and a gauge");
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m])) / sum(rate(shop_sent_bytes_total[5m])) > 1"),
             "divides a number by bytes");
  EXPECT_THAT(OfExpr("sum(rate(shop_pay_seconds_sum[5m])) / sum(rate(shop_pay_seconds_count[5m]))"
                     " > 2"),
              IsEmpty());
  EXPECT_THAT(OfExpr("sum(rate(shop_pay_seconds_bucket{le=\"1\"}[5m])) / "
                     "sum(rate(shop_pay_seconds_count[5m])) < 0.9"),
              IsEmpty());
}

// Each failed series would be divided by itself: the ratio is always 1.
TEST(Lint, SidesThatSelectDifferentValuesMustNotBeMatchedByThatLabel) {
  ExpectSays(OfExpr("rate(shop_orders_total{status=\"failed\"}[5m]) / rate(shop_orders_total[5m]) "
                    "> 0.01"),
             "select different values of status, but only equal ones meet");
  EXPECT_THAT(OfExpr("sum without (status) (rate(shop_orders_total{status=\"failed\"}[5m])) / "
                     "sum without (status) (rate(shop_orders_total[5m])) > 0.01"),
              IsEmpty());
}

TEST(Lint, SidesWithDifferentLabelsNeverMeet) {
  ExpectSays(OfExpr("rate(shop_errors_total[5m]) / rate(shop_orders_total[5m]) > 0.01"),
             "so nothing meets");
  ExpectSays(OfExpr("sum by (status) (rate(shop_orders_total[5m])) / "
                    "sum(rate(shop_errors_total[5m])) > 0.01"),
             "so nothing meets");
  EXPECT_THAT(OfExpr("rate(shop_orders_total[5m]) / on (instance, job) group_left () "
                     "rate(shop_errors_total[5m]) > 0.01"),
              IsEmpty());
}

TEST(Lint, SharesAreFromZeroToOne) {
  ExpectSays(OfExpr("sum(rate(shop_orders_total{status=\"failed\"}[5m])) / "
                    "sum(rate(shop_orders_total[5m])) > 5"),
             "compares a share with 5");
}

TEST(Lint, SumsOfUnrelatedCounters) {
  ExpectSays(OfExpr("sum(increase(shop_errors_total[5m])) + "
                    "sum(increase(shop_cache_misses_total[5m])) + "
                    "sum(increase(shop_orders_total{status=\"failed\"}[5m])) > 100"),
             "adds unrelated counters: shop_cache_misses_total + shop_errors_total + "
             "shop_orders_total");
  EXPECT_THAT(OfExpr("rate(shop_cache_hits_total[5m]) / (rate(shop_cache_hits_total[5m]) + "
                     "rate(shop_cache_misses_total[5m])) < 0.7"),
              IsEmpty());
  EXPECT_THAT(OfExpr("rate(shop_cache_hits_total[5m]) + rate(shop_cache_misses_total[5m]) > 10"),
              IsEmpty());
  EXPECT_THAT(OfExpr("sum(rate(shop_orders_total{status=\"failed\"}[5m])) + "
                     "sum(rate(shop_orders_total{status=\"paid\"}[5m])) > 10"),
              IsEmpty());
}

TEST(Lint, NamesLabelsAndValuesMustBeDeclared) {
  ExpectSays(OfExpr("rate(shop_order_total[5m]) > 5"), "did you mean shop_orders_total?");
  ExpectSays(OfExpr("rate(shop_orders_total{state=\"failed\"}[5m]) > 5"), "has no label state");
  ExpectSays(OfExpr("rate(shop_orders_total{status=\"unknown\"}[5m]) > 5"),
             "no declared value of status fits");
  ExpectSays(OfExpr("rate(shop_orders_total{status=~\"f.*x\"}[5m]) > 5"),
             "no declared value of status fits");
  EXPECT_THAT(OfExpr("rate(shop_orders_total{status=~\"fail.*\",job=\"a\"}[5m]) > 5"), IsEmpty());
  ExpectSays(OfExpr("sum by (region_code) (rate(shop_orders_total[5m])) > 5"),
             "aggregates by the label region_code");
  ExpectSays(OfExpr("{job=\"shop\"} > 5"), "without a name");
}

TEST(Lint, CountersAreLookedAtByTheirRates) {
  ExpectSays(OfExpr("shop_errors_total > 5"), "looks at the counter shop_errors_total as it is");
  ExpectSays(OfExpr("sum(shop_pay_seconds_count) > 5"), "looks at the counter");
  ExpectSays(OfExpr("avg_over_time(shop_errors_total[5m]) > 5"), "looks at the counter");
  ExpectSays(OfExpr("rate(shop_open_carts[5m]) > 5"), "which is no counter");
  ExpectSays(OfExpr("rate(shop_errors_total[30s]) > 5"), "sees fewer than 4 scrapes");
  ExpectSays(OfExpr("rate(sum(shop_errors_total)[5m:1m]) > 5"), "rate() of an aggregation");
  EXPECT_THAT(OfExpr("absent(shop_errors_total)"), IsEmpty());
  EXPECT_THAT(OfExpr("deriv(shop_open_carts[5m]) > 5"), IsEmpty());
  EXPECT_THAT(OfExpr("count(shop_errors_total) < 3"), IsEmpty());
}

TEST(Lint, QuantilesAreMadeOfBuckets) {
  const std::string by_le = "histogram_quantile(0.99, sum by (le) (rate(";
  EXPECT_THAT(OfExpr(by_le + "shop_pay_seconds_bucket[5m]))) > 1"), IsEmpty());
  ExpectSays(OfExpr(by_le + "shop_pay_seconds[5m]))) > 1"), "use shop_pay_seconds_bucket");
  ExpectSays(OfExpr(by_le + "shop_pay_seconds_sum[5m]))) > 1"), "what are no buckets");
  ExpectSays(OfExpr("histogram_quantile(0.99, sum(rate(shop_pay_seconds_bucket[5m]))) > 1"),
             "without their le");
  ExpectSays(OfExpr("histogram_quantile(99, sum by (le) (rate(shop_pay_seconds_bucket[5m]))) > 1"),
             "not between 0 and 1");
  ExpectSays(OfExpr(by_le + "shop_pay_seconds_bucket[5m]))) > 30"), "can never fire");
  ExpectSays(OfExpr("avg(shop_search_seconds{quantile=\"0.99\"}) > 1"), "no quantile");
}

TEST(Lint, AnExpressionThatCannotBeReadIsAFinding) {
  ExpectSays(OfExpr("sum(rate(shop_errors_total[5m]) > 1"), "cannot be read");
}

TEST(Lint, AlertsSayWhoWhatAndWhere) {
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->for_ms = 30'000; }), "two scrapes");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->summary = ""; }), "has no summary");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->summary = "orders fail"; }), "no sentence");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->summary = "{{ $value }} fail."; }),
             "template");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->description = ""; }), "has no description");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->name = "orders_fail"; }), "CamelCase");
  ExpectSays(OfAlert([](DeclaredAlert* alert) {
               alert->description = "{{ $labels.status }} orders of {{ $labels.instance }}";
             }),
             "shows the label instance");
  Catalog catalog = SampleCatalog();
  catalog.runbook_base = "";
  catalog.owner = "";
  ExpectSays(TextsOf(catalog), "alert ShopOrdersFail: has no runbook");
  ExpectSays(TextsOf(catalog), "alert ShopOrdersFail: has no owner");
  ExpectSays(TextsOf(catalog), "metric shop_orders_total: has no owner");
}

TEST(Lint, AlertsAreTestedBothWaysWithSeriesThatThereAre) {
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->tests.pop_back(); }),
             "has no test in which it does not fire");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->tests.erase(alert->tests.begin()); }),
             "has no test in which it fires");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->tests[0].at_ms = 200'000; }),
             "before its \"for\" has passed");
  ExpectSays(OfAlert([](DeclaredAlert* alert) { alert->tests[1].series.clear(); }), "says nothing");
  const auto series = [](const std::string& text) {
    return OfAlert([&](DeclaredAlert* alert) { alert->tests[0].series[0].first = text; });
  };
  ExpectSays(series("shop_order_total"), "which is not exposed");
  ExpectSays(series("shop_pay_seconds"), "which is not exposed");
  ExpectSays(series("shop_orders_total{state=\"paid\"}"), "no such label");
  ExpectSays(series("shop_orders_total{status=\"lost\"}"), "no declared value");
  ExpectSays(series("sum(shop_orders_total)"), "which is none");
}

TEST(Lint, RecordingRulesAreNamedByLevelMetricAndOperations) {
  Catalog catalog = SampleCatalog();
  catalog.recording_rules[0].record = "shop_orders_failed_ratio";
  ExpectSays(TextsOf(catalog), "level:metric:operations");
  catalog = SampleCatalog();
  catalog.recording_rules[0].expr = "sum(shop_orders_total)";
  ExpectSays(TextsOf(catalog), "recording rule shop:orders_failed:ratio_rate5m: looks at");
}

TEST(Lint, MetricsHaveHelpBoundsAndOneSource) {
  const std::string pay = "shop_pay_seconds";
  ExpectSays(OfMetric(pay, [](DeclaredMetric* metric) { metric->help = ""; }), "has no help");
  ExpectSays(OfMetric(pay, [](DeclaredMetric* metric) { metric->buckets.clear(); }),
             "has no buckets");
  ExpectSays(OfMetric("shop_basket_bytes",
                      [](DeclaredMetric* metric) { metric->buckets = HistogramOptions().buckets; }),
             "has no buckets");
  ExpectSays(OfMetric(pay, [](DeclaredMetric* metric) { metric->labels[0].max_values = 90'000; }),
             "may have 180000 series");
  ExpectSays(OfMetric("shop_open_carts",
                      [](DeclaredMetric* metric) {
                        metric->labels = {BoundedLabel("conversation_id", 1000)};
                      }),
             "1000 identities");
  ExpectSays(OfMetric("shop_open_carts",
                      [](DeclaredMetric* metric) {
                        metric->sources = {"carts.a", "carts.b"};
                      }),
             "fed from 2 names");
  ExpectSays(
      OfMetric("shop_queue_depth", [](DeclaredMetric* metric) { metric->single_sender = true; }),
      "both read by tallyd and sent");
  ExpectSays(
      OfMetric("shop_errors_total",
               [](DeclaredMetric* metric) { metric->labels = {ListedLabel("kind", {"a,b"})}; }),
      "cannot be sent in a tag");
}

TEST(Lint, UnknownIsAValueOnlyIfItsHelpSaysWhen) {
  const auto with_help = [](const std::string& help) {
    return OfMetric("shop_errors_total", [&](DeclaredMetric* metric) {
      metric->labels = {ListedLabel("kind", {"disk", "unknown"})};
      metric->labels[0].help = help;
    });
  };
  ExpectSays(with_help("Which kind."), "the value \"unknown\"");
  EXPECT_THAT(with_help("Which kind; unknown if the driver does not say."), IsEmpty());
}

}  // namespace
}  // namespace tallyd
