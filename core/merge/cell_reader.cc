#include "core/merge/cell_reader.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>

#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

namespace tallyd {
namespace {

// As within a cell, past 2^63 the integer part stays and the rest takes over: nothing wraps.
void Add(const CounterCell& cell, CounterValue* sum) {
  const uint64_t whole = cell.whole();
  if (whole > CounterCell::kMaxWhole - sum->whole) {
    sum->rest += static_cast<double>(whole);
  } else {
    sum->whole += whole;
  }
  sum->rest += cell.rest();
}

// The base that has the cell `folded` of `cells` as well, where all have been shown together: added
// in another order they might come out a little lower, which would look as if it had begun anew.
double FoldInto(double base, const std::vector<double>& cells, size_t folded) {
  double shown = base;
  for (const double cell : cells) shown += cell;
  double next = base + cells[folded];
  const auto now = [&] {
    double sum = next;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i != folded) sum += cells[i];
    }
    return sum;
  };
  constexpr int kMaxSteps = 4;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kMaxSteps && now() < shown; ++i) {
    next += std::max(shown - now(), std::nextafter(next, kInfinity) - next);
  }
  return next;
}

// What is to be added to `base` for what was shown, or a little more.
double RestOf(double shown, double base) {
  double rest = shown - base;
  while (base + rest < shown) {
    rest = std::nextafter(rest, std::numeric_limits<double>::infinity());
  }
  return rest;
}

}  // namespace

uint64_t CellReader::MarkOf(CellRef cell, SeriesKind kind) const {
  CellWord* const words = WordsOf(cell);
  switch (kind) {
    case SeriesKind::kCounter:
      return LoadWord(words[0]) * 0x9e3779b97f4a7c15u + LoadWord(words[1]);
    case SeriesKind::kGauge:
      return LoadWord(words[0]);
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
    case SeriesKind::kSet:
      return LoadWord(words[0]);  // the time of the last sample
  }
  return 0;
}

template <class Read>
double CellReader::FoldedSum(SeriesId series, CellRef folded, double base, Read&& read) const {
  std::vector<double> sums;
  size_t at = 0;
  table_->ForEachCell(series, [&](CellRef cell) {
    if (cell == folded) at = sums.size();
    sums.push_back(read(cell));
  });
  return FoldInto(base, sums, at);
}

void CellReader::Fold(SeriesId series, SeriesKind kind, CellRef cell) {
  if (kind == SeriesKind::kGauge) return FoldGauge(series, cell);
  CellWord* const words = WordsOf(cell);
  CountedValue& base = bases_[series];
  switch (kind) {
    case SeriesKind::kCounter: {
      const double rest = base.counter.rest;
      const double folded = FoldedSum(
          series, cell, rest, [this](CellRef one) { return CounterCell(WordsOf(one)).rest(); });
      const CounterCell counter(words);
      Add(counter, &base.counter);
      const double plain = rest + counter.rest();
      if (folded > plain) base.counter.rest += folded - plain;
      break;
    }
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary: {
      const HistogramCell histogram(words, LayoutOf(series));
      base.buckets.resize(LayoutOf(series).bounds.size() + 1);
      histogram.AddBuckets(base.buckets);
      base.sum = FoldedSum(series, cell, base.sum, [&](CellRef one) {
        return HistogramCell(WordsOf(one), LayoutOf(series)).sum();
      });
      // Nobody rewrites the window of a cell that is retired.
      HistogramCell::WindowCounts window;
      if (histogram.ReadWindow(&window)) base.window.Add(window);
      break;
    }
    case SeriesKind::kGauge:
    case SeriesKind::kSet:
      break;
  }
}

void CellReader::FoldGauge(SeriesId series, CellRef cell) {
  UpdateGauge(series);
  SharedGauge& shared = shared_gauges_[series];
  shared.merge.Fold(ReadGauge(cell), &shared.base);
  std::vector<GaugeReading> others = ReadGauges(series);
  std::erase_if(others, [cell](const GaugeReading& other) { return other.cell == cell; });
  NoteGauge(&shared, std::move(others));
  LeaveGauge(cell);
}

void CellReader::LeaveGauge(CellRef cell) {
  GaugeCell(WordsOf(cell)).WriteNote({.at = GaugeCell::Note::kGone});
}

void CellReader::NoteGauge(SharedGauge* shared, std::vector<GaugeReading> cells) {
  shared->merge.Note(shared->base, &cells);
  for (const GaugeReading& reading : cells) {
    GaugeCell(WordsOf(reading.cell)).WriteNote(reading.note);
  }
}

std::vector<GaugeReading> CellReader::ReadGauges(SeriesId series) const {
  std::vector<GaugeReading> readings;
  table_->ForEachCell(series, [&](CellRef cell) { readings.push_back(ReadGauge(cell)); });
  return readings;
}

