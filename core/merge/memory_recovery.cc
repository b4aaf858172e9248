#include "core/merge/memory_recovery.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

// What a window may say of itself.
bool IsPossible(const Window::Header& header) {
  constexpr int32_t kFarthest = 1 << 20;  // beyond any bucket that a double falls into
  if (!header.used()) return true;
  return header.schema >= Window::kMinSchema && header.schema <= Window::kMaxSchema &&
         header.lowest >= -kFarthest && header.highest <= kFarthest &&
         header.highest - header.lowest < Window::kBuckets;
}

// A window whose owner ended in the midst of rewriting it: the same number of observations, each at
// the bound of its classic bucket.
ExponentialCounts WindowOf(const std::vector<uint64_t>& buckets, const HistogramLayout& layout) {
  ExponentialCounts window;
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i] == 0) continue;
    const double bound =
        layout.bounds.empty() ? 1 : layout.bounds[std::min(i, layout.bounds.size() - 1)];
    HistogramCell::WindowCounts one;
    if (bound < -Window::kZeroThreshold) {
      one.negative = buckets[i];
    } else if (bound <= Window::kZeroThreshold) {
      one.zero = buckets[i];
    } else {
      const int32_t bucket = Window::BucketOf(bound, layout.schema);
      one.header = {.schema = layout.schema, .lowest = bucket, .highest = bucket};
      one.buckets[Window::PlaceOf(bucket)] = buckets[i];
    }
    window.Add(one);
  }
  return window;
}

}  // namespace

MemoryRecovery::MemoryRecovery(const StateRestorer::Options& options, std::vector<Shard*> shards,
                               Merger* merger, const RuleBook* book, const SeriesBudget* budget)
    : options_(options),
      shards_(std::move(shards)),
      merger_(merger),
      book_(book),
      budget_(budget),
      rules_(&book->At(book->newest())) {
  for (Shard* shard : shards_) shard->BeginBatch(options.now_ns);
}

void MemoryRecovery::Read(ShardMemory* memory, const std::vector<SavedTenancy>& saved,
                          uint32_t created_s) {
  const uint32_t shard = memory->header().session.shard;
  absl::flat_hash_set<uint64_t> folded;
  for (const SavedTenancy& tenancy : saved) {
    if (tenancy.shard == shard) folded.insert(uint64_t{tenancy.slot} << 32 | tenancy.generation);
  }
  // With another seed its hashes say nothing.
  const bool is_readable = memory->header().hash_seed == budget_->seed();
  const uint32_t chunks = std::min(memory->header().chunk_count.Acquire(), ShardMemory::kMaxChunks);
  for (uint32_t number = 0; number < chunks; ++number) {
    Chunk chunk;
    const bool usable = is_readable && ReadChunk(memory, number, &chunk);
    for (uint32_t i = 0; i < ShardMemory::kSlotsPerChunk; ++i) {
      const uint32_t slot = number * ShardMemory::kSlotsPerChunk + i;
      const SlotTenancy tenancy = memory->states()[slot].Acquire();
      const bool live = tenancy.life() == SlotLife::kLive;
      if (!live && tenancy.life() != SlotLife::kRetired) continue;
      if (!live && folded.contains(uint64_t{slot} << 32 | tenancy.generation())) {
        ++counts_.saved;
        continue;
      }
      const bool taken = usable && ReadSlot(memory, chunk, slot, live, created_s);
      ++(taken ? counts_.cells : counts_.unusable);
    }
  }
}

bool MemoryRecovery::FindLayout(uint64_t hash, uint16_t* layout) const {
  return hash != 0 &&
         book_->FindLayoutIf(
             [hash](const HistogramLayout& known) { return HashLayout(known) == hash; }, layout);
}

bool MemoryRecovery::ReadChunk(ShardMemory* memory, uint32_t number, Chunk* chunk) const {
  const ChunkHead& head = memory->chunks()[number];
  const CellClass cell_class = head.cell_class;
  if (cell_class.kind() < static_cast<uint8_t>(SeriesKind::kCounter) ||
      cell_class.kind() > static_cast<uint8_t>(SeriesKind::kSummary)) {
    return false;
  }
  chunk->kind = static_cast<SeriesKind>(cell_class.kind());
  const uint32_t touch = cell_class.expires() ? 1 : 0;
  uint32_t words = 0;
  switch (chunk->kind) {
    case SeriesKind::kCounter:
      words = CounterCell::kWords + touch;
      break;
    case SeriesKind::kGauge:
      words = GaugeCell::kWords + touch;
      break;
    case SeriesKind::kSet:
      words = SetCell::kWords;
      break;
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      if (!FindLayout(memory->layouts()[cell_class.layout()], &chunk->layout)) return false;
      words = HistogramCell::Words(book_->layout(chunk->layout).bounds.size());
      break;
  }
  const uint64_t end = uint64_t{head.cells} + uint64_t{words} * ShardMemory::kSlotsPerChunk;
  if (head.cell_words != words || end > memory->cell_words()) return false;
  chunk->cell_words = words;
  chunk->cells = memory->cells() + head.cells;
  return true;
}

bool MemoryRecovery::ReadKey(ShardMemory* memory, uint32_t slot, KeyView* key) const {
  const SlotIdentity identity = memory->identities()[slot];
  const uint64_t size = uint64_t{identity.name_size} + 1 + identity.tags_size;
  if (uint64_t{identity.key} * 8 + size > memory->key_bytes()) return false;
  if (identity.type < SampleType::kCounter || identity.type > SampleType::kSet) return false;
  *key = memory->KeyOf(identity);
  return !key->name.empty() && *(key->name.data() + key->name.size()) == ':';
}

