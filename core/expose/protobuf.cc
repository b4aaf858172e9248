#include "core/expose/protobuf.h"

#include <emmintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/expose/page_room.h"
#include "core/expose/protobuf_wire.h"

namespace tallyd {
namespace {

using protobuf_wire::Tag;
using protobuf_wire::VarintBytes;
using protobuf_wire::WireType;
using protobuf_wire::WriteVarint;
using protobuf_wire::ZigZag;

// Field numbers of io.prometheus.client, and what they are called there.
namespace family_field {
constexpr int kName = 1;
constexpr int kHelp = 2;
constexpr int kType = 3;
constexpr int kMetric = 4;
}  // namespace family_field
namespace metric_field {
constexpr int kLabel = 1;
constexpr int kGauge = 2;
constexpr int kCounter = 3;
constexpr int kSummary = 4;
constexpr int kUntyped = 5;
constexpr int kHistogram = 7;
}  // namespace metric_field
namespace label_field {
constexpr int kName = 1;
constexpr int kValue = 2;
}  // namespace label_field
constexpr int kValueField = 1;  // of Gauge, Counter and Untyped
constexpr int kCounterCreated = 3;
namespace summary_field {
constexpr int kCount = 1;
constexpr int kSum = 2;
constexpr int kQuantile = 3;
constexpr int kCreated = 4;
}  // namespace summary_field
namespace quantile_field {
constexpr int kQuantile = 1;
constexpr int kValue = 2;
}  // namespace quantile_field
namespace histogram_field {
constexpr int kCount = 1;
constexpr int kSum = 2;
constexpr int kBucket = 3;
constexpr int kSchema = 5;
constexpr int kZeroThreshold = 6;
constexpr int kZeroCount = 7;
constexpr int kNegativeSpan = 9;
constexpr int kNegativeDelta = 10;
constexpr int kPositiveSpan = 12;
constexpr int kPositiveDelta = 13;
constexpr int kCreated = 15;
}  // namespace histogram_field
namespace bucket_field {
constexpr int kCumulativeCount = 1;
constexpr int kUpperBound = 2;
}  // namespace bucket_field
namespace span_field {
constexpr int kOffset = 1;
constexpr int kLength = 2;
}  // namespace span_field
constexpr int kTimestampSeconds = 1;  // of google.protobuf.Timestamp

// Values of MetricType.
constexpr uint64_t kTypeCounter = 0;
constexpr uint64_t kTypeGauge = 1;
constexpr uint64_t kTypeSummary = 2;
constexpr uint64_t kTypeUntyped = 3;
constexpr uint64_t kTypeHistogram = 4;

constexpr size_t kMaxVarint = 10;
// A family's length is known when its last series is. Its room is filled up with bytes that say
// nothing: five are what readers of delimited messages take.
constexpr size_t kFrameBytes = 5;
// A tag and a length, a varint or a double.
constexpr size_t kMaxField = 1 + kMaxVarint;
// What the copies of short texts may write beyond their end.
constexpr size_t kBlock = 16;

// All our field numbers fit a tag of one byte.
char* PutTag(char* out, int field, WireType type) {
  *out = static_cast<char>(Tag(field, type));
  return out + 1;
}

char* PutUint(char* out, int field, uint64_t value) {
  return WriteVarint(value, PutTag(out, field, WireType::kVarint));
}

// Small numbers of either sign are short this way; protobuf calls it sint.
char* PutSint(char* out, int field, int64_t value) { return PutUint(out, field, ZigZag(value)); }

char* PutDouble(char* out, int field, double value) {
  static_assert(std::endian::native == std::endian::little);
  out = PutTag(out, field, WireType::kFixed64);
  std::memcpy(out, &value, sizeof(value));
  return out + sizeof(value);
}

char* PutText(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* PutString(char* out, int field, std::string_view text) {
  return PutText(WriteVarint(text.size(), PutTag(out, field, WireType::kBytes)), text);
}

// A message within a message. Its length stands before it and is known after it: the content is
// written where it belongs if the length takes `guess` bytes, and moved if not.
class Nested {
 public:
  Nested(char* out, int field, size_t guess)
      : length_(PutTag(out, field, WireType::kBytes)), guess_(guess) {}
  char* content() const { return length_ + guess_; }
  // Returns the end of the whole.
  char* End(char* end) const {
    const auto size = static_cast<size_t>(end - content());
    const size_t needed = VarintBytes(size);
    if (needed != guess_) std::memmove(length_ + needed, content(), size);
    WriteVarint(size, length_);
    return length_ + needed + size;
  }

 private:
  char* length_;
  size_t guess_;
};
constexpr size_t kMaxNested = 1 + kMaxVarint;

// Finds the quotes in a text, a block at a time.
class QuoteScanner {
 public:
  explicit QuoteScanner(std::string_view text)
      : at_(text.data()), end_(text.data() + text.size()) {}

  // The next one; there must be one.
  const char* Next() {
    while (quotes_ == 0) ScanBlock();
    const char* const quote = block_ + std::countr_zero(quotes_);
    quotes_ &= quotes_ - 1;
    return quote;
  }

 private:
  void ScanBlock() {
    block_ = at_;
    if (end_ - at_ >= static_cast<ptrdiff_t>(kBlock)) {
      const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
      quotes_ = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(block, _mm_set1_epi8('"'))));
      at_ += kBlock;
      return;
    }
    for (unsigned bit = 1; at_ < end_; ++at_, bit <<= 1) {
      if (*at_ == '"') quotes_ |= bit;
    }
  }

