// What a push brings: families of metrics as clients write them, before anything is checked.

#ifndef TALLYD_CORE_GROUPS_PUSHED_FAMILY_H_
#define TALLYD_CORE_GROUPS_PUSHED_FAMILY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/merge/page_encoder.h"

namespace tallyd {

// A histogram's buckets as the text format has them: cumulative, in any order.
struct PushedBucket {
  double bound = 0;
  uint64_t cumulative = 0;
};

struct PushedQuantile {
  double quantile = 0;
  double value = 0;
};

// A histogram or a summary.
struct PushedDistribution {
  std::vector<PushedBucket> buckets;
  std::vector<PushedQuantile> quantiles;
  uint64_t count = 0;
  double sum = 0;
};

using PushedLabels = std::vector<std::pair<std::string, std::string>>;

struct PushedMetric {
  PushedLabels labels;  // as they stand, without "le" and "quantile"
  double value = 0;     // of counters, gauges and untyped ones
  std::unique_ptr<PushedDistribution> distribution;
  bool has_timestamp = false;
  bool is_of_family_type = true;  // protobuf can say one type and send another
};

struct PushedFamily {
  std::string help;
  FamilyType type = FamilyType::kUntyped;
  std::vector<PushedMetric> metrics;
};

// By name.
using PushedFamilies = std::map<std::string, PushedFamily, std::less<>>;

// What one series may have at most, with its group's; more makes a body unreadable, or a path bad.
inline constexpr size_t kMaxPushedLabels = 64;

// What a body may hold, as long as it is being read. Families count as samples, and so do buckets
// and quantiles.
class SampleAllowance {
 public:
  explicit SampleAllowance(size_t samples) : left_(samples) {}
  // False, and from then on exceeded, if nothing is left.
  bool Take() {
    if (left_ == 0) exceeded_ = true;
    left_ -= exceeded_ ? 0 : 1;
    return !exceeded_;
  }
  bool exceeded() const { return exceeded_; }

 private:
  size_t left_;
  bool exceeded_ = false;
};

// Prometheus' rules for names.
bool IsMetricName(std::string_view name);
bool IsLabelName(std::string_view name);

// "COUNTER", as error messages of the Pushgateway have it.
std::string_view PushedTypeName(FamilyType type);

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_PUSHED_FAMILY_H_
