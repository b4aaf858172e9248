#include "core/shard/series_slots.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

// Table entries grown at each batch, beside those that inserts pay for.
constexpr size_t kGrowStep = 1024;
// Slots given back to use at each batch: the bound of a batch's housekeeping.
constexpr size_t kReclaimStep = 4096;

Action ActionFor(SampleType type) {
  switch (type) {
    case SampleType::kCounter:
      return Action::kCount;
    case SampleType::kGauge:
      return Action::kSetGauge;
    case SampleType::kTimer:
      return Action::kObserveMillis;
    case SampleType::kHistogram:
      return Action::kObserve;
    case SampleType::kSet:
      return Action::kAddMember;
  }
  return Action::kRefuse;
}

}  // namespace

SeriesSlots::SeriesSlots(const ShardOptions& options, RuleBook* book, FamilyTypes* families,
                         ShardMemory* memory, SenderCounts* senders)
    : book_(book),
      generation_(book->newest()),
      rules_(&book->At(generation_)),
      families_(families),
      memory_(memory),
      senders_(senders),
      hash_seed_(options.hash_seed),
      max_series_(std::min(options.max_series, ShardMemory::kMaxSlots)),
      // Several spellings of each series, and refusals, have room; beyond that nothing is cached.
      max_keys_(uint64_t{4} * max_series_ + kMaxRefusals),
      key_memory_(memory->key_bytes()) {
  book_->Hold(generation_);
}

SeriesSlots::~SeriesSlots() { book_->Release(generation_); }

void SeriesSlots::UseRules(uint16_t generation) {
  for (const auto& [slot, keys] : aliases_) {
    for (const StoredKey& key : keys) key_memory_.Free(key.place, key.size);
  }
  for (const StoredKey& key : refusals_) key_memory_.Free(key.place, key.size);
  aliases_.clear();
  refusals_.clear();
  extras_.clear();
  keys_.Clear();
  rules_ = &book_->At(generation);
  book_->Release(std::exchange(generation_, generation));
}

void SeriesSlots::BeginBatch(uint64_t batch, int64_t now_ns) {
  batch_ = batch;
  now_ns_ = now_ns;
  const uint64_t merged = memory_->header().merged_epoch.Acquire();
  if (merged != merged_epoch_seen_) {
    merged_epoch_seen_ = merged;
    merge_seen_ns_ = now_ns;
  }
  Reclaim();
  keys_.Step(kGrowStep);
  identities_.Step(kGrowStep);
}

KeyEntry SeriesSlots::Refuse(DropReason reason) const {
  KeyEntry entry;
  entry.action = Action::kRefuse;
  entry.target = static_cast<uint32_t>(reason);
  return entry;
}

bool SeriesSlots::HasRoomForSeries() const {
  return live_ < max_series_ && keys_.size() < max_keys_ &&
         memory_->header().series_allowance.Load(std::memory_order_relaxed) > 0;
}

// Past the bounds no verdict is cached, since it would change as soon as there is room again; nor
// is the key resolved: that is what keeps the slow path from being for sale.
KeyEntry SeriesSlots::AddKey(const KeyView& key, uint32_t hash, const FirstSample& first) {
  if (keys_.size() >= max_keys_) return Refuse(DropReason::kSeriesLimit);
  const Verdict verdict = rules_->Resolve(key, &spec_);
  violations_.Note(spec_, first.sender);
  if (!verdict.accepted) return KeepRefusal(key, hash, verdict.reason);
  if (key.type == SampleType::kCounter && !(first.amount * spec_.scale >= 0)) {
    // It shall not make a series, nor take a family's name from another type.
    return Refuse(ReasonAgainst(first.amount * spec_.scale));
  }
  if (IsObserver(spec_.kind) && !first.observes) {
    KeyEntry pass;
    pass.action = Action::kPass;
    return pass;
  }
  uint32_t slot = 0;
  const bool known = FindSlot(spec_, &slot);
  // Room comes first: a series that is not made shall not take its family's name.
  if (!known && !HasRoomForSeries()) return Refuse(DropReason::kSeriesLimit);
  const FamilyWish wish = {.family = spec_.name,
                           .kind = spec_.kind,
                           .layout = spec_.layout,
                           .sequence = rules_->sequence(),
                           .mapped = spec_.rule != nullptr};
  switch (families_->ClaimFor(wish, &spec_.layout)) {
    case FamilyTypes::Claim::kGranted:
      break;
    case FamilyTypes::Claim::kConflict:
      return KeepRefusal(key, hash, DropReason::kTypeConflict);
    case FamilyTypes::Claim::kFull:
      return Refuse(DropReason::kSeriesLimit);
  }
  if (known && IsSame(slot, spec_)) return AddKeyOfSlot(key, hash, slot);
  // The rules have changed what the series is: it starts anew in the place of the old one.
  if (known) Retire(slot);
  return AddSlot(key, hash, first.sender);
}

