#include "core/expose/negotiate.h"

#include <cstddef>
#include <optional>
#include <string_view>

namespace tallyd {
namespace {

constexpr std::string_view kOpenMetricsVersion = "1.0.0";
constexpr std::string_view kPrometheusVersion = "0.0.4";

// q-values have three decimals at most, so thousandths hold them exactly.
constexpr int kMaxQuality = 1000;

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (Lower(a[i]) != Lower(b[i])) return false;
  }
  return true;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::string_view Unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return text;
  return text.substr(1, text.size() - 2);
}

// Cuts the part before the next `separator` off `rest`; a separator in a quoted string does not
// count.
std::string_view NextPart(char separator, std::string_view* rest) {
  bool quoted = false;
  size_t end = 0;
  for (; end < rest->size(); ++end) {
    const char c = (*rest)[end];
    if (quoted && c == '\\') {
      ++end;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == separator && !quoted) {
      break;
    }
  }
  if (end >= rest->size()) {
    const std::string_view part = *rest;
    *rest = {};
    return Trim(part);
  }
  const std::string_view part = rest->substr(0, end);
  rest->remove_prefix(end + 1);
  return Trim(part);
}

// Reads a q-value in thousandths: "0" or "1", and up to three decimals.
std::optional<int> ParseQuality(std::string_view text) {
  constexpr size_t kMaxChars = 5;
  if (text.empty() || text.size() > kMaxChars || (text[0] != '0' && text[0] != '1')) return {};
  if (text.size() > 1 && text[1] != '.') return {};
  int quality = (text[0] - '0') * kMaxQuality;
  int weight = kMaxQuality;
  for (const char c : text.substr(text.size() > 1 ? 2 : 1)) {
    if (c < '0' || c > '9') return {};
    weight /= 10;
    quality += (c - '0') * weight;
  }
  if (quality > kMaxQuality) return {};
  return quality;
}

// One element of an Accept or Accept-Encoding header. Other parameters than these say nothing that
// would make us answer otherwise (charset, Prometheus 3's escaping).
struct Range {
  std::string_view name;
  std::string_view version;
  std::string_view proto;
  std::string_view encoding;
  int quality = kMaxQuality;
};

std::optional<Range> ParseRange(std::string_view element) {
  Range range;
  range.name = NextPart(';', &element);
  while (!element.empty()) {
    std::string_view value = NextPart(';', &element);
    const std::string_view name = NextPart('=', &value);
    if (EqualsIgnoringCase(name, "q")) {
      const std::optional<int> quality = ParseQuality(value);
      if (!quality.has_value()) return {};
      range.quality = *quality;
    } else if (EqualsIgnoringCase(name, "version")) {
      range.version = Unquote(value);
    } else if (EqualsIgnoringCase(name, "proto")) {
      range.proto = Unquote(value);
    } else if (EqualsIgnoringCase(name, "encoding")) {
      range.encoding = Unquote(value);
    }
  }
  return range;
}

// How closely a range describes one of our types; the closest decides.
enum class Closeness { kNone, kAnything, kAnySubtype, kType, kVersion };

struct MediaType {
  std::string_view name;
  std::string_view any_subtype;
  std::string_view version;
};

constexpr MediaType kOpenMetrics = {"application/openmetrics-text", "application/*",
                                    kOpenMetricsVersion};
constexpr MediaType kPrometheus = {"text/plain", "text/*", kPrometheusVersion};

Closeness ClosenessTo(const MediaType& type, const Range& range) {
  if (EqualsIgnoringCase(range.name, type.name)) {
    if (range.version.empty()) return Closeness::kType;
    return range.version == type.version ? Closeness::kVersion : Closeness::kNone;
  }
  if (EqualsIgnoringCase(range.name, type.any_subtype)) return Closeness::kAnySubtype;
  return range.name == "*/*" ? Closeness::kAnything : Closeness::kNone;
}

// Other messages and other encodings have the same media type, and a wildcard may mean any.
Closeness ClosenessToProtobuf(const Range& range) {
  const bool asks = EqualsIgnoringCase(range.name, "application/vnd.google.protobuf") &&
                    EqualsIgnoringCase(range.proto, "io.prometheus.client.MetricFamily") &&
                    EqualsIgnoringCase(range.encoding, "delimited");
  return asks ? Closeness::kVersion : Closeness::kNone;
}

// What a header says of one of our types: of equally close ranges, the most generous.
struct Wish {
  Closeness closeness = Closeness::kNone;
  int quality = 0;

  void Consider(Closeness range_closeness, int range_quality) {
    if (range_closeness == Closeness::kNone || range_closeness < closeness) return;
    if (range_closeness == closeness && range_quality <= quality) return;
    closeness = range_closeness;
    quality = range_quality;
  }
};

// Calls `visit` with each range that can be read, up to the bound on their number.
template <typename Visitor>
void ForEachRange(std::string_view header, Visitor visit) {
  for (int i = 0; i < kMaxAcceptRanges && !header.empty(); ++i) {
    const std::optional<Range> range = ParseRange(NextPart(',', &header));
    if (range.has_value()) visit(*range);
  }
}

}  // namespace

ScrapeFormat NegotiateFormat(std::string_view accept_untrusted) {
  Wish protobuf;
  Wish open_metrics;
  Wish prometheus;
  ForEachRange(accept_untrusted, [&](const Range& range) {
    protobuf.Consider(ClosenessToProtobuf(range), range.quality);
    open_metrics.Consider(ClosenessTo(kOpenMetrics, range), range.quality);
    prometheus.Consider(ClosenessTo(kPrometheus, range), range.quality);
  });
  if (protobuf.quality > 0 && protobuf.quality >= open_metrics.quality &&
      protobuf.quality >= prometheus.quality) {
    return ScrapeFormat::kProtobuf;
  }
  if (open_metrics.quality > prometheus.quality) return ScrapeFormat::kOpenMetrics100;
  // Whoever takes anything, such as curl or a browser, has not asked for the younger format.
  const bool asked_for = open_metrics.quality > 0 && open_metrics.closeness > Closeness::kAnything;
  return asked_for && open_metrics.quality == prometheus.quality ? ScrapeFormat::kOpenMetrics100
                                                                 : ScrapeFormat::kPrometheus004;
}

ContentCoding NegotiateCoding(std::string_view accept_encoding_untrusted) {
  Wish gzip;
  ForEachRange(accept_encoding_untrusted, [&](const Range& range) {
    if (EqualsIgnoringCase(range.name, "gzip") || EqualsIgnoringCase(range.name, "x-gzip")) {
      gzip.Consider(Closeness::kType, range.quality);
    } else if (range.name == "*") {
      gzip.Consider(Closeness::kAnything, range.quality);
    }
  });
  return gzip.quality > 0 ? ContentCoding::kGzip : ContentCoding::kIdentity;
}

std::string_view ContentType(ScrapeFormat format) {
  switch (format) {
    case ScrapeFormat::kProtobuf:
      return "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
             "encoding=delimited";
    case ScrapeFormat::kOpenMetrics100:
      return "application/openmetrics-text; version=1.0.0; charset=utf-8";
    case ScrapeFormat::kPrometheus004:
      break;
  }
  return "text/plain; version=0.0.4; charset=utf-8";
}

}  // namespace tallyd
