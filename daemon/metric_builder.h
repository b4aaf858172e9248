// Families of the own metrics that are built anew for each collection.

#ifndef TALLYD_DAEMON_METRIC_BUILDER_H_
#define TALLYD_DAEMON_METRIC_BUILDER_H_

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallyd {

inline prometheus::ClientMetric::Label ToLabel(std::string_view name, std::string_view value) {
  return {std::string(name), std::string(value)};
}

// A family that is built anew for each collection.
class FamilyBuilder {
 public:
  FamilyBuilder(prometheus::MetricType type, std::string_view name, std::string_view help)
      : family_{std::string(name), std::string(help), type, {}} {}

  FamilyBuilder& Add(double value, std::vector<prometheus::ClientMetric::Label> labels = {}) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    (family_.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        value;
    return *this;
  }
  FamilyBuilder& Add(uint64_t value, std::vector<prometheus::ClientMetric::Label> labels = {}) {
    return Add(static_cast<double>(value), std::move(labels));
  }

  void MoveTo(std::vector<prometheus::MetricFamily>* families) {
    families->push_back(std::move(family_));
  }

 private:
  prometheus::MetricFamily family_;
};

inline FamilyBuilder CounterFamily(std::string_view name, std::string_view help) {
  return FamilyBuilder(prometheus::MetricType::Counter, name, help);
}

inline FamilyBuilder GaugeFamily(std::string_view name, std::string_view help) {
  return FamilyBuilder(prometheus::MetricType::Gauge, name, help);
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_METRIC_BUILDER_H_