KeyEntry SeriesSlots::AddKeyOfSlot(const KeyView& key, uint32_t hash, uint32_t slot) {
  const bool is_primary = IsPrimaryKey(slot, key, hash);
  Renew(slot, spec_, is_primary);
  if (is_primary) {
    return Enter(PrimaryKey(memory_->identities()[slot]), spec_, ActionFor(key.type), slot);
  }
  StoredKey stored;
  if (!StoreKey(key, hash, &stored)) return Refuse(DropReason::kSeriesLimit);
  aliases_[slot].push_back(stored);
  return Enter(stored, spec_, ActionFor(key.type), slot);
}

KeyEntry SeriesSlots::AddSlot(const KeyView& key, uint32_t hash, uint16_t sender) {
  StoredKey stored;
  if (!StoreKey(key, hash, &stored)) return Refuse(DropReason::kSeriesLimit);
  uint32_t slot = 0;
  if (!NewSlot(spec_, key, stored, &slot)) {
    key_memory_.Free(stored.place, stored.size);
    return Refuse(DropReason::kSeriesLimit);
  }
  identities_.Insert({HashIdentity(spec_), slot + 1});
  senders_[sender].series_made.Add(1);
  return Enter(stored, spec_, ActionFor(key.type), slot);
}

// After a reload the key of a slot is new to the table, but stored already.
bool SeriesSlots::IsPrimaryKey(uint32_t slot, const KeyView& key, uint32_t hash) const {
  const SlotIdentity& identity = memory_->identities()[slot];
  if (identity.key_hash != hash || identity.type != key.type) return false;
  const KeyView stored = memory_->KeyOf(identity);
  return stored.name == key.name && stored.tags == key.tags;
}

// A known slot is from now on what the present rules say: an older set need not stay for it.
void SeriesSlots::Renew(uint32_t slot, const SeriesSpec& spec, bool is_of_primary_key) {
  SlotIdentity& identity = memory_->identities()[slot];
  const CellClass cell_class = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk].cell_class;
  // A cell that has no room for the time of its last sample never expires.
  if (cell_class.expires() && spec.ttl_ms > 0) identity.ttl_class = TtlClass(spec.ttl_ms);
  const uint16_t before = memory_->GenerationOf(identity);
  if (before == generation_) return;
  if (!is_of_primary_key) {
    SeriesSpec by_these;
    if (!rules_->Resolve(memory_->KeyOf(identity), &by_these).accepted) return;
    if (by_these.name != spec.name || by_these.labels != spec.labels) return;
  }
  book_->Hold(generation_);
  memory_->SetGeneration(identity, generation_);
  book_->Release(before);
}

