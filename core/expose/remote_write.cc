#include "core/expose/remote_write.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "core/expose/protobuf_wire.h"
#include "core/expose/text.h"
#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

using protobuf_wire::BytesFieldBytes;
using protobuf_wire::Grow;
using protobuf_wire::PutBytesField;
using protobuf_wire::PutDoubleField;
using protobuf_wire::PutFixed64Field;
using protobuf_wire::PutVarint;
using protobuf_wire::PutVarintField;
using protobuf_wire::Tag;
using protobuf_wire::TakeBytes;
using protobuf_wire::TakeBytesField;
using protobuf_wire::TakeVarint;
using protobuf_wire::VarintBytes;
using protobuf_wire::WireType;
using protobuf_wire::WriteBytes;
using protobuf_wire::WriteBytesField;
using protobuf_wire::WriteBytesHead;
using protobuf_wire::ZigZag;

constexpr std::string_view kNameLabel = "__name__";
constexpr std::string_view kNoMark;  // the series stands alone

// Stands before each entry in a page.
struct RecordHeader {
  uint64_t hash;
  uint32_t start_s;
  uint32_t entry_bytes;
  uint32_t labels_bytes;
  FamilyType type;
  bool is_native;
};

// What is in field 1 of a TimeSeries: {name = 1, value = 2}.
size_t LabelBodyBytes(size_t name_bytes, size_t value_bytes) {
  return BytesFieldBytes(name_bytes) + BytesFieldBytes(value_bytes);
}

size_t LabelBytes(size_t name_bytes, size_t value_bytes) {
  return BytesFieldBytes(LabelBodyBytes(name_bytes, value_bytes));
}

// Field 1 of a TimeSeries. The value is in two parts, since names of series are.
char* WriteLabel(std::string_view name, std::string_view value, std::string_view suffix, char* at) {
  const size_t value_bytes = value.size() + suffix.size();
  at = WriteBytesHead(1, LabelBodyBytes(name.size(), value_bytes), at);
  at = WriteBytesField(1, name, at);
  at = WriteBytesHead(2, value_bytes, at);
  return WriteBytes(suffix, WriteBytes(value, at));
}

void PutLabel(std::string_view name, std::string_view value, std::string* out) {
  WriteLabel(name, value, "", Grow(LabelBytes(name.size(), value.size()), out));
}

// Field 2 of a TimeSeries: {value = 1, timestamp = 2}.
void PutSampleField(uint64_t value_bits, int64_t timestamp_ms, std::string* out) {
  const auto timestamp = static_cast<uint64_t>(timestamp_ms);
  out->push_back(static_cast<char>(Tag(2, WireType::kBytes)));
  PutVarint(1 + sizeof(uint64_t) + 1 + VarintBytes(timestamp), out);
  PutFixed64Field(1, value_bits, out);
  PutVarintField(2, timestamp, out);
}

// Where the value is in what PutSampleField wrote: after its tag and length, and the value's tag.
constexpr size_t kValueInSample = 3;

void PutBuckets(int spans_field, int deltas_field, const NativeBuckets& buckets, std::string* out) {
  std::string part;
  for (const BucketSpan& span : buckets.spans) {
    part.clear();
    PutVarintField(1, ZigZag(span.offset), &part);
    PutVarintField(2, span.length, &part);
    PutBytesField(spans_field, part, out);
  }
  if (buckets.deltas.empty()) return;
  part.clear();
  for (const int64_t delta : buckets.deltas) PutVarint(ZigZag(delta), &part);
  PutBytesField(deltas_field, part, out);
}

// Field 4 of a TimeSeries.
void PutNativeField(const NativeHistogram& native, double sum, int64_t timestamp_ms,
                    std::string* out) {
  std::string body;
  PutVarintField(1, native.count, &body);
  PutDoubleField(3, sum, &body);
  PutVarintField(4, ZigZag(native.schema), &body);
  PutDoubleField(5, native.zero_threshold, &body);
  PutVarintField(6, native.zero_count, &body);
  PutBuckets(8, 9, native.negative, &body);
  PutBuckets(11, 12, native.positive, &body);
  PutVarintField(15, static_cast<uint64_t>(timestamp_ms), &body);
  PutBytesField(4, body, out);
}

// Appends a record but for its labels, and returns where they are to be written. Then SignRecord
// is to be called.
char* BeginRecord(FamilyType type, bool is_native, int64_t start_s, size_t labels_bytes,
                  std::string_view value, std::string* page) {
  const size_t body_bytes = labels_bytes + value.size();
  // Zeroed as a whole, so that its padding does not show what was in memory before.
  RecordHeader header;
  std::memset(&header, 0, sizeof(header));
  header.start_s = static_cast<uint32_t>(start_s);
  header.entry_bytes = static_cast<uint32_t>(BytesFieldBytes(body_bytes));
  header.labels_bytes = static_cast<uint32_t>(labels_bytes);
  header.type = type;
  header.is_native = is_native;
  char* at = Grow(sizeof(header) + header.entry_bytes, page);
  std::memcpy(at, &header, sizeof(header));
  at = WriteBytesHead(1, body_bytes, at + sizeof(header));
  WriteBytes(value, at + labels_bytes);
  return at;
}

