#include "core/shard/series_slots.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/rules/overflow.h"
#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

// Table entries grown at each batch, beside those that inserts pay for.
constexpr size_t kGrowStep = 1024;
// Slots given back to use at each batch: the bound of a batch's housekeeping.
constexpr size_t kReclaimStep = 4096;

// Of the key memory, what is left to keys that are remembered for the time being, and to those of
// overflow series: so that whoever finds no room otherwise can be told so, and is counted.
uint64_t ReserveOf(uint64_t key_bytes) {
  return std::min<uint64_t>(2 * SeriesSlots::kMaxPassingBytes, key_bytes / 4);
}

// Overflow series are few, and where there is no room they are what is left.
KeyPool PoolOf(bool is_literal) { return is_literal ? KeyPool::kPassing : KeyPool::kLasting; }

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
                         SeriesBudget* budget, ShardMemory* memory, SenderCounts* senders)
    : book_(book),
      generation_(book->newest()),
      rules_(&book->At(generation_)),
      families_(families),
      budget_(budget),
      memory_(memory),
      senders_(senders),
      shard_(static_cast<uint32_t>(options.index)),
      hash_seed_(options.hash_seed),
      max_keys_(options.max_keys),
      max_alias_bytes_(memory->key_bytes() / 2),
      max_passing_bytes_(ReserveOf(memory->key_bytes()) / 2),
      key_memory_(memory->key_bytes(), ReserveOf(memory->key_bytes())) {
  book_->Hold(generation_);
}

SeriesSlots::~SeriesSlots() { book_->Release(generation_); }

void SeriesSlots::UseRules(uint16_t generation) {
  for (const auto& [slot, keys] : aliases_) {
    for (const StoredKey& key : keys) FreeAlias(key);
  }
  aliases_.clear();
  ForgetAllPassing();
  extras_.clear();
  reporters_.clear();
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
  // There may be room now for what was folded: such keys are asked again.
  const uint64_t releases = budget_->releases();
  if (passing_has_folds_ && releases != releases_seen_ && now_ns - asked_again_ns_ > kAskAgainNs) {
    releases_seen_ = releases;
    asked_again_ns_ = now_ns;
    passing_stale_ = passing_.size();
  }
  keys_.Step(kGrowStep);
  identities_.Step(kGrowStep);
}

KeyEntry SeriesSlots::Refuse(DropReason reason) const {
  KeyEntry entry;
  entry.action = Action::kRefuse;
  entry.target = static_cast<uint32_t>(reason);
  return entry;
}

// A key's series: the slot that there is, a new one if the budget has room, else an overflow
// series.
KeyEntry SeriesSlots::AddKey(const KeyView& key, uint32_t hash, const FirstSample& first) {
  // Packed values need not each have their labels made anew.
  if (!first.repeats || !is_resolved_) verdict_ = rules_->Resolve(key, &spec_);
  is_resolved_ = true;
  violations_.Note(spec_, first.sender);
  if (!verdict_.accepted) return KeepRefusal(key, hash, verdict_.reason);
  if (key.type == SampleType::kCounter && !(first.amount * spec_.scale >= 0)) {
    // It shall not make a series, nor take a family's name from another type.
    return Refuse(ReasonAgainst(first.amount * spec_.scale));
  }
  if (IsObserver(spec_.kind) && !first.observes) {
    KeyEntry pass;
    pass.action = Action::kPass;
    return pass;
  }
  is_resolved_ = false;
  uint32_t slot = 0;
  const bool known = FindSlot(spec_, &slot);
  // A family for which there is no room shall not take its name.
  if (!known && !budget_->HasRoom() && families_->NotesOf(spec_.name) == nullptr) {
    budget_->CountRefusal(SeriesBudget::Answer::kSeries);
    return Fold(key, hash, first.sender);
  }
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
      budget_->CountRefusal(SeriesBudget::Answer::kNames);
      return Fold(key, hash, first.sender);
  }
  if (known && IsSame(slot, spec_)) return AddKeyOfSlot(key, hash, slot);
  // The rules have changed what the series is: it starts anew in the place of the old one.
  if (known) Retire(slot);
  return AddSlot(key, hash, first.sender);
}

