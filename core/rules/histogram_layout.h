// What an observer's series keeps from its first observation on: buckets, window, quantiles.

#ifndef TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_
#define TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {

// Classic bounds and the exponential window's resolution; for summaries, which have no bounds, what
// is made of the window.
struct HistogramLayout {
  // Most classic bounds a layout may have, +Inf not counted.
  static constexpr int kMaxBounds = 200;
  static constexpr int kMaxWindowBuckets = 160;

  std::vector<double> bounds;  // ascending, finite; a value equal to a bound is in its bucket
  std::vector<double> padded_bounds;           // an even number of them, the last maybe +Inf
  std::vector<std::string> les;                // the bounds as label values, shortest form
  int8_t schema = 3;                           // window buckets grow by 2^(2^-schema): 1.09 for 3
  uint8_t window_buckets = kMaxWindowBuckets;  // past it the resolution halves

  // Of summaries.
  std::vector<double> quantiles;
  std::vector<std::string> quantile_texts;  // as label values
  int64_t max_age_ms = 0;                   // quantiles are over so long
  int age_buckets = 0;                      // steps in which the past is forgotten

  bool is_summary() const { return age_buckets != 0; }
  friend bool operator==(const HistogramLayout&, const HistogramLayout&) = default;
  // Whether what one has kept is of the other's form, whatever the texts.
  bool KeepsTheSameAs(const HistogramLayout& other) const {
    return bounds == other.bounds && schema == other.schema &&
           window_buckets == other.window_buckets && quantiles == other.quantiles &&
           max_age_ms == other.max_age_ms && age_buckets == other.age_buckets;
  }

  static HistogramLayout FromBounds(std::vector<double> bounds);
  // The finest schema whose factor is not above the one asked for.
  static HistogramLayout FromOptions(const HistogramOptions& options);
  // Starts at schema 5: quantiles are right within 1.1 % as long as the values of a series lie
  // within a factor of 32, 2.2 % within 1024, 4.4 % within a million.
  static HistogramLayout FromOptions(const SummaryOptions& options);
  // client_golang's and statsd_exporter's default bounds, .005 to 10.
  static HistogramLayout Default();
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_
