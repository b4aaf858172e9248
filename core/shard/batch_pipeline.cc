#include "core/shard/batch_pipeline.h"

#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {

BatchPipeline::BatchPipeline(uint64_t hash_seed, SeriesSlots* slots, ShardMemory* memory)
    : hash_seed_(hash_seed),
      slots_(slots),
      keys_(&slots->keys()),
      memory_(memory),
      chunks_(memory->chunks()),
      cells_(memory->cells()) {}

void BatchPipeline::Flush() {
  // Samples that Resolve adds keys for may not grow the group; the size is settled here.
  const size_t size = size_;
  for (size_t i = 0; i < size; ++i) Locate(group_[i]);
  for (size_t i = 0; i < size; ++i) Resolve(&group_[i]);
  for (size_t i = 0; i < size; ++i) Apply(group_[i]);
  size_ = 0;
}

void BatchPipeline::Locate(const Pending& pending) {
  const KeyEntry& entry = keys_->First(pending.hash);
  if (entry.hash != pending.hash) return;
  const char* const key = memory_->KeyAt(entry.key);
  __builtin_prefetch(key);
  __builtin_prefetch(key + 64);
  __builtin_prefetch(&chunks_[entry.target / ShardMemory::kSlotsPerChunk]);
}

void BatchPipeline::Resolve(Pending* pending) {
  const size_t size = size_t{pending->name_size} + 1 + pending->tags_size;
  const auto same = [&](const KeyEntry& entry) {
    if (entry.key_size != size || entry.type != pending->type) return false;
    const char* const key = memory_->KeyAt(entry.key);
    // The ":" after the name is part of both, so that name and tags cannot trade bytes.
    return EqualBytes(key, pending->name, pending->name_size + size_t{1}) &&
           (pending->tags_size == 0 ||
            EqualBytes(key + pending->name_size + 1, pending->tags, pending->tags_size));
  };
  KeyEntry entry;
  if (const KeyEntry* found = keys_->Find(pending->hash, same)) {
    entry = *found;
  } else {
    entry = slots_->AddKey({pending->type, std::string_view(pending->name, pending->name_size),
                            std::string_view(pending->tags, pending->tags_size)},
                           pending->hash);
  }
  pending->action = entry.action;
  pending->target = entry.target;
  if (entry.action == Action::kRefuse) return;
  if (entry.repairs) {
    const SeriesSlots::Repairs repairs = slots_->RepairsOf(entry);
    counts_.repaired[static_cast<size_t>(RepairReason::kBadTag)] += repairs.bad_tags;
    counts_.repaired[static_cast<size_t>(RepairReason::kOverriddenLabel)] +=
        repairs.overridden_labels;
  }
  pending->chunk = &chunks_[entry.target / ShardMemory::kSlotsPerChunk];
  pending->cell = cells_ + pending->chunk->cells +
                  uint64_t{entry.target % ShardMemory::kSlotsPerChunk} * pending->chunk->cell_words;
  __builtin_prefetch(pending->cell, 1);
}

void BatchPipeline::Apply(const Pending& pending) {
  if (pending.action == Action::kRefuse) return CountDrop(static_cast<DropReason>(pending.target));
  pending.chunk->stamp.Touch(batch_);
  switch (pending.action) {
    case Action::kCount:
      if (!ApplyCounter(pending)) return CountDrop(DropReason::kNegativeCounter);
      break;
    case Action::kSetGauge:
      ApplyGauge(pending);
      break;
    case Action::kObserve:
      ApplyObservation(pending, pending.value);
      break;
    case Action::kObserveMillis:
      ApplyObservation(pending, pending.value / 1000);
      break;
    case Action::kAddMember:
      SetCell(pending.cell).Add(SetCell::HashMember(pending.member, hash_seed_), now_ns_);
      break;
    case Action::kNone:
    case Action::kRefuse:
    case Action::kErased:
      return;
  }
  // Histograms and sets note the time of each sample anyway.
  if (pending.chunk->cell_class.expires() &&
      (pending.action == Action::kCount || pending.action == Action::kSetGauge)) {
    StoreWord(pending.cell[pending.chunk->cell_words - 1], static_cast<uint64_t>(now_ns_));
  }
  ++counts_.applied;
  if ((pending.bad_rates | pending.unknown_sections) != 0) CountRepairs(pending);
}

bool BatchPipeline::ApplyCounter(const Pending& pending) {
  CounterCell cell(pending.cell);
  if (pending.is_integer && pending.rate == 1) {
    cell.Add(pending.integer);
    return true;
  }
  const double amount = pending.value / pending.rate;
  if (!(amount >= 0)) return false;  // minus zero is zero
  cell.Add(amount);
  return true;
}

void BatchPipeline::ApplyGauge(const Pending& pending) {
  GaugeCell cell(pending.cell);
  if (pending.is_change) {
    cell.Change(pending.value, now_ns_, merge_seen_ns_);
  } else {
    cell.Set(pending.value, now_ns_);
  }
}

void BatchPipeline::ApplyObservation(const Pending& pending, double value) {
  HistogramCell cell(pending.cell, slots_->LayoutOf(pending.chunk->cell_class));
  if (pending.rate == 1) {
    cell.Observe(value, now_ns_);
  } else {
    cell.ObserveSampled(value, pending.rate, now_ns_);
  }
}

void BatchPipeline::CountRepairs(const Pending& pending) {
  counts_.repaired[static_cast<size_t>(RepairReason::kBadSampleRate)] += pending.bad_rates;
  counts_.repaired[static_cast<size_t>(RepairReason::kUnknownSection)] += pending.unknown_sections;
}

void BatchPipeline::AddCountsTo(Ledger* ledger) {
  ledger->applied.Add(counts_.applied);
  for (size_t i = 0; i < kDropReasons; ++i) {
    if (counts_.dropped[i] != 0) ledger->dropped[i].Add(counts_.dropped[i]);
  }
  for (size_t i = 0; i < kRepairReasons; ++i) {
    if (counts_.repaired[i] != 0) ledger->repaired[i].Add(counts_.repaired[i]);
  }
  counts_ = Counts{};
}

}  // namespace tallyd