  const char* at_;
  const char* end_;
  const char* block_ = nullptr;
  unsigned quotes_ = 0;
};

// What the labels may take: each has at least four characters of its own and takes seven, or twelve
// if texts are so long that their lengths take three bytes.
size_t LabelsBound(std::string_view labels) { return 2 * labels.size() + kBlock; }
// What they mostly take.
size_t LabelsGuess(std::string_view labels) { return labels.size() + labels.size() / 8; }

// A block at once where there is one to read, up to `end`.
char* PutShort(char* out, std::string_view text, const char* end) {
  if (text.size() > kBlock || end - text.data() < static_cast<ptrdiff_t>(kBlock)) {
    return PutText(out, text);
  }
  std::memcpy(out, text.data(), kBlock);
  return out + text.size();
}

// A LabelPair message. `name` can be read up to `name_end`, `value` up to `value_end`.
char* PutLabel(char* out, std::string_view name, const char* name_end, std::string_view value,
               const char* value_end) {
  const size_t size =
      2 + VarintBytes(name.size()) + name.size() + VarintBytes(value.size()) + value.size();
  out = WriteVarint(size, PutTag(out, metric_field::kLabel, WireType::kBytes));
  out = WriteVarint(name.size(), PutTag(out, label_field::kName, WireType::kBytes));
  out = PutShort(out, name, name_end);
  out = WriteVarint(value.size(), PutTag(out, label_field::kValue, WireType::kBytes));
  return PutShort(out, value, value_end);
}

// Without backslashes every other quote ends a value.
char* PutPlainLabels(char* out, std::string_view labels) {
  const char* const end = labels.data() + labels.size();
  QuoteScanner quotes(labels);
  for (const char* name = labels.data(); name < end;) {
    const char* const value = quotes.Next() + 1;
    const char* const value_end = quotes.Next();
    out = PutLabel(out, {name, static_cast<size_t>(value - 2 - name)}, end,
                   {value, static_cast<size_t>(value_end - value)}, end);
    name = value_end + 2;  // the comma too
  }
  return out;
}

char* PutEscapedLabels(char* out, std::string_view labels) {
  const char* const end = labels.data() + labels.size();
  std::string unescaped;
  for (const char* at = labels.data(); at < end;) {
    const char* const name = at;
    while (*at != '=') ++at;
    const std::string_view name_text(name, static_cast<size_t>(at - name));
    at += 2;  // the quote too
    unescaped.clear();
    for (; *at != '"'; ++at) {
      const bool escapes = *at == '\\';
      if (escapes) ++at;
      unescaped.push_back(escapes && *at == 'n' ? '\n' : *at);
    }
    at += 2;  // the comma too
    out = PutLabel(out, name_text, end, unescaped, unescaped.data() + unescaped.size());
  }
  return out;
}

// The labels of a series, which come as in the text formats: `a="b",c="d"`.
char* PutLabels(char* out, std::string_view labels) {
  if (labels.empty()) return out;
  const bool escaped = std::memchr(labels.data(), '\\', labels.size()) != nullptr;
  return escaped ? PutEscapedLabels(out, labels) : PutPlainLabels(out, labels);
}

// A Metric message: its labels, then what `put_value` appends: mostly `value_guess` bytes, never
// more than `value_bound`.
template <typename PutValue>
void AppendMetric(std::string_view labels, size_t value_guess, size_t value_bound,
                  std::string* page, PutValue put_value) {
  char* const out = Extend(page, kMaxNested + LabelsBound(labels) + value_bound + kBlock);
  const Nested metric(out, family_field::kMetric, VarintBytes(LabelsGuess(labels) + value_guess));
  char* end = PutLabels(metric.content(), labels);
  end = put_value(end);
  EndAt(metric.End(end), page);
}

char* PutCreated(char* out, int field, int64_t created_s) {
  if (created_s <= 0) return out;
  const Nested timestamp(out, field, 1);
  return timestamp.End(
      PutUint(timestamp.content(), kTimestampSeconds, static_cast<uint64_t>(created_s)));
}
constexpr size_t kMaxCreated = kMaxNested + kMaxField;

// A message of one double, and for counters the time.
constexpr size_t kMaxSimpleValue = 2 + kMaxField + kMaxCreated;
constexpr size_t kSimpleValue = 11;
constexpr size_t kCreatedBytes = 8;

uint64_t TypeOf(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return kTypeCounter;
    case FamilyType::kGauge:
      return kTypeGauge;
    case FamilyType::kHistogram:
      return kTypeHistogram;
    case FamilyType::kSummary:
      return kTypeSummary;
    case FamilyType::kUntyped:
      break;
  }
  return kTypeUntyped;
}

