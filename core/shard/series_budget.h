// The bound on series over all shards: in all, in a family, and on their labels.
//
// Shards ask when they make a slot for a series, never per event. A series that several shards have
// counts once: the roll knows which series are admitted, so that one shard's series is known to
// another even when there is no room for new ones.

#ifndef TALLYD_CORE_SHARD_SERIES_BUDGET_H_
#define TALLYD_CORE_SHARD_SERIES_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/shard/family_types.h"
#include "core/shard/reserved_pages.h"

namespace tallyd {

// Which series are admitted, by a 64-bit hash of their identity, and how many slots each has. Of a
// million series, the chance that a new one is taken for another is below 10^-8 each.
//
// Invariant: a word is the tag of a series and its holders; with none it is free for any tag. A
// series that two shards meet in the same instant may stand twice for a moment: whoever enters one
// looks for another afterwards, and of two the first in the order of the search stays. So entering
// and that look are sequentially consistent: of two who do both, one sees the other. One that a
// third shard has joined meanwhile stays too, as a word of its own: there are always as many kNew
// without their last Remove as there are words with holders. Thread-safe, and free of locks.
class SeriesRoll {
 public:
  explicit SeriesRoll(uint64_t max_series);
  SeriesRoll(const SeriesRoll&) = delete;
  SeriesRoll& operator=(const SeriesRoll&) = delete;

  // Who has a series: one of a number of slots, or the catalog that declares it.
  enum class Holder : uint16_t { kSlot = 1, kCatalog = 0x800 };

  // Any thread. Another holder of a series; false if the series is not on the roll.
  bool AddToKnown(uint64_t hash, Holder holder = Holder::kSlot);
  // Any thread. A first holder; or another one, if the series was entered meanwhile.
  enum class Entered : uint8_t { kNew, kKnown, kNoPlace };
  Entered Enter(uint64_t hash, Holder holder = Holder::kSlot);
  // Any thread. Whether it has several slots.
  bool IsShared(uint64_t hash) const;
  // Any thread. One holder less; true if it was the last.
  bool Remove(uint64_t hash, Holder holder = Holder::kSlot);

  static uint64_t MemoryBytes(uint64_t max_series);

 private:
  friend class SeriesRollPeer;  // tests what takes three threads in one instant

  // Small ones first, so that few series touch little memory.
  static constexpr size_t kFirstBuckets = 512;
  static constexpr size_t kBucket = 8;  // words, a cache line
  static constexpr size_t kMaxSegments = 24;
  static constexpr uint64_t kHoldersMask = 0xfff;
  static constexpr uint64_t kSlotsMask = 0x7ff;
  static constexpr uint64_t MaskOf(Holder holder) {
    return holder == Holder::kSlot ? kSlotsMask : kHoldersMask & ~kSlotsMask;
  }

  using Word = std::atomic<uint64_t>;
  static size_t SegmentsFor(uint64_t max_series);
  static uint64_t TagOf(uint64_t hash) { return hash & ~kHoldersMask; }
  Word* BucketOf(size_t segment, uint64_t hash) const;
  // The first word of a series that has some of `holders`, null if there is none.
  Word* Find(uint64_t hash, uint64_t* word, uint64_t holders = kHoldersMask) const;
  Word* Put(uint64_t hash, Holder holder);
  // Whether what was put there is the first word of its series, or others have joined it; else it
  // was withdrawn.
  bool Stays(Word* mine, uint64_t hash, Holder holder);
  void UseSegment(size_t segment);
  void PrefetchBuckets(size_t segments, uint64_t hash) const;