CountedValue MemoryRecovery::ReadCounted(const Chunk& chunk, CellWord* cell) const {
  CountedValue value;
  if (chunk.kind == SeriesKind::kCounter) {
    value.counter.whole = std::min(CounterCell(cell).whole(), CounterCell::kMaxWhole);
    const double rest = CounterCell(cell).rest();
    value.counter.rest = rest >= 0 ? rest : 0;  // NaN is none
    return value;
  }
  const HistogramLayout& layout = book_->layout(chunk.layout);
  const HistogramCell histogram(cell, layout);
  value.buckets.resize(layout.bounds.size() + 1);
  histogram.AddBuckets(value.buckets);
  for (uint64_t& count : value.buckets) count = std::min(count, HistogramCell::kMaxCount);
  value.sum = histogram.sum();
  HistogramCell::WindowCounts window;
  if (!histogram.ReadWindow(&window) || !IsPossible(window.header)) {
    value.window = WindowOf(value.buckets, layout);
  } else if (chunk.kind == SeriesKind::kHistogram) {
    value.window.Add(window);
  }
  // Quantiles are of a window that begins anew.
  if (chunk.kind == SeriesKind::kSummary) value.window = {};
  return value;
}

bool MemoryRecovery::ReadSlot(ShardMemory* memory, const Chunk& chunk, uint32_t slot, bool live,
                              uint32_t created_s) {
  KeptSeries kept;
  if (!ReadKey(memory, slot, &kept.key)) return false;
  SeriesSpec spec;
  const bool accepted = rules_->Resolve(kept.key, &spec).accepted;
  if (kept.key.is_literal) spec.kind = chunk.kind;
  const uint64_t series = memory->identities()[slot].series;
  if (!accepted || spec.kind != chunk.kind || budget_->HashOf(spec.name, spec.labels) != series) {
    return KeepForItsSeries(memory, chunk, slot, created_s);
  }
  kept.kind = chunk.kind;
  kept.layout = chunk.layout;
  kept.name = spec.name;
  kept.labels = spec.labels;
  CellWord* const cell = chunk.CellOf(slot);
  const uint32_t shard = memory->header().session.shard;
  if (chunk.kind == SeriesKind::kGauge) {
    TakeGauge(shard, live, kept, cell);
    return true;
  }
  SetUnion members;
  if (chunk.kind == SeriesKind::kSet) {
    if (options_.same_clock) SetCell(cell).AddTo(options_.now_ns, &members);
    kept.set_hashes = members.hashes();
    if (members.is_sketch()) kept.set_registers = members.registers();
  } else {
    CountedValue value = ReadCounted(chunk, cell);
    value.created_s = created_s;
    merger_->Restore(budget_->HashOf(spec.name, spec.labels), chunk.kind, chunk.layout, value);
    if (IsObserver(chunk.kind)) {
      const double carry = HistogramCell(cell, book_->layout(chunk.layout)).carry();
      if (carry >= 0 && carry < 1) kept.carry = carry;
    }
  }
  // One that was retired need not be there before samples come.
  if (live) shards_[shard % shards_.size()]->Restore(kept);
  return true;
}

// Of a series that the present rules do not make of this key. A gauge or a set has nothing that
// would go on.
bool MemoryRecovery::KeepForItsSeries(ShardMemory* memory, const Chunk& chunk, uint32_t slot,
                                      uint32_t created_s) {
  if (chunk.kind == SeriesKind::kGauge || chunk.kind == SeriesKind::kSet) return false;
  CountedValue value = ReadCounted(chunk, chunk.CellOf(slot));
  value.created_s = created_s;
  merger_->Restore(memory->identities()[slot].series, chunk.kind, chunk.layout, value);
  return true;
}

// Its value is known when all cells of it are.
void MemoryRecovery::TakeGauge(uint32_t shard, bool live, const KeptSeries& kept, CellWord* cell) {
  const GaugeCell words(cell);
  const GaugeCell::Changes changes = words.ReadChanges();
  GaugeReading reading;
  reading.set_time = words.set_time();
  reading.value = words.value();
  reading.added = changes.added;
  reading.run_base = changes.run_base;
  reading.run_time = changes.run_time;
  reading.note = words.ReadNote();
  if (reading.note.at == GaugeCell::Note::kGone) return;
  Gauge& gauge = gauges_[{std::string(kept.name), std::string(kept.labels)}];
  gauge.readings.push_back(reading);
  if (!live || gauge.is_live) return;
  gauge.is_live = true;
  gauge.shard = shard;
  gauge.kept = kept;
  gauge.texts[0] = kept.key.name;
  gauge.texts[1] = kept.key.tags;
  gauge.texts[2] = kept.name;
  gauge.texts[3] = kept.labels;
}

void MemoryRecovery::Finish() {
  for (auto& [name, gauge] : gauges_) {
    // It need not be there before samples come.
    if (!gauge.is_live) continue;
    gauge.kept.key.name = gauge.texts[0];
    gauge.kept.key.tags = gauge.texts[1];
    gauge.kept.name = gauge.texts[2];
    gauge.kept.labels = gauge.texts[3];
    gauge.kept.gauge = GaugeMerge::Recover(gauge.readings);
    shards_[gauge.shard % shards_.size()]->Restore(gauge.kept);
  }
  gauges_.clear();
  for (Shard* shard : shards_) shard->EndBatch();
}

}  // namespace tallyd
