#include "daemon/push/push_metrics.h"

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace tallyd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric& AddMetric(const PushStatus& status, MetricFamily* family) {
  ClientMetric& metric = family->metric.emplace_back();
  metric.label.push_back({"kind", status.kind});
  metric.label.push_back({"target", status.target});
  return metric;
}

// One family after the other, each with a metric for each target.
class Families {
 public:
  explicit Families(const std::vector<PushStatus>& statuses) : statuses_(statuses) {}

  void Gauge(const char* name, const char* help,
             const std::function<double(const PushStatus&)>& value) {
    MetricFamily& family = Add(MetricType::Gauge, name, help);
    for (const PushStatus& status : statuses_) {
      AddMetric(status, &family).gauge.value = value(status);
    }
  }

  void Counter(const char* name, const char* help,
               const std::function<double(const PushStatus&)>& value) {
    MetricFamily& family = Add(MetricType::Counter, name, help);
    for (const PushStatus& status : statuses_) {
      AddMetric(status, &family).counter.value = value(status);
    }
  }

  void Failures() {
    MetricFamily& family = Add(MetricType::Counter, "tallyd_push_failures_total",
                               "Requests to the target that failed, by the cause.");
    for (const PushStatus& status : statuses_) {
      for (size_t i = 1; i < kPushCauses; ++i) {
        ClientMetric& metric = AddMetric(status, &family);
        metric.label.push_back({"cause", std::string(PushCauseName(static_cast<PushCause>(i)))});
        metric.counter.value = static_cast<double>(status.requests[i]);
      }
    }
  }

  void Dropped() {
    MetricFamily& family =
        Add(MetricType::Counter, "tallyd_push_dropped_total",
            "Series that were left out of pushes, at each of them, by the reason.");
    for (const PushStatus& status : statuses_) {
      for (size_t i = 0; i < kPushDropReasons; ++i) {
        ClientMetric& metric = AddMetric(status, &family);
        metric.label.push_back({"reason", std::string(kPushDropReasonNames[i])});
        metric.counter.value = static_cast<double>(status.dropped[i]);
      }
    }
  }

  void Durations() {
    MetricFamily& family = Add(MetricType::Summary, "tallyd_push_duration_seconds",
                               "Time that requests to the target took, failed ones included.");
    for (const PushStatus& status : statuses_) {
      ClientMetric& metric = AddMetric(status, &family);
      metric.summary.sample_count = status.failures() + status.requests[0];
      metric.summary.sample_sum = absl::ToDoubleSeconds(status.total_duration);
    }
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  MetricFamily& Add(MetricType type, const char* name, const char* help) {
    return families_.emplace_back(MetricFamily{name, help, type, {}});
  }

  const std::vector<PushStatus>& statuses_;
  std::vector<MetricFamily> families_;
};

}  // namespace

std::vector<MetricFamily> PushFamilies(const std::vector<PushStatus>& statuses) {
  if (statuses.empty()) return {};
  Families families(statuses);
  families.Gauge("tallyd_push_clock_suspended",
                 "Whether nothing is pushed because the wall clock cannot be believed.",
                 [](const PushStatus& status) { return status.clock_suspended ? 1 : 0; });
  families.Dropped();
  families.Durations();
  families.Failures();
  families.Gauge("tallyd_push_in_flight", "Requests to the target that are under way.",
                 [](const PushStatus& status) { return status.in_flight; });
  families.Gauge("tallyd_push_interval_seconds", "Time from one push to the next.",
                 [](const PushStatus& status) { return absl::ToDoubleSeconds(status.interval); });
  families.Gauge("tallyd_push_job_groups",
                 "Groups of jobs that the target has and that will be deleted when their time is "
                 "over.",
                 [](const PushStatus& status) { return static_cast<double>(status.job_groups); });
  families.Gauge("tallyd_push_last_success_timestamp_seconds",
                 "When the target last took a push, in seconds since 1970; 0: not yet.",
                 [](const PushStatus& status) {
                   return absl::ToDoubleSeconds(status.last_success - absl::UnixEpoch());
                 });
  families.Gauge(
      "tallyd_push_queued_series", "Series that wait to be sent to the target.",
      [](const PushStatus& status) { return static_cast<double>(status.queued_series); });
  families.Counter("tallyd_push_sent_bytes_total", "Bytes of bodies that were sent to the target.",
                   [](const PushStatus& status) { return static_cast<double>(status.sent_bytes); });
  families.Gauge("tallyd_push_series", "Series in the last push that the target took.",
                 [](const PushStatus& status) { return static_cast<double>(status.series); });
  families.Counter(
      "tallyd_push_stored_series_total", "Series that the target took, over all requests.",
      [](const PushStatus& status) { return static_cast<double>(status.stored_series); });
  families.Counter(
      "tallyd_push_successes_total", "Requests that the target took.",
      [](const PushStatus& status) { return static_cast<double>(status.requests[0]); });
  return families.Take();
}

}  // namespace tallyd
