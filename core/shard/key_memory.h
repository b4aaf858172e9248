// Memory for key bytes within a shard's key region: bump allocation, and free lists by size so that
// a shard whose series come and go does not grow.

#ifndef TALLYD_CORE_SHARD_KEY_MEMORY_H_
#define TALLYD_CORE_SHARD_KEY_MEMORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tallyd {

// Who a place is for. What is lasting leaves a reserve to what is passing, and never gets it.
enum class KeyPool : uint8_t { kLasting, kPassing };

// Places and sizes are in units of 8 bytes. Thread-compatible: the shard's owner only. The caller
// frees a key only when nobody reads it any more, and to the pool that it is from.
class KeyMemory {
 public:
  static constexpr size_t kUnit = 8;
  // Vector loads may touch what follows a key.
  static constexpr size_t kTailPadding = 64;

  explicit KeyMemory(uint64_t bytes, uint64_t reserve_bytes = 0)
      : end_(static_cast<uint32_t>(bytes < kTailPadding ? 0 : (bytes - kTailPadding) / kUnit)),
        reserve_(static_cast<uint32_t>(reserve_bytes / kUnit)) {}

  // False if the region is full.
  bool Allocate(size_t bytes, KeyPool pool, uint32_t* place) {
    const size_t units = RoundedUnits(bytes);
    std::vector<uint32_t>& free = FreeOf(pool, units);
    if (!free.empty()) {
      *place = free.back();
      free.pop_back();
    } else {
      const uint64_t end = pool == KeyPool::kPassing ? end_ : end_ - uint64_t{reserve_};
      if (next_ + units > end) return false;
      *place = next_;
      next_ += static_cast<uint32_t>(units);
    }
    used_bytes_ += units * kUnit;
    return true;
  }

  void Free(uint32_t place, size_t bytes, KeyPool pool) {
    const size_t units = RoundedUnits(bytes);
    FreeOf(pool, units).push_back(place);
    used_bytes_ -= units * kUnit;
  }

  uint64_t used_bytes() const { return used_bytes_; }
  // What a key of so many bytes takes.
  static uint64_t BytesFor(size_t bytes) { return RoundedUnits(bytes) * kUnit; }

 private:
  // Exact up to 64 units, then powers of two: large keys are rare, and the classes few.
  static constexpr size_t kExact = 64;
  static constexpr size_t kClasses = kExact + 16;

  static size_t RoundedUnits(size_t bytes) {
    const size_t units = (bytes + kUnit - 1) / kUnit;
    if (units <= kExact) return units == 0 ? 1 : units;
    size_t power = kExact * 2;
    while (power < units) power *= 2;
    return power;
  }
  static size_t ClassOf(size_t units) {
    if (units <= kExact) return units;
    size_t at = kExact;
    for (size_t power = kExact; power < units; power *= 2) ++at;
    return at;
  }
  std::vector<uint32_t>& FreeOf(KeyPool pool, size_t units) {
    return free_[static_cast<size_t>(pool)][ClassOf(units)];
  }

  uint32_t next_ = 0;
  uint32_t end_;
  uint32_t reserve_;  // of the units below end_; at most all of them
  uint64_t used_bytes_ = 0;
  std::array<std::array<std::vector<uint32_t>, kClasses>, 2> free_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_KEY_MEMORY_H_
