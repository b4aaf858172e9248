#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/rules/complaints.h"
#include "daemon/catalog/lint_parts.h"
#include "daemon/catalog/promql_meaning.h"

namespace tallyd {
namespace {

using Kind = PromqlExpr::Kind;

// A rate over fewer scrapes has gaps when one of them fails.
constexpr int64_t kFewestScrapes = 4;

template <size_t kSize>
bool IsOneOf(const std::string& name, const std::array<std::string_view, kSize>& list) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool IsRate(const std::string& function) {
  return IsOneOf(function, std::array<std::string_view, 3>{"rate", "irate", "increase"});
}

// Functions for which it does not matter that a counter only grows.
bool LooksAtPresence(const std::string& function) {
  return IsOneOf(function, std::array<std::string_view, 9>{
                               "absent", "absent_over_time", "present_over_time", "count", "group",
                               "count_over_time", "changes", "resets", "timestamp"});
}

class Reader {
 public:
  Reader(const DeclaredNames& names, int64_t scrape_interval_ms, LintSubject* subject)
      : names_(names), scrape_interval_ms_(scrape_interval_ms), subject_(*subject) {}

  // `around` is the innermost function or aggregation that has a say on counters.
  void Read(const PromqlExpr& expr, const std::string& around) {
    switch (expr.kind) {
      case Kind::kSelector:
        ReadSelector(expr, around);
        return;
      case Kind::kCall:
        ReadCall(expr);
        break;
      case Kind::kAggregation:
        ReadAggregation(expr);
        break;
      default:
        break;
    }
    const bool has_say =
        (expr.kind == Kind::kCall && (TakesRange(expr.name) || LooksAtPresence(expr.name))) ||
        (expr.kind == Kind::kAggregation && LooksAtPresence(expr.name));
    for (const PromqlExpr& child : expr.children) Read(child, has_say ? expr.name : around);
  }

 private:
  void ReadSelector(const PromqlExpr& selector, const std::string& around) {
    const std::string& name = selector.name;
    if (name.empty()) {
      subject_.Wrong("selects series without a name", "write the metric's name before the braces");
      return;
    }
    const DeclaredName* const declared = names_.Find(name);
    if (declared == nullptr) {
      if (!names_.IsRecorded(name) && !IsForeignName(name)) ReportUndeclared(name);
      return;
    }
    for (const PromqlMatcher& matcher : selector.matchers) ReadMatcher(name, *declared, matcher);
    if (declared->role == SeriesRole::kWhole) {
      subject_.Wrong(absl::StrCat(name, " is a histogram and has no series of that name"),
                     absl::StrCat("use ", name, "_bucket, ", name, "_sum or ", name, "_count"));
    } else if (declared->grows() && !IsRate(around) && !LooksAtPresence(around)) {
      subject_.Wrong(absl::StrCat("looks at the counter ", name,
                                  " as it is: it only grows, and starts again at 0"),
                     "take its rate() or increase()");
    } else if (!declared->grows() && (IsRate(around) || around == "resets")) {
      subject_.Wrong(absl::StrCat("takes ", around, "() of ", name, ", which is no counter"),
                     "use delta(), deriv() or an _over_time function for what goes up and down");
    }
  }

  void ReportUndeclared(const std::string& name) {
    const std::string nearest = names_.Nearest(name);
    subject_.Wrong(absl::StrCat("mentions ", name, ", which is not declared"),
                   nearest.empty() ? "declare it, or write a declared one"
                                   : absl::StrCat("did you mean ", nearest, "?"));
  }

  void ReadMatcher(const std::string& name, const DeclaredName& declared,
                   const PromqlMatcher& matcher) {
    if (declared.labels.count(matcher.label) == 0) {
      if (IsTargetLabel(matcher.label)) return;
      subject_.Wrong(absl::StrCat(name, " has no label ", matcher.label),
                     declared.labels.empty()
                         ? "it has none at all"
                         : absl::StrCat("it has ", absl::StrJoin(declared.labels, ", ")));
      return;
    }
    const DeclaredLabel* const label = FindLabel(*declared.metric, matcher.label);
    if (label == nullptr || !label->is_enumerable() || FitsSome(matcher, label->values)) return;
    subject_.Wrong(absl::StrCat("no declared value of ", matcher.label, " fits ", matcher.label,
                                matcher.op, Quoted(matcher.value)),
                   absl::StrCat("it has ", absl::StrJoin(label->values, ", ")));
  }

