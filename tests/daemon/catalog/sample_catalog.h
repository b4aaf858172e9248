// A small catalog of every kind of metric, for the tests to spoil.

#ifndef TALLYD_TESTS_DAEMON_CATALOG_SAMPLE_CATALOG_H_
#define TALLYD_TESTS_DAEMON_CATALOG_SAMPLE_CATALOG_H_

#include <string>
#include <utility>
#include <vector>

#include "core/rules/catalog.h"

namespace tallyd {

inline DeclaredLabel ListedLabel(std::string name, std::vector<std::string> values) {
  DeclaredLabel label;
  label.name = std::move(name);
  label.help = "What it tells apart.";
  label.values = std::move(values);
  return label;
}

inline DeclaredLabel BoundedLabel(std::string name, size_t max_values, std::string from = "") {
  DeclaredLabel label;
  label.name = std::move(name);
  label.help = "What it tells apart.";
  label.max_values = max_values;
  label.from = std::move(from);
  return label;
}

inline DeclaredMetric Declared(int line, std::string name, DeclaredType type) {
  DeclaredMetric metric;
  metric.line = line;
  metric.name = std::move(name);
  metric.type = type;
  metric.help = "Something of the shop.";
  return metric;
}

inline DeclaredAlert SampleAlert() {
  DeclaredAlert alert;
  alert.line = 40;
  alert.name = "ShopOrdersFail";
  alert.expr =
      "sum(rate(shop_orders_total{status=\"failed\"}[5m])) / sum(rate(shop_orders_total[5m])) "
      "> 0.01";
  alert.for_ms = 300'000;
  alert.severity = "critical";
  alert.summary = "Orders fail.";
  alert.description = "{{ $value | humanizePercentage }} of the orders fail.";
  alert.tests = {{41, true, 900'000, {{"shop_orders_total{status=\"failed\"}", "0+5x80"}}},
                 {42, false, 900'000, {{"shop_orders_total{status=\"paid\"}", "0+5x80"}}}};
  return alert;
}

// Lint has nothing to say of it.
inline Catalog SampleCatalog() {
  Catalog catalog;
  catalog.file = "etc/shop.yaml";
  catalog.service = "shop";
  catalog.description = "Sells things.";
  catalog.owner = "team-shop";
  catalog.runbook_base = "https://runbooks.example.org/shop/";
  DeclaredMetric orders = Declared(10, "shop_orders_total", DeclaredType::kCounter);
  orders.labels = {ListedLabel("status", {"failed", "paid"})};
  orders.sources = {"shop.orders"};
  const DeclaredMetric bytes = Declared(12, "shop_sent_bytes_total", DeclaredType::kCounter);
  const DeclaredMetric errors = Declared(13, "shop_errors_total", DeclaredType::kCounter);
  const DeclaredMetric hits = Declared(14, "shop_cache_hits_total", DeclaredType::kCounter);
  const DeclaredMetric misses = Declared(15, "shop_cache_misses_total", DeclaredType::kCounter);
  DeclaredMetric carts = Declared(16, "shop_open_carts", DeclaredType::kGauge);
  carts.non_negative = true;
  const DeclaredMetric warmth = Declared(17, "shop_room_celsius", DeclaredType::kGauge);
  DeclaredMetric pay = Declared(18, "shop_pay_seconds", DeclaredType::kHistogram);
  pay.unit = "seconds";
  pay.buckets = {0.1, 1, 10};
  pay.sources = {"shop.pay.*"};
  pay.labels = {BoundedLabel("country", 30, "$1"), ListedLabel("status", {"failed", "paid"})};
  DeclaredMetric size = Declared(20, "shop_basket_bytes", DeclaredType::kHistogram);
  size.unit = "bytes";
  size.buckets = {1000, 1'000'000};
  size.scale = 1000;
  DeclaredMetric search = Declared(21, "shop_search_seconds", DeclaredType::kSummary);
  search.unit = "seconds";
  search.quantiles = {{0.5, 0.05}, {0.99, 0.001}};
  const DeclaredMetric visitors = Declared(22, "shop_visitors", DeclaredType::kSet);
  DeclaredMetric queue = Declared(23, "shop_queue_depth", DeclaredType::kGauge);
  ObservedSource file;
  file.file = "/run/shop/depth";
  queue.observed = {file};
  queue.panel.row = "Queues";
  catalog.metrics = {orders, bytes, errors, hits,   misses,   carts,
                     warmth, pay,   size,   search, visitors, queue};
  catalog.recording_rules = {
      {30, "shop:orders_failed:ratio_rate5m",
       "sum(rate(shop_orders_total{status=\"failed\"}[5m])) / sum(rate(shop_orders_total[5m]))"}};
  catalog.alerts = {SampleAlert()};
  return catalog;
}

}  // namespace tallyd

#endif  // TALLYD_TESTS_DAEMON_CATALOG_SAMPLE_CATALOG_H_
