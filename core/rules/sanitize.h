// Names as Prometheus takes them, the way statsd_exporter makes them (docs/protocol.md, "Names").

#ifndef TALLYD_CORE_RULES_SANITIZE_H_
#define TALLYD_CORE_RULES_SANITIZE_H_

#include <string>
#include <string_view>

namespace tallyd {

// Appends `text`, which is valid UTF-8, as a metric or label name: a leading digit gets "_" before
// it, each character other than [a-zA-Z0-9_] becomes one "_", and a run of dashes becomes one.
void AppendSanitizedName(std::string_view text, std::string* out);

// Appends a label value as the text formats escape it: backslash, double quote, line feed.
void AppendEscapedLabelValue(std::string_view value, std::string* out);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_SANITIZE_H_