// Of the refused keys the newest are kept: a sender whose every key is new and refused, by a
// reserved label with a request's number in it, say, must not fill the table for everybody else.
KeyEntry SeriesSlots::KeepRefusal(const KeyView& key, uint32_t hash, DropReason reason) {
  if (key.name.size() + key.tags.size() > kMaxRefusedKeyBytes) return Refuse(reason);
  if (refusals_.size() == kMaxRefusals) {
    // Nobody but this shard has ever seen it.
    EraseKey(refusals_.front());
    key_memory_.Free(refusals_.front().place, refusals_.front().size);
    refusals_.pop_front();
  }
  StoredKey stored;
  if (!StoreKey(key, hash, &stored)) return Refuse(reason);
  refusals_.push_back(stored);
  return Enter(stored, spec_, Action::kRefuse, static_cast<uint32_t>(reason));
}

bool SeriesSlots::StoreKey(const KeyView& key, uint32_t hash, StoredKey* stored) {
  const size_t size = key.name.size() + 1 + key.tags.size();
  if (size > UINT16_MAX || !key_memory_.Allocate(size, &stored->place)) return false;
  char* bytes = memory_->KeyAt(stored->place);
  std::memcpy(bytes, key.name.data(), key.name.size());
  bytes[key.name.size()] = ':';
  if (!key.tags.empty()) std::memcpy(bytes + key.name.size() + 1, key.tags.data(), key.tags.size());
  stored->size = static_cast<uint16_t>(size);
  stored->type = key.type;
  stored->hash = hash;
  return true;
}

KeyEntry SeriesSlots::Enter(const StoredKey& stored, const SeriesSpec& spec, Action action,
                            uint32_t target) {
  KeyEntry entry;
  entry.hash = stored.hash;
  entry.target = target;
  entry.key = stored.place;
  entry.key_size = stored.size;
  entry.type = stored.type;
  entry.action = action;
  if (action != Action::kRefuse) {
    entry.repairs = spec.bad_tags != 0 || spec.bad_name_tags != 0 || spec.overridden_labels != 0;
    entry.scaled = spec.scale != 1;
  }
  if (entry.repairs || entry.scaled) {
    extras_[stored.place] = {.bad_tags = spec.bad_tags,
                             .bad_name_tags = spec.bad_name_tags,
                             .overridden_labels = spec.overridden_labels,
                             .scale = spec.scale};
  }
  // Scaling makes seconds of milliseconds first.
  if (entry.scaled && action == Action::kObserveMillis) entry.action = Action::kObserve;
  keys_.Insert(entry);
  return entry;
}

uint32_t SeriesSlots::HashIdentity(const SeriesSpec& spec) const {
  uint64_t hash = XXH3_64bits_withSeed(spec.name.data(), spec.name.size(), hash_seed_);
  hash ^= XXH3_64bits_withSeed(spec.labels.data(), spec.labels.size(), ~hash_seed_);
  hash *= 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(hash >> 32);
}

// Identities are not stored; that of a slot is what its rules say of its first key, with the kind
// and layout that its cell was made with.
void SeriesSlots::ReadIdentity(uint32_t slot, SeriesSpec* spec) const {
  SlotIdentity& identity = memory_->identities()[slot];
  book_->At(memory_->GenerationOf(identity)).Resolve(memory_->KeyOf(identity), spec);
}

// The slot of this name and these labels, whatever its kind.
bool SeriesSlots::FindSlot(const SeriesSpec& spec, uint32_t* slot) {
  SeriesSpec other;
  const auto same = [&](const IdentityEntry& entry) {
    ReadIdentity(entry.slot_plus_one - 1, &other);
    return other.name == spec.name && other.labels == spec.labels;
  };
  const IdentityEntry* entry = identities_.Find(HashIdentity(spec), same);
  if (entry == nullptr) return false;
  *slot = entry->slot_plus_one - 1;
  return true;
}

bool SeriesSlots::IsSame(uint32_t slot, const SeriesSpec& spec) const {
  const CellClass cell_class = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk].cell_class;
  return cell_class.kind() == static_cast<uint8_t>(spec.kind) &&
         (!IsObserver(spec.kind) || cell_class.layout() == spec.layout);
}