void BeginFamily(std::string_view name, std::string_view help, uint64_t type, std::string* page) {
  char* out = Extend(page, kFrameBytes + 3 * kMaxField + name.size() + help.size());
  out += kFrameBytes;
  out = PutString(out, family_field::kName, name);
  if (!help.empty()) out = PutString(out, family_field::kHelp, help);
  out = PutUint(out, family_field::kType, type);
  EndAt(out, page);
}

size_t SpansBound(const NativeBuckets& buckets) {
  return buckets.spans.size() * (2 + 2 * kMaxField) + kMaxNested +
         buckets.deltas.size() * kMaxVarint;
}

char* PutNativeBuckets(char* out, int span_field_number, int delta_field,
                       const NativeBuckets& buckets) {
  for (const BucketSpan& span : buckets.spans) {
    const Nested nested(out, span_field_number, 1);
    char* end = PutSint(nested.content(), span_field::kOffset, span.offset);
    end = PutUint(end, span_field::kLength, span.length);
    out = nested.End(end);
  }
  if (buckets.deltas.empty()) return out;
  constexpr size_t kOneByteEach = 127;
  const Nested packed(out, delta_field, buckets.deltas.size() > kOneByteEach ? 2 : 1);
  char* end = packed.content();
  for (const int64_t delta : buckets.deltas) end = WriteVarint(ZigZag(delta), end);
  return packed.End(end);
}

char* PutNative(char* out, const NativeHistogram& native) {
  using namespace histogram_field;  // NOLINT(google-build-using-namespace): names of this file
  out = PutSint(out, kSchema, native.schema);
  out = PutDouble(out, kZeroThreshold, native.zero_threshold);
  out = PutUint(out, kZeroCount, native.zero_count);
  out = PutNativeBuckets(out, kNegativeSpan, kNegativeDelta, native.negative);
  return PutNativeBuckets(out, kPositiveSpan, kPositiveDelta, native.positive);
}

size_t NativeBound(const NativeHistogram& native) {
  return 3 * kMaxField + SpansBound(native.negative) + SpansBound(native.positive);
}

// Cumulative, without +Inf, which is the count.
char* PutClassic(char* out, const HistogramValue& value, uint64_t count) {
  uint64_t below = 0;
  for (size_t i = 0; i < value.bounds.size(); ++i) {
    below += value.buckets[i];
    const Nested bucket(out, histogram_field::kBucket, 1);
    char* end = PutUint(bucket.content(), bucket_field::kCumulativeCount, std::min(below, count));
    out = bucket.End(PutDouble(end, bucket_field::kUpperBound, value.bounds[i]));
  }
  return out;
}

constexpr size_t kMaxBucket = 2 + 2 * kMaxField;
// What things mostly take.
constexpr size_t kUsualBucket = 14;
constexpr size_t kUsualCountAndSum = 13 + kCreatedBytes;
size_t NativeGuess(const NativeHistogram& native) {
  constexpr size_t kUsualHead = 20;
  constexpr size_t kUsualDelta = 1;
  return kUsualHead + (native.positive.deltas.size() + native.negative.deltas.size()) * kUsualDelta;
}

