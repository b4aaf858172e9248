// The values of series, summed over their cells and over the cells that are gone.

#ifndef TALLYD_CORE_MERGE_CELL_READER_H_
#define TALLYD_CORE_MERGE_CELL_READER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/merge/expired_values.h"
#include "core/merge/exponential_counts.h"
#include "core/merge/gauge_merge.h"
#include "core/merge/page_encoder.h"
#include "core/merge/series_table.h"
#include "core/merge/shard_reader.h"
#include "core/merge/summary_windows.h"
#include "core/rules/rule_book.h"
#include "core/shard/set_cell.h"

namespace tallyd {

// Reads cells where they are: between two passes the merger may read any slot that it last saw
// live, because the owner rewrites a slot only after a pass has seen it retired. For the same
// reason it may note beside the cells of a shared gauge what they make together. Cells are summed
// in the order of their shards' numbers, so an unchanged series renders to the same bytes each
// time. Thread-compatible: the merger thread only.
class CellReader {
 public:
  CellReader(const SeriesTable* table, std::vector<ShardReader>* shards, const RuleBook* book)
      : table_(table), shards_(shards), book_(book) {}

  // A number that changes whenever the content of a cell does, though within a batch only once if
  // it marks the time rather than the content.
  uint64_t MarkOf(CellRef cell, SeriesKind kind) const;
  static bool MarksTimes(SeriesKind kind) { return IsObserver(kind) || kind == SeriesKind::kSet; }

  // Keeps what a retired cell held, as part of its series' value for as long as that lives.
  void Fold(SeriesId series, SeriesKind kind, CellRef cell);
  // The retired cell of a gauge is no part of any series.
  void LeaveGauge(CellRef cell);
  // Moves out what Fold kept of a series all of whose cells are gone.
  CountedValue TakeFolded(SeriesId series);
  // Gives a series a value to begin with.
  void BeginWith(SeriesId series, CountedValue value) { bases_[series] = std::move(value); }
  // The value of a gauge that has no cells.
  void Observe(SeriesId series, double value) { observed_[series] = value; }
  void Forget(SeriesId series);

  // Whether a gauge has, or had, several cells, and so is worked out by UpdateGauge.
  bool IsSharedGauge(SeriesId series) const {
    return table_->record(series).cells > 1 ||
           (!shared_gauges_.empty() && shared_gauges_.contains(series));
  }
  // Works out a shared gauge; true if its value may be another than before.
  bool UpdateGauge(SeriesId series);

  CounterValue Counter(SeriesId series) const;
  double Gauge(SeriesId series) const;
  double SetSize(SeriesId series, int64_t now_ns);
  // Valid until the next call of either. With `with_native` it has a native form too, unless a cell
  // could not be read: then there is none, rather than one that went down.
  HistogramValue Histogram(SeriesId series, bool with_native);
  SummaryValue Summary(SeriesId series);

  // For the saved state: what cells that are gone had counted, null if there were none; what the
  // cells hold; the weight that they have not counted yet; the members of the present window.
  const CountedValue* BaseOf(SeriesId series) const;
  CountedValue CountedBy(SeriesId series);
  double CarryOf(SeriesId series) const;
  SetUnion MembersOf(SeriesId series, int64_t now_ns) const;

  // A new summary's window begins.
  void BeginSummary(SeriesId series, int64_t now_ns) {
    summaries_.Begin(series, LayoutOf(series), now_ns);
  }
  // Moves the windows of summaries on; returns those whose quantiles may be others now.
  std::vector<SeriesId> TurnSummaries(int64_t now_ns);

  void PrefetchCell(const SeriesRecord& record) const;

 private:
  struct SharedGauge {
    GaugeMerge merge;
    GaugeReading base = {.cell = GaugeMerge::kBase};
    double value = 0;
  };

  GaugeReading ReadGauge(CellRef cell) const;
  // The sum `base`, which has `folded` as well from now on; `read` tells the sum of a cell.
  template <class Read>
  double FoldedSum(SeriesId series, CellRef folded, double base, Read&& read) const;
  std::vector<GaugeReading> ReadGauges(SeriesId series) const;
  // Of all cells of it.
  void NoteGauge(SharedGauge* shared, std::vector<GaugeReading> cells);
  void FoldGauge(SeriesId series, CellRef cell);

  CellWord* WordsOf(CellRef cell) const {
    return (*shards_)[cell.shard].memory().CellOf(cell.slot);
  }
  const HistogramLayout& LayoutOf(SeriesId series) const {
    return book_->layout(table_->family_of(series).layout);
  }

  // The exponential windows of all cells together; false if one of them is being rewritten.
  bool ReadWindows(SeriesId series, ExponentialCounts* counts) const;
  void ReadQuantiles(SeriesId series, const HistogramLayout& layout);

  // Reads a cell into what is below; with its window, waits a moment if that is being rewritten.
  void ReadCell(CellRef cell, const HistogramLayout& layout, bool with_window);
  void ReadAtBatchBoundary(CellRef cell, const HistogramLayout& layout, bool with_window);

  const SeriesTable* table_;
  std::vector<ShardReader>* shards_;
  const RuleBook* book_;
  absl::flat_hash_map<SeriesId, CountedValue> bases_;  // what is left of retired cells
  absl::flat_hash_map<SeriesId, double> observed_;
  absl::flat_hash_map<SeriesId, SharedGauge> shared_gauges_;
  absl::flat_hash_map<SeriesId, double> set_sizes_;  // when last read
  std::vector<uint64_t> buckets_;                    // of the series
  std::vector<uint64_t> cell_buckets_;               // of one cell
  double cell_sum_ = 0;
  HistogramCell::WindowCounts cell_window_;  // of one cell
  bool cell_window_is_whole_ = false;
  ExponentialCounts native_counts_;  // of the series
  NativeHistogram native_;
  SummaryWindows summaries_;
  absl::flat_hash_map<SeriesId, std::vector<double>> quantiles_;  // when last read
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_CELL_READER_H_