uint32_t SeriesSlots::CellWordsOf(CellClass cell_class) const {
  const uint32_t touch = cell_class.expires() ? 1 : 0;
  switch (static_cast<SeriesKind>(cell_class.kind())) {
    case SeriesKind::kCounter:
      return CounterCell::kWords + touch;
    case SeriesKind::kGauge:
      return GaugeCell::kWords + touch;
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      return HistogramCell::Words(LayoutOf(cell_class).bounds.size());
    case SeriesKind::kSet:
      return SetCell::kWords;
  }
  return 0;
}

bool SeriesSlots::NewSlot(const SeriesSpec& spec, const KeyView& key, const StoredKey& stored,
                          uint32_t* slot) {
  const CellClass cell_class = CellClass::Make(static_cast<uint8_t>(spec.kind), spec.ttl_ms > 0,
                                               IsObserver(spec.kind) ? spec.layout : uint16_t{0});
  if (!AllocateSlot(cell_class, slot)) return false;
  CellWord* const cell = memory_->CellOf(*slot);
  for (uint32_t i = 0; i < CellWordsOf(cell_class); ++i) StoreWord(cell[i], 0);
  memory_->identities()[*slot] = {.key = stored.place,
                                  .key_hash = stored.hash,
                                  .name_size = static_cast<uint16_t>(key.name.size()),
                                  .tags_size = static_cast<uint16_t>(key.tags.size()),
                                  .type = key.type,
                                  .ttl_class = TtlClass(spec.ttl_ms),
                                  .rules_generation = generation_};
  book_->Hold(generation_);
  memory_->chunks()[*slot / ShardMemory::kSlotsPerChunk].stamp.Touch(batch_);
  SlotStateWord& state = memory_->states()[*slot];
  state.PublishLive(state.Own().generation() + 1);
  ++live_;
  expiring_ += cell_class.expires() ? 1 : 0;
  return true;
}

bool SeriesSlots::AllocateSlot(CellClass cell_class, uint32_t* slot) {
  Pool& pool = pools_[cell_class.bits];
  if (!pool.free.empty()) {
    *slot = pool.free.back();
    pool.free.pop_back();
    return true;
  }
  if (pool.next == pool.end && !AddChunk(cell_class, &pool)) return false;
  *slot = pool.next++;
  return true;
}

bool SeriesSlots::AddChunk(CellClass cell_class, Pool* pool) {
  const uint32_t words = CellWordsOf(cell_class);
  const uint64_t chunk_words = uint64_t{words} * ShardMemory::kSlotsPerChunk;  // whole cache lines
  PublishedCount<StdAtomics>& count = memory_->header().chunk_count;
  const uint32_t chunk = count.Own();
  if (chunk == ShardMemory::kMaxChunks || next_cell_word_ + chunk_words > memory_->cell_words()) {
    return false;
  }
  ChunkHead& head = memory_->chunks()[chunk];
  head.cells = static_cast<uint32_t>(next_cell_word_);
  head.cell_words = static_cast<uint16_t>(words);
  head.cell_class = cell_class;
  count.Publish(chunk + 1);
  next_cell_word_ += chunk_words;
  pool->next = chunk * ShardMemory::kSlotsPerChunk;
  pool->end = pool->next + ShardMemory::kSlotsPerChunk;
  return true;
}

uint8_t SeriesSlots::TtlClass(int64_t ttl_ms) {
  const auto found = std::find(ttls_ms_.begin(), ttls_ms_.end(), ttl_ms);
  if (found != ttls_ms_.end()) return static_cast<uint8_t>(found - ttls_ms_.begin());
  // More distinct times to live than that: the last one stands for the rest.
  if (ttls_ms_.size() > UINT8_MAX) return UINT8_MAX;
  ttls_ms_.push_back(ttl_ms);
  return static_cast<uint8_t>(ttls_ms_.size() - 1);
}