bool SeriesSlots::Restore(const KeptSeries& kept, uint32_t* slot) {
  if (kept.key.is_literal) return RestoreLiteral(kept, slot);
  SeriesSpec spec;
  if (!rules_->Resolve(kept.key, &spec).accepted) return false;
  if (spec.kind != kept.kind || spec.name != kept.name || spec.labels != kept.labels) return false;
  if (FindSlot(spec, slot)) return IsSame(*slot, spec);
  const uint32_t hash = HashKey(kept.key.type, kept.key.name.data(), kept.key.name.size(),
                                kept.key.tags.data(), kept.key.tags.size(), hash_seed_);
  AddKey(kept.key, hash, {.amount = 0});
  if (!FindSlot(spec, slot)) return false;
  const CellClass cell_class = memory_->chunks()[*slot / ShardMemory::kSlotsPerChunk].cell_class;
  if (!IsObserver(kept.kind) || cell_class.layout() == kept.layout) return true;
  // With other buckets it begins anew, and not before its first sample.
  Retire(*slot);
  return false;
}

// An overflow series, for which a family must be there, unless it is one that holds all families.
bool SeriesSlots::RestoreLiteral(const KeptSeries& kept, uint32_t* slot) {
  SeriesSpec spec;
  spec.kind = kept.kind;
  spec.name = kept.name;
  spec.labels = kept.labels;
  spec.layout = kept.layout;
  FamilyTypes::Notes* notes = nullptr;
  if (!IsOverflowFamily(kept.name)) {
    SeriesKind kind{};
    notes = families_->NotesOf(kept.name);
    if (notes == nullptr || !families_->Lookup(kept.name, &kind) || kind != kept.kind) return false;
  } else if (IsObserver(kept.kind) && kept.layout != rules_->overflow_layout()) {
    return false;
  }
  return OverflowSlot(spec, kept.key.type, notes, SeriesBudget::Purpose::kLastResort, slot);
}

KeyEntry SeriesSlots::AddKeyOfSlot(const KeyView& key, uint32_t hash, uint32_t slot) {
  const bool is_primary = IsPrimaryKey(slot, key, hash);
  Renew(slot, spec_, is_primary);
  if (is_primary) {
    return Enter(PrimaryKey(memory_->identities()[slot]), spec_, ActionFor(key.type), slot);
  }
  StoredKey stored;
  if (!KeepAlias(key, hash, slot, &stored)) {
    return KeepPassing(key, hash, ActionFor(key.type), slot);
  }
  return Enter(stored, spec_, ActionFor(key.type), slot);
}

// Spellings of series that are there shall not take the memory of new ones.
bool SeriesSlots::KeepAlias(const KeyView& key, uint32_t hash, uint32_t slot, StoredKey* stored) {
  if (keys_.size() >= max_keys_) return false;
  const uint64_t bytes = KeyMemory::BytesFor(key.name.size() + 1 + key.tags.size());
  if (alias_bytes_ + bytes > max_alias_bytes_) return false;
  if (!StoreKey(key, hash, KeyPool::kLasting, stored)) return false;
  alias_bytes_ += bytes;
  aliases_[slot].push_back(*stored);
  return true;
}

void SeriesSlots::FreeAlias(const StoredKey& key) {
  FreeKey(key, KeyPool::kLasting);
  alias_bytes_ -= KeyMemory::BytesFor(key.size);
}

KeyEntry SeriesSlots::AddSlot(const KeyView& key, uint32_t hash, uint16_t sender) {
  FamilyTypes::Notes* const notes = families_->NotesOf(spec_.name);
  const SeriesBudget::Charge charge = ChargeFor(spec_, notes);
  if (Admit(charge, sender) != SeriesBudget::Answer::kGranted) return Fold(key, hash, sender);
  StoredKey stored;
  uint32_t slot = 0;
  if (!StoreKey(key, hash, KeyPool::kLasting, &stored)) {
    budget_->Release(charge);
    return Fold(key, hash, sender);
  }
  if (!NewSlot(spec_, key, stored, &slot)) {
    FreeKey(stored, KeyPool::kLasting);
    budget_->Release(charge);
    return Fold(key, hash, sender);
  }
  SetSender(slot, sender);
  senders_[sender].series_made.Add(1);
  return Enter(stored, spec_, ActionFor(key.type), slot);
}

