#include "core/shard/family_types.h"

#include <xxhash.h>

#include <array>
#include <bit>
#include <string>

namespace tallyd {
namespace {

bool IsObserverOwner(uint8_t owner) { return IsObserver(static_cast<SeriesKind>(owner)); }

}  // namespace

// At most half full, so that probes stay short and always find an empty entry.
FamilyTypes::FamilyTypes(size_t max_families, uint64_t seed)
    : seed_(seed),
      mask_(std::bit_ceil(max_families * 2) - 1),
      pages_(MemoryBytes(max_families)),
      entries_(pages_.As<Entry>()) {}

uint64_t FamilyTypes::MemoryBytes(size_t max_families) {
  return std::bit_ceil(max_families * 2) * sizeof(Entry);
}

uint64_t FamilyTypes::Hash(std::string_view family, std::string_view suffix) const {
  uint64_t hash;
  if (suffix.empty()) {
    hash = XXH3_64bits_withSeed(family.data(), family.size(), seed_);
  } else {
    const std::string whole = std::string(family) + std::string(suffix);
    hash = XXH3_64bits_withSeed(whole.data(), whole.size(), seed_);
  }
  return hash == 0 ? 1 : hash;  // zero marks an empty entry
}

FamilyTypes::Entry* FamilyTypes::Find(uint64_t hash) const {
  for (size_t i = 0; i <= mask_; ++i) {
    Entry* const entry = &entries_[(hash + i) & mask_];
    // Relaxed: the hash is all there is to an entry but its tenure, and that is one word by itself.
    const uint64_t found = entry->hash.load(std::memory_order_relaxed);
    if (found == hash) return entry;
    if (found == 0) break;
  }
  return nullptr;
}

FamilyTypes::Entry* FamilyTypes::FindOrMake(uint64_t hash) {
  // Relaxed: a bound that racing threads may overstep by one each.
  if (used_.load(std::memory_order_relaxed) > mask_ / 2) return Find(hash);
  for (size_t i = 0; i <= mask_; ++i) {
    Entry* const entry = &entries_[(hash + i) & mask_];
    uint64_t found = entry->hash.load(std::memory_order_relaxed);
    if (found == 0 && entry->hash.compare_exchange_strong(found, hash, std::memory_order_relaxed)) {
      used_.fetch_add(1, std::memory_order_relaxed);
      return entry;
    }
    if (found == hash) return entry;
  }
  return nullptr;
}

bool FamilyTypes::MayTake(const Tenure& now, uint8_t owner, const FamilyWish& wish, Tenure* then) {
  const bool newer = wish.sequence > now.sequence;
  *then = {.owner = owner, .layout = wish.layout, .sequence = wish.sequence};
  if (now.owner == kNobody) return true;
  if (now.owner == owner) {
    if (!newer) *then = now;
    return true;
  }
  const bool both_observe = IsObserverOwner(now.owner) && IsObserverOwner(owner);
  return newer && (both_observe || wish.mapped);
}

bool FamilyTypes::Take(Entry* entry, uint8_t owner, const FamilyWish& wish, uint16_t* layout) {
  // Relaxed: who wins is decided by this one word, and nothing else is published by it.
  uint64_t word = entry->tenure.load(std::memory_order_relaxed);
  while (true) {
    Tenure then;
    if (!MayTake(Tenure::Unpack(word), owner, wish, &then)) return false;
    *layout = then.layout;
    if (then.Pack() == word) return true;
    if (entry->tenure.compare_exchange_weak(word, then.Pack(), std::memory_order_relaxed)) {
      return true;
    }
  }
}

FamilyTypes::Claim FamilyTypes::ClaimFor(const FamilyWish& wish, uint16_t* layout) {
  Entry* const entry = FindOrMake(Hash(wish.family, ""));
  if (entry == nullptr) return Claim::kFull;
  if (IsObserver(wish.kind)) return ClaimObserver(wish, entry, layout);
  return Take(entry, static_cast<uint8_t>(wish.kind), wish, layout) ? Claim::kGranted
                                                                    : Claim::kConflict;
}

FamilyTypes::Claim FamilyTypes::ClaimObserver(const FamilyWish& wish, Entry* entry,
                                              uint16_t* layout) {
  const auto owner = static_cast<uint8_t>(wish.kind);
  const Tenure now = Tenure::Unpack(entry->tenure.load(std::memory_order_relaxed));
  Tenure then;
  if (!MayTake(now, owner, wish, &then)) return Claim::kConflict;
  std::array<Entry*, kSampleSuffixes.size()> samples;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i] = FindOrMake(Hash(wish.family, kSampleSuffixes[i]));
    if (samples[i] == nullptr) return Claim::kFull;
    // Look before claiming anything: a refused observer shall not keep names from others.
    const Tenure sample = Tenure::Unpack(samples[i]->tenure.load(std::memory_order_relaxed));
    if (!MayTake(sample, kSampleOfObserver, wish, &then)) return Claim::kConflict;
  }
  // The names of the samples first: whoever then finds the family granted may rely on them. A shard
  // that claims one of them between our look and this leaves the others claimed: the name is
  // refused to both for good, which is safe.
  for (Entry* const sample : samples) {
    uint16_t unused = 0;
    if (!Take(sample, kSampleOfObserver, wish, &unused)) return Claim::kConflict;
  }
  return Take(entry, owner, wish, layout) ? Claim::kGranted : Claim::kConflict;
}

FamilyTypes::Notes* FamilyTypes::NotesOf(std::string_view family) const {
  Entry* const entry = Find(Hash(family, ""));
  return entry == nullptr ? nullptr : &entry->notes;
}

bool FamilyTypes::Lookup(std::string_view family, SeriesKind* kind) const {
  const Entry* const entry = Find(Hash(family, ""));
  if (entry == nullptr) return false;
  const Tenure now = Tenure::Unpack(entry->tenure.load(std::memory_order_relaxed));
  if (now.owner == kNobody || now.owner == kSampleOfObserver) return false;
  *kind = static_cast<SeriesKind>(now.owner);
  return true;
}

}  // namespace tallyd
