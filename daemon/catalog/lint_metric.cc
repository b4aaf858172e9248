#include <algorithm>
#include <cstddef>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/rules/complaints.h"
#include "daemon/catalog/lint_parts.h"

namespace tallyd {
namespace {

// What tallyd allows a family by default; more than that folds.
constexpr size_t kMostSeries = 100'000;
// An identity has more values than anybody looks at; what is bounded lower is a kind.
constexpr size_t kMostIdentities = 100;

bool NamesIdentities(const std::string& label) {
  return label == "id" || absl::EndsWith(label, "_id") || absl::EndsWith(label, "uuid") ||
         label == "email" || label == "ip" || label == "session";
}

void LintLabel(const DeclaredLabel& label, LintSubject* subject) {
  if (label.help.empty()) {
    subject->Wrong(absl::StrCat("the label ", label.name, " has no help"),
                   "say what it tells apart");
  }
  const bool has_unknown =
      std::find(label.values.begin(), label.values.end(), "unknown") != label.values.end();
  if (has_unknown && absl::AsciiStrToLower(label.help).find("unknown") == std::string::npos) {
    subject->Wrong(absl::StrCat("the label ", label.name,
                                " has the value \"unknown\", which often means that it is read "
                                "in the wrong place"),
                   "read it where it is known, or say in the label's help when it is unknown");
  }
  if (!label.is_enumerable() && NamesIdentities(label.name) && label.max_values > kMostIdentities) {
    subject->Wrong(absl::StrCat("the label ", label.name, " tells ", label.max_values,
                                " identities apart, each a series"),
                   "count them all together, and put identities into logs");
  }
  for (const std::string& value : label.values) {
    if (value.find_first_of(",|\n") == std::string::npos || !label.from.empty()) continue;
    subject->Wrong(
        absl::StrCat("the value ", Quoted(value), " of ", label.name, " cannot be sent in a tag"),
        "use no comma, no bar and no line end");
  }
}

void LintGauge(const DeclaredMetric& metric, LintSubject* subject) {
  if (!metric.observed.empty() && (!metric.sources.empty() || metric.single_sender)) {
    subject->Wrong("the gauge is both read by tallyd and sent: each sets what the other one said",
                   "leave `sources` and `single_sender` out, or `observed`");
  } else if (metric.sources.size() > 1 && metric.labels.empty()) {
    subject->Wrong(absl::StrCat("the gauge is fed from ", metric.sources.size(),
                                " names: each sets what the others said"),
                   "have one authoritative source, or a label that tells them apart");
  }
}

}  // namespace

void LintMetric(const Catalog& catalog, const DeclaredMetric& metric, LintSubject* subject) {
  if (metric.help.empty()) {
    subject->Wrong("has no help", "say in one sentence what is counted, where");
  }
  if (metric.owner.empty() && catalog.owner.empty()) {
    subject->Wrong("has no owner", "give it `owner`, or the catalog one");
  }
  // The default bounds are those of requests, in seconds.
  const bool has_buckets =
      !metric.buckets.empty() &&
      (metric.unit == "seconds" || metric.buckets != HistogramOptions().buckets);
  if (metric.type == DeclaredType::kHistogram && !has_buckets) {
    subject->Wrong("the histogram has no buckets of its own",
                   "give it bounds around the values that matter to an alert");
  }
  if (metric.type == DeclaredType::kGauge) LintGauge(metric, subject);
  if (metric.MaxSeries() > kMostSeries) {
    subject->Wrong(absl::StrCat("may have ", metric.MaxSeries(), " series"),
                   "bound its labels lower; a family may have 100000 by default");
  }
  for (const DeclaredLabel& label : metric.labels) LintLabel(label, subject);
}

}  // namespace tallyd
