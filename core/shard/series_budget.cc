#include "core/shard/series_budget.h"

#include <xxhash.h>

#include <algorithm>

namespace tallyd {
namespace {

// Takes `amount` of what is left below `limit`; false, and nothing taken, if it is not there.
template <class Number, class Amount>
bool Take(std::atomic<Number>* taken, Amount amount, Number limit) {
  const auto wanted = static_cast<Number>(amount);
  Number now = taken->load(std::memory_order_relaxed);
  do {
    if (now > limit || wanted > limit - now) return false;
  } while (!taken->compare_exchange_weak(now, now + wanted, std::memory_order_relaxed));
  return true;
}

// Stops at 0, since a family is not charged for a series that the catalog was the first to enter,
// and whoever is the last gives it back. An account that wrapped around would have no room again.
template <class Number, class Amount>
void GiveBack(std::atomic<Number>* taken, Amount amount) {
  const auto given = static_cast<Number>(amount);
  Number now = taken->load(std::memory_order_relaxed);
  while (
      !taken->compare_exchange_weak(now, now - std::min(now, given), std::memory_order_relaxed)) {
  }
}

}  // namespace

// Twice the places that are needed: a bucket that is full sends its next series to a larger
// segment.
size_t SeriesRoll::SegmentsFor(uint64_t max_series) {
  size_t segments = 1;
  uint64_t places = kFirstBuckets * kBucket;
  while (places < 2 * max_series && segments < kMaxSegments) {
    places += kFirstBuckets * kBucket << segments;
    ++segments;
  }
  return segments;
}

uint64_t SeriesRoll::MemoryBytes(uint64_t max_series) {
  return ((uint64_t{1} << SegmentsFor(max_series)) - 1) * kFirstBuckets * kBucket * sizeof(Word);
}

SeriesRoll::SeriesRoll(uint64_t max_series)
    : segments_(SegmentsFor(max_series)),
      pages_(MemoryBytes(max_series)),
      words_(pages_.As<Word>()) {}

SeriesRoll::Word* SeriesRoll::BucketOf(size_t segment, uint64_t hash) const {
  const size_t first = ((size_t{1} << segment) - 1) * kFirstBuckets;
  // The low bits are not part of the tag: the bucket is picked by them and by some that are.
  const size_t bucket = (hash * 0x9e3779b97f4a7c15u >> 32) & ((kFirstBuckets << segment) - 1);
  return words_ + (first + bucket) * kBucket;
}

void SeriesRoll::PrefetchBuckets(size_t segments, uint64_t hash) const {
  for (size_t segment = 0; segment < segments; ++segment) {
    __builtin_prefetch(BucketOf(segment, hash));
  }
}

SeriesRoll::Word* SeriesRoll::Find(uint64_t hash, uint64_t* word, uint64_t holders) const {
  const size_t segments = in_use_.load(std::memory_order_seq_cst);
  PrefetchBuckets(segments, hash);
  for (size_t segment = 0; segment < segments; ++segment) {
    Word* const bucket = BucketOf(segment, hash);
    for (size_t i = 0; i < kBucket; ++i) {
      *word = bucket[i].load(std::memory_order_seq_cst);
      if (TagOf(*word) == TagOf(hash) && (*word & holders) != 0) return &bucket[i];
    }
  }
  return nullptr;
}

bool SeriesRoll::AddToKnown(uint64_t hash, Holder holder) {
  const auto one = static_cast<uint64_t>(holder);
  uint64_t word = 0;
  while (Word* const found = Find(hash, &word)) {
    if ((word & kSlotsMask) == kSlotsMask) return false;
    if (found->compare_exchange_strong(word, word + one, std::memory_order_relaxed)) return true;
  }
  return false;
}

// Before anything is put there, so that whoever looks afterwards looks there too.
void SeriesRoll::UseSegment(size_t segment) {
  size_t in_use = in_use_.load(std::memory_order_relaxed);
  while (in_use <= segment &&
         !in_use_.compare_exchange_weak(in_use, segment + 1, std::memory_order_seq_cst)) {
  }
}

SeriesRoll::Word* SeriesRoll::Put(uint64_t hash, Holder holder) {
  const uint64_t put = TagOf(hash) | static_cast<uint64_t>(holder);
  for (size_t segment = 0; segment < segments_; ++segment) {
    Word* const bucket = BucketOf(segment, hash);
    for (size_t i = 0; i < kBucket; ++i) {
      uint64_t word = bucket[i].load(std::memory_order_relaxed);
      if ((word & kHoldersMask) != 0) continue;
      UseSegment(segment);
      if (bucket[i].compare_exchange_strong(word, put, std::memory_order_seq_cst)) {
        return &bucket[i];
      }
    }
  }
  return nullptr;
}

bool SeriesRoll::Stays(Word* mine, uint64_t hash, Holder holder) {
  uint64_t word = 0;
  if (Find(hash, &word) == mine) return true;
  uint64_t alone = TagOf(hash) | static_cast<uint64_t>(holder);
  return !mine->compare_exchange_strong(alone, TagOf(hash), std::memory_order_relaxed);
}

SeriesRoll::Entered SeriesRoll::Enter(uint64_t hash, Holder holder) {
  while (true) {
    Word* const mine = Put(hash, holder);
    if (mine == nullptr) return Entered::kNoPlace;
    if (Stays(mine, hash, holder)) return Entered::kNew;
    if (AddToKnown(hash, holder)) return Entered::kKnown;
  }
}

bool SeriesRoll::IsShared(uint64_t hash) const {
  uint64_t word = 0;
  return Find(hash, &word) != nullptr && (word & kSlotsMask) > 1;
}

bool SeriesRoll::Remove(uint64_t hash, Holder holder) {
  const auto one = static_cast<uint64_t>(holder);
  uint64_t word = 0;
  // Who was refused is not on the roll, and must not take from the other kind of holders.
  while (Word* const found = Find(hash, &word, MaskOf(holder))) {
    if (found->compare_exchange_strong(word, word - one, std::memory_order_relaxed)) {
      return (word & kHoldersMask) == one;
    }
  }
  return false;
}

SeriesBudget::SeriesBudget(Limits limits, uint64_t seed)
    : limits_(limits), seed_(seed), roll_(MostSeries(limits.series)) {}

uint64_t SeriesBudget::HashOf(std::string_view name, std::string_view labels) const {
  const uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), seed_);
  return (hash ^ XXH3_64bits_withSeed(labels.data(), labels.size(), ~seed_)) * 0x9e3779b97f4a7c15u;
}

