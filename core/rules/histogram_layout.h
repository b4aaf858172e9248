// The buckets that a histogram series has from its first observation on.

#ifndef TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_
#define TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tallyd {

// Classic bounds and the starting resolution of the exponential window.
struct HistogramLayout {
  // Most classic bounds a layout may have, +Inf not counted.
  static constexpr int kMaxBounds = 200;

  std::vector<double> bounds;  // ascending, finite; a value equal to a bound is in its bucket
  std::vector<double> padded_bounds;  // an even number of them, the last maybe +Inf
  std::vector<std::string> les;       // the bounds as label values, shortest form
  int8_t schema = 3;                  // window buckets grow by 2^(2^-schema): 1.09 for 3

  static HistogramLayout FromBounds(std::vector<double> bounds);
  // client_golang's and statsd_exporter's default bounds, .005 to 10.
  static HistogramLayout Default();
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_HISTOGRAM_LAYOUT_H_
