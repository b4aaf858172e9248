#include "core/shard/batch_pipeline.h"

#include <utility>

#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {

BatchPipeline::BatchPipeline(uint64_t hash_seed, SeriesSlots* slots, ShardMemory* memory,
                             SenderCounts* senders)
    : hash_seed_(hash_seed),
      slots_(slots),
      keys_(&slots->keys()),
      memory_(memory),
      chunks_(memory->chunks()),
      cells_(memory->cells()),
      senders_(senders) {}

void BatchPipeline::Flush() {
  slots_->BeginGroup();
  for (size_t i = 0; i < size_; ++i) Locate(&group_[i]);
  for (size_t i = 0; i < size_; ++i) {
    Resolve(&group_[i], i == 0 ? nullptr : &group_[i - 1]);
    Queue& queue = queues_[static_cast<size_t>(group_[i].entry.action)];
    queue.places[queue.size++] = static_cast<uint8_t>(i);
  }
  size_ = 0;
  ApplyEach(Action::kCount, [this](const Pending& pending) {
    if (!ApplyCounter(pending)) {
      CountDrop(SeriesSlots::ReasonAgainst(pending.value / pending.rate), pending.sender);
    }
  });
  ApplyEach(Action::kSetGauge, [this](const Pending& pending) { ApplyGauge(pending); });
  ApplyEach(Action::kObserve,
            [this](const Pending& pending) { ApplyObservation(pending, pending.value); });
  ApplyEach(Action::kObserveMillis,
            [this](const Pending& pending) { ApplyObservation(pending, pending.value / 1000); });
  ApplyEach(Action::kAddMember, [this](const Pending& pending) {
    SetCell(pending.cell).Add(SetCell::HashMember(pending.member, hash_seed_), now_ns_);
    CountApplied(pending);
  });
  Queue& passed = queues_[static_cast<size_t>(Action::kPass)];
  for (size_t i = 0; i < passed.size; ++i) CountApplied(group_[passed.places[i]]);
  passed.size = 0;
  Queue& refused = queues_[static_cast<size_t>(Action::kRefuse)];
  for (size_t i = 0; i < refused.size; ++i) CountRefused(group_[refused.places[i]]);
  refused.size = 0;
}

// A verdict that was kept says nothing of the value, which the first sample was asked for before
// its family's type.
void BatchPipeline::CountRefused(const Pending& pending) {
  const auto reason = static_cast<DropReason>(pending.entry.target);
  if (reason != DropReason::kTypeConflict) return CountDrop(reason, pending.sender);
  const double amount = pending.value / pending.rate;
  if (pending.type == SampleType::kCounter && !(amount >= 0)) {
    return CountDrop(SeriesSlots::ReasonAgainst(amount), pending.sender);
  }
  const bool observes =
      pending.type == SampleType::kTimer || pending.type == SampleType::kHistogram;
  if (observes && !HistogramCell::Observes(pending.rate)) return CountApplied(pending);
  CountDrop(reason, pending.sender);
}

template <class Apply>
void BatchPipeline::ApplyEach(Action action, Apply&& apply) {
  Queue& queue = queues_[static_cast<size_t>(action)];
  for (size_t i = 0; i < queue.size; ++i) {
    const Pending& pending = group_[queue.places[i]];
    pending.chunk->stamp.Touch(batch_);
    apply(pending);
  }
  queue.size = 0;
}

// The entry is copied: adding keys moves the table, but never changes an entry.
void BatchPipeline::Locate(Pending* pending) {
  if (pending->repeats && pending != group_.data()) {
    pending->entry = KeyEntry();  // the one before tells
    return;
  }
  pending->entry = keys_->FirstOfHash(pending->hash);
  if (pending->entry.IsEmpty()) return;
  const char* const key = memory_->KeyAt(pending->entry.key);
  __builtin_prefetch(key);
  __builtin_prefetch(key + 64);
  __builtin_prefetch(&chunks_[pending->entry.target / ShardMemory::kSlotsPerChunk]);
}

bool BatchPipeline::IsOf(const KeyEntry& entry, const Pending& pending) const {
  const size_t size = size_t{pending.name_size} + 1 + pending.tags_size;
  if (entry.key_size != size || entry.type != pending.type) return false;
  const char* const key = memory_->KeyAt(entry.key);
  // The ":" after the name is part of both, so that name and tags cannot trade bytes.
  return EqualBytes(key, pending.name, pending.name_size + size_t{1}) &&
         (pending.tags_size == 0 ||
          EqualBytes(key + pending.name_size + 1, pending.tags, pending.tags_size));
}

// `again`: the key of the sample before, which got no entry.
KeyEntry BatchPipeline::FindOrAdd(const Pending& pending, bool again) {
  const auto same = [&](const KeyEntry& entry) { return IsOf(entry, pending); };
  if (const KeyEntry* found = keys_->Find(pending.hash, same)) return *found;
  const KeyEntry entry =
      slots_->AddKey({pending.type, std::string_view(pending.name, pending.name_size),
                      std::string_view(pending.tags, pending.tags_size)},
                     pending.hash,
                     {.amount = pending.value / pending.rate,
                      .observes = HistogramCell::Observes(pending.rate),
                      .sender = pending.sender,
                      .repeats = again});
  no_entry_ = entry.key_size == 0;
  return entry;
}

