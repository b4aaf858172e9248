#include "core/expose/text.h"

#include <libdeflate.h>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "core/expose/page_room.h"
#include "core/merge/family_names.h"

namespace tallyd {
namespace {

// No double needs more than 24 characters and no integer more than 20.
constexpr size_t kMaxValueChars = 32;
// Integers up to here are exact in a double, so their digits are also the shortest.
constexpr double kMaxExactInteger = 9007199254740992.0;  // 2^53
// Copies of a shared prefix go by blocks of this size and may write so much beyond their end.
constexpr size_t kBlock = 32;
constexpr std::string_view kCounterType = "counter";
constexpr int kGzipLevel = 1;

char* Put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// As Put, for texts that are mostly longer than a few bytes and differ in length from call to call:
// whole words and an overlapping last one, in line, take half the time of a call of memcpy.
char* PutText(char* out, std::string_view text) {
  constexpr size_t kWord = 16;
  if (text.size() < kWord) return Put(out, text);
  char* const end = out + text.size();
  const char* from = text.data();
  for (; end - out > static_cast<ptrdiff_t>(kWord); out += kWord, from += kWord) {
    std::memcpy(out, from, kWord);
  }
  std::memcpy(end - kWord, text.data() + text.size() - kWord, kWord);
  return end;
}

// As Put, but by whole blocks: `text` and `out` both have kBlock bytes more than `text` says.
// `text` may lie just before `out`, so that a block runs into its own copy.
char* PutBlocks(char* out, std::string_view text) {
  for (size_t i = 0; i < text.size(); i += kBlock) std::memmove(out + i, text.data() + i, kBlock);
  return out + text.size();
}

char* PutInteger(char* out, uint64_t value) {
  return std::to_chars(out, out + kMaxValueChars, value).ptr;
}

// Writes a value that has at most six decimals, and returns null if it has more.
//
// With at most 15 digits in all (below 1e9, six decimals) no two decimals round to the same double,
// so one that reads back as `value` is the shortest that does. Dividing two exact integers rounds
// as reading the decimal does. This is several times as fast as the general algorithm, and most
// gauges and many sums are such numbers.
char* PutShortDecimal(char* out, double value) {
  constexpr uint64_t kScale = 1'000'000;
  const double magnitude = std::fabs(value);
  if (!(magnitude >= 1e-4 && magnitude < 1e9)) return nullptr;
  const auto scaled = static_cast<uint64_t>(magnitude * static_cast<double>(kScale) + 0.5);
  if (static_cast<double>(scaled) / static_cast<double>(kScale) != magnitude) return nullptr;
  if (std::signbit(value)) *out++ = '-';
  out = PutInteger(out, scaled / kScale);
  *out++ = '.';
  uint64_t decimals = scaled % kScale;
  for (int i = 5; i >= 0; --i, decimals /= 10) out[i] = static_cast<char>('0' + decimals % 10);
  out += 6;
  while (out[-1] == '0') --out;
  return out;
}

char* PutSpecial(char* out, double value) {
  if (std::isnan(value)) return Put(out, "NaN");
  return Put(out, value > 0 ? "+Inf" : "-Inf");
}

bool IsExactInteger(double value) {
  return std::fabs(value) <= kMaxExactInteger &&
         static_cast<double>(static_cast<int64_t>(value)) == value &&
         !(value == 0 && std::signbit(value));
}

char* PutValue(char* out, double value) {
  if (IsExactInteger(value)) {
    return std::to_chars(out, out + kMaxValueChars, static_cast<int64_t>(value)).ptr;
  }
  if (!std::isfinite(value)) return PutSpecial(out, value);
  if (char* end = PutShortDecimal(out, value)) return end;
  return std::to_chars(out, out + kMaxValueChars, value).ptr;
}

char* PutCounter(char* out, const CounterValue& value) {
  if (value.rest == 0) return PutInteger(out, value.whole);
  return PutValue(out, static_cast<double>(value.whole) + value.rest);
}

// Room for a line of a series, apart from its value.
size_t SeriesChars(std::string_view name, std::string_view labels) {
  constexpr size_t kPunctuation = 4;  // braces, space, line feed
  return name.size() + labels.size() + kPunctuation;
}

char* PutSeries(char* out, std::string_view name, std::string_view labels) {
  out = PutText(out, name);
  if (!labels.empty()) {
    *out++ = '{';
    out = PutText(out, labels);
    *out++ = '}';
  }
  *out++ = ' ';
  return out;
}

// Room for the `_sum` and `_count` lines of a histogram.
size_t SummaryLinesChars(std::string_view name, std::string_view labels) {
  constexpr size_t kSuffixes = std::string_view("_sum_count").size();
  return 2 * (SeriesChars(name, labels) + kMaxValueChars) + kSuffixes;
}

char* PutSuffixedSeries(char* out, std::string_view name, std::string_view suffix,
                        std::string_view labels) {
  out = Put(out, name);
  return PutSeries(out, suffix, labels);
}

// The part that all bucket lines of a histogram begin with: `name_bucket{labels,le="`.
char* PutBucketPrefix(char* out, std::string_view name, std::string_view labels) {
  out = Put(out, name);
  out = Put(out, "_bucket{");
  if (!labels.empty()) {
    out = Put(out, labels);
    *out++ = ',';
  }
  return Put(out, "le=\"");
}

size_t BucketPrefixChars(std::string_view name, std::string_view labels) {
  return name.size() + labels.size() + std::string_view("_bucket{,le=\"").size();
}

char* PutBucketEnd(char* out, std::string_view le, uint64_t cumulative) {
  out = Put(out, le);
  out = Put(out, "\"} ");
  out = PutInteger(out, cumulative);
  *out++ = '\n';
  return out;
}

size_t BucketLinesChars(std::string_view name, std::string_view labels,
                        const HistogramValue& value) {
  constexpr size_t kPunctuation = std::string_view("\"} \n").size();
  constexpr size_t kInf = std::string_view("+Inf").size();
  const size_t line = BucketPrefixChars(name, labels) + kPunctuation + kMaxValueChars;
  size_t les = kInf;
  for (const std::string& le : value.les) les += le.size();
  return (value.les.size() + 1) * line + les;
}

// The `_sum` and `_count` lines.
char* PutSumAndCount(char* out, std::string_view name, std::string_view labels, double sum,
                     uint64_t count) {
  out = PutSuffixedSeries(out, name, "_sum", labels);
  out = PutValue(out, sum);
  *out++ = '\n';
  out = PutSuffixedSeries(out, name, "_count", labels);
  out = PutInteger(out, count);
  *out++ = '\n';
  return out;
}

// How a format calls a family and its type.
struct Metadata {
  std::string_view name;
  std::string_view type;
};

Metadata OpenMetricsCounter(const FamilyView& family) {
  const std::string_view stem = StemBefore(family.name, kTotalSuffix);
  if (family.stem_is_taken || stem.empty()) return {family.name, "unknown"};
  return {stem, kCounterType};
}

Metadata MetadataOf(const FamilyView& family, TextFormat format) {
  switch (family.type) {
    case FamilyType::kCounter:
      if (format == TextFormat::kOpenMetrics100) return OpenMetricsCounter(family);
      return {family.name, kCounterType};
    case FamilyType::kGauge:
      return {family.name, "gauge"};
    case FamilyType::kHistogram:
      return {family.name, "histogram"};
    case FamilyType::kSummary:
      return {family.name, "summary"};
    case FamilyType::kUntyped:
      break;
  }
  return {family.name, format == TextFormat::kOpenMetrics100 ? "unknown" : "untyped"};
}

struct FreeCompressor {
  void operator()(libdeflate_compressor* compressor) const {
    libdeflate_free_compressor(compressor);
  }
};
using Compressor = std::unique_ptr<libdeflate_compressor, FreeCompressor>;

// A compressor's tables cost more to set up than a page costs to compress, so each thread that
// compresses keeps one.
libdeflate_compressor* ThreadCompressor() {
  thread_local const Compressor compressor(libdeflate_alloc_compressor(kGzipLevel));
  if (compressor == nullptr) throw std::bad_alloc();
  return compressor.get();
}

}  // namespace

void AppendValue(double value, std::string* out) {
  char digits[kMaxValueChars];
  out->append(digits, static_cast<size_t>(PutValue(digits, value) - digits));
}

void AppendEscapedHelp(std::string_view help, TextFormat format, std::string* out) {
  for (const char c : help) {
    if (c == '\\') {
      out->append("\\\\");
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '"' && format == TextFormat::kOpenMetrics100) {
      out->append("\\\"");
    } else {
      out->push_back(c);
    }
  }
}

void TextEncoder::Family(const FamilyView& family, std::string* page) const {
  const Metadata metadata = MetadataOf(family, format_);
  if (!family.help.empty()) {
    page->append("# HELP ").append(metadata.name).push_back(' ');
    AppendEscapedHelp(family.help, format_, page);
    page->push_back('\n');
  }
  page->append("# TYPE ").append(metadata.name).append(" ").append(metadata.type).push_back('\n');
}

void TextEncoder::AppendCreated(const FamilyView& family, std::string_view name,
                                std::string_view labels, int64_t created_s,
                                std::string* page) const {
  if (!created_lines_ || created_s <= 0 || family.created_is_taken) return;
  char* out = Extend(page, SeriesChars(name, labels) + kCreatedSuffix.size() + kMaxValueChars);
  out = PutSuffixedSeries(out, name, kCreatedSuffix, labels);
  out = PutInteger(out, static_cast<uint64_t>(created_s));
  *out++ = '\n';
  EndAt(out, page);
}

void TextEncoder::Counter(const FamilyView& family, std::string_view labels,
                          const CounterValue& value, std::string* page) const {
  char* out = Extend(page, SeriesChars(family.name, labels) + kMaxValueChars);
  out = PutSeries(out, family.name, labels);
  out = PutCounter(out, value);
  *out++ = '\n';
  EndAt(out, page);
  if (!created_lines_) return;
  const Metadata metadata = OpenMetricsCounter(family);
  if (metadata.type == kCounterType) {
    AppendCreated(family, metadata.name, labels, value.created_s, page);
  }
}

void TextEncoder::Gauge(const FamilyView& family, std::string_view labels, double value,
                        std::string* page) const {
  char* out = Extend(page, SeriesChars(family.name, labels) + kMaxValueChars);
  out = PutSeries(out, family.name, labels);
  out = PutValue(out, value);
  *out++ = '\n';
  EndAt(out, page);
}

void TextEncoder::Histogram(const FamilyView& family, std::string_view labels,
                            const HistogramValue& value, std::string* page) const {
  char* out = Extend(page, BucketLinesChars(family.name, labels, value) +
                               SummaryLinesChars(family.name, labels) + kBlock);
  const char* const first = out;
  out = PutBucketPrefix(out, family.name, labels);
  const std::string_view prefix(first, static_cast<size_t>(out - first));
  uint64_t cumulative = 0;
  for (size_t i = 0; i < value.les.size(); ++i) {
    cumulative += value.buckets[i];
    out = PutBucketEnd(out, value.les[i], cumulative);
    out = PutBlocks(out, prefix);
  }
  cumulative += value.buckets[value.les.size()];
  out = PutBucketEnd(out, "+Inf", cumulative);

  EndAt(PutSumAndCount(out, family.name, labels, value.sum, cumulative), page);
  AppendCreated(family, family.name, labels, value.created_s, page);
}

void TextEncoder::Summary(const FamilyView& family, std::string_view labels,
                          const SummaryValue& value, std::string* page) const {
  std::string with_quantile;
  for (size_t i = 0; i < value.quantiles.size(); ++i) {
    with_quantile.assign(labels);
    if (!labels.empty()) with_quantile.push_back(',');
    with_quantile.append("quantile=\"").append(value.quantiles[i]).push_back('"');
    Gauge(family, with_quantile, value.values[i], page);
  }
  char* const out = Extend(page, SummaryLinesChars(family.name, labels));
  EndAt(PutSumAndCount(out, family.name, labels, value.sum, value.count), page);
  AppendCreated(family, family.name, labels, value.created_s, page);
}

void TextEncoder::Finish(std::string* page) const {
  if (coding_ == ContentCoding::kGzip && !page->empty()) *page = GzipMember(*page);
}

std::string GzipMember(std::string_view bytes) {
  libdeflate_compressor* const compressor = ThreadCompressor();
  const size_t bound = libdeflate_gzip_compress_bound(compressor, bytes.size());
  // Left as it comes: the bound is more than the page, and zeroing it would cost a tenth more.
  const std::unique_ptr<char[]> member(new char[bound]);
  const size_t size =
      libdeflate_gzip_compress(compressor, bytes.data(), bytes.size(), member.get(), bound);
  return std::string(member.get(), size);
}

}  // namespace tallyd