uint64_t CountOf(const HistogramValue& value) {
  uint64_t count = 0;
  for (const uint64_t bucket : value.buckets) count += bucket;
  return count;
}

}  // namespace

void ProtobufEncoder::Family(const FamilyView& family, std::string* page) const {
  BeginFamily(family.name, family.help, TypeOf(family.type), page);
}

void ProtobufEncoder::EndFamily(size_t begin, uint64_t elsewhere, std::string* page) const {
  uint64_t length = page->size() - begin - kFrameBytes + elsewhere;
  char* out = page->data() + begin;
  for (size_t i = 1; i < kFrameBytes; ++i, length >>= 7) {
    *out++ = static_cast<char>(length | 0x80);
  }
  *out = static_cast<char>(length);
}

void ProtobufEncoder::Counter(const FamilyView&, std::string_view labels, const CounterValue& value,
                              std::string* page) const {
  const size_t guess = kSimpleValue + (value.created_s > 0 ? kCreatedBytes : 0);
  AppendMetric(labels, guess, kMaxSimpleValue, page, [&](char* out) {
    const Nested counter(out, metric_field::kCounter, 1);
    char* end =
        PutDouble(counter.content(), kValueField, static_cast<double>(value.whole) + value.rest);
    return counter.End(PutCreated(end, kCounterCreated, value.created_s));
  });
}

void ProtobufEncoder::Gauge(const FamilyView& family, std::string_view labels, double value,
                            std::string* page) const {
  const bool untyped = family.type == FamilyType::kUntyped;
  AppendMetric(labels, kSimpleValue, kMaxSimpleValue, page, [&](char* out) {
    const Nested nested(out, untyped ? metric_field::kUntyped : metric_field::kGauge, 1);
    return nested.End(PutDouble(nested.content(), kValueField, value));
  });
}

void ProtobufEncoder::Histogram(const FamilyView&, std::string_view labels,
                                const HistogramValue& value, std::string* page) const {
  const NativeHistogram* const native = form_ == HistogramForm::kClassic ? nullptr : value.native;
  const bool classic = native == nullptr || form_ == HistogramForm::kBoth;
  const size_t bound = kMaxNested + 2 * kMaxField + kMaxCreated +
                       (classic ? value.bounds.size() * kMaxBucket : 0) +
                       (native != nullptr ? NativeBound(*native) : 0);
  const size_t guess = kUsualCountAndSum + (classic ? value.bounds.size() * kUsualBucket : 0) +
                       (native != nullptr ? NativeGuess(*native) : 0);
  AppendMetric(labels, guess, bound, page, [&](char* out) {
    const uint64_t count = native != nullptr ? native->count : CountOf(value);
    const Nested histogram(out, metric_field::kHistogram, VarintBytes(guess));
    char* end = PutUint(histogram.content(), histogram_field::kCount, count);
    end = PutDouble(end, histogram_field::kSum, value.sum);
    if (classic) end = PutClassic(end, value, count);
    if (native != nullptr) end = PutNative(end, *native);
    return histogram.End(PutCreated(end, histogram_field::kCreated, value.created_s));
  });
}

void ProtobufEncoder::Summary(const FamilyView&, std::string_view labels, const SummaryValue& value,
                              std::string* page) const {
  constexpr size_t kMaxQuantile = 2 + 2 * kMaxField;
  const size_t bound = kMaxNested + 2 * kMaxField + kMaxCreated + value.ranks.size() * kMaxQuantile;
  constexpr size_t kUsualQuantile = 20;
  const size_t guess = kUsualCountAndSum + value.ranks.size() * kUsualQuantile;
  AppendMetric(labels, guess, bound, page, [&](char* out) {
    const Nested summary(out, metric_field::kSummary, VarintBytes(guess));
    char* end = PutUint(summary.content(), summary_field::kCount, value.count);
    end = PutDouble(end, summary_field::kSum, value.sum);
    for (size_t i = 0; i < value.ranks.size(); ++i) {
      const Nested quantile(end, summary_field::kQuantile, 1);
      end = PutDouble(quantile.content(), quantile_field::kQuantile, value.ranks[i]);
      end = quantile.End(PutDouble(end, quantile_field::kValue, value.values[i]));
    }
    return summary.End(PutCreated(end, summary_field::kCreated, value.created_s));
  });
}

void ProtobufEncoder::Finish(std::string* page) const {
  if (coding_ == ContentCoding::kGzip && !page->empty()) *page = GzipMember(*page);
}

}  // namespace tallyd
