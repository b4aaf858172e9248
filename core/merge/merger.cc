#include "core/merge/merger.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/merge/cell_reader.h"
#include "core/merge/eviction.h"
#include "core/merge/expired_values.h"
#include "core/merge/family_names.h"
#include "core/merge/help_texts.h"
#include "core/merge/page_directory.h"
#include "core/merge/page_renderer.h"
#include "core/merge/series_table.h"
#include "core/merge/shard_reader.h"
#include "core/merge/state_saver.h"
#include "core/rules/overflow.h"
#include "core/shard/set_cell.h"

namespace tallyd {

class Merger::Impl {
 public:
  Impl(std::vector<ShardMemory*> shards, RuleBook* book, FamilyTypes* families,
       SeriesBudget* budget, MergerOptions options)
      : book_(book),
        families_(families),
        budget_(budget),
        shards_(shards.begin(), shards.end()),
        pages_(&table_),
        cells_(&table_, &shards_, book),
        renderer_(&table_, &pages_, &cells_, &helps_),
        expired_(options.expired_bytes),
        eviction_(budget, options.evict_idle_ns) {}

  MergeStats Merge(int64_t now_ns, int64_t unix_s) {
    stats_ = MergeStats{};
    now_ns_ = now_ns;
    if (last_unix_s_ == 0) last_unix_s_ = unix_s;
    book_->Sweep();
    for (size_t shard = 0; shard < shards_.size(); ++shard) {
      stats_.chunks_visited +=
          shards_[shard].Pass([&](uint32_t slot, SlotVisit what, ShardReader::SlotView* view) {
            Visit({static_cast<uint16_t>(shard), slot}, what, view);
          });
    }
    UpdateSharedGauges();
    TurnSetWindow(now_ns);
    for (const SeriesId series : cells_.TurnSummaries(now_ns)) Change(series);
    merged_at_ns_ = now_ns;
    last_unix_s_ = unix_s;
    if (restored_ != nullptr) ForgetRestored();
    EvictUnderPressure();
    return stats_;
  }

  // A declared series has a place in the budget, which a shard that makes a slot for it shares.
  void Declare(const std::vector<SeriesSpec>& series, uint32_t sequence) {
    absl::flat_hash_set<SeriesId> now;
    for (const SeriesSpec& spec : series) {
      spec_ = spec;
      if (!SettleFamily(sequence)) continue;
      bool created = false;
      const SeriesId id = InternSeries(sequence, &created);
      if (!now.insert(id).second || declared_.contains(id)) continue;
      budget_->Admit(ChargeOf(id), SeriesBudget::Purpose::kLastResort);
    }
    for (const SeriesId id : std::exchange(declared_, std::move(now))) {
      if (declared_.contains(id)) continue;
      budget_->Release(ChargeOf(id));
      if (table_.record(id).cells > 0) continue;
      if (cells_.BaseOf(id) != nullptr) KeepExpired(id);
      RemoveSeries(id);
    }
  }

  bool Observe(const SeriesSpec& spec, double value) {
    const SeriesId id = table_.Find(spec);
    if (id == kNoId || !declared_.contains(id)) return false;
    cells_.Observe(id, value);
    Change(id);
    return true;
  }

  void Restore(uint64_t hash, SeriesKind kind, uint16_t layout, const CountedValue& value) {
    if (restored_ == nullptr) restored_ = std::make_unique<ExpiredValues>(UINT64_MAX);
    const ExpiredValues::Shape shape = {.kind = kind, .layout = layout};
    CountedValue all;
    restored_->Take(hash, shape, &all);
    all.Add(value);
    restored_->Keep(hash, shape, std::move(all));
  }

  std::string SaveState(SavedHead head) {
    // Those that are still to be seen in their slots, and would be counted twice.
    std::erase_if(folded_cells_, [&](const SavedTenancy& tenancy) {
      const SlotTenancy now = shards_[tenancy.shard].memory().states()[tenancy.slot].Acquire();
      return now != SlotTenancy::Make(tenancy.generation, SlotLife::kRetired);
    });
    head.folded = folded_cells_;
    std::vector<uint64_t>& epochs = saved_epochs_[head.sequence];
    for (const ShardReader& shard : shards_) epochs.push_back(shard.merged());
    StateSaver saver(&table_, &pages_, &cells_, &shards_, book_);
    return saver.Save(std::move(head), expired_, merged_at_ns_);
  }

