// From samples to cells, a group at a time: the hot path.
//
// A sample touches three far places: its entry in the key table, the bytes of its key, its cell.
// With many series each is a cache miss, so a group of samples goes through them in step: while one
// waits for memory, the others' loads are under way.
//
//   Add      hash the key, prefetch the entry
//   locate   read the entry, prefetch key bytes and chunk head
//   resolve  compare the key, find or make the slot, prefetch the cell
//   apply    change the cell

#ifndef TALLYD_CORE_SHARD_BATCH_PIPELINE_H_
#define TALLYD_CORE_SHARD_BATCH_PIPELINE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/shard/key_table.h"
#include "core/shard/ledger.h"
#include "core/shard/series_slots.h"
#include "core/shard/shard.h"
#include "core/shard/shard_memory.h"
#include "core/wire/sample.h"

namespace tallyd {

// Thread-compatible: the shard's owner only.
class BatchPipeline {
 public:
  // `senders`: the accounts, by Source::sender.
  BatchPipeline(uint64_t hash_seed, SeriesSlots* slots, ShardMemory* memory, SenderCounts* senders);

  void BeginBatch(uint64_t batch, int64_t now_ns, int64_t merge_seen_ns) {
    batch_ = batch;
    now_ns_ = now_ns;
    merge_seen_ns_ = merge_seen_ns;
  }

  // Takes a sample in. What it points to must stay until Flush.
  void Add(const Sample& sample, Source source) {
    // The sample before is of the same line, if this one continues it.
    const Pending& before = group_[(size_ == 0 ? kGroup : size_) - 1];
    Pending& pending = group_[size_++];
    pending.repeats = sample.continues && before.type == sample.type &&
                      before.name == sample.name.data() && before.tags == sample.tags.data() &&
                      before.name_size == sample.name.size() &&
                      before.tags_size == sample.tags.size();
    pending.name = sample.name.data();
    pending.tags = sample.tags.data();
    pending.name_size = static_cast<uint16_t>(sample.name.size());
    pending.tags_size = static_cast<uint16_t>(sample.tags.size());
    pending.type = sample.type;
    pending.is_change = sample.is_signed && source.dialect == Dialect::kStatsd;
    pending.is_integer = sample.is_integer;
    pending.continues = sample.continues;
    pending.repairs = sample.repairs;
    pending.sender = source.sender;
    pending.value = sample.value;
    pending.rate = sample.rate;
    pending.integer = sample.integer;
    if (sample.type == SampleType::kSet) pending.member = sample.member;
    pending.hash = pending.repeats ? before.hash
                                   : HashKey(sample.type, pending.name, pending.name_size,
                                             pending.tags, pending.tags_size, hash_seed_);
    keys_->Prefetch(pending.hash);
    if (size_ == kGroup) Flush();
  }

  void CountDrop(DropReason reason, uint16_t sender) {
    ++counts_.dropped[static_cast<size_t>(reason)];
    senders_[sender].dropped.Add(1);
  }

  // Applies all that was taken in.
  void Flush();

  // Moves what was counted since the last call to the ledger.
  void AddCountsTo(Ledger* ledger);

 private:
  static constexpr size_t kGroup = 64;

  struct Pending {
    const char* name;
    const char* tags;
    uint32_t hash;
    uint16_t name_size;
    uint16_t tags_size;
    uint16_t sender;
    SampleType type;
    bool is_change;
    bool is_integer;
    bool continues;
    bool repeats;  // its key is the one before
    SampleRepairs repairs;
    KeyEntry entry;  // the first of the key's hash; then the key's
    CellWord* cell;
    ChunkHead* chunk;
    double value;
    double rate;
    uint64_t integer;
    std::string_view member;
  };

  struct Counts {
    uint64_t applied = 0;
    uint64_t folded = 0;
    std::array<uint64_t, kDropReasons> dropped{};
    std::array<uint64_t, kRepairReasons> repaired{};
  };

  // The samples of a group to be treated alike, in their order. Going through them action by action
  // spares a mispredicted branch a sample; samples of one series stay in order, since a key has one
  // action and those of a timer commute.
  struct Queue {
    size_t size = 0;
    std::array<uint8_t, kGroup> places;
  };
  static constexpr size_t kActions = static_cast<size_t>(Action::kErased);

  void Locate(Pending* pending);
  void Resolve(Pending* pending, const Pending* before);
  bool IsOf(const KeyEntry& entry, const Pending& pending) const;
  KeyEntry FindOrAdd(const Pending& pending, bool again);
  void Scale(Pending* pending) const;
  template <class Apply>
  void ApplyEach(Action action, Apply&& apply);
  bool ApplyCounter(const Pending& pending);
  double ChangeOf(const Pending& pending, double value);
  void ApplyGauge(const Pending& pending);
  void ApplyObservation(const Pending& pending, double value);
  void NoteTime(const Pending& pending);
  void CountApplied(const Pending& pending);
  void CountRefused(const Pending& pending);
  void CountNoted(const Pending& pending);

  uint64_t hash_seed_;
  SeriesSlots* slots_;
  KeyTable* keys_;
  ShardMemory* memory_;
  ChunkHead* chunks_;
  CellWord* cells_;
  SenderCounts* const senders_;

  size_t size_ = 0;
  std::array<Pending, kGroup> group_{};
  bool no_entry_ = false;  // the last key was added to the slots, and got none
  std::array<Queue, kActions> queues_;

  uint64_t batch_ = 0;
  int64_t now_ns_ = 0;
  int64_t merge_seen_ns_ = 0;
  Counts counts_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_BATCH_PIPELINE_H_
