#include "core/shard/cells.h"

#include <emmintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace tallyd {
namespace {

constexpr uint64_t kMaxCount = HistogramCell::kMaxCount;

// A weight of more than this is this: one sample cannot overflow a bucket.
constexpr double kMaxWeight = 9007199254740992.0;  // 2^53

void AddCount(CellWord& word, uint64_t n) {
  const uint64_t now = LoadWord(word);
  // Never less than before: single observations pass the limit unchecked, they would take ages to
  // go far.
  if (now >= kMaxCount) return;
  StoreWord(word, HistogramCell::AddCounts(now, n));
}

// For each schema above zero, the upper bounds of the buckets within [0.5, 1).
struct OctaveBounds {
  // The leading bits of a fraction tell its bucket but for one comparison, as long as the buckets
  // are wider than the steps of those bits.
  static constexpr int kStepBits = 7;
  static constexpr int kMaxSteppedSchema = 6;

  OctaveBounds() {
    for (int schema = 1; schema <= Window::kMaxSchema; ++schema) {
      auto& level = bounds[static_cast<size_t>(schema)];
      const int buckets = 1 << schema;
      for (int i = 0; i < buckets; ++i) {
        level[static_cast<size_t>(i)] = std::exp2(i / static_cast<double>(buckets) - 1);
      }
      const auto end = level.begin() + buckets;
      *end = 1;  // no fraction is above it
      if (schema > kMaxSteppedSchema) continue;
      for (int step = 0; step < 1 << kStepBits; ++step) {
        const double lowest = 0.5 + step / static_cast<double>(2 << kStepBits);
        steps[static_cast<size_t>(schema)][static_cast<size_t>(step)] =
            static_cast<uint8_t>(std::lower_bound(level.begin(), end, lowest) - level.begin());
      }
    }
  }

  std::array<std::array<double, (1 << Window::kMaxSchema) + 1>, Window::kMaxSchema + 1> bounds{};
  std::array<std::array<uint8_t, 1 << kStepBits>, kMaxSteppedSchema + 1> steps{};
};

const OctaveBounds kOctave;

// PlaceInOctave for schemas up to kMaxSteppedSchema.
inline int32_t SteppedPlace(uint64_t mantissa, int schema) {
  const double fraction = std::bit_cast<double>(mantissa | uint64_t{1022} << 52);
  const auto place =
      kOctave.steps[static_cast<size_t>(schema)][mantissa >> (52 - OctaveBounds::kStepBits)];
  return place + (kOctave.bounds[static_cast<size_t>(schema)][place] < fraction ? 1 : 0);
}

int32_t PlaceInOctave(uint64_t mantissa, int schema) {
  const double fraction = std::bit_cast<double>(mantissa | uint64_t{1022} << 52);
  const auto& bounds = kOctave.bounds[static_cast<size_t>(schema)];
  if (schema <= OctaveBounds::kMaxSteppedSchema) return SteppedPlace(mantissa, schema);
  return static_cast<int32_t>(
      std::lower_bound(bounds.begin(), bounds.begin() + (1 << schema), fraction) - bounds.begin());
}

// The bucket of half the resolution that holds `bucket`.
int32_t Halve(int32_t bucket) { return (bucket + 1) >> 1; }

}  // namespace

uint64_t Window::Pack(const Header& header) {
  constexpr int32_t kBias = 1 << 19;
  return static_cast<uint64_t>(header.lowest + kBias) |
         static_cast<uint64_t>(header.highest + kBias) << 20 |
         static_cast<uint64_t>(header.schema + 16) << 40 |
         static_cast<uint64_t>(header.version) << 48;
}

Window::Header Window::Unpack(uint64_t word) {
  constexpr int32_t kBias = 1 << 19;
  constexpr uint64_t kMask = (1 << 20) - 1;
  return {.schema = static_cast<int>(word >> 40 & 0xff) - 16,
          .lowest = static_cast<int32_t>(word & kMask) - kBias,
          .highest = static_cast<int32_t>(word >> 20 & kMask) - kBias,
          .version = static_cast<uint16_t>(word >> 48)};
}

