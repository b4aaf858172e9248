// Whatever series there are and whatever they are called: what a receiver of remote write decodes
// has sorted labels without a second of a name and without empty ones, one value of the rendering's
// time each, and every label and value as it was.

#include <snappy.h>
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/expose/remote_write.h"
#include "core/expose/text.h"
#include "core/expose/write_request.h"
#include "core/rules/sanitize.h"
#include "tests/core/expose/write1.pb.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/input.h"

namespace tallyd {
namespace {

using Labels = std::map<std::string, std::string>;

// Of few, so that some come twice; those that the encoder puts in by itself among them.
std::string TakeName(Input* input) {
  constexpr const char* kNames[] = {"A",  "Z",        "_",  "__",       "__name__", "a",
                                    "le", "quantile", "lf", "instance", "job",      "z"};
  const uint8_t choice = input->Byte();
  if (choice % 16 < std::size(kNames)) return kNames[choice % 16];
  return "x" + std::to_string(choice);
}

// Protobuf's texts are UTF-8, and so are labels: the mapper sees to that.
std::string Valid(std::string text) {
  for (char& c : text) c = static_cast<char>(c & 0x7f);
  return text;
}

Labels TakeLabels(Input* input) {
  Labels labels;
  for (int left = input->Byte() % 6; left > 0; --left) {
    labels[TakeName(input)] = Valid(input->Text(40));
  }
  return labels;
}

std::string Rendered(const Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text.append(text.empty() ? "" : ",").append(name).append("=\"");
    AppendEscapedLabelValue(value, &text);
    text.push_back('"');
  }
  return text;
}

// What a receiver must have: the value's bits by labels. A native histogram stands as its count.
using Expected = std::multimap<Labels, uint64_t>;

class Writer {
 public:
  Writer(Input* input, RemoteWriteEncoder::Options options)
      : input_(input), options_(options), encoder_(std::move(options)) {}

  void WriteFamilies() {
    for (int left = input_->Byte() % 8; left >= 0 && !input_->empty(); --left) WriteSeries();
  }
  const std::string& page() const { return page_; }
  const Expected& expected() const { return expected_; }

 private:
  void WriteSeries() {
    const auto type = static_cast<FamilyType>(1 + input_->Byte() % 5);
    const std::string name = "f" + std::to_string(input_->Byte());
    const FamilyView family = {.name = name, .help = "", .type = type};
    own_ = TakeLabels(input_);
    const std::string labels = Rendered(own_);
    switch (type) {
      case FamilyType::kCounter: {
        const CounterValue value = {.whole = input_->Integer(), .rest = input_->Double()};
        encoder_.Counter(family, labels, value, &page_);
        return Expect(name, "", "", static_cast<double>(value.whole) + value.rest);
      }
      case FamilyType::kHistogram:
        return WriteHistogram(family, labels);
      case FamilyType::kSummary:
        return WriteSummary(family, labels);
      default: {
        const double value = input_->Double();
        encoder_.Gauge(family, labels, value, &page_);
        Expect(name, "", "", value);
      }
    }
  }

  void WriteHistogram(const FamilyView& family, const std::string& labels) {
    const std::vector<double> bounds = {0.5, 1};
    const std::vector<std::string> les = {"0.5", "1"};
    const std::vector<uint64_t> buckets = {input_->Byte(), input_->Byte(), input_->Byte()};
    NativeHistogram native;
    native.count = input_->Integer() >> 1;
    for (int left = input_->Byte() % 5; left > 0; --left) {
      native.positive.spans.push_back({static_cast<int32_t>(input_->Integer()), 1});
      native.positive.deltas.push_back(static_cast<int64_t>(input_->Integer()));
    }
    const bool has_native = input_->Byte() % 2 == 0;
    const HistogramValue value = {.bounds = bounds,
                                  .les = les,
                                  .buckets = buckets,
                                  .sum = input_->Double(),
                                  .native = has_native ? &native : nullptr,
                                  .created_s = input_->Byte()};
    encoder_.Histogram(family, labels, value, &page_);
    const std::string name(family.name);
    const bool is_native = has_native && options_.native_histograms;
    if (is_native) Put(name, "", "", native.count);
    if (is_native && !options_.classic_histograms) return;
    double cumulative = 0;
    for (size_t i = 0; i < buckets.size(); ++i) {
      cumulative += static_cast<double>(buckets[i]);
      Expect(name + "_bucket", "le", i < les.size() ? les[i] : "+Inf", cumulative);
    }
    Expect(name + "_sum", "le", "", value.sum);
    Expect(name + "_count", "le", "", cumulative);
  }