// Notes the hash of the labels in the record, the last of its page.
void SignRecord(const char* labels, size_t labels_bytes, size_t record, std::string* page) {
  const uint64_t hash = XXH3_64bits(labels, labels_bytes);
  std::memcpy(page->data() + record + offsetof(RecordHeader, hash), &hash, sizeof(hash));
}

// Names of labels: their first bytes mostly tell.
bool IsBefore(std::string_view a, std::string_view b) {
  if (!a.empty() && !b.empty() && a[0] != b[0]) {
    return static_cast<unsigned char>(a[0]) < static_cast<unsigned char>(b[0]);
  }
  return a < b;
}

// Takes the next label of `a="b",c="d"`. The value is a view of `labels` where nothing in it is
// escaped, else of `text`.
bool TakeTextLabel(std::string_view* labels, std::string* text, std::string_view* name,
                   std::string_view* value) {
  if (labels->empty()) return false;
  const size_t quote = labels->find('"');
  *name = labels->substr(0, quote - 1);
  labels->remove_prefix(quote + 1);
  size_t end = labels->find('"');
  *value = labels->substr(0, end);
  if (value->find('\\') != std::string_view::npos) {
    text->clear();
    for (end = 0; (*labels)[end] != '"'; ++end) {
      char c = (*labels)[end];
      if (c == '\\') {
        c = (*labels)[++end];
        if (c == 'n') c = '\n';
      }
      text->push_back(c);
    }
    *value = *text;
  }
  labels->remove_prefix(std::min(end + 2, labels->size()));  // the quote, and the comma if any
  return true;
}

}  // namespace

bool WriteRecordReader::Next(WriteRecord* record) {
  if (rest_.empty()) return false;
  RecordHeader header;
  std::memcpy(&header, rest_.data(), sizeof(header));
  rest_.remove_prefix(sizeof(header));
  record->hash = header.hash;
  record->type = header.type;
  record->is_native = header.is_native;
  record->start_ms = int64_t{header.start_s} * 1000;
  record->entry = TakeBytes(header.entry_bytes, &rest_);
  std::string_view body = record->entry.substr(1);
  TakeVarint(&body);
  record->labels = TakeBytes(header.labels_bytes, &body);
  record->value = body;
  return true;
}

bool WriteLabelReader::Next(std::string_view* name, std::string_view* value) {
  if (rest_.empty()) return false;
  std::string_view label = TakeBytesField(&rest_);
  *name = TakeBytesField(&label);
  *value = TakeBytesField(&label);
  return true;
}

std::string SeriesText(std::string_view write_labels) {
  std::string metric;
  std::string labels;
  std::string_view name;
  std::string_view value;
  for (WriteLabelReader reader(write_labels); reader.Next(&name, &value);) {
    if (name == kNameLabel) {
      metric.assign(value);
      continue;
    }
    labels.append(labels.empty() ? "" : ",").append(name).append("=\"");
    AppendEscapedLabelValue(value, &labels);
    labels.push_back('"');
  }
  return labels.empty() ? metric : metric.append("{").append(labels).append("}");
}

void AppendStaleRecord(std::string_view write_labels, FamilyType type, int64_t timestamp_ms,
                       std::string* page) {
  std::string value;
  PutSampleField(kStaleMarkerBits, timestamp_ms, &value);
  const size_t record = page->size();
  char* const labels =
      BeginRecord(type, /*is_native=*/false, /*start_s=*/0, write_labels.size(), value, page);
  WriteBytes(write_labels, labels);
  SignRecord(labels, write_labels.size(), record, page);
}

RemoteWriteEncoder::RemoteWriteEncoder(Options options) : options_(std::move(options)) {
  PutSampleField(0, options_.timestamp_ms, &sample_);
  for (const auto& [name, value] : options_.external_labels) {
    if (value.empty()) continue;
    std::string field;
    PutLabel(name, value, &field);
    external_.push_back({name, std::move(field)});
  }
  std::sort(external_.begin(), external_.end(),
            [](const ExternalLabel& a, const ExternalLabel& b) { return a.name < b.name; });
}

// Where a label belongs. Labels come sorted, so the last part is all that is appended to.
std::string* RemoteWriteEncoder::PartOf(std::string_view name, std::string_view mark) const {
  if (IsBefore(name, kNameLabel)) return &parts_.before;
  return mark.empty() || IsBefore(name, mark) ? &parts_.middle : &parts_.after;
}

