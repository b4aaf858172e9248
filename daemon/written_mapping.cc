#include "daemon/written_mapping.h"

#include <algorithm>

namespace tallyd {
namespace {

int64_t MillisecondsUp(DurationNs duration) {
  constexpr int64_t kNsPerMs = 1'000'000;
  const int64_t cut = duration.ns / kNsPerMs;
  // What is not nothing stays so: 0 has a meaning of its own.
  if (duration.ns % kNsPerMs > 0) return cut + 1;
  return duration.ns % kNsPerMs < 0 ? cut - 1 : cut;
}

void ApplySummary(const WrittenObserver& written, SummaryOptions* summary) {
  if (written.quantiles && !written.quantiles->empty()) summary->quantiles = *written.quantiles;
  if (!written.summary) return;
  const WrittenSummary& options = *written.summary;
  if (options.quantiles && !options.quantiles->empty()) summary->quantiles = *options.quantiles;
  if (options.max_age && options.max_age->ns != 0) {
    summary->max_age_ms = MillisecondsUp(*options.max_age);
  }
  if (options.age_buckets && *options.age_buckets != 0) {
    constexpr uint32_t kMost = SummaryOptions::kMaxAgeBuckets;
    summary->age_buckets = static_cast<int>(std::min(*options.age_buckets, kMost));
  }
}

void ApplyHistogram(const WrittenObserver& written, HistogramOptions* histogram) {
  if (written.buckets && !written.buckets->empty()) histogram->buckets = *written.buckets;
  if (!written.histogram) return;
  const WrittenHistogram& options = *written.histogram;
  if (options.buckets && !options.buckets->empty()) histogram->buckets = *options.buckets;
  if (options.native_factor) histogram->native_factor = *options.native_factor;
  if (options.native_max_buckets) histogram->native_max_buckets = *options.native_max_buckets;
}

}  // namespace

std::optional<ObserverType> TypeOf(const WrittenObserver& written) {
  return written.observer_type ? written.observer_type : written.timer_type;
}

std::optional<ObserverType> IntendedType(const WrittenObserver& written) {
  if (written.summary || written.quantiles) return ObserverType::kSummary;
  if (written.histogram || written.buckets) return ObserverType::kHistogram;
  return std::nullopt;
}

void ApplyObserver(const WrittenObserver& written, MappingRule* rule) {
  ApplySummary(written, &rule->summary);
  ApplyHistogram(written, &rule->histogram);
  if (written.ttl && written.ttl->ns != 0) rule->ttl_ms = MillisecondsUp(*written.ttl);
}

}  // namespace tallyd
