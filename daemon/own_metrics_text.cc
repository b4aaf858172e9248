#include "daemon/own_metrics_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/expose/text.h"
#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

// Histograms of prometheus-cpp are classic.
const ProtobufEncoder kProtobuf(HistogramForm::kClassic, ContentCoding::kIdentity);

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// `a="b",c="d"`, sorted by name.
std::string RenderLabels(const ClientMetric& metric) {
  std::vector<ClientMetric::Label> labels = metric.label;
  std::sort(labels.begin(), labels.end());
  std::string rendered;
  for (const ClientMetric::Label& label : labels) {
    if (!rendered.empty()) rendered.push_back(',');
    rendered.append(label.name).append("=\"");
    AppendEscapedLabelValue(label.value, &rendered);
    rendered.push_back('"');
  }
  return rendered;
}

CounterValue ToCounterValue(double value) {
  constexpr double kEndOfIntegers = 9223372036854775808.0;  // 2^63
  if (!(value >= 0 && value < kEndOfIntegers)) return {.whole = 0, .rest = value};
  const auto whole = static_cast<uint64_t>(value);
  return {.whole = whole, .rest = value - static_cast<double>(whole)};
}

// A histogram as our encoder takes it, and the memory for that.
struct HistogramParts {
  std::vector<double> bounds;
  std::vector<std::string> les;
  std::vector<uint64_t> buckets;
};

// prometheus-cpp's buckets are cumulative and end with +Inf.
HistogramParts ToParts(const ClientMetric::Histogram& histogram) {
  HistogramParts parts;
  uint64_t below = 0;
  for (const ClientMetric::Bucket& bucket : histogram.bucket) {
    if (std::isinf(bucket.upper_bound)) continue;
    parts.bounds.push_back(bucket.upper_bound);
    AppendValue(bucket.upper_bound, &parts.les.emplace_back());
    parts.buckets.push_back(bucket.cumulative_count - below);
    below = bucket.cumulative_count;
  }
  parts.buckets.push_back(histogram.sample_count - below);
  return parts;
}

void AppendHistogram(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                     const ClientMetric::Histogram& histogram, std::string* out) {
  const HistogramParts parts = ToParts(histogram);
  encoder.Histogram(family, labels,
                    {.bounds = parts.bounds,
                     .les = parts.les,
                     .buckets = parts.buckets,
                     .sum = histogram.sample_sum},
                    out);
}

void AppendSummary(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                   const ClientMetric::Summary& summary, std::string* out) {
  std::vector<std::string> quantiles;
  std::vector<double> ranks;
  std::vector<double> values;
  for (const ClientMetric::Quantile& quantile : summary.quantile) {
    AppendValue(quantile.quantile, &quantiles.emplace_back());
    ranks.push_back(quantile.quantile);
    values.push_back(quantile.value);
  }
  encoder.Summary(family, labels,
                  {.quantiles = quantiles,
                   .ranks = ranks,
                   .values = values,
                   .count = summary.sample_count,
                   .sum = summary.sample_sum},
                  out);
}

// By an encoder of the aggregates.
void AppendEncoded(const MetricFamily& family, FamilyType type, const PageEncoder& encoder,
                   std::string* out) {
  const size_t begin = out->size();
  const FamilyView view = {.name = family.name, .help = family.help, .type = type};
  encoder.Family(view, out);
  for (const ClientMetric& metric : family.metric) {
    const std::string labels = RenderLabels(metric);
    switch (type) {
      case FamilyType::kCounter:
        encoder.Counter(view, labels, ToCounterValue(metric.counter.value), out);
        break;
      case FamilyType::kGauge:
        encoder.Gauge(view, labels, metric.gauge.value, out);
        break;
      case FamilyType::kUntyped:
        encoder.Gauge(view, labels, metric.untyped.value, out);
        break;
      case FamilyType::kHistogram:
        AppendHistogram(encoder, view, labels, metric.histogram, out);
        break;
      case FamilyType::kSummary:
        AppendSummary(encoder, view, labels, metric.summary, out);
        break;
    }
  }
  if (encoder.frames_families()) encoder.EndFamily(begin, 0, out);
}

void AppendAs(FamilyType type, const MetricFamily& family, ScrapeFormat format, std::string* out) {
  static const TextEncoder text(TextFormat::kPrometheus004, ContentCoding::kIdentity);
  static const TextEncoder open_metrics(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  switch (format) {
    case ScrapeFormat::kPrometheus004:
      return AppendEncoded(family, type, text, out);
    case ScrapeFormat::kOpenMetrics100:
      return AppendEncoded(family, type, open_metrics, out);
    case ScrapeFormat::kProtobuf:
      return AppendEncoded(family, type, kProtobuf, out);
  }
}

}  // namespace

void AppendFamily(const MetricFamily& family, ScrapeFormat format, std::string* out) {
  switch (family.type) {
    case MetricType::Counter:
      return AppendAs(FamilyType::kCounter, family, format, out);
    case MetricType::Gauge:
      return AppendAs(FamilyType::kGauge, family, format, out);
    case MetricType::Histogram:
      return AppendAs(FamilyType::kHistogram, family, format, out);
    case MetricType::Summary:
      return AppendAs(FamilyType::kSummary, family, format, out);
    case MetricType::Untyped:
      return AppendAs(FamilyType::kUntyped, family, format, out);
  }
}

void AppendFamily(const MetricFamily& family, const PageEncoder& encoder, std::string* out) {
  switch (family.type) {
    case MetricType::Counter:
      return AppendEncoded(family, FamilyType::kCounter, encoder, out);
    case MetricType::Gauge:
      return AppendEncoded(family, FamilyType::kGauge, encoder, out);
    case MetricType::Histogram:
      return AppendEncoded(family, FamilyType::kHistogram, encoder, out);
    case MetricType::Summary:
      return AppendEncoded(family, FamilyType::kSummary, encoder, out);
    case MetricType::Untyped:
      return;
  }
}

}  // namespace tallyd
