// Keys, slots and their lives: the slow path of a shard.
//
// A key not seen before is resolved by the rules once, and the verdict is kept in the key table, a
// refusal as much as a slot. A series for which the budget has no room is folded: its samples go to
// an overflow series (core/rules/overflow.h). Slots are handed out, retired when idle or evicted,
// and reused once the merger has passed (protocol.h).

#ifndef TALLYD_CORE_SHARD_SERIES_SLOTS_H_
#define TALLYD_CORE_SHARD_SERIES_SLOTS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/rules/rule_book.h"
#include "core/rules/rules.h"
#include "core/shard/family_types.h"
#include "core/shard/key_memory.h"
#include "core/shard/key_table.h"
#include "core/shard/ledger.h"
#include "core/shard/series_budget.h"
#include "core/shard/shard.h"
#include "core/shard/shard_memory.h"
#include "core/shard/violation_log.h"

namespace tallyd {

// Invariants: each live slot has one identity entry and one place in the budget, and every key
// entry of an accepted key leads to a live slot. A retired slot's keys and cells stay untouched,
// and its place taken, until the merged epoch reaches the batch that retired it, or the released
// epoch where retired slots are held (MemorySession). Thread-compatible: the shard's owner only.
class SeriesSlots {
 public:
  // Slots looked at for idleness per batch, and per turn of an idle shard.
  static constexpr uint32_t kExpireStep = 128;
  static constexpr uint32_t kExpireTurn = 1 << 17;

  // Keys that are remembered for the time being: refused ones, folded ones, and those past the
  // bound on keys.
  static constexpr size_t kMaxPassingKeys = 65'536;
  static constexpr size_t kMaxPassingBytes = size_t{32} << 20;
  // While series leave, folded keys are asked again whether there is room, not more often.
  static constexpr int64_t kAskAgainNs = 10'000'000'000;

  SeriesSlots(const ShardOptions& options, RuleBook* book, FamilyTypes* families,
              SeriesBudget* budget, ShardMemory* memory, SenderCounts* senders);
  ~SeriesSlots();
  SeriesSlots(const SeriesSlots&) = delete;
  SeriesSlots& operator=(const SeriesSlots&) = delete;

  // Outside a batch. Takes over the caller's hold of `generation`.
  void UseRules(uint16_t generation);

  // Takes back what the merger has passed.
  void BeginBatch(uint64_t batch, int64_t now_ns);
  // Forgets some keys, if there are too many. Entries that were read before are void.
  void BeginGroup() {
    if (HasTooManyPassing() || passing_stale_ > 0) ForgetPassing(kForgetStep);
  }
  // The number stands for another sender from now on, to whom its series are not charged, and who
  // has reported nothing yet.
  void ForgetSender(uint16_t sender);
  // Retires idle and evicted slots among the next `slots` ones.
  void Expire(uint32_t slots);
  void AddCountsTo(Ledger* ledger) const;

  KeyTable& keys() { return keys_; }
  ViolationLog& violations() { return violations_; }
  // What may keep a sample from making a series.
  struct FirstSample {
    double amount = 0;     // of a counter: below zero it is refused
    bool observes = true;  // of an observer: else it has no effect
    uint16_t sender = Source::kUnknownSender;
    bool repeats = false;  // the last key that was added is this one, and got no entry
  };
  // The entry of a key that the table does not know, by value: kRefuse or kPass if it has no slot.
  KeyEntry AddKey(const KeyView& key, uint32_t hash, const FirstSample& first);

  // The slot of a series that another process had: made, or found if another key has made it. False
  // if it would be another series, or none.
  bool Restore(const KeptSeries& kept, uint32_t* slot);

  // Why a counter does not take an amount that is not at least zero. (Inf at rate Inf is none.)
  static DropReason ReasonAgainst(double amount) {
    return std::isnan(amount) ? DropReason::kBadValue : DropReason::kNegativeCounter;
  }

  // What few keys need with each sample.
  struct Extras {
    uint16_t bad_tags = 0;
    uint16_t bad_name_tags = 0;  // a line
    uint16_t overridden_labels = 0;
    bool non_negative = false;
    double scale = 1;
    uint64_t identity = 0;  // SeriesBudget::HashOf, of a non-negative gauge
  };
  // Of an entry that says it has some. Of one that was forgotten since it was read they are gone.
  const Extras& ExtrasOf(const KeyEntry& entry) const {
    static constexpr Extras kNone;
    const auto extras = extras_.find(entry.key);
    return extras == extras_.end() ? kNone : extras->second;
  }

