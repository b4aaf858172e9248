#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/lint_parts.h"
#include "daemon/catalog/promql_meaning.h"

namespace tallyd {
namespace {

using ExprKind = PromqlExpr::Kind;
using Kind = PromqlMeaning::Kind;

std::string Braces(const std::set<std::string>& labels) {
  return absl::StrCat("{", absl::StrJoin(labels, ", "), "}");
}

// Names that differ in their last word alone, and have more in common than a prefix of the service:
// redis_cache_hits_total and redis_cache_misses_total.
bool ArePartsByName(const std::string& a, const std::string& b) {
  const auto words = [](const std::string& name) {
    return std::vector<std::string>(absl::StrSplit(absl::StripSuffix(name, "_total"), '_'));
  };
  const std::vector<std::string> left = words(a);
  const std::vector<std::string> right = words(b);
  return left.size() == right.size() && left.size() >= 3 &&
         std::equal(left.begin(), left.end() - 1, right.begin());
}

bool ArePartsOfOneWhole(const std::set<std::string>& metrics) {
  return std::all_of(metrics.begin(), metrics.end(), [&](const std::string& metric) {
    return metric == *metrics.begin() || ArePartsByName(*metrics.begin(), metric);
  });
}

class Arithmetic {
 public:
  Arithmetic(const DeclaredNames& names, LintSubject* subject)
      : names_(names), subject_(*subject) {}

  // `numerator` is what is divided by an expression around this one; in_sum says that the node
  // around this one is a sum, which has been looked at as a whole.
  void Read(const PromqlExpr& expr, const std::set<std::string>& numerator, bool in_sum) {
    if (expr.kind != ExprKind::kBinary) {
      for (const PromqlExpr& child : expr.children) Read(child, numerator, in_sum);
      return;
    }
    const PromqlExpr& left = expr.children[0];
    const PromqlExpr& right = expr.children[1];
    const PromqlMeaning left_meaning = MeaningOf(left, names_);
    const PromqlMeaning right_meaning = MeaningOf(right, names_);
    const bool scales = left_meaning.is_scalar() || right_meaning.is_scalar();
    if (!scales) CheckMatching(expr, left_meaning, right_meaning);
    if (!scales && expr.name == "/") CheckQuotient(left_meaning, right_meaning);
    if (!scales && expr.name == "+" && !in_sum) CheckSum(expr, numerator);
    if (expr.is_comparison()) CheckThreshold(expr, left_meaning, right_meaning);
    const bool sums = expr.name == "+" && !scales;
    const bool divides = expr.name == "/";
    Read(left, {}, sums);
    Read(right, divides ? left_meaning.metrics : std::set<std::string>(), sums);
  }

 private:
  // Which series of the two sides meet.
  void CheckMatching(const PromqlExpr& expr, const PromqlMeaning& left,
                     const PromqlMeaning& right) {
    if (expr.name == "or" || !left.labels || !right.labels) return;
    std::set<std::string> met = *left.labels;
    if (expr.matching == PromqlExpr::Matching::kOn) {
      met = {expr.matching_labels.begin(), expr.matching_labels.end()};
    } else {
      std::set<std::string> other = *right.labels;
      for (const std::string& ignored : expr.matching_labels) {
        met.erase(ignored);
        other.erase(ignored);
      }
      if (met != other) {
        subject_.Wrong(absl::StrCat("the sides of \"", expr.name, "\" have different labels, ",
                                    Braces(met), " and ", Braces(other), ", so nothing meets"),
                       "aggregate both sides by the same labels");
        return;
      }
    }
    for (const std::string& label : met) {
      if (PinsMeet(Pin(left, label), Pin(right, label), left.metrics == right.metrics)) continue;
      subject_.Wrong(absl::StrCat("the sides of \"", expr.name, "\" select different values of ",
                                  label, ", but only equal ones meet"),
                     absl::StrCat("aggregate ", label, " away on both sides: sum without (", label,
                                  ") (...)"));
    }
  }
  // Of two metrics, one side may well select what the other one has too.
  static bool PinsMeet(const std::string& left, const std::string& right, bool same_metrics) {
    if (left == right) return true;
    return !same_metrics && (left.rfind("=\"", 0) != 0 || right.rfind("=\"", 0) != 0);
  }
  static std::string Pin(const PromqlMeaning& meaning, const std::string& label) {
    const auto found = meaning.pinned.find(label);
    return found == meaning.pinned.end() ? "" : found->second;
  }

  // Like by like.
  void CheckQuotient(const PromqlMeaning& left, const PromqlMeaning& right) {
    const bool left_flows = left.kind == Kind::kFlow;
    const bool right_flows = right.kind == Kind::kFlow;
    if (left_flows && right_flows) {
      if (!left.flow.empty() && !right.flow.empty() && left.flow != right.flow) {
        subject_.Doubt(absl::StrCat("divides ", left.flow, " by ", right.flow),
                       "take the same function and range on both sides");
      }
    } else if ((left_flows && right.kind == Kind::kGauge) ||
               (right_flows && left.kind == Kind::kGauge)) {
      subject_.Doubt("divides a rate and a gauge by each other",
                     "divide like by like: events by events, states by states");
    }
    if (!left.unit || !right.unit || *left.unit == *right.unit) return;
    // Something per event is a mean; of a histogram's own sum and count it is surely one.
    const bool is_mean = right.unit->empty() && (left.metrics == right.metrics || left_flows);
    if (is_mean) return;
    const auto unit = [](const std::string& text) { return text.empty() ? "a number" : text; };
    subject_.Doubt(absl::StrCat("divides ", unit(*left.unit), " by ", unit(*right.unit)),
                   "divide like by like, or say in `reason` what the quotient is");
  }

