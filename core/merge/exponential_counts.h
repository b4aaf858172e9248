// Exponential buckets of a series, over all its cells: sums, differences in time, quantiles.

#ifndef TALLYD_CORE_MERGE_EXPONENTIAL_COUNTS_H_
#define TALLYD_CORE_MERGE_EXPONENTIAL_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/shard/cells.h"

namespace tallyd {

// The bucket that holds bucket `bucket` once the resolution has halved so often.
int32_t LoweredBucket(int32_t bucket, int halvings);

// Bucket i of schema s holds values in (2^((i-1) * 2^-s), 2^(i * 2^-s)], as the cells' windows
// (core/shard/cells.h) and Prometheus' native histograms have it. Cells of one series may have
// halved their resolution at different times; what is added up has the lowest of them.
// Thread-compatible.
class ExponentialCounts {
 public:
  // Buckets kept; past it the resolution halves, as in a cell.
  static constexpr int32_t kMaxBuckets = 1024;

  // Of numbers that another one told: `buckets` from `lowest` on, at most kMaxBuckets.
  static ExponentialCounts Of(int schema, int32_t lowest, uint64_t zero, uint64_t negative,
                              uint64_t infinite, std::vector<uint64_t> buckets);

  void Add(const HistogramCell::WindowCounts& window);
  void Add(const ExponentialCounts& other);
  // Takes away what was there at an earlier time: no count of `earlier` is more than ours.
  void Subtract(const ExponentialCounts& earlier);

  uint64_t total() const;
  uint64_t zero() const { return zero_; }
  uint64_t negative() const { return negative_; }
  uint64_t infinite() const { return infinite_; }
  int schema() const { return schema_; }
  int32_t lowest() const { return lowest_; }
  // Of the buckets from lowest() on.
  const std::vector<uint64_t>& buckets() const { return buckets_; }

  // The value below which a share of `q` lies, within half a bucket's width; NaN if there is
  // nothing, or if it falls among values below zero, which are not told apart.
  double Quantile(double q) const;

 private:
  uint64_t& At(int32_t bucket);
  void Reach(int32_t lowest, int32_t highest);
  void LowerTo(int schema);

  int schema_ = Window::kMaxSchema;
  int32_t lowest_ = 0;
  uint64_t zero_ = 0;
  uint64_t negative_ = 0;
  uint64_t infinite_ = 0;
  std::vector<uint64_t> buckets_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_EXPONENTIAL_COUNTS_H_
