#include "daemon/catalog/promql_meaning.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

using Kind = PromqlMeaning::Kind;

// Recorded names in recorded names: deeper than this they are taken for a circle.
constexpr int kMaxRecorded = 8;

PromqlMeaning OfExpr(const PromqlExpr& expr, const DeclaredNames& names, int recorded);

PromqlMeaning Scalar() {
  PromqlMeaning meaning;
  meaning.kind = Kind::kScalar;
  meaning.labels.emplace();
  meaning.unit = "";
  return meaning;
}

Kind KindOf(SeriesRole role) {
  switch (role) {
    case SeriesRole::kCounter:
    case SeriesRole::kBucket:
    case SeriesRole::kSum:
    case SeriesRole::kCount:
      return Kind::kCounter;
    case SeriesRole::kGauge:
      return Kind::kGauge;
    case SeriesRole::kQuantile:
      return Kind::kQuantile;
    case SeriesRole::kWhole:
      break;
  }
  return Kind::kUnknown;
}

// A selector without a matcher takes all values of a label; one with matchers some of them.
void Pin(const PromqlExpr& selector, PromqlMeaning* meaning) {
  for (const PromqlMatcher& matcher : selector.matchers) {
    meaning->pinned[matcher.label] += absl::StrCat(matcher.op, "\"", matcher.value, "\"");
  }
}

PromqlMeaning OfSelector(const PromqlExpr& expr, const DeclaredNames& names, int recorded) {
  PromqlMeaning meaning;
  if (const DeclaredName* const name = names.Find(expr.name)) {
    meaning.kind = KindOf(name->role);
    meaning.metrics.insert(name->metric->name);
    meaning.labels = name->labels;
    meaning.labels->insert({"instance", "job"});
    meaning.unit = name->unit();
  } else if (const PromqlExpr* const definition = names.FindRecorded(expr.name)) {
    if (recorded < kMaxRecorded) meaning = OfExpr(*definition, names, recorded + 1);
  }
  Pin(expr, &meaning);
  return meaning;
}

PromqlMeaning OfCall(const PromqlExpr& expr, const DeclaredNames& names, int recorded) {
  const std::string& name = expr.name;
  if (name == "time" || name == "pi" || name == "vector" || name == "scalar" ||
      expr.children.empty()) {
    return Scalar();
  }
  if (name == "absent" || name == "absent_over_time") return {};
  // The argument that is looked at is the first that is no number: histogram_quantile(0.9, x).
  PromqlMeaning meaning;
  for (const PromqlExpr& child : expr.children) {
    meaning = OfExpr(child, names, recorded);
    if (!meaning.is_scalar()) break;
  }
  if (name == "histogram_quantile") {
    meaning.kind = Kind::kQuantile;
    if (meaning.labels) meaning.labels->erase("le");
    meaning.unit.reset();
  } else if (name == "rate" || name == "irate" || name == "increase") {
    if (meaning.kind == Kind::kCounter) {
      meaning.kind = Kind::kFlow;
      const int64_t range_ms = expr.children.back().range_ms;
      meaning.flow =
          absl::StrCat(name, "[", range_ms > 0 ? PromqlDuration(range_ms) : std::string("$"), "]");
    }
  } else if (name == "changes" || name == "resets" || name == "count_over_time") {
    meaning.kind = Kind::kGauge;
    meaning.unit = "";
  } else if (name == "timestamp") {
    meaning.kind = Kind::kGauge;
    meaning.unit = "seconds";
  } else if ((name == "label_replace" || name == "label_join") && expr.children.size() > 1) {
    if (meaning.labels) meaning.labels->insert(expr.children[1].name);
  }
  return meaning;
}