  // Of a change that takes a gauge from `value` below 0, whether it is to stop there. Where several
  // shards have the gauge none knows its value, and each takes its changes as they come.
  bool StopsAtZero(const KeyEntry& entry) const {
    const Extras& extras = ExtrasOf(entry);
    return extras.non_negative && !budget_->IsShared(extras.identity);
  }
  // Of a noted entry: a sample came from `sender`.
  void NoteSender(const KeyEntry& entry, uint16_t sender) {
    if (reporters_.empty() || sender == Source::kUnknownSender) return;
    const auto reporter = reporters_.find(entry.key);
    if (reporter == reporters_.end() || reporter->second.sender == sender) return;
    if (violations_.NoteReporter(reporter->second.family, sender)) {
      reporter->second.sender = sender;
    }
  }

  const HistogramLayout& LayoutOf(CellClass cell_class) const {
    return book_->layout(cell_class.layout());
  }
  uint64_t hash_seed() const { return hash_seed_; }
  // When this shard last learned that the merger had passed.
  int64_t merge_seen_ns() const { return merge_seen_ns_; }

 private:
  struct StoredKey {
    uint32_t place;
    uint16_t size;
    SampleType type;
    uint32_t hash;
  };
  struct Pool {
    uint32_t cell_words = 0;
    std::vector<uint32_t> free;
    uint32_t next = 0;  // fresh slots of the pool's newest chunk
    uint32_t end = 0;
  };
  // Who was last noted to report a gauge that one process alone may report.
  struct Reporter {
    std::string_view family;  // of rules_
    uint16_t sender = Source::kUnknownSender;
  };
  struct Retired {
    uint32_t slot;
    uint64_t batch;
  };
  static constexpr size_t kForgetStep = 128;  // stale ones, between two groups
  // How many slots are looked at to find out which label has too many values, and how often.
  static constexpr uint32_t kSpreadSlots = 4096;
  static constexpr size_t kSpreadSeries = 128;
  static constexpr int64_t kSpreadEveryNs = 1'000'000'000;

  KeyEntry Refuse(DropReason reason) const;
  KeyEntry KeepPassing(const KeyView& key, uint32_t hash, Action action, uint32_t target);
  KeyEntry KeepRefusal(const KeyView& key, uint32_t hash, DropReason reason) {
    return KeepPassing(key, hash, Action::kRefuse, static_cast<uint32_t>(reason));
  }
  bool HasTooManyPassing() const {
    return passing_.size() > kMaxPassingKeys || passing_bytes_ > max_passing_bytes_;
  }
  void ForgetPassing(size_t stale);
  void ForgetOldestPassing();
  void ForgetAllPassing();
  bool AllocateKey(size_t size, KeyPool pool, uint32_t* place);
  bool StoreKey(const KeyView& key, uint32_t hash, KeyPool pool, StoredKey* stored);
  void FreeKey(const StoredKey& key, KeyPool pool) { key_memory_.Free(key.place, key.size, pool); }
  bool KeepAlias(const KeyView& key, uint32_t hash, uint32_t slot, StoredKey* stored);
  void FreeAlias(const StoredKey& key);
  KeyEntry Enter(const StoredKey& stored, const SeriesSpec& spec, Action action, uint32_t target);
  KeyEntry AddKeyOfSlot(const KeyView& key, uint32_t hash, uint32_t slot);

