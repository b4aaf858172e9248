#include "core/expose/write_request.h"

#include <snappy.h>

#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "core/expose/protobuf_wire.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

using protobuf_wire::PutBytesField;
using protobuf_wire::PutVarint;
using protobuf_wire::PutVarintField;
using protobuf_wire::TakeBytesField;

// The texts of a request of 2.0, each once. The first is empty, as the format wants it.
class Symbols {
 public:
  Symbols() { NumberOf(""); }

  uint32_t NumberOf(std::string_view text) {
    const auto [found, is_new] =
        numbers_.try_emplace(View(text), static_cast<uint32_t>(texts_.size()));
    if (is_new) texts_.push_back(text);
    return found->second;
  }
  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  absl::flat_hash_map<absl::string_view, uint32_t> numbers_;
  std::vector<std::string_view> texts_;
};

// As in the message Metadata; the types of a summary and a histogram are those of all their series.
uint64_t MetadataType(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return 1;
    case FamilyType::kGauge:
      return 2;
    case FamilyType::kHistogram:
      return 3;
    case FamilyType::kSummary:
      return 5;
    case FamilyType::kUntyped:
      break;
  }
  return 0;
}

// The number of the field in which a start timestamp stands.
constexpr int kSampleStart = 3;
constexpr int kHistogramStart = 17;

// A sample or histogram of 1.0 is one of 2.0 too, if nothing is said of its start.
void PutValue2(const WriteRecord& record, std::string* part, std::string* series) {
  std::string_view field = record.value;
  const std::string_view body = TakeBytesField(&field);
  part->assign(body);
  if (record.start_ms != 0) {
    PutVarintField(record.is_native ? kHistogramStart : kSampleStart,
                   static_cast<uint64_t>(record.start_ms), part);
  }
  PutBytesField(record.is_native ? 3 : 2, *part, series);
}

}  // namespace

std::string_view WriteContentType(WriteProtocol protocol) {
  return protocol == WriteProtocol::k1
             ? "application/x-protobuf"
             : "application/x-protobuf;proto=io.prometheus.write.v2.Request";
}

std::string_view WriteVersion(WriteProtocol protocol) {
  return protocol == WriteProtocol::k1 ? "0.1.0" : "2.0.0";
}

WrittenCounts CountsOf(std::span<const WriteRecord> records) {
  WrittenCounts counts;
  for (const WriteRecord& record : records)
    ++(record.is_native ? counts.histograms : counts.samples);
  return counts;
}

std::string WriteRequestBuilder::Build(WriteProtocol protocol,
                                       std::span<const WriteRecord> records) {
  message_.clear();
  if (protocol == WriteProtocol::k1) {
    Put1(records);
  } else {
    Put2(records);
  }
  return SnappyBlock(message_);
}

void WriteRequestBuilder::Put1(std::span<const WriteRecord> records) {
  for (const WriteRecord& record : records) message_.append(record.entry);
}

// Field 5, the series, goes before field 4, the symbols that they turn out to need: the order of
// fields means nothing in protobuf.
void WriteRequestBuilder::Put2(std::span<const WriteRecord> records) {
  Symbols symbols;
  std::string series;
  std::string part;
  for (const WriteRecord& record : records) {
    series.clear();
    part.clear();
    std::string_view name;
    std::string_view value;
    for (WriteLabelReader labels(record.labels); labels.Next(&name, &value);) {
      PutVarint(symbols.NumberOf(name), &part);
      PutVarint(symbols.NumberOf(value), &part);
    }
    PutBytesField(1, part, &series);
    PutValue2(record, &part, &series);
    part.clear();
    PutVarintField(1, MetadataType(record.type), &part);
    PutBytesField(5, part, &series);
    PutBytesField(5, series, &message_);
  }
  for (const std::string_view text : symbols.texts()) PutBytesField(4, text, &message_);
}

std::string SnappyBlock(std::string_view bytes) {
  std::string block;
  snappy::Compress(bytes.data(), bytes.size(), &block);
  return block;
}

}  // namespace tallyd
