// From the exact bytes of a key to what a shard does with its samples.

#ifndef TALLYD_CORE_SHARD_KEY_TABLE_H_
#define TALLYD_CORE_SHARD_KEY_TABLE_H_

#include <emmintrin.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/shard/open_table.h"
#include "core/wire/sample.h"

namespace tallyd {

// What is done with a sample once its key is known: the cached verdict.
enum class Action : uint8_t {
  kNone = 0,
  kCount,          // counter
  kSetGauge,       // gauge
  kObserve,        // histogram, value as sent
  kObserveMillis,  // histogram, value in ms to be seconds
  kAddMember,      // set
  kPass,           // counts as applied and changes nothing; never in the table
  kRefuse,         // drop under the reason in `target`
  kErased
};

// 16 bytes, four to a cache line.
struct KeyEntry {
  uint32_t hash = 0;
  uint32_t target = 0;  // slot, or DropReason
  uint32_t key = 0;     // place of "name:tags" in the key memory
  uint16_t key_size = 0;
  SampleType type = SampleType::kCounter;
  Action action : 4 = Action::kNone;
  // Each sample is to be noted elsewhere too: as one of the next two, or its sender is.
  bool noted : 1 = false;
  bool repairs : 1 = false;  // it costs repairs: SeriesSlots knows which
  bool folded : 1 = false;   // it goes to an overflow series
  bool scaled : 1 = false;   // its value is scaled: SeriesSlots knows how

  bool IsEmpty() const { return action == Action::kNone; }
  bool IsErased() const { return action == Action::kErased; }
  static KeyEntry Erased() {
    KeyEntry entry;
    entry.action = Action::kErased;
    return entry;
  }
};
static_assert(sizeof(KeyEntry) == 16);

// From the identity of a series (kind, name, labels) to its slot, so that several spellings of a
// key share one cell. 8 bytes.
struct IdentityEntry {
  uint32_t hash = 0;
  uint32_t slot_plus_one = 0;

  static constexpr uint32_t kErasedMark = UINT32_MAX;
  bool IsEmpty() const { return slot_plus_one == 0; }
  bool IsErased() const { return slot_plus_one == kErasedMark; }
  static IdentityEntry Erased() { return {0, kErasedMark}; }
};
static_assert(sizeof(IdentityEntry) == 8);

using KeyTable = OpenTable<KeyEntry>;
using IdentityTable = OpenTable<IdentityEntry>;

// Whether `a` and `b` agree in `size` bytes; 16 bytes past the end of either may be loaded.
inline bool EqualBytes(const char* a, const char* b, size_t size) {
  const auto differing = [](const char* x, const char* y) {
    const __m128i vx = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    const __m128i vy = _mm_loadu_si128(reinterpret_cast<const __m128i*>(y));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(vx, vy))) ^ 0xffffu;
  };
  size_t i = 0;
  for (; i + 16 <= size; i += 16) {
    if (differing(a + i, b + i) != 0) return false;
  }
  return (differing(a + i, b + i) & ((1u << (size - i)) - 1)) == 0;
}

// Seeded, so that nobody can choose names that collide; equality is always checked on the bytes.
inline uint32_t HashKey(SampleType type, const char* name, size_t name_size, const char* tags,
                        size_t tags_size, uint64_t seed) {
  uint64_t hash = XXH3_64bits_withSeed(name, name_size, seed + static_cast<uint64_t>(type));
  if (tags_size != 0) {
    hash = (hash ^ XXH3_64bits_withSeed(tags, tags_size, ~seed)) * 0x9e3779b97f4a7c15u;
  }
  return static_cast<uint32_t>(hash ^ hash >> 32);
}

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_KEY_TABLE_H_