int32_t Window::BucketOf(double value, int schema) {
  const auto bits = std::bit_cast<uint64_t>(value);
  // value = fraction * 2^exponent with fraction in [0.5, 1); values above kZeroThreshold are
  // normal.
  const int exponent = static_cast<int>(bits >> 52) - 1022;
  const uint64_t mantissa = bits & ((uint64_t{1} << 52) - 1);
  if (schema > 0) {
    return (exponent - 1) * (1 << schema) + PlaceInOctave(mantissa, schema);
  }
  const int32_t octave = mantissa == 0 ? exponent - 1 : exponent;
  const int shift = -schema;
  return (octave + (1 << shift) - 1) >> shift;
}

inline size_t HistogramCell::BucketOf(double value) const {
  const std::vector<double>& bounds = layout_.bounds;
  if (bounds.size() > 32) {
    return static_cast<size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) -
                               bounds.begin());
  }
  // All of them, two at a time, without a branch to mispredict.
  const __m128d values = _mm_set1_pd(value);
  __m128i below = _mm_setzero_si128();
  for (size_t i = 0; i < layout_.padded_bounds.size(); i += 2) {
    const __m128d pair = _mm_loadu_pd(&layout_.padded_bounds[i]);
    below = _mm_sub_epi64(below, _mm_castpd_si128(_mm_cmplt_pd(pair, values)));
  }
  below = _mm_add_epi64(below, _mm_unpackhi_epi64(below, below));
  return static_cast<size_t>(_mm_cvtsi128_si64(below));
}

// The window bucket of a value that falls into the range in use, the common case; else null.
inline CellWord* HistogramCell::WindowBucketInUse(double value) const {
  constexpr uint32_t kBias = 1 << 19;
  constexpr uint32_t kMask = (1 << 20) - 1;
  // Positive doubles are in the order of their bits: from the first above the threshold to
  // infinity.
  constexpr uint64_t kFirstBits = std::bit_cast<uint64_t>(Window::kZeroThreshold) + 1;
  constexpr uint64_t kEndBits = std::bit_cast<uint64_t>(std::numeric_limits<double>::infinity());
  const uint64_t header = window_header().Own();
  const int schema = static_cast<int>(header >> 40 & 0xff) - 16;
  const auto bits = std::bit_cast<uint64_t>(value);
  if (bits - kFirstBits >= kEndBits - kFirstBits) return nullptr;
  if (schema <= 0 || schema > OctaveBounds::kMaxSteppedSchema) return nullptr;
  const uint64_t mantissa = bits & ((uint64_t{1} << 52) - 1);
  const int octave = static_cast<int>(bits >> 52) - 1023;
  const uint32_t bucket =
      kBias + static_cast<uint32_t>(octave * (1 << schema) + SteppedPlace(mantissa, schema));
  const uint32_t lowest = static_cast<uint32_t>(header) & kMask;
  const uint32_t highest = static_cast<uint32_t>(header >> 20) & kMask;
  if (bucket - lowest > highest - lowest || highest < lowest) return nullptr;
  return &window()[Window::PlaceOf(static_cast<int32_t>(bucket - kBias))];
}

// ObserveTimes for once, which is nearly always: a third of its cost.
void HistogramCell::Observe(double value, int64_t now_ns) {
  CellWord* const in_window = WindowBucketInUse(value);
  if (in_window == nullptr) return ObserveTimes(value, 1, now_ns);
  StoreWord(words_[0], static_cast<uint64_t>(now_ns));
  StoreDouble(words_[1], LoadDouble(words_[1]) + value);
  CellWord& in_bounds = buckets()[BucketOf(value)];
  StoreWord(in_bounds, LoadWord(in_bounds) + 1);
  StoreWord(*in_window, LoadWord(*in_window) + 1);
}

void HistogramCell::ObserveSampled(double value, double rate, int64_t now_ns) {
  if (!(rate > 0) || !std::isfinite(rate)) return;
  const double weight = 1 / rate + LoadDouble(words_[2]);
  const double whole = std::floor(std::min(weight, kMaxWeight));
  StoreDouble(words_[2], weight > kMaxWeight ? 0 : weight - whole);
  if (whole >= 1) ObserveTimes(value, static_cast<uint64_t>(whole), now_ns);
}

