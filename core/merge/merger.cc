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
#include "core/merge/page_directory.h"
#include "core/merge/series_table.h"
#include "core/merge/shard_reader.h"
#include "core/merge/state_saver.h"
#include "core/rules/overflow.h"
#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

FamilyType TypeOf(SeriesKind kind) {
  switch (kind) {
    case SeriesKind::kCounter:
      return FamilyType::kCounter;
    case SeriesKind::kGauge:
    case SeriesKind::kSet:
      return FamilyType::kGauge;
    case SeriesKind::kHistogram:
      return FamilyType::kHistogram;
    case SeriesKind::kSummary:
      return FamilyType::kSummary;
  }
  return FamilyType::kGauge;
}

constexpr std::string_view kTotal = "_total";
constexpr std::string_view kCreated = "_created";
constexpr size_t kContinues = SIZE_MAX;  // a family that began on a page before

bool EndsWith(std::string_view name, std::string_view suffix) {
  return name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix;
}

std::string_view StemOf(std::string_view name) {
  return EndsWith(name, kTotal) ? name.substr(0, name.size() - kTotal.size()) : std::string_view();
}

}  // namespace

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
      if (table_.record(id).cells == 0) RemoveSeries(id);
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

  int AddVariant(const PageEncoder* encoder) {
    encoders_.push_back(encoder);
    return static_cast<int>(encoders_.size()) - 1;
  }

  std::shared_ptr<const Snapshot> Render(int variant) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->taken_at_ns = merged_at_ns_;
    snapshot->series = table_.series();
    const auto bit = static_cast<uint8_t>(1u << variant);
    const PageEncoder& encoder = *encoders_[static_cast<size_t>(variant)];
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      const std::vector<Page*>& pages = pages_.section(i);
      snapshot->sections[i].resize(pages.size());
      uint64_t elsewhere = 0;
      for (size_t n = pages.size(); n-- > 0;) {  // the later ones first: see PageFrame
        Page* const page = pages[n];
        std::shared_ptr<std::string>& rendered = page->rendered[static_cast<size_t>(variant)];
        PageFrame& frame = page->frames[static_cast<size_t>(variant)];
        const bool framed_otherwise = !frame.passes && frame.elsewhere != elsewhere;
        if ((page->current & bit) == 0 || rendered == nullptr || framed_otherwise) {
          MakeRoomFor(&rendered);
          frame.elsewhere = elsewhere;
          RenderInto(*page, encoder, &frame, rendered.get());
          page->current |= bit;
        }
        elsewhere = BytesBefore(frame, elsewhere);
        snapshot->bytes += rendered->size();
        snapshot->sections[i][n] = rendered;
      }
    }
    return snapshot;
  }

  std::shared_ptr<const Snapshot> RenderOnce(const PageEncoder& encoder) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->taken_at_ns = merged_at_ns_;
    snapshot->series = table_.series();
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      const std::vector<Page*>& pages = pages_.section(i);
      std::vector<PageBuffer>& section = snapshot->sections[i];
      PageFrame frame;
      for (size_t n = pages.size(); n-- > 0;) {  // the later ones first: see PageFrame
        auto rendered = std::make_shared<std::string>();
        RenderInto(*pages[n], encoder, &frame, rendered.get());
        frame = {.elsewhere = BytesBefore(frame, frame.elsewhere)};
        snapshot->bytes += rendered->size();
        if (!rendered->empty()) section.push_back(std::move(rendered));
      }
      std::reverse(section.begin(), section.end());
    }
    return snapshot;
  }

  void ForgetPages(int variant) {
    for (size_t i = 0; i < Snapshot::kSections; ++i) {
      for (Page* page : pages_.section(i)) page->rendered[static_cast<size_t>(variant)].reset();
    }
  }

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
  // otherwise counts on without being shown, until its shard has the new rules too.
  bool SettleFamily(uint32_t sequence) {
    const FamilyId id = table_.FindFamily(spec_.name);
    if (id == kNoId) return true;
    const Family& family = table_.family(id);
    if (family.kind == spec_.kind && family.layout == spec_.layout) return true;
    if (sequence <= family.sequence) return false;
    for (const SeriesId series : pages_.SeriesOf(id)) Supersede(series);
    return true;
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
    family.help = InternHelp(IsOverflowFamily(family.name) ? HelpOfOverflowFamily(family.name)
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

  // Texts come from mapping files, so there are few.
  uint32_t InternHelp(std::string_view help) {
    const auto [found, is_new] =
        help_numbers_.try_emplace(std::string(help), static_cast<uint32_t>(helps_.size()));
    if (is_new) helps_.emplace_back(help);
    return found->second;
  }

  // OpenMetrics calls the counter x_total x, unless there is an x: its page then reads otherwise.
  void StemChanges(std::string_view stem) {
    const FamilyId counter = table_.FindFamily(std::string(stem).append(kTotal));
    if (counter == kNoId || table_.family(counter).first == kNoId) return;
    pages_.Touch(table_.record(table_.family(counter).first).page);
  }

  // A family x_created takes the name of a line that each series of x and of x_total may have.
  void CreatedChanges(std::string_view name) {
    if (!EndsWith(name, kCreated)) return;
    const std::string stem(name.substr(0, name.size() - kCreated.size()));
    for (const std::string& other : {stem, stem + std::string(kTotal)}) {
      const FamilyId id = table_.FindFamily(other);
      if (id == kNoId || table_.family(id).first == kNoId) continue;
      for (const SeriesId series : pages_.SeriesOf(id)) pages_.Touch(table_.record(series).page);
    }
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
      CountedValue value = cells_.TakeFolded(series);
      value.created_s = table_.record(series).created_s;
      // A summary's window begins anew.
      if (kind == SeriesKind::kSummary) value.window = {};
      expired_.Keep(HashOf(series), ShapeOf(series), std::move(value));
    }
    table_.RemoveCell(series, cell);
    RemoveSeries(series);
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

  // Memory of pages that no snapshot holds any more is used again: touching fresh memory costs as
  // much as rendering into it.
  static void MakeRoomFor(std::shared_ptr<std::string>* rendered) {
    if (*rendered != nullptr && rendered->use_count() == 1) {
      // Counting up orders this thread after the one that counted down last, and after its reads.
      const std::shared_ptr<std::string> acquired = *rendered;
      acquired->clear();
      return;
    }
    const size_t size_before = *rendered == nullptr ? 0 : (*rendered)->size();
    *rendered = std::make_shared<std::string>();
    (*rendered)->reserve(size_before + size_before / 8);
  }

  // A compressed page is made aside, so that what is kept has no room for the text.
  void RenderInto(const Page& page, const PageEncoder& encoder, PageFrame* frame,
                  std::string* out) {
    if (!encoder.compresses()) return RenderPage(page, encoder, frame, out);
    scratch_.clear();
    RenderPage(page, encoder, frame, &scratch_);
    out->assign(scratch_);
  }

  // Of the family that a page continues, the bytes on it and on those after it.
  static uint64_t BytesBefore(const PageFrame& frame, uint64_t elsewhere) {
    return frame.continued + (frame.passes ? elsewhere : 0);
  }

  // `frame` says what the last family of the page has elsewhere, and is told the rest.
  void RenderPage(const Page& page, const PageEncoder& encoder, PageFrame* frame,
                  std::string* out) {
    const bool frames = encoder.frames_families();
    FamilyId current = kNoId;
    FamilyView family;
    size_t begin = kContinues;  // where the current family begins
    frame->continued = 0;
    frame->passes = frames;
    for (size_t i = 0; i < page.series.size(); ++i) {
      PrefetchAhead(page, i);
      const SeriesId series = page.series[i];
      const SeriesRecord& record = table_.record(series);
      if (record.family != current) {
        if (frames && current != kNoId) EndRun(encoder, begin, 0, frame, out);
        current = record.family;
        family = ViewOf(table_.family(current), encoder);
        begin = kContinues;
        if (table_.family(current).first == series) {
          begin = out->size();
          frame->passes = false;
          encoder.Family(family, out);
        }
      }
      RenderSeries(encoder, family, series, record, out);
    }
    if (frames) EndRun(encoder, begin, frame->elsewhere, frame, out);
    encoder.Finish(out);
  }

  // The last series of a family on this page, or on any, has been written.
  static void EndRun(const PageEncoder& encoder, size_t begin, uint64_t elsewhere, PageFrame* frame,
                     std::string* out) {
    if (begin == kContinues) {
      frame->continued = out->size();
    } else {
      encoder.EndFamily(begin, elsewhere, out);
    }
  }

  // Series of one page lie anywhere in memory; their loads overlap if asked for in time.
  void PrefetchAhead(const Page& page, size_t i) const {
    constexpr size_t kRecordAhead = 16;
    constexpr size_t kCellAhead = 8;
    if (i + kRecordAhead < page.series.size()) {
      __builtin_prefetch(&table_.record(page.series[i + kRecordAhead]));
    }
    if (i + kCellAhead < page.series.size()) {
      const SeriesRecord& record = table_.record(page.series[i + kCellAhead]);
      __builtin_prefetch(table_.labels_at(record));
      __builtin_prefetch(table_.labels_at(record) + 64);
      cells_.PrefetchCell(record);
    }
  }

  FamilyView ViewOf(const Family& family, const PageEncoder& encoder) const {
    const std::string_view stem = StemOf(family.name);
    return {.name = family.name,
            .help = helps_[family.help],
            .type = TypeOf(family.kind),
            .stem_is_taken = !stem.empty() && table_.FindFamily(stem) != kNoId,
            .created_is_taken = encoder.adds_created_series() && CreatedIsTaken(family.name)};
  }

  bool CreatedIsTaken(std::string_view name) const {
    const std::string_view stem = StemOf(name);
    return table_.FindFamily(std::string(stem.empty() ? name : stem).append(kCreated)) != kNoId;
  }

  void RenderSeries(const PageEncoder& encoder, const FamilyView& family, SeriesId series,
                    const SeriesRecord& record, std::string* out) {
    const std::string_view labels = table_.labels(record);
    switch (table_.family(record.family).kind) {
      case SeriesKind::kCounter:
        return RenderCounter(encoder, family, labels, series, record, out);
      case SeriesKind::kGauge:
        return encoder.Gauge(family, labels, GaugeOf(series), out);
      case SeriesKind::kSet:
        return encoder.Gauge(family, labels, cells_.SetSize(series, merged_at_ns_), out);
      case SeriesKind::kHistogram:
        return RenderHistogram(encoder, family, labels, series, record, out);
      case SeriesKind::kSummary:
        return RenderSummary(encoder, family, labels, series, record, out);
    }
  }

  void RenderCounter(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                     SeriesId series, const SeriesRecord& record, std::string* out) {
    CounterValue value = cells_.Counter(series);
    value.created_s = record.created_s;
    encoder.Counter(family, labels, value, out);
  }

  // Where a non-negative gauge is made of several cells, none of them stops at 0.
  double GaugeOf(SeriesId series) const {
    const double value = cells_.Gauge(series);
    return table_.family_of(series).non_negative && value < 0 ? 0 : value;
  }

  // One whose native form cannot be had is left out this once: to a scraper a gap is less than a
  // histogram that goes down, which it takes for a restart.
  void RenderHistogram(const PageEncoder& encoder, const FamilyView& family,
                       std::string_view labels, SeriesId series, const SeriesRecord& record,
                       std::string* out) {
    const bool native = encoder.wants_native_histograms();
    HistogramValue value = cells_.Histogram(series, native);
    if (native && value.native == nullptr) return;
    value.created_s = record.created_s;
    encoder.Histogram(family, labels, value, out);
  }

  void RenderSummary(const PageEncoder& encoder, const FamilyView& family, std::string_view labels,
                     SeriesId series, const SeriesRecord& record, std::string* out) {
    SummaryValue value = cells_.Summary(series);
    value.created_s = record.created_s;
    encoder.Summary(family, labels, value, out);
  }

  RuleBook* book_;
  FamilyTypes* const families_;
  SeriesBudget* const budget_;
  std::vector<ShardReader> shards_;
  SeriesTable table_;
  PageDirectory pages_;
  CellReader cells_;
  ExpiredValues expired_;
  std::unique_ptr<ExpiredValues> restored_;  // until the first pass has taken what is there
  std::vector<SavedTenancy> folded_cells_;   // where retired slots are held
  std::map<uint64_t, std::vector<uint64_t>> saved_epochs_;  // of shards, by the saving's sequence
  Eviction eviction_;
  absl::flat_hash_set<SeriesId> declared_;
  absl::flat_hash_map<std::string, std::vector<std::string>> folded_;  // families, and their labels
  std::vector<const PageEncoder*> encoders_;
  absl::flat_hash_set<SeriesId> sets_;
  absl::flat_hash_set<SeriesId> touched_gauges_;  // of several cells, in this pass
  std::vector<std::string> helps_;
  absl::flat_hash_map<std::string, uint32_t> help_numbers_;
  int64_t now_ns_ = 0;
  int64_t merged_at_ns_ = 0;
  int64_t last_unix_s_ = 0;  // of the pass before, 0 if it was not told
  MergeStats stats_;
  SeriesSpec spec_;      // scratch of Adopt
  std::string scratch_;  // of RenderInto
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