  bool RestoreLiteral(const KeptSeries& kept, uint32_t* slot);
  KeyEntry Fold(const KeyView& key, uint32_t hash, uint16_t sender);
  bool FoldInFamily(SampleType type, FamilyTypes::Notes* notes, uint32_t* slot);
  bool FoldOutside(SampleType type, uint32_t* slot);
  bool OverflowSlot(const SeriesSpec& spec, SampleType type, FamilyTypes::Notes* notes,
                    SeriesBudget::Purpose purpose, uint32_t* slot);
  uint32_t FoldLabelOf(FamilyTypes::Notes* notes);
  SeriesBudget::Charge ChargeFor(const SeriesSpec& spec, FamilyTypes::Notes* notes) const;
  SeriesBudget::Answer Admit(const SeriesBudget::Charge& charge, uint16_t sender);
  void SetSender(uint32_t slot, uint16_t sender);
  void ReleaseBudget(uint32_t slot);
  void UseThisGeneration(SlotIdentity* identity);
  KeyEntry AddSlot(const KeyView& key, uint32_t hash, uint16_t sender);
  bool FindSlot(const SeriesSpec& spec, uint32_t* slot);
  bool IsSame(uint32_t slot, const SeriesSpec& spec) const;
  void Renew(uint32_t slot, const SeriesSpec& spec, bool is_of_primary_key);
  bool IsPrimaryKey(uint32_t slot, const KeyView& key, uint32_t hash) const;
  bool NewSlot(const SeriesSpec& spec, const KeyView& key, const StoredKey& stored, uint32_t* slot);
  bool AllocateSlot(CellClass cell_class, uint32_t* slot);
  bool AddChunk(CellClass cell_class, Pool* pool);
  uint32_t CellWordsOf(CellClass cell_class) const;
  uint8_t TtlClass(int64_t ttl_ms);
  uint32_t HashIdentity(const SeriesSpec& spec) const;
  void ReadIdentity(uint32_t slot, SeriesSpec* spec) const;
  int64_t LastTouch(uint32_t slot) const;
  bool IsIdle(uint32_t slot) const;
  bool IsEvicted(uint32_t slot) const;
  void Retire(uint32_t slot);
  void EraseKey(const StoredKey& key);
  static StoredKey PrimaryKey(const SlotIdentity& identity);
  void Reclaim();

  RuleBook* const book_;
  uint16_t generation_;
  const Rules* rules_;  // of generation_, which we hold
  FamilyTypes* const families_;
  SeriesBudget* const budget_;
  ShardMemory* const memory_;
  SenderCounts* const senders_;  // by Source::sender
  const uint32_t shard_;
  const uint64_t hash_seed_;
  const uint64_t max_keys_;
  const uint64_t max_alias_bytes_;
  const uint64_t max_passing_bytes_;

  KeyTable keys_;
  IdentityTable identities_;
  KeyMemory key_memory_;
  uint64_t backed_key_bytes_ = 0;              // of the region, those that may be written
  absl::flat_hash_map<uint16_t, Pool> pools_;  // by CellClass::bits
  absl::flat_hash_map<uint32_t, std::vector<StoredKey>> aliases_;  // further keys of a slot
  uint64_t alias_bytes_ = 0;                                       // that they take
  absl::flat_hash_map<uint32_t, Extras> extras_;                   // by place of the key
  absl::flat_hash_map<uint32_t, Reporter> reporters_;              // by place of the key
  std::vector<int64_t> ttls_ms_{0};                                // by SlotIdentity::ttl_class
  std::deque<StoredKey> passing_;                                  // oldest first
  uint64_t passing_bytes_ = 0;                                     // that they take
  size_t passing_stale_ = 0;            // of them, from the oldest on, that are to be forgotten
  bool passing_has_folds_ = false;      // whether some may be folded, and
  bool passing_has_aliases_ = false;    // some may lead to others than overflow series
  uint64_t releases_seen_ = 0;          // of the budget
  int64_t asked_again_ns_ = 0;          // when folded keys were last to be asked again
  int64_t spread_ns_ = 0;               // when the spread of a family's labels was last looked at
  std::vector<uint16_t> slot_senders_;  // who made each slot; empty while nobody is known
  std::deque<Retired> retired_;         // oldest first
  uint32_t live_ = 0;
  uint32_t expiring_ = 0;     // live slots with a time to live
  uint32_t expire_hand_ = 0;  // next slot to look at
  uint64_t evictions_seen_ = 0;
  uint32_t evict_left_ = 0;  // slots to look at until the round is complete
  uint64_t next_cell_word_ = 0;

  uint64_t batch_ = 0;
  int64_t now_ns_ = 0;
  uint64_t merged_epoch_seen_ = 0;
  int64_t merge_seen_ns_ = 0;
  // Scratch of AddKey; what the rules say of the last key, as long as that got no entry.
  SeriesSpec spec_;
  Verdict verdict_;
  bool is_resolved_ = false;
  ViolationLog violations_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_SERIES_SLOTS_H_
