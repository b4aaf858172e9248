// Series for remote write: what goes into a prometheus.WriteRequest, rendered page by page.
//
// Sources: the Remote-Write 1.0 specification and Prometheus' prompb. A receiver checks little, so
// what leaves here is right by construction: labels sorted by name and unique, no empty name, no
// empty value, one sample or native histogram a series.

#ifndef TALLYD_CORE_EXPOSE_REMOTE_WRITE_H_
#define TALLYD_CORE_EXPOSE_REMOTE_WRITE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/merge/page_encoder.h"

namespace tallyd {

// The value that says that a series has ended: a NaN of these bits.
inline constexpr uint64_t kStaleMarkerBits = 0x7ff0000000000002;

// One series as a page has it. The views point into the page.
struct WriteRecord {
  uint64_t hash = 0;  // of `labels`: the series' identity, the same in each rendering
  FamilyType type = FamilyType::kGauge;
  bool is_native = false;   // `value` is a native histogram
  int64_t start_ms = 0;     // Unix time at which it began to count; 0: not known
  std::string_view labels;  // fields 1 of a TimeSeries
  std::string_view value;   // field 2 (a sample) or 4 (a native histogram) of a TimeSeries
  std::string_view entry;   // field 1 of a WriteRequest: the TimeSeries as a whole
};

// Reads records one after the other from a page, by lengths alone. Thread-compatible.
class WriteRecordReader {
 public:
  explicit WriteRecordReader(std::string_view page) : rest_(page) {}
  // False: there is no more.
  bool Next(WriteRecord* record);

 private:
  std::string_view rest_;
};

// Reads labels one after the other from WriteRecord::labels. Thread-compatible.
class WriteLabelReader {
 public:
  explicit WriteLabelReader(std::string_view labels) : rest_(labels) {}
  // False: there is no more.
  bool Next(std::string_view* name, std::string_view* value);

 private:
  std::string_view rest_;
};

// As people write it, for the log: name{a="b"}.
std::string SeriesText(std::string_view write_labels);

// Appends a record that ends the series with these labels.
void AppendStaleRecord(std::string_view write_labels, FamilyType type, int64_t timestamp_ms,
                       std::string* page);

// Writes pages of records for one rendering: all of them have its timestamp. What a rendering
// allocates is kept in scratch of its own. Thread-compatible.
class RemoteWriteEncoder : public PageEncoder {
 public:
  struct Options {
    int64_t timestamp_ms = 0;  // Unix time
    // Added to each series that has no label of this name: a series' own label wins, as it does
    // over Prometheus' external_labels. Valid label names, not beginning with "__" and neither "le"
    // nor "quantile". Those with an empty value are left out.
    std::vector<std::pair<std::string, std::string>> external_labels;
    // How histograms are written: at least one of both.
    bool classic_histograms = true;  // series with `_bucket`, `_sum` and `_count`
    bool native_histograms = false;  // if the series has a native form
  };

  explicit RemoteWriteEncoder(Options options);

  void Family(const FamilyView&, std::string*) const override {}
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override;
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override;
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override;
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override;
  bool wants_native_histograms() const override { return options_.native_histograms; }
  bool compresses() const override { return false; }
  void Finish(std::string*) const override {}

 private:
  // Label fields of a series in three parts: before `__name__`, between it and the label that tells
  // the series of a histogram or summary apart, and after that.
  struct LabelParts {
    std::string before;
    std::string middle;
    std::string after;
  };
  struct ExternalLabel {
    std::string name;
    std::string field;
  };

  void Split(std::string_view labels, std::string_view mark) const;
  std::string* PartOf(std::string_view name, std::string_view mark) const;
  void PutSample(FamilyType type, std::string_view name, std::string_view suffix,
                 std::string_view mark, std::string_view mark_value, double value,
                 std::string* page) const;
  void PutRecord(FamilyType type, bool is_native, std::string_view name, std::string_view suffix,
                 std::string_view mark, std::string_view mark_value, std::string* page) const;
  void PutClassic(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                  std::string* page) const;

  const Options options_;
  std::vector<ExternalLabel> external_;  // sorted by name
  std::string sample_;                   // a sample of the rendering's time and the value 0
  mutable LabelParts parts_;
  mutable int64_t created_s_ = 0;  // of the series in hand
  mutable std::string value_;
  mutable std::string text_;  // an unescaped label value
};

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_REMOTE_WRITE_H_
