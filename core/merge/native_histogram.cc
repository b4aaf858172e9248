#include "core/merge/native_histogram.h"

#include <algorithm>
#include <limits>

namespace tallyd {
namespace {

// A gap of so many empty buckets costs less as buckets than as the beginning of another span.
constexpr int32_t kMaxFilledGap = 2;

// Hands out counts such that their sum never passes what a delta and a count can say.
class Room {
 public:
  int64_t Take(uint64_t count) {
    const uint64_t taken = std::min(count, left_);
    left_ -= taken;
    return static_cast<int64_t>(taken);
  }
  uint64_t taken() const { return kAll - left_; }

 private:
  static constexpr auto kAll = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t left_ = kAll;
};

// Appends buckets, in ascending order, to spans and deltas.
class BucketWriter {
 public:
  explicit BucketWriter(NativeBuckets* buckets) : buckets_(buckets) { buckets_->clear(); }

  void Add(int32_t bucket, int64_t count) {
    const int32_t gap = bucket - next_;
    if (buckets_->spans.empty() || gap > kMaxFilledGap) {
      buckets_->spans.push_back({.offset = gap, .length = 0});
    } else {
      for (int32_t i = 0; i < gap; ++i) Append(0);
    }
    Append(count);
    next_ = bucket + 1;
  }

 private:
  void Append(int64_t count) {
    ++buckets_->spans.back().length;
    buckets_->deltas.push_back(count - last_);
    last_ = count;
  }

  NativeBuckets* buckets_;
  int32_t next_ = 0;  // the bucket after the last; 0 before the first, so its offset is its number
  int64_t last_ = 0;
};

// How many buckets BucketWriter makes of the positive ones at a resolution `halvings` times lower.
int CountBuckets(const ExponentialCounts& counts, int halvings) {
  int written = 0;
  bool any = false;
  int32_t last = 0;
  for (size_t i = 0; i < counts.buckets().size(); ++i) {
    if (counts.buckets()[i] == 0) continue;
    const int32_t bucket = LoweredBucket(counts.lowest() + static_cast<int32_t>(i), halvings);
    if (any && bucket == last) continue;
    const int32_t gap = any ? bucket - last - 1 : 0;
    written += 1 + (gap <= kMaxFilledGap ? gap : 0);
    any = true;
    last = bucket;
  }
  return written;
}

int HalvingsToFit(const ExponentialCounts& counts, int max_buckets) {
  const int apart = (counts.negative() > 0 ? 1 : 0) + (counts.infinite() > 0 ? 1 : 0);
  // Between the last finite bucket and that of infinity there may be a gap to fill.
  const int filled = counts.infinite() > 0 ? kMaxFilledGap : 0;
  int halvings = 0;
  while (counts.schema() - halvings > Window::kMinSchema &&
         CountBuckets(counts, halvings) + apart + filled > max_buckets) {
    ++halvings;
  }
  return halvings;
}

void WritePositive(const ExponentialCounts& counts, int halvings, Room* room,
                   NativeBuckets* buckets) {
  BucketWriter writer(buckets);
  const size_t size = counts.buckets().size();
  for (size_t i = 0; i < size;) {
    const int32_t bucket = LoweredBucket(counts.lowest() + static_cast<int32_t>(i), halvings);
    uint64_t sum = 0;
    for (; i < size && LoweredBucket(counts.lowest() + static_cast<int32_t>(i), halvings) == bucket;
         ++i) {
      sum = HistogramCell::AddCounts(sum, counts.buckets()[i]);
    }
    if (sum > 0) writer.Add(bucket, room->Take(sum));
  }
  if (counts.infinite() == 0) return;
  writer.Add(NativeHistogram::OverflowBucket(counts.schema() - halvings),
             room->Take(counts.infinite()));
}

}  // namespace

void MakeNativeHistogram(const ExponentialCounts& counts, int max_buckets,
                         NativeHistogram* native) {
  const int halvings = HalvingsToFit(counts, max_buckets);
  native->schema = counts.schema() - halvings;
  Room room;
  native->zero_count = static_cast<uint64_t>(room.Take(counts.zero()));
  BucketWriter negative(&native->negative);
  if (counts.negative() > 0) {
    negative.Add(NativeHistogram::OverflowBucket(native->schema), room.Take(counts.negative()));
  }
  WritePositive(counts, halvings, &room, &native->positive);
  native->count = room.taken();
}

}  // namespace tallyd