uint64_t SeriesBudget::SeriesLimit(Purpose purpose) const {
  switch (purpose) {
    case Purpose::kOrdinary:
      return limits_.series;
    case Purpose::kOverflow:
      return limits_.series + limits_.series / 4;
    case Purpose::kLastResort:
      return MostSeries(limits_.series);
  }
  return 0;
}

uint32_t SeriesBudget::FamilyLimit(const Charge& charge, Purpose purpose) const {
  const uint32_t limit = charge.family_limit != 0
                             ? std::min(charge.family_limit, limits_.family_series)
                             : limits_.family_series;
  switch (purpose) {
    case Purpose::kOrdinary:
      return limit;
    case Purpose::kOverflow:
      return limit + kFamilyOverflow;
    case Purpose::kLastResort:
      return limit + kFamilyLastResort;
  }
  return 0;
}

SeriesBudget::Answer SeriesBudget::ChargeNew(const Charge& charge, Purpose purpose) {
  const bool is_ordinary = purpose == Purpose::kOrdinary;
  if (!Take(&series_, 1, SeriesLimit(purpose))) return Answer::kSeries;
  // A few overflow series shall not fail for their labels' sake: they are bounded by number.
  const uint64_t most_bytes = is_ordinary ? limits_.label_bytes : UINT64_MAX;
  if (!Take(&label_bytes_, charge.label_bytes, most_bytes)) {
    GiveBack(&series_, 1);
    return Answer::kLabelBytes;
  }
  const bool counts_in_family = charge.family != nullptr && !IsDeclared(charge);
  if (counts_in_family && !Take(&charge.family->series, 1, FamilyLimit(charge, purpose))) {
    GiveBack(&label_bytes_, charge.label_bytes);
    GiveBack(&series_, 1);
    return Answer::kFamily;
  }
  const SeriesRoll::Entered entered = roll_.Enter(charge.hash, charge.holder);
  if (entered == SeriesRoll::Entered::kNew) return Answer::kGranted;
  if (counts_in_family) GiveBack(&charge.family->series, 1);
  GiveBack(&label_bytes_, charge.label_bytes);
  GiveBack(&series_, 1);
  return entered == SeriesRoll::Entered::kKnown ? GrantKnown(charge) : Answer::kSeries;
}

// Who declares a series that senders have made takes it off the family's account.
SeriesBudget::Answer SeriesBudget::GrantKnown(const Charge& charge) {
  if (IsDeclared(charge) && charge.family != nullptr) GiveBack(&charge.family->series, 1);
  return Answer::kGranted;
}

// The last room may have been taken by another shard for this very series, which it then enters at
// once. One that is taken off its core in between is not waited for: it costs a folded key.
bool SeriesBudget::IsKnownAfterAll(const Charge& charge) {
  constexpr int kMaxLooks = 200;
  for (int i = 0; i < kMaxLooks && charging_.load(std::memory_order_seq_cst) != 0; ++i) {
    __builtin_ia32_pause();
  }
  return roll_.AddToKnown(charge.hash, charge.holder);
}

SeriesBudget::Answer SeriesBudget::Admit(const Charge& charge, Purpose purpose) {
  if (roll_.AddToKnown(charge.hash, charge.holder)) return GrantKnown(charge);
  charging_.fetch_add(1, std::memory_order_seq_cst);
  const Answer answer = ChargeNew(charge, purpose);
  charging_.fetch_sub(1, std::memory_order_seq_cst);
  if (answer == Answer::kGranted) return answer;
  if (IsKnownAfterAll(charge)) return GrantKnown(charge);
  CountRefusal(answer);
  return answer;
}

void SeriesBudget::Release(const Charge& charge) {
  // If senders have it yet, it is on the family's account from now on.
  if (IsDeclared(charge) && charge.family != nullptr) {
    Take(&charge.family->series, 1, UINT32_MAX);
  }
  if (!roll_.Remove(charge.hash, charge.holder)) return;
  if (charge.family != nullptr) GiveBack(&charge.family->series, 1);
  GiveBack(&label_bytes_, charge.label_bytes);
  GiveBack(&series_, 1);
  releases_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace tallyd