PromqlMeaning OfAggregation(const PromqlExpr& expr, const DeclaredNames& names, int recorded) {
  PromqlMeaning meaning = OfExpr(expr.children.back(), names, recorded);
  if (expr.name == "topk" || expr.name == "bottomk") return meaning;
  if (expr.name == "count" || expr.name == "group" || expr.name == "count_values") {
    meaning.kind = Kind::kGauge;
    meaning.unit = "";
  }
  if (expr.grouping != PromqlExpr::Grouping::kWithout) {
    meaning.labels.emplace(expr.grouping_labels.begin(), expr.grouping_labels.end());
  } else if (meaning.labels) {
    for (const std::string& label : expr.grouping_labels) meaning.labels->erase(label);
  }
  if (expr.name == "count_values" && meaning.labels) meaning.labels->insert(expr.children[0].name);
  for (auto pin = meaning.pinned.begin(); pin != meaning.pinned.end();) {
    const bool stays = !meaning.labels || meaning.labels->count(pin->first) != 0;
    pin = stays ? std::next(pin) : meaning.pinned.erase(pin);
  }
  return meaning;
}

std::optional<std::set<std::string>> MatchedLabels(const PromqlExpr& expr,
                                                   const PromqlMeaning& left,
                                                   const PromqlMeaning& right) {
  if (expr.many != PromqlExpr::Many::kNone) {
    auto labels = expr.many == PromqlExpr::Many::kLeft ? left.labels : right.labels;
    if (labels) labels->insert(expr.included_labels.begin(), expr.included_labels.end());
    return labels;
  }
  if (expr.is_set_operation() || expr.is_comparison()) return left.labels;
  auto labels = left.labels;
  if (expr.matching == PromqlExpr::Matching::kOn) {
    labels.emplace(expr.matching_labels.begin(), expr.matching_labels.end());
  } else if (expr.matching == PromqlExpr::Matching::kIgnoring && labels) {
    for (const std::string& label : expr.matching_labels) labels->erase(label);
  }
  return labels;
}

PromqlMeaning OfBinary(const PromqlExpr& expr, const DeclaredNames& names, int recorded) {
  PromqlMeaning left = OfExpr(expr.children[0], names, recorded);
  PromqlMeaning right = OfExpr(expr.children[1], names, recorded);
  if (right.is_scalar()) return left;
  // What a number is divided by has another unit than before, but is of the same kind.
  if (left.is_scalar()) return right;
  if (expr.name == "and" || expr.name == "unless") return left;
  PromqlMeaning meaning = left;
  meaning.labels = MatchedLabels(expr, left, right);
  if (expr.is_comparison()) return meaning;
  meaning.metrics.insert(right.metrics.begin(), right.metrics.end());
  if (left.unit != right.unit) meaning.unit.reset();
  if (expr.name == "or") {
    if (left.labels != right.labels) meaning.labels.reset();
    if (left.kind != right.kind) meaning.kind = Kind::kUnknown;
    return meaning;
  }
  if (left.flow != right.flow) meaning.flow.clear();
  if (expr.name == "/") {
    meaning.kind = Kind::kQuotient;
    meaning.numerator = left.metrics;
    meaning.denominator = right.metrics;
  } else if (expr.name != "+" && expr.name != "-") {
    meaning.kind = Kind::kUnknown;
    meaning.unit.reset();
  } else if (left.kind != right.kind) {
    meaning.kind = Kind::kUnknown;
  }
  return meaning;
}

PromqlMeaning OfExpr(const PromqlExpr& expr, const DeclaredNames& names, int recorded) {
  switch (expr.kind) {
    case PromqlExpr::Kind::kNumber:
    case PromqlExpr::Kind::kText:
      return Scalar();
    case PromqlExpr::Kind::kSelector:
      return OfSelector(expr, names, recorded);
    case PromqlExpr::Kind::kSubquery:
    case PromqlExpr::Kind::kNegation:
      return OfExpr(expr.children[0], names, recorded);
    case PromqlExpr::Kind::kCall:
      return OfCall(expr, names, recorded);
    case PromqlExpr::Kind::kAggregation:
      return OfAggregation(expr, names, recorded);
    case PromqlExpr::Kind::kBinary:
      return OfBinary(expr, names, recorded);
  }
  return {};
}

}  // namespace

PromqlMeaning MeaningOf(const PromqlExpr& expr, const DeclaredNames& names) {
  return OfExpr(expr, names, 0);
}

}  // namespace tallyd