// Brings the labels of a series and the external ones together. What would be a second `__name__`
// or a second label `mark` is left out.
void RemoteWriteEncoder::Split(std::string_view labels, std::string_view mark) const {
  parts_.before.clear();
  parts_.middle.clear();
  parts_.after.clear();
  auto external = external_.begin();
  std::string_view name;
  std::string_view value;
  while (TakeTextLabel(&labels, &text_, &name, &value)) {
    if (value.empty()) continue;  // no label, so an external one of the name holds
    for (; external != external_.end() && IsBefore(external->name, name); ++external) {
      PartOf(external->name, mark)->append(external->field);
    }
    if (external != external_.end() && external->name == name) ++external;
    if (name == kNameLabel || name == mark) continue;
    PutLabel(name, value, PartOf(name, mark));
  }
  for (; external != external_.end(); ++external) {
    PartOf(external->name, mark)->append(external->field);
  }
}

// Of `value_`, with the labels that Split took apart.
void RemoteWriteEncoder::PutRecord(FamilyType type, bool is_native, std::string_view name,
                                   std::string_view suffix, std::string_view mark,
                                   std::string_view mark_value, std::string* page) const {
  const size_t mark_bytes = mark_value.empty() ? 0 : LabelBytes(mark.size(), mark_value.size());
  const size_t labels_bytes = parts_.before.size() +
                              LabelBytes(kNameLabel.size(), name.size() + suffix.size()) +
                              parts_.middle.size() + mark_bytes + parts_.after.size();
  const size_t record = page->size();
  char* const labels = BeginRecord(type, is_native, created_s_, labels_bytes, value_, page);
  char* at = WriteBytes(parts_.before, labels);
  at = WriteLabel(kNameLabel, name, suffix, at);
  at = WriteBytes(parts_.middle, at);
  if (mark_bytes > 0) at = WriteLabel(mark, mark_value, "", at);
  WriteBytes(parts_.after, at);
  SignRecord(labels, labels_bytes, record, page);
}

void RemoteWriteEncoder::PutSample(FamilyType type, std::string_view name, std::string_view suffix,
                                   std::string_view mark, std::string_view mark_value, double value,
                                   std::string* page) const {
  value_.assign(sample_);
  std::memcpy(value_.data() + kValueInSample, &value, sizeof(value));
  PutRecord(type, /*is_native=*/false, name, suffix, mark, mark_value, page);
}

void RemoteWriteEncoder::Counter(const FamilyView& family, std::string_view labels,
                                 const CounterValue& value, std::string* page) const {
  Split(labels, kNoMark);
  created_s_ = value.created_s;
  PutSample(family.type, family.name, "", kNoMark, "",
            static_cast<double>(value.whole) + value.rest, page);
}

void RemoteWriteEncoder::Gauge(const FamilyView& family, std::string_view labels, double value,
                               std::string* page) const {
  Split(labels, kNoMark);
  created_s_ = 0;
  PutSample(family.type, family.name, "", kNoMark, "", value, page);
}

void RemoteWriteEncoder::Histogram(const FamilyView& family, std::string_view labels,
                                   const HistogramValue& value, std::string* page) const {
  created_s_ = value.created_s;
  const bool native = options_.native_histograms && value.native != nullptr;
  if (native) {
    Split(labels, kNoMark);
    value_.clear();
    PutNativeField(*value.native, value.sum, options_.timestamp_ms, &value_);
    PutRecord(family.type, /*is_native=*/true, family.name, "", kNoMark, "", page);
  }
  if (options_.classic_histograms || !native) PutClassic(family, labels, value, page);
}

void RemoteWriteEncoder::PutClassic(const FamilyView& family, std::string_view labels,
                                    const HistogramValue& value, std::string* page) const {
  constexpr std::string_view kLe = "le";
  Split(labels, kLe);
  uint64_t cumulative = 0;
  for (size_t i = 0; i < value.buckets.size(); ++i) {
    cumulative += value.buckets[i];
    const std::string_view le = i < value.les.size() ? std::string_view(value.les[i]) : "+Inf";
    PutSample(family.type, family.name, "_bucket", kLe, le, static_cast<double>(cumulative), page);
  }
  PutSample(family.type, family.name, "_sum", kLe, "", value.sum, page);
  PutSample(family.type, family.name, "_count", kLe, "", static_cast<double>(cumulative), page);
}

void RemoteWriteEncoder::Summary(const FamilyView& family, std::string_view labels,
                                 const SummaryValue& value, std::string* page) const {
  constexpr std::string_view kQuantile = "quantile";
  Split(labels, kQuantile);
  created_s_ = 0;  // quantiles are of a window
  for (size_t i = 0; i < value.quantiles.size(); ++i) {
    PutSample(family.type, family.name, "", kQuantile, value.quantiles[i], value.values[i], page);
  }
  created_s_ = value.created_s;
  PutSample(family.type, family.name, "_sum", kQuantile, "", value.sum, page);
  PutSample(family.type, family.name, "_count", kQuantile, "", static_cast<double>(value.count),
            page);
}

}  // namespace tallyd
