// A histogram of send latencies, cheap enough to sit in the sending loop.

#ifndef TALLYD_BENCH_LOAD_LATENCY_H_
#define TALLYD_BENCH_LOAD_LATENCY_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace tallyd::bench {

// Each power of two is cut into 128 buckets, so a quantile is at most 0.8 % above the true one; the
// maximum is exact. Owner thread only.
class LatencyHistogram {
 public:
  void Add(uint64_t ns) {
    ++counts_[BucketOf(ns)];
    ++count_;
    max_ns_ = std::max(max_ns_, ns);
  }

  uint64_t count() const { return count_; }
  uint64_t max_ns() const { return max_ns_; }

  // The upper end of the bucket that holds the quantile, `q` in (0, 1]. 0 if nothing was added.
  uint64_t QuantileNs(double q) const {
    const auto rank = static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_)));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen >= rank && seen > 0) return std::min(UpperEnd(i), max_ns_);
    }
    return max_ns_;
  }

 private:
  static constexpr int kSubBits = 7;
  static constexpr uint64_t kSubBuckets = uint64_t{1} << kSubBits;

  // Values below 2 * kSubBuckets have a bucket each.
  static size_t BucketOf(uint64_t ns) {
    const int shift = std::max(0, static_cast<int>(std::bit_width(ns)) - kSubBits - 1);
    return static_cast<size_t>((static_cast<uint64_t>(shift) << kSubBits) + (ns >> shift));
  }
  static uint64_t UpperEnd(size_t bucket) {
    if (bucket < 2 * kSubBuckets) return bucket;
    const uint64_t shift = (bucket >> kSubBits) - 1;
    return ((bucket - (shift << kSubBits) + 1) << shift) - 1;
  }

  std::array<uint64_t, (64 - kSubBits + 1) << kSubBits> counts_ = {};
  uint64_t count_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_LATENCY_H_
