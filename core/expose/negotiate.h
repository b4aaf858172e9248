// Content negotiation of a scrape.

#ifndef TALLYD_CORE_EXPOSE_NEGOTIATE_H_
#define TALLYD_CORE_EXPOSE_NEGOTIATE_H_

#include <string_view>

#include "core/expose/text.h"

namespace tallyd {

enum class ScrapeFormat { kPrometheus004, kOpenMetrics100, kProtobuf };

// The format for an Accept header (RFC 9110 section 12.5.1): the supported one with the highest
// q-value, the more specific range deciding a type's q; among equals protobuf, then OpenMetrics
// 1.0, if a range other than "*/*" speaks for it. Protobuf is for those alone who ask for delimited
// messages of io.prometheus.client.MetricFamily: a Prometheus that did not ask would be down. No
// header and an unusable one mean text 0.0.4. Ranges over `kMaxAcceptRanges` are not read.
ScrapeFormat NegotiateFormat(std::string_view accept_untrusted);

// Gzip if the Accept-Encoding header gives it a q-value above zero (RFC 9110 section 12.5.3).
ContentCoding NegotiateCoding(std::string_view accept_encoding_untrusted);

// The Content-Type to answer with.
std::string_view ContentType(ScrapeFormat format);

inline constexpr int kMaxAcceptRanges = 64;

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_NEGOTIATE_H_