  void Release(uint64_t sequence) {
    const auto saved = saved_epochs_.find(sequence);
    if (saved == saved_epochs_.end()) return;
    for (size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].memory().header().released_epoch.Publish(saved->second[i]);
    }
    saved_epochs_.erase(saved_epochs_.begin(), std::next(saved));
  }

  int AddVariant(const PageEncoder* encoder) { return renderer_.AddVariant(encoder); }
  std::shared_ptr<const Snapshot> Render(int variant) {
    return renderer_.Render(variant, merged_at_ns_);
  }
  std::shared_ptr<const Snapshot> RenderOnce(const PageEncoder& encoder) {
    return renderer_.RenderOnce(encoder, merged_at_ns_);
  }
  void ForgetPages(int variant) { renderer_.ForgetPages(variant); }

  std::vector<FamilyStats> LargestFamilies(size_t count) const {
    std::vector<const Family*> largest;
    const auto is_larger = [](const Family* a, const Family* b) {
      return a->size != b->size ? a->size > b->size : a->name < b->name;
    };
    // A heap with the smallest of the largest on top.
    table_.ForEachFamily([&](const Family& family) {
      if (largest.size() == count && (count == 0 || !is_larger(&family, largest.front()))) return;
      if (largest.size() == count) {
        std::pop_heap(largest.begin(), largest.end(), is_larger);
        largest.pop_back();
      }
      largest.push_back(&family);
      std::push_heap(largest.begin(), largest.end(), is_larger);
    });
    std::sort_heap(largest.begin(), largest.end(), is_larger);
    std::vector<FamilyStats> stats;
    for (const Family* family : largest) {
      stats.push_back({family->name, TypeOf(family->kind), family->size, family->changes});
    }
    return stats;
  }

  uint64_t series() const { return table_.series(); }
  uint64_t families() const { return table_.families(); }
  uint64_t forgotten() const { return expired_.forgotten(); }

  std::vector<FoldedFamily> FoldedFamilies() const {
    std::vector<FoldedFamily> folded;
    for (const auto& [name, labels] : folded_) {
      const FamilyTypes::Notes* const notes = families_->NotesOf(name);
      FoldedFamily& family = folded.emplace_back();
      family.name = name;
      family.labels = labels;
      if (notes == nullptr) continue;
      family.sender =
          FamilyTypes::SenderNote::Unpack(notes->sender.load(std::memory_order_relaxed));
      family.series = notes->series.load(std::memory_order_relaxed);
    }
    return folded;
  }
  uint64_t folded_families() const { return folded_.size(); }

 private:
  void Visit(CellRef cell, SlotVisit what, ShardReader::SlotView* view) {
    ++stats_.slots_visited;
    if (what.fold) NoteFolded(cell);
    // A cell that was superseded is looked at again: its time may have come back.
    const bool adopt = what.adopt || (what.read && view->series == kNoId);
    if (adopt) Adopt(cell, view);
    const SeriesId series = view->series;
    if (series == kNoId) return;
    const SeriesKind kind = table_.family_of(series).kind;
    if (what.fold) return FoldCell(cell, kind, view);
    const uint64_t mark = cells_.MarkOf(cell, kind);
    if (kind == SeriesKind::kGauge && cells_.IsSharedGauge(series)) {
      touched_gauges_.insert(series);
    } else if (mark != view->mark || adopt || (view->doubt && cells_.MarksTimes(kind))) {
      Change(series);
    }
    view->mark = mark;
  }

  // The cell will be part of a base, or of nothing: it is not to be counted again.
  void NoteFolded(CellRef cell) {
    ShardMemory& memory = shards_[cell.shard].memory();
    if (memory.header().session.holds_retired == 0) return;
    folded_cells_.push_back({.shard = cell.shard,
                             .slot = cell.slot,
                             .generation = memory.states()[cell.slot].Acquire().generation()});
  }

