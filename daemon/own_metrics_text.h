// The formats of scrapes for families of prometheus-cpp, which the daemon's own metrics are.
//
// prometheus::TextSerializer rounds to 16 digits, does not escape HELP and has neither OpenMetrics
// nor protobuf.

#ifndef TALLYD_DAEMON_OWN_METRICS_TEXT_H_
#define TALLYD_DAEMON_OWN_METRICS_TEXT_H_

#include <prometheus/metric_family.h>

#include <string>

#include "core/expose/negotiate.h"

namespace tallyd {

// Appends one family, with HELP and TYPE. OpenMetrics shows a counter whose name does not end in
// "_total" as unknown, as it does for aggregates.
void AppendFamily(const prometheus::MetricFamily& family, ScrapeFormat format, std::string* out);

// Appends one family as an encoder of aggregates writes it. Untyped ones, which aggregates do not
// have, are left out.
void AppendFamily(const prometheus::MetricFamily& family, const PageEncoder& encoder,
                  std::string* out);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_OWN_METRICS_TEXT_H_
