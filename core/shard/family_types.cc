#include "core/shard/family_types.h"

#include <sys/mman.h>
#include <xxhash.h>

#include <array>
#include <bit>
#include <new>
#include <string>

namespace tallyd {
namespace {

constexpr std::array<std::string_view, 3> kSampleSuffixes = {"_bucket", "_sum", "_count"};

void* ZeroPages(size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return pages;
}

}  // namespace

// At most half full, so that probes stay short and always find an empty entry.
FamilyTypes::FamilyTypes(size_t max_families, uint64_t seed)
    : seed_(seed), mask_(std::bit_ceil(max_families * 2) - 1) {
  hashes_ = static_cast<std::atomic<uint64_t>*>(ZeroPages((mask_ + 1) * sizeof(*hashes_)));
  owners_ = static_cast<std::atomic<uint8_t>*>(ZeroPages((mask_ + 1) * sizeof(*owners_)));
}

FamilyTypes::~FamilyTypes() {
  munmap(hashes_, (mask_ + 1) * sizeof(*hashes_));
  munmap(owners_, (mask_ + 1) * sizeof(*owners_));
}

FamilyTypes::Owner FamilyTypes::OwnerFor(SeriesKind kind) {
  switch (kind) {
    case SeriesKind::kCounter:
      return Owner::kCounter;
    case SeriesKind::kGauge:
      return Owner::kGauge;
    case SeriesKind::kSet:
      return Owner::kSet;
    case SeriesKind::kHistogram:
      return Owner::kHistogram;
  }
  return Owner::kNone;
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

size_t FamilyTypes::Find(uint64_t hash) const {
  for (size_t i = 0; i <= mask_; ++i) {
    const size_t entry = (hash + i) & mask_;
    // Relaxed: the hash is all there is to an entry but its type, and that is one word by itself.
    const uint64_t found = hashes_[entry].load(std::memory_order_relaxed);
    if (found == hash) return entry;
    if (found == 0) break;
  }
  return mask_ + 1;
}

size_t FamilyTypes::FindOrMake(uint64_t hash) {
  // Relaxed: a bound that racing threads may overstep by one each.
  if (used_.load(std::memory_order_relaxed) > mask_ / 2) return Find(hash);
  for (size_t i = 0; i <= mask_; ++i) {
    const size_t entry = (hash + i) & mask_;
    uint64_t found = hashes_[entry].load(std::memory_order_relaxed);
    if (found == 0 &&
        hashes_[entry].compare_exchange_strong(found, hash, std::memory_order_relaxed)) {
      used_.fetch_add(1, std::memory_order_relaxed);
      return entry;
    }
    if (found == hash) return entry;
  }
  return mask_ + 1;
}

FamilyTypes::Owner FamilyTypes::OwnerAt(size_t entry) const {
  return static_cast<Owner>(owners_[entry].load(std::memory_order_relaxed));
}

bool FamilyTypes::Take(size_t entry, Owner owner) {
  uint8_t found = 0;
  // Relaxed: who wins is decided by this one word, and nothing else is published by it.
  return owners_[entry].compare_exchange_strong(found, static_cast<uint8_t>(owner),
                                                std::memory_order_relaxed) ||
         found == static_cast<uint8_t>(owner);
}

FamilyTypes::Claim FamilyTypes::ClaimFor(std::string_view family, SeriesKind kind) {
  const size_t entry = FindOrMake(Hash(family, ""));
  if (entry > mask_) return Claim::kFull;
  if (kind == SeriesKind::kHistogram) return ClaimHistogram(family, entry);
  return Take(entry, OwnerFor(kind)) ? Claim::kGranted : Claim::kConflict;
}

FamilyTypes::Claim FamilyTypes::ClaimHistogram(std::string_view family, size_t entry) {
  const Owner now = OwnerAt(entry);
  if (now == Owner::kHistogram) return Claim::kGranted;
  if (now != Owner::kNone) return Claim::kConflict;
  std::array<size_t, kSampleSuffixes.size()> samples;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i] = FindOrMake(Hash(family, kSampleSuffixes[i]));
    if (samples[i] > mask_) return Claim::kFull;
    // Look before claiming anything: a refused histogram shall not keep names from others.
    const Owner owner = OwnerAt(samples[i]);
    if (owner != Owner::kNone && owner != Owner::kHistogramSample) return Claim::kConflict;
  }
  // The names of the samples first: whoever then finds the family granted may rely on them. A shard
  // that claims one of them between our look and this leaves the others claimed: the name is
  // refused to both for good, which is safe.
  for (const size_t sample : samples) {
    if (!Take(sample, Owner::kHistogramSample)) return Claim::kConflict;
  }
  return Take(entry, Owner::kHistogram) ? Claim::kGranted : Claim::kConflict;
}

bool FamilyTypes::Lookup(std::string_view family, SeriesKind* kind) const {
  const size_t entry = Find(Hash(family, ""));
  if (entry > mask_) return false;
  switch (OwnerAt(entry)) {
    case Owner::kCounter:
      *kind = SeriesKind::kCounter;
      return true;
    case Owner::kGauge:
      *kind = SeriesKind::kGauge;
      return true;
    case Owner::kSet:
      *kind = SeriesKind::kSet;
      return true;
    case Owner::kHistogram:
      *kind = SeriesKind::kHistogram;
      return true;
    case Owner::kNone:
    case Owner::kHistogramSample:
      return false;
  }
  return false;
}

}  // namespace tallyd