  size_t segments_;
  std::atomic<size_t> in_use_{1};  // segments that may hold something
  ReservedPages pages_;
  Word* words_;  // one segment after the other
};

// Invariant: no more series are admitted than the limits say, however threads race; a refusal may
// come early while another thread gives back what it could not use. Thread-safe, and free of locks.
class SeriesBudget {
 public:
  struct Limits {
    uint64_t series = 1'000'000;
    uint32_t family_series = 100'000;
    // Of one sender in one shard, which counts them itself.
    uint32_t sender_series = UINT32_MAX;
    uint64_t label_bytes = uint64_t{512} << 20;  // rendered, of all series
  };
  // Overflow series have room of their own, so that there is somewhere to fold to.
  enum class Purpose : uint8_t { kOrdinary, kOverflow, kLastResort };
  // kNames is nothing that is asked here: FamilyTypes has no room for the name.
  enum class Answer : uint8_t { kGranted, kSeries, kFamily, kSender, kLabelBytes, kNames };
  static constexpr size_t kAnswers = 6;

  // Overflow series that a family may have beyond its limit, and with those of last resort.
  static constexpr uint32_t kFamilyOverflow = 128;
  static constexpr uint32_t kFamilyLastResort = 144;
  // Series of last resort beyond all others.
  static constexpr uint64_t kLastResorts = 64;

  explicit SeriesBudget(Limits limits, uint64_t seed = 0);
  SeriesBudget(const SeriesBudget&) = delete;
  SeriesBudget& operator=(const SeriesBudget&) = delete;

  struct Charge {
    uint64_t hash = 0;  // HashOf
    uint32_t label_bytes = 0;
    FamilyTypes::Notes* family = nullptr;  // null: of no family's account
    uint32_t family_limit = 0;             // 0: as for all
    SeriesRoll::Holder holder = SeriesRoll::Holder::kSlot;
  };
  // Any thread. A slot for a series.
  Answer Admit(const Charge& charge, Purpose purpose = Purpose::kOrdinary);
  // Any thread. Gives it back; `charge` as it was admitted.
  void Release(const Charge& charge);

  // Any thread. Of a series' identity; a budget with another seed has another hash of it.
  uint64_t HashOf(std::string_view name, std::string_view labels) const;
  uint64_t seed() const { return seed_; }
  // Any thread. Whether several shards have the series.
  bool IsShared(uint64_t hash) const { return roll_.IsShared(hash); }
  // Any thread. A hint that spares those who ask in vain.
  bool HasRoom() const { return series() < limits_.series; }
  // Any thread. Somebody found no room and did not ask.
  void CountRefusal(Answer answer) {
    refusals_[static_cast<size_t>(answer)].fetch_add(1, std::memory_order_relaxed);
  }

  // Any thread.
  const Limits& limits() const { return limits_; }
  uint64_t series() const { return series_.load(std::memory_order_relaxed); }
  uint64_t label_bytes() const { return label_bytes_.load(std::memory_order_relaxed); }
  // How often a series was refused for this reason.
  uint64_t refusals(Answer answer) const {
    return refusals_[static_cast<size_t>(answer)].load(std::memory_order_relaxed);
  }
  // How often room was given back.
  uint64_t releases() const { return releases_.load(std::memory_order_relaxed); }
  // The most series that there can be, overflow included.
  static uint64_t MostSeries(uint64_t limit) { return limit + limit / 4 + kLastResorts; }

 private:
  uint64_t SeriesLimit(Purpose purpose) const;
  uint32_t FamilyLimit(const Charge& charge, Purpose purpose) const;
  static bool IsDeclared(const Charge& charge) {
    return charge.holder == SeriesRoll::Holder::kCatalog;
  }
  bool IsKnownAfterAll(const Charge& charge);
  Answer GrantKnown(const Charge& charge);
  Answer ChargeNew(const Charge& charge, Purpose purpose);

  const Limits limits_;
  const uint64_t seed_;
  SeriesRoll roll_;
  std::atomic<uint64_t> series_{0};
  std::atomic<uint64_t> label_bytes_{0};
  // Threads that may have taken the last room for a series that is not on the roll yet.
  std::atomic<uint32_t> charging_{0};
  std::atomic<uint64_t> refusals_[kAnswers] = {};
  std::atomic<uint64_t> releases_{0};
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_SERIES_BUDGET_H_