SeriesBudget::Charge SeriesSlots::ChargeFor(const SeriesSpec& spec,
                                            FamilyTypes::Notes* notes) const {
  return {.hash = budget_->HashOf(spec.name, spec.labels),
          .label_bytes = static_cast<uint32_t>(spec.labels.size()),
          .family = notes,
          .family_limit = spec.family_limit};
}

// A sender pays for every slot that it has made here, whether or not other shards have the series
// too. Numbers of senders are this shard's own, and so is their account.
SeriesBudget::Answer SeriesSlots::Admit(const SeriesBudget::Charge& charge, uint16_t sender) {
  if (sender != Source::kUnknownSender &&
      senders_[sender].series.Get() >= budget_->limits().sender_series) {
    budget_->CountRefusal(SeriesBudget::Answer::kSender);
    return SeriesBudget::Answer::kSender;
  }
  return budget_->Admit(charge);
}

void SeriesSlots::ForgetSender(uint16_t sender) {
  for (auto& [key, reporter] : reporters_) {
    if (reporter.sender == sender) reporter.sender = Source::kUnknownSender;
  }
  if (senders_[sender].series.Get() == 0) return;
  std::replace(slot_senders_.begin(), slot_senders_.end(), sender, Source::kUnknownSender);
  senders_[sender].series.Set(0);
}

void SeriesSlots::SetSender(uint32_t slot, uint16_t sender) {
  if (sender == Source::kUnknownSender && slot >= slot_senders_.size()) return;
  if (slot >= slot_senders_.size()) slot_senders_.resize(slot + 1, Source::kUnknownSender);
  slot_senders_[slot] = sender;
  if (sender != Source::kUnknownSender) senders_[sender].series.Add(1);
}

// Of a slot whose key and rules are still there.
void SeriesSlots::ReleaseBudget(uint32_t slot) {
  SeriesSpec spec;
  ReadIdentity(slot, &spec);
  uint16_t sender = Source::kUnknownSender;
  if (slot < slot_senders_.size()) sender = std::exchange(slot_senders_[slot], sender);
  if (sender != Source::kUnknownSender) {
    LedgerCount& series = senders_[sender].series;
    series.Set(series.Get() - 1);
  }
  budget_->Release(ChargeFor(spec, families_->NotesOf(spec.name)));
}

// The samples of `spec_`, for which there is no room, go where its sum stays right: to the series
// of its family that has "__overflow__" for the label with too many values, or for all labels; else
// to a family for all that has no room.
KeyEntry SeriesSlots::Fold(const KeyView& key, uint32_t hash, uint16_t sender) {
  FamilyTypes::Notes* const notes = families_->NotesOf(spec_.name);
  if (notes != nullptr) {
    static_assert(Source::kMaxSenders <= FamilyTypes::kSenderNumbers);
    const FamilyTypes::SenderNote note = {.shard = shard_, .number = sender};
    notes->sender.store(note.Pack(), std::memory_order_relaxed);
  }
  uint32_t slot = 0;
  if (!(notes != nullptr && FoldInFamily(key.type, notes, &slot)) &&
      !FoldOutside(key.type, &slot)) {
    return Refuse(DropReason::kSeriesLimit);
  }
  spec_.folded = true;
  return KeepPassing(key, hash, ActionFor(key.type), slot);
}

bool SeriesSlots::FoldInFamily(SampleType type, FamilyTypes::Notes* notes, uint32_t* slot) {
  SeriesKind kind{};
  // The family may be another type's, or its name a part of an observer.
  if (spec_.labels.empty() || !families_->Lookup(spec_.name, &kind) || kind != spec_.kind) {
    return false;
  }
  SeriesSpec overflow;
  overflow.kind = spec_.kind;
  overflow.name = spec_.name;
  overflow.layout = spec_.layout;
  const uint32_t label =
      spec_.fold_label.empty() ? FoldLabelOf(notes) : HashLabelName(spec_.fold_label);
  if (label != 0 && FoldLabel(spec_.labels, label, &overflow.labels) &&
      OverflowSlot(overflow, type, notes, SeriesBudget::Purpose::kOverflow, slot)) {
    return true;
  }
  overflow.labels = FoldAllLabels(spec_.labels);
  return OverflowSlot(overflow, type, notes, SeriesBudget::Purpose::kLastResort, slot);
}