void HistogramCell::ObserveTimes(double value, uint64_t times, int64_t now_ns) {
  StoreWord(words_[0], static_cast<uint64_t>(now_ns));
  StoreDouble(words_[1], LoadDouble(words_[1]) + value * static_cast<double>(times));
  AddCount(buckets()[BucketOf(value)], times);
  ObserveInWindow(value, times);
}

void HistogramCell::ObserveInWindow(double value, uint64_t times) {
  if (!(value > Window::kZeroThreshold)) {
    return AddCount(words_[value < -Window::kZeroThreshold ? 5 : 4], times);
  }
  if (std::isinf(value)) return AddCount(words_[6], times);
  const uint64_t word = window_header().Own();
  Window::Header header = Window::Unpack(word);
  if (word == 0) header = {.schema = layout_.schema, .lowest = 0, .highest = -1, .version = 0};
  int32_t bucket = Window::BucketOf(value, header.schema);
  if (bucket < header.lowest || bucket > header.highest) {
    Reach(bucket, &header);
    bucket = Window::BucketOf(value, header.schema);
  }
  AddCount(window()[Window::PlaceOf(bucket)], times);
}

// Extends the range in use to `bucket`, at a lower resolution if it would not fit.
void HistogramCell::Reach(int32_t bucket, Window::Header* header) {
  int32_t lowest = header->used() ? std::min(header->lowest, bucket) : bucket;
  int32_t highest = header->used() ? std::max(header->highest, bucket) : bucket;
  int halvings = 0;
  // At the lowest resolution there is room for all values there are.
  while (highest - lowest >= layout_.window_buckets &&
         header->schema - halvings > Window::kMinSchema) {
    lowest = Halve(lowest);
    highest = Halve(highest);
    ++halvings;
  }
  if (halvings > 0) HalveResolution(header, halvings);
  header->lowest = lowest;
  header->highest = highest;
  window_header().Extend(Window::Pack(*header));
}

// The one place where window buckets go down. Readers must not mix old and new places.
void HistogramCell::HalveResolution(Window::Header* header, int halvings) {
  const Window::Header before = *header;
  header->schema -= halvings;
  for (int i = 0; i < halvings; ++i) {
    header->lowest = Halve(header->lowest);
    header->highest = Halve(header->highest);
  }
  window_header().Rewrite(Window::Pack(*header), [&] {
    std::array<uint64_t, Window::kBuckets> counts{};
    for (int32_t bucket = before.lowest; bucket <= before.highest; ++bucket) {
      int32_t target = bucket;
      for (int i = 0; i < halvings; ++i) target = Halve(target);
      uint64_t& count = counts[Window::PlaceOf(target)];
      const uint64_t more = LoadWord(window()[Window::PlaceOf(bucket)]);
      count = HistogramCell::AddCounts(count, more);
    }
    for (size_t place = 0; place < counts.size(); ++place) {
      StoreWord(window()[place], counts[place]);
    }
  });
}

void HistogramCell::AddBuckets(std::span<uint64_t> sums) const {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = AddCounts(sums[i], LoadWord(buckets()[i]));
}

bool HistogramCell::ReadWindow(WindowCounts* counts) const {
  constexpr int kTries = 3;
  return window_header().ReadWhole(kTries, [&](uint64_t word) {
    counts->header = Window::Unpack(word);
    if (word == 0) {
      counts->header = {.schema = layout_.schema, .lowest = 0, .highest = -1, .version = 0};
    }
    counts->zero = LoadWord(words_[4]);
    counts->negative = LoadWord(words_[5]);
    counts->infinite = LoadWord(words_[6]);
    std::fill(std::begin(counts->buckets), std::end(counts->buckets), 0);
    for (int32_t bucket = counts->header.lowest; bucket <= counts->header.highest; ++bucket) {
      const uint32_t place = Window::PlaceOf(bucket);
      counts->buckets[place] = LoadWord(window()[place]);
    }
  });
}

}  // namespace tallyd