  static bool FitsSome(const PromqlMatcher& matcher, const std::vector<std::string>& values) {
    // What leaves values out is held against those, too: a value that is none leaves out nothing.
    const bool is_regex = absl::EndsWith(matcher.op, "~");
    if (matcher.value.empty()) return true;
    return std::any_of(values.begin(), values.end(), [&](const std::string& value) {
      return is_regex ? RE2::FullMatch(value, matcher.value) : value == matcher.value;
    });
  }

  void ReadCall(const PromqlExpr& call) {
    if (call.name == "histogram_quantile") ReadQuantile(call);
    if (!TakesRange(call.name)) return;
    const auto ranged = std::find_if(call.children.begin(), call.children.end(),
                                     [](const PromqlExpr& child) { return child.range_ms != 0; });
    if (ranged == call.children.end()) return;
    if (ranged->range_ms > 0 && ranged->range_ms < kFewestScrapes * scrape_interval_ms_) {
      subject_.Doubt(
          absl::StrCat(call.name, "() over ", PromqlDuration(ranged->range_ms), " sees fewer than ",
                       kFewestScrapes, " scrapes"),
          absl::StrCat("take ", PromqlDuration(kFewestScrapes * scrape_interval_ms_), " or more"));
    }
    if (!IsRate(call.name)) return;
    if (ranged->kind == Kind::kSubquery && ranged->children[0].kind == Kind::kAggregation) {
      subject_.Wrong(absl::StrCat("takes ", call.name,
                                  "() of an aggregation: a restart of one of "
                                  "many looks like a fall of all"),
                     "take the rate of each series first, then sum()");
    } else if (names_.IsRecorded(ranged->name) &&
               MeaningOf(*ranged, names_).kind != PromqlMeaning::Kind::kCounter) {
      subject_.Wrong(
          absl::StrCat("takes ", call.name, "() of ", ranged->name, ", which is no counter"),
          "use what is recorded as it is");
    }
  }

  void ReadQuantile(const PromqlExpr& call) {
    if (call.children.size() != 2) {
      subject_.Wrong("histogram_quantile() has not two arguments", "give a quantile and buckets");
      return;
    }
    const PromqlExpr& quantile = call.children[0];
    if (quantile.kind == Kind::kNumber && !(quantile.number > 0 && quantile.number < 1)) {
      subject_.Wrong("takes a quantile that is not between 0 and 1", "write 0.99 for the 99th");
    }
    const PromqlMeaning buckets = MeaningOf(call.children[1], names_);
    if (!AreBuckets(call.children[1])) {
      subject_.Wrong("takes histogram_quantile() of what are no buckets",
                     "take the rate() of the histogram's _bucket series");
    } else if (buckets.labels && buckets.labels->count("le") == 0) {
      subject_.Wrong("aggregates buckets without their le", "sum by (le, ...)");
    }
  }

  // Every series in it is one of buckets; what is recorded counts by its definition.
  bool AreBuckets(const PromqlExpr& expr, int recorded = 0) const {
    if (expr.kind == Kind::kSelector) {
      const DeclaredName* const declared = names_.Find(expr.name);
      if (declared != nullptr) return declared->role == SeriesRole::kBucket;
      const PromqlExpr* const definition = names_.FindRecorded(expr.name);
      // What is not declared is told of elsewhere.
      return definition == nullptr || (recorded < 8 && AreBuckets(*definition, recorded + 1));
    }
    return std::all_of(expr.children.begin(), expr.children.end(),
                       [&](const PromqlExpr& child) { return AreBuckets(child, recorded); });
  }

  void ReadAggregation(const PromqlExpr& aggregation) {
    const PromqlMeaning inner = MeaningOf(aggregation.children.back(), names_);
    if ((aggregation.name == "sum" || aggregation.name == "avg") &&
        inner.kind == PromqlMeaning::Kind::kQuantile) {
      subject_.Doubt(
          absl::StrCat("takes ", aggregation.name, "() of quantiles, which gives no quantile"),
          "sum the buckets by (le) and take the quantile of the sum, or use max()");
    }
    if (!inner.labels) return;
    for (const std::string& label : aggregation.grouping_labels) {
      if (inner.labels->count(label) != 0 || IsTargetLabel(label)) continue;
      subject_.Wrong(absl::StrCat("aggregates by the label ", label, ", which is not there"),
                     absl::StrCat("there are ", absl::StrJoin(*inner.labels, ", ")));
    }
  }

  const DeclaredNames& names_;
  const int64_t scrape_interval_ms_;
  LintSubject& subject_;
};

}  // namespace

void LintExpression(const PromqlExpr& expr, const DeclaredNames& names, int64_t scrape_interval_ms,
                    LintSubject* subject) {
  Reader(names, scrape_interval_ms, subject).Read(expr, "");
}

}  // namespace tallyd