bool SeriesSlots::FoldOutside(SampleType type, uint32_t* slot) {
  SeriesSpec overflow;
  overflow.kind = IsObserver(spec_.kind) ? SeriesKind::kHistogram : spec_.kind;
  overflow.name = OverflowFamily(spec_.kind);
  if (IsObserver(spec_.kind)) {
    overflow.layout = rules_->overflow_layout();
  }
  return OverflowSlot(overflow, type, nullptr, SeriesBudget::Purpose::kLastResort, slot);
}

// Finds or makes an overflow series. Its key is its identity: no sender's key could stand for it.
bool SeriesSlots::OverflowSlot(const SeriesSpec& spec, SampleType type, FamilyTypes::Notes* notes,
                               SeriesBudget::Purpose purpose, uint32_t* slot) {
  if (FindSlot(spec, slot)) {
    if (IsSame(*slot, spec)) {
      UseThisGeneration(&memory_->identities()[*slot]);
      return true;
    }
    Retire(*slot);
  }
  const SeriesBudget::Charge charge = ChargeFor(spec, notes);
  if (budget_->Admit(charge, purpose) != SeriesBudget::Answer::kGranted) return false;
  const KeyView key = {.type = type, .name = spec.name, .tags = spec.labels, .is_literal = true};
  StoredKey stored;
  if (StoreKey(key, 0, PoolOf(key.is_literal), &stored)) {
    if (NewSlot(spec, key, stored, slot)) return true;
    FreeKey(stored, PoolOf(key.is_literal));
  }
  budget_->Release(charge);
  return false;
}

// Of a family that has no room: the label with the most values among the series that this shard has
// of it. Once found it is noted for all shards, so that all fold alike.
uint32_t SeriesSlots::FoldLabelOf(FamilyTypes::Notes* notes) {
  uint32_t label = notes->fold_label.load(std::memory_order_relaxed);
  if (label != 0 || now_ns_ - spread_ns_ < kSpreadEveryNs) return label;
  spread_ns_ = now_ns_;
  LabelSpread spread;
  spread.Add(spec_.labels);
  const uint32_t end = memory_->header().chunk_count.Own() * ShardMemory::kSlotsPerChunk;
  // Every so many slots, over all of them: the newest alone would be what explodes elsewhere.
  const uint32_t step = std::max(1u, end / kSpreadSlots) | 1;
  SeriesSpec other;
  for (uint32_t slot = 0; slot < end && spread.series() < kSpreadSeries; slot += step) {
    if (memory_->states()[slot].Own().life() != SlotLife::kLive) continue;
    ReadIdentity(slot, &other);
    if (other.name == spec_.name) spread.Add(other.labels);
  }
  label = spread.Widest();
  if (label == 0) return 0;
  uint32_t nobody = 0;
  const bool is_first =
      notes->fold_label.compare_exchange_strong(nobody, label, std::memory_order_relaxed);
  return is_first ? label : nobody;
}

// After a reload the key of a slot is new to the table, but stored already.
bool SeriesSlots::IsPrimaryKey(uint32_t slot, const KeyView& key, uint32_t hash) const {
  const SlotIdentity& identity = memory_->identities()[slot];
  if (identity.key_hash != hash || identity.type != key.type || identity.is_literal) return false;
  const KeyView stored = memory_->KeyOf(identity);
  return stored.name == key.name && stored.tags == key.tags;
}

// A known slot is from now on what the present rules say: an older set need not stay for it.
void SeriesSlots::Renew(uint32_t slot, const SeriesSpec& spec, bool is_of_primary_key) {
  SlotIdentity& identity = memory_->identities()[slot];
  const CellClass cell_class = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk].cell_class;
  // A cell that has no room for the time of its last sample never expires.
  if (cell_class.expires() && spec.ttl_ms > 0) identity.ttl_class = TtlClass(spec.ttl_ms);
  if (memory_->GenerationOf(identity) == generation_) return;
  if (!is_of_primary_key) {
    SeriesSpec by_these;
    if (!rules_->Resolve(memory_->KeyOf(identity), &by_these).accepted) return;
    if (by_these.name != spec.name || by_these.labels != spec.labels) return;
  }
  UseThisGeneration(&identity);
}

