// The numbers of a series in one shard: counters, gauges, histograms. (Sets: set_cell.h.)
//
// A cell is a run of 8-byte words in the shard's memory, zero when its tenant moves in. Its owner
// writes each word by a relaxed load and a relaxed store, but for those that name the protocol that
// they follow; the merger only reads, but for its notes of gauges. No cell holds a count of its
// observations that a scrape could see disagree with its buckets.
//
//   counter     0 whole            integer part, to 2^63
//               1 rest             double: what was no integer, or would not fit
//   gauge       0 value            double: the last set and the changes since
//               1 set_time         of the last set, 0 if never (DatedWord)
//               2 added            double: all changes ever
//               3 run_base         double: `added` when the present run of changes began
//               4 run_time         when that was; a run ends with each pass (TotalOfRuns)
//               5 noted            double: what the merger has worked out for the cell (Note)
//               6 noted_at         the set that it holds for, by its time (DatedWord)
//   histogram   0 touch            time of the last observation
//               1 sum              double
//               2 carry            double: fraction of a weight not yet counted (owner only)
//               3 window           header of the exponential window (VersionedHeader)
//               4 zero             window: |value| <= 2^-128
//               5 negative         window: values below that
//               6 infinite         window: plus infinity, which would cost it its resolution
//               7 buckets          classic, bounds + 1, not cumulative
//               ...                window: kWindowBuckets
//
// Counters and gauges of series that expire have one more word at the end: the time of their last
// sample. Times are those of batches, in ns of the monotonic clock, and differ from batch to batch.

#ifndef TALLYD_CORE_SHARD_CELLS_H_
#define TALLYD_CORE_SHARD_CELLS_H_

#include <bit>
#include <cstdint>
#include <span>

#include "core/rules/histogram_layout.h"
#include "core/shard/shard_memory.h"

namespace tallyd {

inline uint64_t LoadWord(const CellWord& word) { return word.Load(std::memory_order_relaxed); }
inline void StoreWord(CellWord& word, uint64_t value) {
  word.Store(value, std::memory_order_relaxed);
}
inline double LoadDouble(const CellWord& word) { return std::bit_cast<double>(LoadWord(word)); }
inline void StoreDouble(CellWord& word, double value) {
  StoreWord(word, std::bit_cast<uint64_t>(value));
}

// A counter cell. Counters never go down: both parts only grow.
class CounterCell {
 public:
  static constexpr uint32_t kWords = 2;
  static constexpr uint64_t kMaxWhole = uint64_t{1} << 63;

  explicit CounterCell(CellWord* words) : words_(words) {}

  // Owner thread. Past 2^63 the integer part stays and the rest takes over: nothing wraps.
  void Add(uint64_t n) {
    const uint64_t whole = LoadWord(words_[0]);
    if (n > kMaxWhole || whole > kMaxWhole - n) return AddToRest(static_cast<double>(n));
    StoreWord(words_[0], whole + n);
  }
  // Owner thread. `amount` is not negative and not NaN.
  void Add(double amount) {
    if (amount < 9007199254740992.0) {  // 2^53: below it, integers are exact
      const auto whole = static_cast<uint64_t>(amount);
      if (static_cast<double>(whole) == amount) return Add(whole);
    }
    AddToRest(amount);
  }
  // Merger thread.
  uint64_t whole() const { return LoadWord(words_[0]); }
  double rest() const { return LoadDouble(words_[1]); }

 private:
  void AddToRest(double amount) { StoreDouble(words_[1], LoadDouble(words_[1]) + amount); }

  CellWord* words_;
};

// A gauge cell. In one shard `value` alone is the gauge, read by one load. Across shards the merger
// takes the newest set and adds what the others added since (docs/protocol.md, "Gauges").
class GaugeCell {
 public:
  static constexpr uint32_t kWords = 7;

  explicit GaugeCell(CellWord* words) : words_(words) {}

  // Owner thread.
  void Set(double value, int64_t now_ns) {
    last_set().Store(std::bit_cast<uint64_t>(value), static_cast<uint64_t>(now_ns));
  }
  // Owner thread. `merge_seen_ns` is when this shard last learned of a pass of the merger.
  void Change(double by, int64_t now_ns, int64_t merge_seen_ns) {
    TotalOfRuns<StdAtomics> runs = changes();
    const auto added = std::bit_cast<double>(runs.OwnTotal());
    if (static_cast<int64_t>(runs.OwnTime()) <= merge_seen_ns) {
      runs.BeginRun(static_cast<uint64_t>(now_ns));
    }
    runs.Change(std::bit_cast<uint64_t>(added + by));
    StoreDouble(words_[0], LoadDouble(words_[0]) + by);
  }
  // Merger thread. Acquire before value().
  int64_t set_time() const { return static_cast<int64_t>(last_set().AcquireTime()); }
  double value() const { return LoadDouble(words_[0]); }

  // Merger thread. How the cell was changed, its parts in the order that makes them fit together:
  // see TotalOfRuns for what is promised.
  struct Changes {
    double added = 0;
    double run_base = 0;
    int64_t run_time = 0;
  };
  Changes ReadChanges() const {
    const TotalOfRuns<StdAtomics>::Reading reading = changes().Read();
    return {.added = std::bit_cast<double>(reading.total),
            .run_base = std::bit_cast<double>(reading.base),
            .run_time = static_cast<int64_t>(reading.time)};
  }
  // Merger thread. Each of them alone: together they need not fit.
  double added() const { return LoadDouble(words_[2]); }
  double run_base() const { return LoadDouble(words_[3]); }
  int64_t run_time() const { return ReadChanges().run_time; }