  void Change(SeriesId series) {
    ++stats_.series_changed;
    SeriesRecord& record = table_.record(series);
    record.changed_s = static_cast<uint32_t>(now_ns_ / 1'000'000'000);
    ++table_.family(record.family).changes;
    pages_.Touch(record.page);
  }

  // A tenant not met before: its identity is what its rules say of its key, and what its cell is.
  void Adopt(CellRef cell, ShardReader::SlotView* view) {
    ShardMemory& memory = shards_[cell.shard].memory();
    SlotIdentity& identity = memory.identities()[cell.slot];
    const CellClass cell_class =
        memory.chunks()[cell.slot / ShardMemory::kSlotsPerChunk].cell_class;
    const Rules& rules = book_->At(memory.GenerationOf(identity));
    rules.Resolve(memory.KeyOf(identity), &spec_);
    spec_.kind = static_cast<SeriesKind>(cell_class.kind());
    spec_.layout = cell_class.layout();
    view->series = kNoId;
    if (!SettleFamily(rules.sequence())) return;
    bool created = false;
    view->series = InternSeries(rules.sequence(), &created);
    table_.AddCell(view->series, cell);
    if (identity.is_literal) folded_[spec_.name] = FoldedLabels(spec_.labels);
  }

  // The series of `spec_`; a new one gets its place, and what it had counted before it expired.
  SeriesId InternSeries(uint32_t sequence, bool* created) {
    const SeriesId series = table_.Intern(spec_, created);
    if (!*created) return series;
    ++stats_.series_added;
    // It was not there in the pass before, or would have been met then.
    table_.record(series).created_s = static_cast<uint32_t>(last_unix_s_);
    if (table_.family_of(series).size == 1) BeginFamily(series, sequence);
    pages_.Insert(series);
    if (spec_.kind == SeriesKind::kSet) sets_.insert(series);
    if (spec_.kind == SeriesKind::kSummary) cells_.BeginSummary(series, now_ns_);
    CountedValue value;
    if (Counts(spec_.kind) && TakeCounted(series, &value)) {
      table_.record(series).created_s = value.created_s;
      cells_.BeginWith(series, std::move(value));
    }
    return series;
  }

  // What a new series has counted before, here or in another process.
  bool TakeCounted(SeriesId series, CountedValue* value) {
    const uint64_t hash = HashOf(series);
    if (restored_ != nullptr && restored_->Take(hash, ShapeOf(series), value)) return true;
    return expired_.Take(hash, ShapeOf(series), value);
  }

  // What did not come back with the first pass may still, as if it had expired.
  void ForgetRestored() {
    restored_->ForEach([&](uint64_t hash, ExpiredValues::Shape shape, const CountedValue& value) {
      expired_.Keep(hash, shape, value);
    });
    restored_.reset();
  }

  static bool Counts(SeriesKind kind) { return kind == SeriesKind::kCounter || IsObserver(kind); }

  uint64_t HashOf(SeriesId series) const {
    return budget_->HashOf(table_.family_of(series).name, table_.labels(table_.record(series)));
  }

  ExpiredValues::Shape ShapeOf(SeriesId series) const {
    const Family& family = table_.family_of(series);
    return {.kind = family.kind, .layout = family.layout};
  }

  SeriesBudget::Charge ChargeOf(SeriesId series) const {
    const Family& family = table_.family_of(series);
    return {.hash = HashOf(series),
            .label_bytes = table_.record(series).labels_size,
            .family = families_->NotesOf(family.name),
            .holder = SeriesRoll::Holder::kCatalog};
  }

  // Whether a cell as `spec_` says may be shown in its family. One that newer rules made otherwise
  // ends the family as it was: all its series leave, and it starts anew. One that older rules made
  // otherwise counts on without being shown, until its shard has the new rules too. The same holds
  // for families of other names that have a sample of the same name.
  bool SettleFamily(uint32_t sequence) {
    const FamilyId id = table_.FindFamily(spec_.name);
    if (id != kNoId && table_.family(id).kind == spec_.kind &&
        table_.family(id).layout == spec_.layout) {
      return true;
    }
    std::vector<FamilyId> others = FamiliesWithItsSamples();
    if (id != kNoId) others.push_back(id);
    for (const FamilyId other : others) {
      if (sequence <= table_.family(other).sequence) return false;
    }
    for (const FamilyId other : others) {
      for (const SeriesId series : pages_.SeriesOf(other)) Supersede(series);
    }
    return true;
  }

  // Of other families: those called like samples of `spec_`, if it is an observer, and observers
  // that have a sample called like it.
  std::vector<FamilyId> FamiliesWithItsSamples() const {
    std::vector<FamilyId> found;
    for (const std::string_view suffix : FamilyTypes::kSampleSuffixes) {
      if (IsObserver(spec_.kind)) {
        const FamilyId sample = table_.FindFamily(std::string(spec_.name).append(suffix));
        if (sample != kNoId) found.push_back(sample);
      }
      const std::string_view stem = StemBefore(spec_.name, suffix);
      if (stem.empty()) continue;
      const FamilyId observer = table_.FindFamily(stem);
      if (observer != kNoId && IsObserver(table_.family(observer).kind)) found.push_back(observer);
    }
    return found;
  }

  void Supersede(SeriesId series) {
    std::vector<CellRef> cells;
    table_.ForEachCell(series, [&](CellRef cell) { cells.push_back(cell); });
    for (const CellRef cell : cells) {
      shards_[cell.shard].view(cell.slot).series = kNoId;
      table_.RemoveCell(series, cell);
    }
    RemoveSeries(series);
  }

  void BeginFamily(SeriesId first, uint32_t sequence) {
    Family& family = table_.family(table_.record(first).family);
    family.sequence = sequence;
    family.non_negative = spec_.non_negative;
    family.help = helps_.Intern(IsOverflowFamily(family.name) ? HelpOfOverflowFamily(family.name)
                                                              : Rules::HelpOf(spec_.rule));
    const HistogramLayout& layout = book_->layout(family.layout);
    if (family.kind == SeriesKind::kHistogram) {
      family.lines = static_cast<uint32_t>(layout.bounds.size()) + 3;
    } else if (family.kind == SeriesKind::kSummary) {
      family.lines = static_cast<uint32_t>(layout.quantiles.size()) + 2;
    }
    StemChanges(family.name);
    CreatedChanges(family.name);
  }

  // OpenMetrics calls the counter x_total x, unless there is an x: its pages then read otherwise,
  // the first for its type and each for the lines that say when its series began.
  void StemChanges(std::string_view stem) {
    const FamilyId counter = table_.FindFamily(std::string(stem).append(kTotalSuffix));
    TouchPagesOf(counter);
  }

  void TouchPagesOf(FamilyId id) {
    if (id == kNoId || table_.family(id).first == kNoId) return;
    for (const SeriesId series : pages_.SeriesOf(id)) pages_.Touch(table_.record(series).page);
  }

  // A family x_created takes the name of a line that each series of x and of x_total may have.
  void CreatedChanges(std::string_view name) {
    const std::string stem(StemBefore(name, kCreatedSuffix));
    if (stem.empty()) return;
    TouchPagesOf(table_.FindFamily(stem));
    TouchPagesOf(table_.FindFamily(stem + std::string(kTotalSuffix)));
  }

  void FoldCell(CellRef cell, SeriesKind kind, ShardReader::SlotView* view) {
    const SeriesId series = view->series;
    view->series = kNoId;
    view->mark = 0;
    if (table_.record(series).cells > 1 || declared_.contains(series)) {
      cells_.Fold(series, kind, cell);
      table_.RemoveCell(series, cell);
      if (kind == SeriesKind::kGauge) touched_gauges_.insert(series);
      Change(series);
      return;
    }
    if (Counts(kind)) {
      cells_.Fold(series, kind, cell);
      KeepExpired(series);
    } else if (kind == SeriesKind::kGauge) {
      cells_.LeaveGauge(cell);
    }
    table_.RemoveCell(series, cell);
    RemoveSeries(series);
  }

  // What a series had counted, all of whose cells are gone, for when it comes back.
  void KeepExpired(SeriesId series) {
    CountedValue value = cells_.TakeFolded(series);
    value.created_s = table_.record(series).created_s;
    const ExpiredValues::Shape shape = ShapeOf(series);
    // A summary's window begins anew.
    if (shape.kind == SeriesKind::kSummary) value.window = {};
    expired_.Keep(HashOf(series), shape, std::move(value));
  }

  // One that has no cells.
  void RemoveSeries(SeriesId series) {
    pages_.Erase(series);
    cells_.Forget(series);
    sets_.erase(series);
    touched_gauges_.erase(series);
    if (!declared_.empty() && declared_.erase(series) > 0) budget_->Release(ChargeOf(series));
    const Family& family = table_.family_of(series);
    const std::string gone = family.size == 1 ? family.name : std::string();
    table_.Remove(series);
    if (!gone.empty()) {
      StemChanges(gone);
      CreatedChanges(gone);
      folded_.erase(gone);
    }
    ++stats_.series_removed;
  }

  void UpdateSharedGauges() {
    for (const SeriesId series : touched_gauges_) {
      if (cells_.UpdateGauge(series)) Change(series);
    }
    touched_gauges_.clear();
  }

  // A set that nobody added to is empty in the next window.
  void TurnSetWindow(int64_t now_ns) {
    if (SetCell::WindowAt(now_ns) == SetCell::WindowAt(merged_at_ns_)) return;
    for (const SeriesId series : sets_) Change(series);
  }

  void EvictUnderPressure() {
    const Eviction::Pressure pressure = eviction_.Look(now_ns_);
    if (!pressure.any()) return;
    const auto may_go = [&](SeriesId series) {
      const Family& family = table_.family_of(series);
      // Overflow series stay: they are where those without room go.
      return Counts(family.kind) && !declared_.contains(series) && !IsOverflow(series);
    };
    for (const SeriesId series : eviction_.Choose(table_, pressure, now_ns_, may_go)) {
      table_.ForEachCell(series, [&](CellRef cell) {
        ShardMemory& memory = shards_[cell.shard].memory();
        const uint32_t generation = shards_[cell.shard].view(cell.slot).seen.generation();
        memory.evictions()[cell.slot].Store(generation, std::memory_order_relaxed);
      });
      ++stats_.series_evicted;
    }
    for (ShardReader& shard : shards_) {
      StdAtomics::Word<uint64_t>& asked = shard.memory().header().evictions_asked;
      asked.Store(asked.Load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }

  bool IsOverflow(SeriesId series) const {
    const auto folded = folded_.find(table_.family_of(series).name);
    if (folded == folded_.end()) return false;
    const std::string_view labels = table_.labels(table_.record(series));
    return labels.empty() || labels.find(kOverflowValue) != std::string_view::npos;
  }

  RuleBook* book_;
  FamilyTypes* const families_;
  SeriesBudget* const budget_;
  std::vector<ShardReader> shards_;
  SeriesTable table_;
  PageDirectory pages_;
  CellReader cells_;
  HelpTexts helps_;
  PageRenderer renderer_;
  ExpiredValues expired_;
  std::unique_ptr<ExpiredValues> restored_;  // until the first pass has taken what is there
  std::vector<SavedTenancy> folded_cells_;   // where retired slots are held
  std::map<uint64_t, std::vector<uint64_t>> saved_epochs_;  // of shards, by the saving's sequence
  Eviction eviction_;
  absl::flat_hash_set<SeriesId> declared_;
  absl::flat_hash_map<std::string, std::vector<std::string>> folded_;  // families, and their labels
  absl::flat_hash_set<SeriesId> sets_;
  absl::flat_hash_set<SeriesId> touched_gauges_;  // of several cells, in this pass
  int64_t now_ns_ = 0;
  int64_t merged_at_ns_ = 0;
  int64_t last_unix_s_ = 0;  // of the pass before, 0 if it was not told
  MergeStats stats_;
  SeriesSpec spec_;  // scratch of Adopt
};

Merger::Merger(std::vector<ShardMemory*> shards, RuleBook* book, FamilyTypes* families,
               SeriesBudget* budget, MergerOptions options)
    : impl_(std::make_unique<Impl>(std::move(shards), book, families, budget, options)) {}
Merger::~Merger() = default;

MergeStats Merger::Merge(int64_t now_ns, int64_t unix_s) { return impl_->Merge(now_ns, unix_s); }
void Merger::Restore(uint64_t hash, SeriesKind kind, uint16_t layout, const CountedValue& value) {
  impl_->Restore(hash, kind, layout, value);
}
std::string Merger::SaveState(SavedHead head) { return impl_->SaveState(std::move(head)); }
void Merger::Release(uint64_t sequence) { impl_->Release(sequence); }
int Merger::AddVariant(const PageEncoder* encoder) { return impl_->AddVariant(encoder); }
std::shared_ptr<const Snapshot> Merger::Render(int variant) { return impl_->Render(variant); }
std::shared_ptr<const Snapshot> Merger::RenderOnce(const PageEncoder& encoder) {
  return impl_->RenderOnce(encoder);
}
void Merger::ForgetPages(int variant) { impl_->ForgetPages(variant); }
std::vector<FamilyStats> Merger::LargestFamilies(size_t count) const {
  return impl_->LargestFamilies(count);
}

uint64_t Merger::series() const { return impl_->series(); }
uint64_t Merger::families() const { return impl_->families(); }
uint64_t Merger::forgotten() const { return impl_->forgotten(); }
std::vector<FoldedFamily> Merger::FoldedFamilies() const { return impl_->FoldedFamilies(); }
uint64_t Merger::folded_families() const { return impl_->folded_families(); }
void Merger::Declare(const std::vector<SeriesSpec>& series, uint32_t rules_sequence) {
  impl_->Declare(series, rules_sequence);
}
bool Merger::Observe(const SeriesSpec& series, double value) {
  return impl_->Observe(series, value);
}

}  // namespace tallyd