  void WriteSummary(const FamilyView& family, const std::string& labels) {
    const std::vector<std::string> quantiles = {"0.5", "0.9"};
    const std::vector<double> ranks = {0.5, 0.9};
    const std::vector<double> values = {input_->Double(), input_->Double()};
    const SummaryValue value = {.quantiles = quantiles,
                                .ranks = ranks,
                                .values = values,
                                .count = input_->Integer() >> 12,
                                .sum = input_->Double()};
    encoder_.Summary(family, labels, value, &page_);
    const std::string name(family.name);
    for (size_t i = 0; i < values.size(); ++i) Expect(name, "quantile", quantiles[i], values[i]);
    Expect(name + "_sum", "quantile", "", value.sum);
    Expect(name + "_count", "quantile", "", static_cast<double>(value.count));
  }

  void Expect(const std::string& name, const char* mark, const std::string& mark_value,
              double value) {
    Put(name, mark, mark_value, std::bit_cast<uint64_t>(value));
  }

  void Put(const std::string& name, const std::string& mark, const std::string& mark_value,
           uint64_t bits) {
    Labels labels = own_;
    // A series' own label wins, but an empty one is none.
    const auto is_empty = [](const auto& label) { return label.second.empty(); };
    std::erase_if(labels, is_empty);
    for (const auto& [external, text] : options_.external_labels) labels.emplace(external, text);
    std::erase_if(labels, is_empty);
    labels["__name__"] = name;
    if (!mark.empty()) labels.erase(mark);
    if (!mark_value.empty()) labels[mark] = mark_value;
    expected_.emplace(std::move(labels), bits);
  }

  Input* const input_;
  const RemoteWriteEncoder::Options options_;
  const RemoteWriteEncoder encoder_;
  Labels own_;
  std::string page_;
  Expected expected_;
};

Expected Decoded(const std::string& page, int64_t timestamp_ms) {
  std::vector<WriteRecord> records;
  WriteRecord record;
  for (WriteRecordReader reader(page); reader.Next(&record);) records.push_back(record);
  const std::string block = WriteRequestBuilder().Build(WriteProtocol::k1, records);
  std::string message;
  Check(snappy::Uncompress(block.data(), block.size(), &message));
  prometheus::WriteRequest request;
  Check(request.ParseFromString(message));
  Expected decoded;
  for (const prometheus::TimeSeries& series : request.timeseries()) {
    Labels labels;
    for (const prometheus::Label& label : series.labels()) {
      Check(!label.name().empty() && !label.value().empty());
      Check(labels.empty() || labels.rbegin()->first < label.name());
      labels.emplace(label.name(), label.value());
    }
    Check(series.samples_size() + series.histograms_size() == 1);
    const bool is_native = series.histograms_size() == 1;
    Check((is_native ? series.histograms(0).timestamp() : series.samples(0).timestamp()) ==
          timestamp_ms);
    decoded.emplace(std::move(labels), is_native
                                           ? series.histograms(0).count_int()
                                           : std::bit_cast<uint64_t>(series.samples(0).value()));
  }
  return decoded;
}

void CheckEncoding(Input input) {
  RemoteWriteEncoder::Options options;
  const uint8_t form = input.Byte() % 3;
  options.native_histograms = form != 0;
  options.classic_histograms = form != 2;
  // Times only go on.
  options.timestamp_ms = static_cast<int64_t>(input.Integer() >> 8);
  for (const auto& [name, value] : TakeLabels(&input)) {
    if (name.rfind("__", 0) == 0 || name == "le" || name == "quantile") continue;
    options.external_labels.emplace_back(name, value);
  }
  for (int rounds = input.Byte() % 3; rounds >= 0; --rounds) {
    Writer writer(&input, options);
    writer.WriteFamilies();
    const Expected decoded = Decoded(writer.page(), options.timestamp_ms);
    Check(decoded.size() == writer.expected().size());
    for (auto it = writer.expected().begin(); it != writer.expected().end(); ++it) {
      const auto [first, last] = decoded.equal_range(it->first);
      Check(
          std::any_of(first, last, [&](const auto& other) { return other.second == it->second; }));
    }
    // What is not a series any more ends at a later time than it was last written.
    std::string ends;
    WriteRecord record;
    for (WriteRecordReader reader(writer.page()); reader.Next(&record);) {
      AppendStaleRecord(record.labels, record.type, options.timestamp_ms + 1, &ends);
    }
    for (const auto& [labels, bits] : Decoded(ends, options.timestamp_ms + 1)) {
      Check(bits == kStaleMarkerBits && decoded.contains(labels));
    }
    ++options.timestamp_ms;
  }
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallyd::CheckEncoding({data, size});
  return 0;
}