// Of a slot that means the same by the present rules.
void SeriesSlots::UseThisGeneration(SlotIdentity* identity) {
  const uint16_t before = memory_->GenerationOf(*identity);
  if (before == generation_) return;
  book_->Hold(generation_);
  memory_->SetGeneration(*identity, generation_);
  book_->Release(before);
}

// Of such keys the newest are kept: a sender whose every key is new, by a request's number in it,
// say, must not fill the table for everybody else.
KeyEntry SeriesSlots::KeepPassing(const KeyView& key, uint32_t hash, Action action,
                                  uint32_t target) {
  StoredKey stored;
  if (!StoreKey(key, hash, KeyPool::kPassing, &stored)) {
    return Refuse(action == Action::kRefuse ? static_cast<DropReason>(target)
                                            : DropReason::kSeriesLimit);
  }
  passing_.push_back(stored);
  passing_bytes_ += KeyMemory::BytesFor(stored.size);
  if (action != Action::kRefuse) {
    passing_has_folds_ |= spec_.folded;
    // What a catalog folded may lead to an ordinary series.
    passing_has_aliases_ |= !memory_->identities()[target].is_literal;
  }
  return Enter(stored, spec_, action, target);
}

void SeriesSlots::ForgetOldestPassing() {
  const StoredKey& oldest = passing_.front();
  // Nobody but this shard has ever seen it.
  EraseKey(oldest);
  FreeKey(oldest, KeyPool::kPassing);
  passing_bytes_ -= KeyMemory::BytesFor(oldest.size);
  passing_.pop_front();
  if (passing_stale_ > 0) --passing_stale_;
  if (passing_.empty()) passing_has_folds_ = passing_has_aliases_ = false;
}

void SeriesSlots::ForgetAllPassing() {
  while (!passing_.empty()) ForgetOldestPassing();
}

void SeriesSlots::ForgetPassing(size_t stale) {
  while (HasTooManyPassing()) ForgetOldestPassing();
  for (; stale > 0 && passing_stale_ > 0; --stale) ForgetOldestPassing();
}

bool SeriesSlots::AllocateKey(size_t size, KeyPool pool, uint32_t* place) {
  constexpr uint64_t kStep = 64 << 10;  // spares most keys the system call
  if (!key_memory_.Allocate(size, pool, place)) return false;
  const uint64_t end = uint64_t{*place} * KeyMemory::kUnit + size + KeyMemory::kTailPadding;
  if (end <= backed_key_bytes_) return true;
  const uint64_t backed = std::min((end + kStep - 1) / kStep * kStep, memory_->key_bytes());
  if (!memory_->BackKeys(backed_key_bytes_, backed - backed_key_bytes_)) {
    key_memory_.Free(*place, size, pool);
    return false;
  }
  backed_key_bytes_ = backed;
  return true;
}