GaugeReading CellReader::ReadGauge(CellRef cell) const {
  const GaugeCell gauge(WordsOf(cell));
  const int64_t set_time = gauge.set_time();  // before the value it belongs to
  const GaugeCell::Changes changes = gauge.ReadChanges();
  return {.cell = cell,
          .set_time = set_time,
          .value = gauge.value(),
          .added = changes.added,
          .run_base = changes.run_base,
          .run_time = changes.run_time};
}

CountedValue CellReader::TakeFolded(SeriesId series) {
  CountedValue value;
  if (const auto base = bases_.find(series); base != bases_.end()) value = std::move(base->second);
  return value;
}

void CellReader::Forget(SeriesId series) {
  observed_.erase(series);
  bases_.erase(series);
  set_sizes_.erase(series);
  summaries_.Forget(series);
  quantiles_.erase(series);
  shared_gauges_.erase(series);
}

bool CellReader::UpdateGauge(SeriesId series) {
  const auto [found, is_new] = shared_gauges_.try_emplace(series);
  SharedGauge& shared = found->second;
  std::vector<GaugeReading> readings = ReadGauges(series);
  readings.push_back(shared.base);
  const double value = shared.merge.Update(readings);
  readings.pop_back();
  NoteGauge(&shared, std::move(readings));
  const bool changed = std::bit_cast<uint64_t>(value) != std::bit_cast<uint64_t>(shared.value);
  shared.value = value;
  // What a gauge of one cell showed so far is not known here.
  return is_new || changed;
}

CounterValue CellReader::Counter(SeriesId series) const {
  CounterValue value;
  const auto base = bases_.find(series);
  if (base != bases_.end()) value = base->second.counter;
  table_->ForEachCell(series, [&](CellRef cell) {
    const CounterCell counter(WordsOf(cell));
    Add(counter, &value);
  });
  return value;
}

double CellReader::Gauge(SeriesId series) const {
  if (IsSharedGauge(series)) return shared_gauges_.at(series).value;
  if (table_->record(series).cells == 0) {
    const auto observed = observed_.find(series);
    return observed == observed_.end() ? 0 : observed->second;
  }
  return GaugeCell(WordsOf(table_->FirstCell(table_->record(series)))).value();
}

double CellReader::SetSize(SeriesId series, int64_t now_ns) {
  SetUnion members;
  bool whole = true;
  table_->ForEachCell(series, [&](CellRef cell) {
    whole = SetCell(WordsOf(cell)).AddTo(now_ns, &members) && whole;
  });
  // A cell in the midst of a rewrite is read again in the next pass; until then the old size
  // stands.
  double& size = set_sizes_[series];
  if (whole) size = members.Estimate();
  return size;
}

HistogramValue CellReader::Histogram(SeriesId series, bool with_native) {
  const HistogramLayout& layout = LayoutOf(series);
  HistogramValue value{.bounds = layout.bounds, .les = layout.les, .buckets = {}, .sum = 0};
  buckets_.assign(layout.bounds.size() + 1, 0);
  const auto base = bases_.find(series);
  if (base != bases_.end()) {
    buckets_ = base->second.buckets;
    buckets_.resize(layout.bounds.size() + 1);
    value.sum = base->second.sum;
  }
  bool windows_are_whole = with_native;
  native_counts_ = {};
  if (with_native && base != bases_.end()) native_counts_.Add(base->second.window);
  table_->ForEachCell(series, [&](CellRef cell) {
    ReadCell(cell, layout, with_native);
    windows_are_whole = windows_are_whole && cell_window_is_whole_;
    if (windows_are_whole) native_counts_.Add(cell_window_);
    for (size_t i = 0; i < buckets_.size(); ++i) {
      buckets_[i] = HistogramCell::AddCounts(buckets_[i], cell_buckets_[i]);
    }
    value.sum += cell_sum_;
  });
  // Their sum, which is the count, stays within the limit too.
  uint64_t room = HistogramCell::kMaxCount;
  for (uint64_t& bucket : buckets_) {
    bucket = std::min(bucket, room);
    room -= bucket;
  }
  value.buckets = buckets_;
  if (windows_are_whole) {
    MakeNativeHistogram(native_counts_, layout.window_buckets, &native_);
    value.native = &native_;
  }
  return value;
}

const CountedValue* CellReader::BaseOf(SeriesId series) const {
  const auto base = bases_.find(series);
  return base == bases_.end() ? nullptr : &base->second;
}

CountedValue CellReader::CountedBy(SeriesId series) {
  CountedValue value;
  const Family& family = table_->family_of(series);
  const CountedValue* const base = BaseOf(series);
  if (family.kind == SeriesKind::kCounter) {
    table_->ForEachCell(series,
                        [&](CellRef cell) { Add(CounterCell(WordsOf(cell)), &value.counter); });
    if (base == nullptr) return value;
    const double shown = Counter(series).rest;
    if (std::isfinite(shown)) value.counter.rest = RestOf(shown, base->counter.rest);
    return value;
  }
  const HistogramLayout& layout = LayoutOf(series);
  buckets_.assign(layout.bounds.size() + 1, 0);
  value.buckets.assign(buckets_.size(), 0);
  double shown = base == nullptr ? 0 : base->sum;
  table_->ForEachCell(series, [&](CellRef cell) {
    ReadCell(cell, layout, true);
    for (size_t i = 0; i < value.buckets.size(); ++i) {
      value.buckets[i] = HistogramCell::AddCounts(value.buckets[i], cell_buckets_[i]);
    }
    value.sum += cell_sum_;
    shown += cell_sum_;
    if (cell_window_is_whole_) value.window.Add(cell_window_);
  });
  if (base != nullptr && std::isfinite(shown)) value.sum = RestOf(shown, base->sum);
  return value;
}