  void CheckSum(const PromqlExpr& expr, const std::set<std::string>& numerator) {
    const PromqlMeaning sum = MeaningOf(expr, names_);
    if (sum.kind != Kind::kFlow && sum.kind != Kind::kCounter) return;
    // hits / (hits + misses): what is divided is a part of the whole.
    const bool is_whole = std::any_of(numerator.begin(), numerator.end(), [&](const auto& metric) {
      return sum.metrics.count(metric) != 0;
    });
    if (sum.metrics.size() < 2 || is_whole || ArePartsOfOneWhole(sum.metrics)) return;
    subject_.Doubt(absl::StrCat("adds unrelated counters: ", absl::StrJoin(sum.metrics, " + ")),
                   "make an alert of each, with a threshold of its own");
  }

  void CheckThreshold(const PromqlExpr& expr, const PromqlMeaning& left,
                      const PromqlMeaning& right) {
    const bool turned = expr.children[0].kind == ExprKind::kNumber;
    const PromqlExpr& number = expr.children[turned ? 0 : 1];
    if (number.kind != ExprKind::kNumber) return;
    const PromqlMeaning& value = turned ? right : left;
    std::string op = expr.name;
    if (turned && (op[0] == '<' || op[0] == '>')) op[0] = op[0] == '<' ? '>' : '<';
    const bool above = op[0] == '>' || op == "!=";
    if (!above) return;
    const double limit = number.number;
    const bool one_is_enough =
        value.flow.rfind("increase", 0) == 0 ? limit < 1 || (op == ">=" && limit <= 1) : limit <= 0;
    if (value.kind == Kind::kFlow && one_is_enough) {
      subject_.Doubt(
          absl::StrCat("fires on any single event of ", absl::StrJoin(value.metrics, ", ")),
          "compare a share of all events with a threshold, or a rate that hurts");
    } else if (value.kind == Kind::kQuotient && limit <= 0) {
      subject_.Doubt("compares a ratio with 0, so that any single event fires",
                     "give it a threshold, such as > 0.01");
    } else if (value.kind == Kind::kQuotient && limit >= 1 &&
               value.numerator == value.denominator && value.unit) {
      subject_.Wrong(
          absl::StrCat("compares a share with ", CodeNumber(limit), ", which it never exceeds"),
          "a share is from 0 to 1: write 5 % as 0.05");
    }
    CheckReach(expr.children[turned ? 1 : 0], limit);
  }

  // A quantile of buckets is never more than their largest bound.
  void CheckReach(const PromqlExpr& expr, double limit) {
    const PromqlExpr* inner = &expr;
    while (inner->kind == ExprKind::kAggregation) inner = &inner->children.back();
    if (inner->kind == ExprKind::kSelector && names_.FindRecorded(inner->name) != nullptr) {
      inner = names_.FindRecorded(inner->name);
    }
    if (inner->kind != ExprKind::kCall || inner->name != "histogram_quantile") return;
    for (const std::string& name : MeaningOf(*inner, names_).metrics) {
      const DeclaredName* const declared = names_.Find(name);
      if (declared == nullptr || declared->metric->buckets.empty()) continue;
      if (limit < declared->metric->buckets.back()) continue;
      subject_.Wrong(
          absl::StrCat("can never fire: a quantile of ", name, " is at most ",
                       CodeNumber(declared->metric->buckets.back()), ", its largest bucket"),
          "give it larger buckets, or a lower threshold");
    }
  }

  const DeclaredNames& names_;
  LintSubject& subject_;
};

// Whether an expression leaves anything out, so that an alert on it is ever silent.
bool HasCondition(const PromqlExpr& expr) {
  if (expr.is_comparison()) return !expr.returns_bool;
  if (expr.name == "unless" && expr.kind == ExprKind::kBinary) return true;
  if (expr.name == "or" && expr.kind == ExprKind::kBinary) {
    return HasCondition(expr.children[0]) && HasCondition(expr.children[1]);
  }
  if (expr.kind == ExprKind::kCall && (expr.name == "absent" || expr.name == "absent_over_time")) {
    return true;
  }
  if (expr.kind == ExprKind::kSelector) return expr.name == "ALERTS";
  return std::any_of(expr.children.begin(), expr.children.end(), HasCondition);
}

bool HasBoolAtTop(const PromqlExpr& expr) {
  if (expr.is_comparison()) return expr.returns_bool;
  return expr.is_set_operation() &&
         std::any_of(expr.children.begin(), expr.children.end(), HasBoolAtTop);
}

}  // namespace

void LintArithmetic(const PromqlExpr& expr, const DeclaredNames& names, LintSubject* subject) {
  Arithmetic(names, subject).Read(expr, {}, false);
}

void LintCondition(const PromqlExpr& expr, LintSubject* subject) {
  if (HasBoolAtTop(expr)) {
    subject->Wrong(
        "compares with \"bool\", which gives 0 where the condition does not hold, and "
        "an alert fires on any value",
        "leave \"bool\" out");
  } else if (!HasCondition(expr)) {
    subject->Doubt("has no threshold, so that it fires as soon as there is any value",
                   "compare it with one");
  }
}

}  // namespace tallyd
