// Native histograms as Prometheus takes them, made of the exponential windows of cells.

#ifndef TALLYD_CORE_MERGE_NATIVE_HISTOGRAM_H_
#define TALLYD_CORE_MERGE_NATIVE_HISTOGRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/merge/exponential_counts.h"

namespace tallyd {

// Buckets that follow one another without a gap.
struct BucketSpan {
  int32_t offset = 0;   // of the first span its first bucket's number; else the gap before it
  uint32_t length = 0;  // at least 1

  friend bool operator==(const BucketSpan&, const BucketSpan&) = default;
};

// The buckets of values of one sign.
struct NativeBuckets {
  std::vector<BucketSpan> spans;
  std::vector<int64_t> deltas;  // of each bucket's count to the one before; the first is its count

  void clear() {
    spans.clear();
    deltas.clear();
  }
};

// Invariants, which receivers check: the schema is in [-4, 8]; both signs together have no more
// buckets than were asked for; the lengths of the spans are the number of deltas; `count` is
// exactly the sum of all buckets and the zero count, and at most 2^63 - 1. Source: the
// specification of Prometheus' native histograms.
struct NativeHistogram {
  // In spans, of all buckets together: what Prometheus' and Mimir's limits are set to.
  static constexpr int kMaxBuckets = 160;
  static constexpr int kMinMaxBuckets = 80;  // the least that the lowest schema can do with

  int schema = 0;
  double zero_threshold = Window::kZeroThreshold;
  uint64_t zero_count = 0;
  uint64_t count = 0;
  NativeBuckets positive;
  NativeBuckets negative;

  // The bucket that holds infinity: one past that of the largest finite value.
  static int32_t OverflowBucket(int schema) { return BucketOfLargest(schema) + 1; }
  static int32_t BucketOfLargest(int schema) {
    return schema >= 0 ? int32_t{1024} << schema : int32_t{1024} >> -schema;
  }
};

// Writes `counts` as a native histogram of at most `max_buckets` buckets: halves the resolution
// until it fits. Below NativeHistogram::kMinMaxBuckets the number of buckets is a wish.
//
// Values below zero are counted in one number by the cells, so they all stand in the bucket of
// minus infinity: a quantile that falls among them is then unknown rather than wrong.
void MakeNativeHistogram(const ExponentialCounts& counts, int max_buckets, NativeHistogram* native);

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_NATIVE_HISTOGRAM_H_
