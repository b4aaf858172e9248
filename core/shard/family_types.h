// Which type each family has: the first that was seen, over all shards, under one set of rules.
//
// Shards ask when they create a series, never per event. The alternative, letting the merger find
// conflicts between shards afterwards, would have to turn samples that were applied into samples
// that were dropped, and a counter's cell does not say how many samples made it. So the decision is
// made before the first sample counts, in a table that shards fill without locks.

#ifndef TALLYD_CORE_SHARD_FAMILY_TYPES_H_
#define TALLYD_CORE_SHARD_FAMILY_TYPES_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/rules/rules.h"
#include "core/shard/reserved_pages.h"

namespace tallyd {

// What somebody wants a family to be, and by which rules.
struct FamilyWish {
  std::string_view family;
  SeriesKind kind = SeriesKind::kCounter;
  uint16_t layout = 0;    // of observers
  uint32_t sequence = 0;  // of the set of rules
  bool mapped = false;    // by a mapping rule, which no sender can make up
};

// The rule over reloads: within one set of rules the first type of a family holds, and the first
// layout of an observer. Under a later set, its own wishes for buckets, quantiles and the type of
// observers hold; for any other type, only what a mapping rule wants. So an operator can give a
// name another type, and a sender cannot.
//
// Invariant: an entry's hash is set once; its claim changes only as said above, so that under one
// set of rules all shards get the same answer. Families are told apart by a seeded 64-bit hash of
// their names: of a million families, the chance that any two are taken for one is below 10^-7, and
// then one is refused as a conflict. Thread-safe, and free of locks.
class FamilyTypes {
 public:
  enum class Claim { kGranted, kConflict, kFull };

  // An observer has samples of its name with these behind it.
  static constexpr std::array<std::string_view, 3> kSampleSuffixes = {"_bucket", "_sum", "_count"};

  // Room for `max_families` names, of which an observer takes four. A name keeps its place for
  // good, also when all its series are gone.
  FamilyTypes(size_t max_families, uint64_t seed);
  static uint64_t MemoryBytes(size_t max_families);
  FamilyTypes(const FamilyTypes&) = delete;
  FamilyTypes& operator=(const FamilyTypes&) = delete;

  // Any thread. An observer also claims the names of its samples, so that no counter can stand
  // beside it under one of them (docs/protocol.md, "Conflicts"). Where it is granted `*layout` is
  // the layout that holds.
  Claim ClaimFor(const FamilyWish& wish, uint16_t* layout);
  Claim ClaimFor(std::string_view family, SeriesKind kind) {
    uint16_t layout = 0;
    return ClaimFor({.family = family, .kind = kind}, &layout);
  }

  // What is known of a family beside its type. Each number stands for itself: relaxed order will
  // do.
  struct Notes {
    std::atomic<uint32_t> series;      // SeriesBudget: that are admitted
    std::atomic<uint32_t> fold_label;  // hash of the label that has too many values; 0: not known
    std::atomic<uint32_t> sender;      // whose sample was last folded for want of room: SenderNote
  };
  // A sender's number is one of its shard alone; there are fewer than kSenderNumbers in each.
  static constexpr uint32_t kSenderNumbers = 4096;
  struct SenderNote {
    uint32_t shard = 0;
    uint16_t number = 0;

    uint32_t Pack() const { return shard * kSenderNumbers + number; }
    static SenderNote Unpack(uint32_t word) {
      return {word / kSenderNumbers, static_cast<uint16_t>(word % kSenderNumbers)};
    }
  };
  // Any thread. Null if nobody has met the family.
  Notes* NotesOf(std::string_view family) const;

  // Any thread. The kind of a family, or false if nobody claimed it.
  bool Lookup(std::string_view family, SeriesKind* kind) const;

 private:
  // One word: who has the name, under which rules.
  struct Tenure {
    uint8_t owner = 0;  // a SeriesKind, kNobody or kSampleOfObserver
    uint16_t layout = 0;
    uint32_t sequence = 0;

    uint64_t Pack() const { return owner | uint64_t{layout} << 8 | uint64_t{sequence} << 32; }
    static Tenure Unpack(uint64_t word) {
      return {.owner = static_cast<uint8_t>(word),
              .layout = static_cast<uint16_t>(word >> 8),
              .sequence = static_cast<uint32_t>(word >> 32)};
    }
  };
  static constexpr uint8_t kNobody = 0;
  static constexpr uint8_t kSampleOfObserver = 0xff;

  struct Entry {
    std::atomic<uint64_t> hash;
    std::atomic<uint64_t> tenure;
    Notes notes;
  };

  // The entry of a name; null if there is none, or no room for it.
  Entry* FindOrMake(uint64_t hash);
  Entry* Find(uint64_t hash) const;
  uint64_t Hash(std::string_view family, std::string_view suffix) const;
  // Whether `wish` may have a name that `now` has, and what the name's tenure is then.
  static bool MayTake(const Tenure& now, uint8_t owner, const FamilyWish& wish, Tenure* then);
  static bool Take(Entry* entry, uint8_t owner, const FamilyWish& wish, uint16_t* layout);
  Claim ClaimObserver(const FamilyWish& wish, Entry* entry, uint16_t* layout);

  uint64_t seed_;
  size_t mask_;
  std::atomic<size_t> used_{0};  // entries; of racing threads each may make one too many
  ReservedPages pages_;          // so that an unused table costs nothing
  Entry* entries_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_FAMILY_TYPES_H_