  // What the merger knows of a cell and nobody could tell by the cells: for a process that takes
  // them over (GaugeMerge::Recover). While ours runs nobody reads it.
  struct Note {
    static constexpr int64_t kGone = -1;  // as a time: the cell counts elsewhere, or not at all

    double part = 0;  // of the cell that is no part of the gauge
    int64_t at = 0;   // given the set of this time
  };
  // Merger thread, before the cell can have another tenant. Most notes are what they were.
  void WriteNote(Note fresh) {
    const auto part = std::bit_cast<uint64_t>(fresh.part);
    const auto at = static_cast<uint64_t>(fresh.at);
    if (LoadWord(words_[5]) != part || LoadWord(words_[6]) != at) note().Store(part, at);
  }
  Note ReadNote() const {
    const auto at = static_cast<int64_t>(note().AcquireTime());
    return {.part = LoadDouble(words_[5]), .at = at};
  }

 private:
  DatedWord<StdAtomics> last_set() const { return {words_[0], words_[1]}; }
  DatedWord<StdAtomics> note() const { return {words_[5], words_[6]}; }
  TotalOfRuns<StdAtomics> changes() const { return {words_[2], words_[3], words_[4]}; }

  CellWord* words_;
};

// The exponential window of a histogram: kWindowBuckets counts at a resolution that halves whenever
// the observed range outgrows them. Bucket i of schema s holds values in
// (2^((i-1) * 2^-s), 2^(i * 2^-s)]; it lies at place i modulo kWindowBuckets, so that extending the
// range moves nothing. Source: Prometheus' native histograms.
struct Window {
  static constexpr int kBuckets = 160;
  static constexpr int kMinSchema = -4;
  static constexpr int kMaxSchema = 8;
  // 2^-128, Prometheus' least useful zero threshold.
  static constexpr double kZeroThreshold = 2.938735877055719e-39;

  // One word: which buckets are in use, and a version that is odd while they are being rewritten
  // (VersionedHeader, which alone counts it).
  struct Header {
    int schema = 0;
    int32_t lowest = 0;  // bucket numbers; none in use if lowest > highest
    int32_t highest = -1;
    uint16_t version = 0;
    bool used() const { return lowest <= highest; }
  };
  static uint64_t Pack(const Header& header);
  static Header Unpack(uint64_t word);

  // The bucket of a finite value above kZeroThreshold.
  static int32_t BucketOf(double value, int schema);
  static uint32_t PlaceOf(int32_t bucket) {
    // The offset, a multiple of kBuckets, makes any bucket number of any schema positive.
    return static_cast<uint32_t>(bucket + kBuckets * 4096) % kBuckets;
  }
};

class HistogramCell {
 public:
  static constexpr uint32_t kHeaderWords = 7;
  // A count of more than this is this, in cells and in their sums: sample rates can claim any
  // weight, and a sum that wrapped would go backwards.
  static constexpr uint64_t kMaxCount = uint64_t{1} << 63;
  static uint64_t AddCounts(uint64_t a, uint64_t b) {
    return a >= kMaxCount || b > kMaxCount - a ? kMaxCount : a + b;
  }

  // Words of a cell with `bounds` classic bounds, a whole number of cache lines.
  static uint32_t Words(size_t bounds) {
    return (kHeaderWords + static_cast<uint32_t>(bounds) + 1 + Window::kBuckets + 7) & ~7u;
  }

  HistogramCell(CellWord* words, const HistogramLayout& layout) : words_(words), layout_(layout) {}

  // Whether an observation of this rate counts in a cell that carries nothing yet.
  static bool Observes(double rate) { return rate > 0 && rate <= 1; }

  // Owner thread. `value` is not NaN.
  void Observe(double value, int64_t now_ns);
  // Owner thread. An observation that stands for 1 / `rate`: counts the whole part and carries the
  // fraction to the next. A rate that is negative or infinite makes no observation.
  void ObserveSampled(double value, double rate, int64_t now_ns);

  // Merger thread. The classic buckets, bounds + 1 of them, added to `buckets`.
  void AddBuckets(std::span<uint64_t> buckets) const;
  double sum() const { return LoadDouble(words_[1]); }
  // Any thread for which nobody writes it now. The weight not counted yet.
  double carry() const { return LoadDouble(words_[2]); }
  // Owner thread.
  void set_carry(double carry) { StoreDouble(words_[2], carry); }
  uint64_t touch() const { return LoadWord(words_[0]); }

  // Merger thread. The window as it was at one moment between two rewrites. False if the owner was
  // rewriting it each time we looked.
  struct WindowCounts {
    Window::Header header;
    uint64_t zero = 0;
    uint64_t negative = 0;
    uint64_t infinite = 0;
    uint64_t buckets[Window::kBuckets] = {};  // at their places
  };
  bool ReadWindow(WindowCounts* counts) const;

 private:
  CellWord* buckets() const { return words_ + kHeaderWords; }
  CellWord* window() const { return words_ + kHeaderWords + layout_.bounds.size() + 1; }
  size_t BucketOf(double value) const;
  CellWord* WindowBucketInUse(double value) const;
  void ObserveTimes(double value, uint64_t times, int64_t now_ns);
  void ObserveInWindow(double value, uint64_t times);
  VersionedHeader<StdAtomics> window_header() const {
    return VersionedHeader<StdAtomics>(words_[3]);
  }
  void Reach(int32_t bucket, Window::Header* header);
  void HalveResolution(Window::Header* header, int halvings);

  CellWord* words_;
  const HistogramLayout& layout_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_CELLS_H_
