// Which type each family has: the first that was seen, over all shards and for good.
//
// Shards ask when they create a series, never per event. The alternative, letting the merger find
// conflicts between shards afterwards, would have to turn samples that were applied into samples
// that were dropped, and a counter's cell does not say how many samples made it. So the decision is
// made before the first sample counts, in a table that shards fill without locks.

#ifndef TALLYD_CORE_SHARD_FAMILY_TYPES_H_
#define TALLYD_CORE_SHARD_FAMILY_TYPES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/rules/rules.h"

namespace tallyd {

// Invariant: an entry's hash is set once, and its type goes from none to one value once. Families
// are told apart by a seeded 64-bit hash of their names: of a million families, the chance that any
// two are taken for one is below 10^-7, and then one is refused as a conflict. Thread-safe,
// wait-free but for the length of a probe.
class FamilyTypes {
 public:
  enum class Claim { kGranted, kConflict, kFull };

  // Room for `max_families` names, of which a histogram takes four.
  FamilyTypes(size_t max_families, uint64_t seed);
  ~FamilyTypes();
  FamilyTypes(const FamilyTypes&) = delete;
  FamilyTypes& operator=(const FamilyTypes&) = delete;

  // Any thread. Asks for `family` to be of `kind`; granted if it is, or if nobody came before. A
  // histogram also claims the names of its samples (_bucket, _sum, _count), so that no counter can
  // stand beside it under one of them (docs/protocol.md, "Conflicts").
  Claim ClaimFor(std::string_view family, SeriesKind kind);

  // Any thread. The kind of a family, or false if nobody claimed it.
  bool Lookup(std::string_view family, SeriesKind* kind) const;

 private:
  enum class Owner : uint8_t { kNone = 0, kCounter, kGauge, kSet, kHistogram, kHistogramSample };

  static Owner OwnerFor(SeriesKind kind);
  // The entry of a name; past the last if there is none, or no room for it.
  size_t FindOrMake(uint64_t hash);
  size_t Find(uint64_t hash) const;
  uint64_t Hash(std::string_view family, std::string_view suffix) const;
  Owner OwnerAt(size_t entry) const;
  bool Take(size_t entry, Owner owner);
  Claim ClaimHistogram(std::string_view family, size_t entry);

  uint64_t seed_;
  size_t mask_;
  std::atomic<size_t> used_{0};  // entries; of racing threads each may make one too many
  // Zero-filled pages, so that an unused table costs nothing.
  std::atomic<uint64_t>* hashes_;
  std::atomic<uint8_t>* owners_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_FAMILY_TYPES_H_