double CellReader::CarryOf(SeriesId series) const {
  double carry = 0;
  table_->ForEachCell(series, [&](CellRef cell) {
    carry += HistogramCell(WordsOf(cell), LayoutOf(series)).carry();
  });
  return carry;
}

SetUnion CellReader::MembersOf(SeriesId series, int64_t now_ns) const {
  SetUnion members;
  table_->ForEachCell(series,
                      [&](CellRef cell) { SetCell(WordsOf(cell)).AddTo(now_ns, &members); });
  return members;
}

bool CellReader::ReadWindows(SeriesId series, ExponentialCounts* counts) const {
  bool whole = true;
  const auto base = bases_.find(series);
  if (base != bases_.end()) counts->Add(base->second.window);
  table_->ForEachCell(series, [&](CellRef cell) {
    HistogramCell::WindowCounts window;
    if (HistogramCell(WordsOf(cell), LayoutOf(series)).ReadWindow(&window)) {
      counts->Add(window);
    } else {
      whole = false;
    }
  });
  return whole;
}

std::vector<SeriesId> CellReader::TurnSummaries(int64_t now_ns) {
  std::vector<SeriesId> changed;
  for (const SeriesId series : summaries_.Due(now_ns)) {
    ExponentialCounts now;
    // A cell in the midst of a rewrite is read again in the next pass.
    if (!ReadWindows(series, &now)) continue;
    if (summaries_.Turn(series, now_ns, now)) changed.push_back(series);
  }
  return changed;
}

void CellReader::ReadQuantiles(SeriesId series, const HistogramLayout& layout) {
  std::vector<double>& values = quantiles_[series];
  ExponentialCounts counts;
  // Of a cell in the midst of a rewrite the old quantiles stand until the next pass.
  if (!ReadWindows(series, &counts) && values.size() == layout.quantiles.size()) return;
  summaries_.TakeOffPast(series, &counts);
  values.clear();
  for (const double quantile : layout.quantiles) values.push_back(counts.Quantile(quantile));
}

SummaryValue CellReader::Summary(SeriesId series) {
  const HistogramLayout& layout = LayoutOf(series);
  ReadQuantiles(series, layout);
  const HistogramValue whole = Histogram(series, false);
  return {.quantiles = layout.quantile_texts,
          .ranks = layout.quantiles,
          .values = quantiles_[series],
          .count = whole.buckets[0],
          .sum = whole.sum};
}

// The owner rewrites a window in less than a microsecond, some ten times in the life of a cell; it
// may be taken off its core in the midst of that.
void CellReader::ReadCell(CellRef cell, const HistogramLayout& layout, bool with_window) {
  constexpr int kMaxWaits = 100;
  constexpr auto kWait = std::chrono::microseconds(100);
  ReadAtBatchBoundary(cell, layout, with_window);
  for (int i = 0; with_window && !cell_window_is_whole_ && i < kMaxWaits; ++i) {
    std::this_thread::sleep_for(kWait);
    ReadAtBatchBoundary(cell, layout, with_window);
  }
}

// So that the sum is that of the buckets. In a chunk that is written all the time it may be ahead
// or behind by the events in flight; the count, being the sum of the buckets, never is.
//
// The same holds for the window, which is read after the buckets.
void CellReader::ReadAtBatchBoundary(CellRef cell, const HistogramLayout& layout,
                                     bool with_window) {
  constexpr int kTries = 3;
  ShardMemory& memory = (*shards_)[cell.shard].memory();
  const HistogramCell histogram(WordsOf(cell), layout);
  ReadCleanCut(memory.header().epoch,
               memory.chunks()[cell.slot / ShardMemory::kSlotsPerChunk].stamp, kTries, [&] {
                 cell_buckets_.assign(buckets_.size(), 0);
                 histogram.AddBuckets(cell_buckets_);
                 cell_sum_ = histogram.sum();
                 if (with_window) cell_window_is_whole_ = histogram.ReadWindow(&cell_window_);
               });
}

void CellReader::PrefetchCell(const SeriesRecord& record) const {
  const char* const cell = reinterpret_cast<const char*>(WordsOf(table_->FirstCell(record)));
  __builtin_prefetch(cell);
  __builtin_prefetch(cell + 64);
  __builtin_prefetch(cell + 128);
}

}  // namespace tallyd