bool SeriesSlots::StoreKey(const KeyView& key, uint32_t hash, KeyPool pool, StoredKey* stored) {
  const size_t size = key.name.size() + 1 + key.tags.size();
  if (size > UINT16_MAX || !AllocateKey(size, pool, &stored->place)) return false;
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
    entry.folded = spec.folded;
    // An overflow gauge stands for many: changes that take it below 0 need not be wrong.
    const bool stops = spec.non_negative && spec.kind == SeriesKind::kGauge && !spec.folded;
    entry.noted = entry.repairs || entry.folded || stops || !spec.single_sender.empty();
    entry.scaled = spec.scale != 1;
    if (entry.repairs || entry.scaled || stops) {
      extras_[stored.place] = {.bad_tags = spec.bad_tags,
                               .bad_name_tags = spec.bad_name_tags,
                               .overridden_labels = spec.overridden_labels,
                               .non_negative = stops,
                               .scale = spec.scale,
                               .identity = stops ? budget_->HashOf(spec.name, spec.labels) : 0};
    }
  }
  if (entry.noted && !spec.single_sender.empty()) {
    reporters_[stored.place] = {.family = spec.single_sender};
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
  SlotIdentity identity;
  identity.series = budget_->HashOf(spec.name, spec.labels);
  identity.key = stored.place;
  identity.key_hash = stored.hash;
  identity.name_size = static_cast<uint16_t>(key.name.size());
  identity.tags_size = static_cast<uint16_t>(key.tags.size());
  identity.type = key.type;
  identity.is_literal = key.is_literal;
  identity.ttl_class = TtlClass(spec.ttl_ms);
  memory_->SetGeneration(identity, generation_);
  memory_->identities()[*slot] = identity;
  book_->Hold(generation_);
  memory_->chunks()[*slot / ShardMemory::kSlotsPerChunk].stamp.Touch(batch_);
  SlotStateWord& state = memory_->states()[*slot];
  state.PublishLive(state.Own().generation() + 1);
  identities_.Insert({HashIdentity(spec), *slot + 1});
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
  if (!memory_->BackChunk(chunk, next_cell_word_, chunk_words)) return false;
  ChunkHead& head = memory_->chunks()[chunk];
  head.cells = static_cast<uint32_t>(next_cell_word_);
  head.cell_words = static_cast<uint16_t>(words);
  head.cell_class = cell_class;
  if (IsObserver(static_cast<SeriesKind>(cell_class.kind()))) {
    memory_->layouts()[cell_class.layout()] = HashLayout(LayoutOf(cell_class));
  }
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

bool SeriesSlots::IsEvicted(uint32_t slot) const {
  const SlotTenancy now = memory_->states()[slot].Own();
  return now.life() == SlotLife::kLive &&
         memory_->evictions()[slot].Load(std::memory_order_relaxed) == now.generation();
}

void SeriesSlots::Expire(uint32_t slots) {
  const uint32_t end = memory_->header().chunk_count.Own() * ShardMemory::kSlotsPerChunk;
  const uint64_t asked = memory_->header().evictions_asked.Load(std::memory_order_relaxed);
  if (asked != evictions_seen_) {
    evictions_seen_ = asked;
    evict_left_ = end;  // a whole round from here
  }
  if (expiring_ == 0 && evict_left_ == 0) return;
  for (; slots > 0; --slots) {
    if (expire_hand_ >= end) {
      expire_hand_ = 0;
      if (evict_left_ == 0) return;
    }
    const uint32_t slot = expire_hand_++;
    const bool expires = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk].cell_class.expires();
    if (evict_left_ > 0) {
      --evict_left_;
      if (IsEvicted(slot) || (expires && IsIdle(slot))) Retire(slot);
    } else if (!expires) {
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
  reporters_.erase(key.place);
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
      FreeAlias(key);
    }
    aliases_.erase(aliases);
  }
  // Passing keys may lead here too, and are not listed by slot: it is seldom.
  const bool is_overflow = memory_->identities()[slot].is_literal;
  if (is_overflow ? passing_has_folds_ : passing_has_aliases_) ForgetAllPassing();
  ChunkHead& head = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk];
  head.stamp.Touch(batch_);
  SlotStateWord& state = memory_->states()[slot];
  state.PublishRetired(state.Own().generation());
  retired_.push_back({slot, batch_});
  --live_;
  expiring_ -= head.cell_class.expires() ? 1 : 0;
}

void SeriesSlots::Reclaim() {
  if (retired_.empty()) return;
  ShardHeader& header = memory_->header();
  const uint64_t released =
      header.session.holds_retired != 0 ? header.released_epoch.Acquire() : merged_epoch_seen_;
  for (size_t i = 0; i < kReclaimStep && !retired_.empty(); ++i) {
    const Retired& oldest = retired_.front();
    if (oldest.batch > released) return;
    // Before anything of it is overwritten: whoever finds the memory after a crash shall not take
    // the remains for a tenant.
    SlotStateWord& state = memory_->states()[oldest.slot];
    state.PublishFree(state.Own().generation());
    SlotIdentity& identity = memory_->identities()[oldest.slot];
    ReleaseBudget(oldest.slot);
    FreeKey(PrimaryKey(identity), PoolOf(identity.is_literal));
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