int64_t SeriesSlots::LastTouch(uint32_t slot) const {
  const ChunkHead& head = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk];
  const auto kind = static_cast<SeriesKind>(head.cell_class.kind());
  const bool first = IsObserver(kind) || kind == SeriesKind::kSet;
  const CellWord* const cell = memory_->CellOf(slot);
  return static_cast<int64_t>(LoadWord(cell[first ? 0 : head.cell_words - 1]));
}

bool SeriesSlots::IsIdle(uint32_t slot) const {
  if (memory_->states()[slot].Own().life() != SlotLife::kLive) return false;
  const int64_t ttl_ms = ttls_ms_[memory_->identities()[slot].ttl_class];
  return ttl_ms > 0 && now_ns_ - LastTouch(slot) > ttl_ms * 1'000'000;
}

void SeriesSlots::Expire(uint32_t slots) {
  if (expiring_ == 0) return;
  const uint32_t end = memory_->header().chunk_count.Own() * ShardMemory::kSlotsPerChunk;
  for (; slots > 0; --slots) {
    if (expire_hand_ >= end) {
      expire_hand_ = 0;
      return;
    }
    const uint32_t slot = expire_hand_++;
    if (!memory_->chunks()[slot / ShardMemory::kSlotsPerChunk].cell_class.expires()) {
      expire_hand_ = (slot / ShardMemory::kSlotsPerChunk + 1) * ShardMemory::kSlotsPerChunk;
    } else if (IsIdle(slot)) {
      Retire(slot);
    }
  }
}

SeriesSlots::StoredKey SeriesSlots::PrimaryKey(const SlotIdentity& identity) {
  return {.place = identity.key,
          .size = static_cast<uint16_t>(identity.name_size + 1 + identity.tags_size),
          .type = identity.type,
          .hash = identity.key_hash};
}

void SeriesSlots::EraseKey(const StoredKey& key) {
  keys_.Erase(key.hash, [&](const KeyEntry& entry) { return entry.key == key.place; });
  extras_.erase(key.place);
}

void SeriesSlots::Retire(uint32_t slot) {
  SeriesSpec spec;
  ReadIdentity(slot, &spec);
  identities_.Erase(HashIdentity(spec),
                    [&](const IdentityEntry& entry) { return entry.slot_plus_one == slot + 1; });
  EraseKey(PrimaryKey(memory_->identities()[slot]));
  if (const auto aliases = aliases_.find(slot); aliases != aliases_.end()) {
    for (const StoredKey& key : aliases->second) {
      EraseKey(key);
      // The merger reads only the first key of a slot.
      key_memory_.Free(key.place, key.size);
    }
    aliases_.erase(aliases);
  }
  ChunkHead& head = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk];
  head.stamp.Touch(batch_);
  SlotStateWord& state = memory_->states()[slot];
  state.PublishRetired(state.Own().generation());
  retired_.push_back({slot, batch_});
  --live_;
  expiring_ -= head.cell_class.expires() ? 1 : 0;
}

void SeriesSlots::Reclaim() {
  for (size_t i = 0; i < kReclaimStep && !retired_.empty(); ++i) {
    const Retired& oldest = retired_.front();
    if (oldest.batch > merged_epoch_seen_) return;
    SlotIdentity& identity = memory_->identities()[oldest.slot];
    const StoredKey key = PrimaryKey(identity);
    key_memory_.Free(key.place, key.size);
    book_->Release(memory_->GenerationOf(identity));
    const ChunkHead& head = memory_->chunks()[oldest.slot / ShardMemory::kSlotsPerChunk];
    pools_[head.cell_class.bits].free.push_back(oldest.slot);
    retired_.pop_front();
  }
}

void SeriesSlots::AddCountsTo(Ledger* ledger) const {
  ledger->live_series.Set(live_);
  ledger->retired_slots.Set(retired_.size());
  ledger->keys.Set(keys_.size());
  ledger->key_bytes.Set(key_memory_.used_bytes());
}

}  // namespace tallyd
