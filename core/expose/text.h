// The text formats: Prometheus text 0.0.4 and OpenMetrics 1.0.
//
// Sources: the Prometheus exposition format page, the OpenMetrics 1.0 specification, and
// docs/protocol.md where they leave a choice. Series names are the same in both formats: a counter
// whose name does not end in "_total" is `unknown` to OpenMetrics rather than renamed.

#ifndef TALLYD_CORE_EXPOSE_TEXT_H_
#define TALLYD_CORE_EXPOSE_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/merge/page_encoder.h"

namespace tallyd {

enum class TextFormat { kPrometheus004, kOpenMetrics100 };
enum class ContentCoding { kIdentity, kGzip };

// Appends a value as both formats write it: shortest digits that read back as the same double,
// integers without exponent up to 2^53, NaN, +Inf, -Inf.
void AppendValue(double value, std::string* out);
// Appends a HELP text escaped: backslash and line feed, and in OpenMetrics the double quote.
void AppendEscapedHelp(std::string_view help, TextFormat format, std::string* out);

// Immutable and therefore thread-safe.
class TextEncoder : public PageEncoder {
 public:
  // With kGzip every page becomes a gzip member (level 1). A body made of whole members is a valid
  // gzip stream (RFC 1952 section 2.2).
  //
  // With `created_lines` OpenMetrics has a `_created` line for each series that counts. Prometheus
  // stores them as series of their own, so that is for those who ask for it.
  TextEncoder(TextFormat format, ContentCoding coding, bool created_lines = false)
      : format_(format),
        coding_(coding),
        created_lines_(created_lines && format == TextFormat::kOpenMetrics100) {}

  void Family(const FamilyView& family, std::string* page) const override;
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override;
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override;
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override;
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override;
  bool adds_created_series() const override { return created_lines_; }
  bool compresses() const override { return coding_ == ContentCoding::kGzip; }
  void Finish(std::string* page) const override;

 private:
  void AppendCreated(const FamilyView& family, std::string_view name, std::string_view labels,
                     int64_t created_s, std::string* page) const;

  TextFormat format_;
  ContentCoding coding_;
  bool created_lines_;
};

// Compresses into one gzip member, level 1.
std::string GzipMember(std::string_view bytes);

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_TEXT_H_