// `before` is the sample before it in the group, whose entry is the same if their keys are, unless
// it has none in the table.
void BatchPipeline::Resolve(Pending* pending, const Pending* before) {
  KeyEntry& entry = pending->entry;
  const bool again = std::exchange(no_entry_, false) && pending->repeats;
  if (pending->repeats && before != nullptr && before->entry.key_size != 0) {
    entry = before->entry;
  } else if (entry.IsEmpty() || !IsOf(entry, *pending)) {
    entry = FindOrAdd(*pending, again);
  }
  if (entry.action == Action::kRefuse || entry.action == Action::kPass) return;
  if (entry.scaled) Scale(pending);
  pending->chunk = &chunks_[entry.target / ShardMemory::kSlotsPerChunk];
  pending->cell = cells_ + pending->chunk->cells +
                  uint64_t{entry.target % ShardMemory::kSlotsPerChunk} * pending->chunk->cell_words;
  __builtin_prefetch(pending->cell, 1);
}

void BatchPipeline::CountApplied(const Pending& pending) {
  ++counts_.applied;
  if ((pending.repairs.bad_rates | pending.repairs.unknown_sections) != 0 || pending.entry.noted) {
    CountNoted(pending);
  }
}

// Histograms and sets note the time of each sample anyway.
void BatchPipeline::NoteTime(const Pending& pending) {
  if (!pending.chunk->cell_class.expires()) return;
  StoreWord(pending.cell[pending.chunk->cell_words - 1], static_cast<uint64_t>(now_ns_));
}

// A rule's factor comes after milliseconds are seconds and after a counter's rate, in this order,
// so that the last digit agrees with statsd_exporter's.
void BatchPipeline::Scale(Pending* pending) const {
  const double scale = slots_->ExtrasOf(pending->entry).scale;
  if (pending->type == SampleType::kTimer) pending->value /= 1000;
  if (pending->type == SampleType::kCounter) {
    pending->value /= std::exchange(pending->rate, 1);
    pending->is_integer = false;
  }
  pending->value *= scale;
}

bool BatchPipeline::ApplyCounter(const Pending& pending) {
  CounterCell cell(pending.cell);
  if (pending.is_integer && pending.rate == 1) {
    cell.Add(pending.integer);
  } else {
    const double amount = pending.value / pending.rate;
    if (!(amount >= 0)) return false;  // minus zero is zero
    cell.Add(amount);
  }
  NoteTime(pending);
  CountApplied(pending);
  return true;
}

// A declared non-negative gauge stops at 0.
double BatchPipeline::ChangeOf(const Pending& pending, double value) {
  const double change = pending.value;
  if (!pending.entry.noted || !(value + change < 0) || !slots_->StopsAtZero(pending.entry)) {
    return change;
  }
  ++counts_.repaired[static_cast<size_t>(RepairReason::kGaugeUnderflow)];
  return -value;
}

void BatchPipeline::ApplyGauge(const Pending& pending) {
  GaugeCell cell(pending.cell);
  if (pending.is_change) {
    cell.Change(ChangeOf(pending, cell.value()), now_ns_, merge_seen_ns_);
  } else {
    cell.Set(pending.value, now_ns_);
  }
  NoteTime(pending);
  CountApplied(pending);
}

void BatchPipeline::ApplyObservation(const Pending& pending, double value) {
  HistogramCell cell(pending.cell, slots_->LayoutOf(pending.chunk->cell_class));
  if (pending.rate == 1) {
    cell.Observe(value, now_ns_);
  } else {
    cell.ObserveSampled(value, pending.rate, now_ns_);
  }
  CountApplied(pending);
}

void BatchPipeline::CountNoted(const Pending& pending) {
  counts_.repaired[static_cast<size_t>(RepairReason::kBadSampleRate)] += pending.repairs.bad_rates;
  counts_.repaired[static_cast<size_t>(RepairReason::kUnknownSection)] +=
      pending.repairs.unknown_sections;
  if (pending.entry.folded) {
    ++counts_.folded;
    senders_[pending.sender].folded.Add(1);
  }
  if (pending.entry.noted) slots_->NoteSender(pending.entry, pending.sender);
  if (!pending.entry.repairs) return;
  const SeriesSlots::Extras& extras = slots_->ExtrasOf(pending.entry);
  counts_.repaired[static_cast<size_t>(RepairReason::kBadTag)] +=
      extras.bad_tags + (pending.continues ? 0 : extras.bad_name_tags);
  counts_.repaired[static_cast<size_t>(RepairReason::kOverriddenLabel)] += extras.overridden_labels;
}

void BatchPipeline::AddCountsTo(Ledger* ledger) {
  ledger->applied.Add(counts_.applied);
  if (counts_.folded != 0) ledger->folded.Add(counts_.folded);
  for (size_t i = 0; i < kDropReasons; ++i) {
    if (counts_.dropped[i] != 0) ledger->dropped[i].Add(counts_.dropped[i]);
  }
  for (size_t i = 0; i < kRepairReasons; ++i) {
    if (counts_.repaired[i] != 0) ledger->repaired[i].Add(counts_.repaired[i]);
  }
  counts_ = Counts{};
}

}  // namespace tallyd
