#include "core/merge/exponential_counts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace tallyd {

int32_t LoweredBucket(int32_t bucket, int halvings) {
  for (int i = 0; i < halvings; ++i) bucket = (bucket + 1) >> 1;
  return bucket;
}

ExponentialCounts ExponentialCounts::Of(int schema, int32_t lowest, uint64_t zero,
                                        uint64_t negative, uint64_t infinite,
                                        std::vector<uint64_t> buckets) {
  ExponentialCounts counts;
  counts.schema_ = schema;
  counts.lowest_ = lowest;
  counts.zero_ = zero;
  counts.negative_ = negative;
  counts.infinite_ = infinite;
  counts.buckets_ = std::move(buckets);
  return counts;
}

void ExponentialCounts::Add(const HistogramCell::WindowCounts& window) {
  zero_ = HistogramCell::AddCounts(zero_, window.zero);
  negative_ = HistogramCell::AddCounts(negative_, window.negative);
  infinite_ = HistogramCell::AddCounts(infinite_, window.infinite);
  if (!window.header.used()) return;
  LowerTo(window.header.schema);
  int halvings = window.header.schema - schema_;
  Reach(LoweredBucket(window.header.lowest, halvings),
        LoweredBucket(window.header.highest, halvings));
  halvings = window.header.schema - schema_;  // reaching may have lowered it further
  for (int32_t bucket = window.header.lowest; bucket <= window.header.highest; ++bucket) {
    uint64_t& count = At(LoweredBucket(bucket, halvings));
    count = HistogramCell::AddCounts(count, window.buckets[Window::PlaceOf(bucket)]);
  }
}

void ExponentialCounts::Add(const ExponentialCounts& other) {
  zero_ = HistogramCell::AddCounts(zero_, other.zero_);
  negative_ = HistogramCell::AddCounts(negative_, other.negative_);
  infinite_ = HistogramCell::AddCounts(infinite_, other.infinite_);
  if (other.buckets_.empty()) return;
  LowerTo(other.schema_);
  const auto last = other.lowest_ + static_cast<int32_t>(other.buckets_.size()) - 1;
  int halvings = other.schema_ - schema_;
  Reach(LoweredBucket(other.lowest_, halvings), LoweredBucket(last, halvings));
  halvings = other.schema_ - schema_;
  for (size_t i = 0; i < other.buckets_.size(); ++i) {
    uint64_t& count = At(LoweredBucket(other.lowest_ + static_cast<int32_t>(i), halvings));
    count = HistogramCell::AddCounts(count, other.buckets_[i]);
  }
}

void ExponentialCounts::Subtract(const ExponentialCounts& earlier) {
  zero_ -= std::min(zero_, earlier.zero_);
  negative_ -= std::min(negative_, earlier.negative_);
  infinite_ -= std::min(infinite_, earlier.infinite_);
  if (earlier.buckets_.empty() || buckets_.empty()) return;
  LowerTo(earlier.schema_);
  const int halvings = earlier.schema_ - schema_;
  const auto end = lowest_ + static_cast<int32_t>(buckets_.size());
  for (size_t i = 0; i < earlier.buckets_.size(); ++i) {
    const int32_t bucket = LoweredBucket(earlier.lowest_ + static_cast<int32_t>(i), halvings);
    if (bucket < lowest_ || bucket >= end) continue;
    uint64_t& count = At(bucket);
    count -= std::min(count, earlier.buckets_[i]);
  }
}

uint64_t ExponentialCounts::total() const {
  uint64_t sum = HistogramCell::AddCounts(HistogramCell::AddCounts(zero_, negative_), infinite_);
  for (const uint64_t count : buckets_) sum = HistogramCell::AddCounts(sum, count);
  return sum;
}

double ExponentialCounts::Quantile(double q) const {
  const double rank = q * static_cast<double>(total());
  auto below = static_cast<double>(negative_);
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  if (total() == 0 || (negative_ > 0 && rank <= below)) return nothing;
  below += static_cast<double>(zero_);
  if (zero_ > 0 && rank <= below) return 0;
  const double width = std::exp2(-schema_);
  double value = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i] == 0) continue;
    // The middle of the bucket, as factors go.
    value = std::exp2((lowest_ + static_cast<double>(i) - 0.5) * width);
    below += static_cast<double>(buckets_[i]);
    if (rank <= below) return value;
  }
  return infinite_ > 0 ? std::numeric_limits<double>::infinity() : value;
}

uint64_t& ExponentialCounts::At(int32_t bucket) {
  return buckets_[static_cast<size_t>(bucket - lowest_)];
}

void ExponentialCounts::Reach(int32_t lowest, int32_t highest) {
  if (!buckets_.empty()) {
    lowest = std::min(lowest, lowest_);
    highest = std::max(highest, lowest_ + static_cast<int32_t>(buckets_.size()) - 1);
  }
  int halvings = 0;
  while (LoweredBucket(highest, halvings) - LoweredBucket(lowest, halvings) >= kMaxBuckets) {
    ++halvings;
  }
  LowerTo(schema_ - halvings);
  lowest = LoweredBucket(lowest, halvings);
  highest = LoweredBucket(highest, halvings);
  if (buckets_.empty()) lowest_ = lowest;
  if (lowest < lowest_) {
    buckets_.insert(buckets_.begin(), static_cast<size_t>(lowest_ - lowest), 0);
    lowest_ = lowest;
  }
  const size_t size = static_cast<size_t>(highest - lowest_) + 1;
  if (size > buckets_.size()) buckets_.resize(size);
}

void ExponentialCounts::LowerTo(int schema) {
  if (schema >= schema_) return;
  const int halvings = schema_ - schema;
  schema_ = schema;
  if (buckets_.empty()) return;
  const int32_t lowest = LoweredBucket(lowest_, halvings);
  std::vector<uint64_t> lowered;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const int32_t bucket = LoweredBucket(lowest_ + static_cast<int32_t>(i), halvings);
    lowered.resize(static_cast<size_t>(bucket - lowest) + 1);
    lowered.back() = HistogramCell::AddCounts(lowered.back(), buckets_[i]);
  }
  lowest_ = lowest;
  buckets_ = std::move(lowered);
}

}  // namespace tallyd
