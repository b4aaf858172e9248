#include "daemon/catalog/promql.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/complaints.h"
#include "daemon/catalog/promql_scanner.h"

namespace tallyd {
namespace {

using Kind = PromqlExpr::Kind;

// Deeper ones are not written by people, and each level takes some stack.
constexpr int kMaxDepth = 64;
// A chain of operators is a tree as deep as it is long.
constexpr int kMaxOperators = 500;

constexpr std::array<std::string_view, 12> kAggregations = {
    "sum",    "min",   "max",          "avg",     "group", "stddev",
    "stdvar", "count", "count_values", "bottomk", "topk",  "quantile"};

constexpr std::array<std::string_view, 22> kRangeFunctions = {"rate",
                                                              "irate",
                                                              "increase",
                                                              "delta",
                                                              "idelta",
                                                              "deriv",
                                                              "predict_linear",
                                                              "changes",
                                                              "resets",
                                                              "holt_winters",
                                                              "absent_over_time",
                                                              "avg_over_time",
                                                              "min_over_time",
                                                              "max_over_time",
                                                              "sum_over_time",
                                                              "count_over_time",
                                                              "last_over_time",
                                                              "present_over_time",
                                                              "quantile_over_time",
                                                              "stddev_over_time",
                                                              "stdvar_over_time",
                                                              "mad_over_time"};

constexpr std::array<std::string_view, 49> kInstantFunctions = {"abs",
                                                                "absent",
                                                                "acos",
                                                                "acosh",
                                                                "asin",
                                                                "asinh",
                                                                "atan",
                                                                "atanh",
                                                                "ceil",
                                                                "clamp",
                                                                "clamp_max",
                                                                "clamp_min",
                                                                "cos",
                                                                "cosh",
                                                                "day_of_month",
                                                                "day_of_week",
                                                                "day_of_year",
                                                                "days_in_month",
                                                                "deg",
                                                                "exp",
                                                                "floor",
                                                                "histogram_count",
                                                                "histogram_fraction",
                                                                "histogram_quantile",
                                                                "histogram_sum",
                                                                "hour",
                                                                "label_join",
                                                                "label_replace",
                                                                "ln",
                                                                "log10",
                                                                "log2",
                                                                "minute",
                                                                "month",
                                                                "pi",
                                                                "rad",
                                                                "round",
                                                                "scalar",
                                                                "sgn",
                                                                "sin",
                                                                "sinh",
                                                                "sort",
                                                                "sort_desc",
                                                                "sqrt",
                                                                "tan",
                                                                "tanh",
                                                                "time",
                                                                "timestamp",
                                                                "vector",
                                                                "year"};

template <typename List>
bool Has(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// Operators by how tightly they bind, the loosest first. Longer ones come before those that they
// begin with.
struct Level {
  std::array<const char*, 6> operators;
};
constexpr std::array<Level, 5> kLevels = {{
    {{"or"}},
    {{"and", "unless"}},
    {{"==", "!=", "<=", ">=", "<", ">"}},
    {{"+", "-"}},
    {{"*", "/", "%", "atan2"}},
}};

class Parser {
 public:
  explicit Parser(std::string_view text) : scanner_(text) {}

  absl::StatusOr<PromqlExpr> Parse() {
    PromqlExpr expr = Binary(0, 0);
    if (error_.empty() && !scanner_.AtEnd()) Fail("there is more than one expression");
    if (!error_.empty()) return absl::InvalidArgumentError(error_);
    return expr;
  }

 private:
  // The first one counts. What is returned after it is of no meaning.
  PromqlExpr Fail(const std::string& what) {
    if (error_.empty()) {
      const std::string before = scanner_.Before();
      error_ = before.empty() ? what : absl::StrCat(what, ", after ", Quoted(before));
    }
    return {};
  }
  void Expect(std::string_view sign) {
    if (!scanner_.Accept(sign)) Fail(absl::StrCat("\"", View(sign), "\" is missing"));
  }
  bool failed() const { return !error_.empty(); }

  PromqlExpr Binary(size_t level, int depth) {
    if (depth > kMaxDepth) return Fail("it is too deep");
    if (level == kLevels.size()) return Unary(depth + 1);
    PromqlExpr left = Binary(level + 1, depth);
    while (!failed()) {
      const char* const op = AcceptOperator(kLevels[level]);
      if (op == nullptr) break;
      if (++operators_ > kMaxOperators) return Fail("it is too long");
      PromqlExpr binary;
      binary.kind = Kind::kBinary;
      binary.name = op;
      ReadModifiers(&binary);
      binary.children.push_back(std::move(left));
      binary.children.push_back(Binary(level + 1, depth));
      left = std::move(binary);
    }
    return left;
  }

  const char* AcceptOperator(const Level& level) {
    for (const char* const op : level.operators) {
      if (op != nullptr && scanner_.Accept(op)) return op;
    }
    return nullptr;
  }

  void ReadModifiers(PromqlExpr* binary) {
    if (scanner_.Accept("bool")) {
      if (!binary->is_comparison()) Fail("\"bool\" goes with comparisons");
      binary->returns_bool = true;
    }
    const bool on = scanner_.Accept("on");
    if (!on && !scanner_.Accept("ignoring")) return;
    binary->matching = on ? PromqlExpr::Matching::kOn : PromqlExpr::Matching::kIgnoring;
    binary->matching_labels = Labels();
    const bool left = scanner_.Accept("group_left");
    if (!left && !scanner_.Accept("group_right")) return;
    binary->many = left ? PromqlExpr::Many::kLeft : PromqlExpr::Many::kRight;
    if (scanner_.Sees("(")) binary->included_labels = Labels();
  }

  PromqlExpr Unary(int depth) {
    if (depth > kMaxDepth) return Fail("it is too deep");
    if (scanner_.Accept("+")) return Unary(depth + 1);
    if (!scanner_.Accept("-")) return Power(depth);
    PromqlExpr operand = Unary(depth + 1);
    if (operand.kind == Kind::kNumber) {
      operand.number = -operand.number;
      return operand;
    }
    PromqlExpr negation;
    negation.kind = Kind::kNegation;
    negation.children.push_back(std::move(operand));
    return negation;
  }

  PromqlExpr Power(int depth) {
    PromqlExpr base = WithRange(depth);
    if (failed() || !scanner_.Accept("^")) return base;
    PromqlExpr power;
    power.kind = Kind::kBinary;
    power.name = "^";
    ReadModifiers(&power);
    power.children.push_back(std::move(base));
    power.children.push_back(Unary(depth + 1));
    return power;
  }

  // An operand and what may follow it: a range, a subquery, an offset.
  PromqlExpr WithRange(int depth) {
    PromqlExpr expr = Operand(depth + 1);
    while (!failed()) {
      if (scanner_.Accept("[")) {
        ReadRange(&expr);
      } else if (scanner_.Accept("offset")) {
        scanner_.Accept("-");
        if (!scanner_.Duration()) Fail("\"offset\" wants a duration");
      } else {
        break;
      }
    }
    return expr;
  }

  void ReadRange(PromqlExpr* expr) {
    const std::optional<int64_t> range = scanner_.Duration();
    if (!range) {
      Fail("a range is a duration like 5m");
      return;
    }
    if (scanner_.Accept(":")) {
      if (!scanner_.Sees("]") && !scanner_.Duration()) Fail("a step is a duration like 1m");
      PromqlExpr subquery;
      subquery.kind = Kind::kSubquery;
      subquery.children.push_back(std::move(*expr));
      *expr = std::move(subquery);
    } else if (expr->kind != Kind::kSelector || expr->range_ms != 0) {
      Fail("only a selector has a range; a subquery has a step: [30m:1m]");
    }
    expr->range_ms = *range;
    Expect("]");
  }

  PromqlExpr Operand(int depth) {
    if (scanner_.Accept("(")) {
      PromqlExpr expr = Binary(0, depth);
      Expect(")");
      return expr;
    }
    if (scanner_.Sees("{")) return Selector("");
    PromqlExpr expr;
    if (const std::optional<double> number = scanner_.Number()) {
      expr.number = *number;
      return expr;
    }
    if (std::optional<std::string> text = scanner_.QuotedText()) {
      expr.kind = Kind::kText;
      expr.name = *std::move(text);
      return expr;
    }
    const std::string word = scanner_.Word();
    if (word.empty()) return Fail(scanner_.AtEnd() ? "it ends too early" : "cannot be read");
    const std::string lower = absl::AsciiStrToLower(word);
    const bool groups = scanner_.Sees("(") || scanner_.Sees("by") || scanner_.Sees("without");
    if (Has(kAggregations, lower) && groups) return Aggregation(lower, depth);
    return scanner_.Sees("(") ? Call(word, depth) : Selector(word);
  }

  PromqlExpr Call(const std::string& name, int depth) {
    if (!TakesRange(name) && !Has(kInstantFunctions, name)) {
      return Fail(absl::StrCat("there is no function ", Quoted(name)));
    }
    PromqlExpr call;
    call.kind = Kind::kCall;
    call.name = name;
    call.children = Arguments(depth);
    if (TakesRange(name) &&
        std::none_of(call.children.begin(), call.children.end(),
                     [](const PromqlExpr& child) { return child.range_ms != 0; })) {
      return Fail(absl::StrCat(name, "() wants a range like [5m]"));
    }
    return call;
  }

  PromqlExpr Aggregation(const std::string& name, int depth) {
    PromqlExpr aggregation;
    aggregation.kind = Kind::kAggregation;
    aggregation.name = name;
    ReadGrouping(&aggregation);
    aggregation.children = Arguments(depth);
    if (aggregation.children.empty()) return Fail(absl::StrCat(name, "() of what"));
    if (aggregation.grouping == PromqlExpr::Grouping::kNone) ReadGrouping(&aggregation);
    return aggregation;
  }

  void ReadGrouping(PromqlExpr* aggregation) {
    const bool by = scanner_.Accept("by");
    if (!by && !scanner_.Accept("without")) return;
    aggregation->grouping = by ? PromqlExpr::Grouping::kBy : PromqlExpr::Grouping::kWithout;
    aggregation->grouping_labels = Labels();
  }

  std::vector<PromqlExpr> Arguments(int depth) {
    std::vector<PromqlExpr> arguments;
    Expect("(");
    if (scanner_.Accept(")")) return arguments;
    while (!failed()) {
      arguments.push_back(Binary(0, depth));
      if (!scanner_.Accept(",")) break;
    }
    Expect(")");
    return arguments;
  }

  std::vector<std::string> Labels() {
    std::vector<std::string> labels;
    Expect("(");
    while (!failed() && !scanner_.Sees(")")) {
      labels.push_back(scanner_.Word());
      if (labels.back().empty()) Fail("a label is missing");
      if (!scanner_.Accept(",")) break;
    }
    Expect(")");
    return labels;
  }

  PromqlExpr Selector(const std::string& name) {
    PromqlExpr selector;
    selector.kind = Kind::kSelector;
    selector.name = name;
    if (!scanner_.Accept("{")) return selector;
    while (!failed() && !scanner_.Sees("}")) {
      selector.matchers.push_back(Matcher());
      if (!scanner_.Accept(",")) break;
    }
    Expect("}");
    return selector;
  }

  PromqlMatcher Matcher() {
    PromqlMatcher matcher;
    matcher.label = scanner_.Word();
    if (matcher.label.empty()) Fail("a label is missing");
    for (const char* const op : {"=~", "!~", "!=", "="}) {
      if (!scanner_.Accept(op)) continue;
      matcher.op = op;
      break;
    }
    std::optional<std::string> value = scanner_.QuotedText();
    if (matcher.op.empty() || !value) Fail("a matcher is like label=\"value\"");
    matcher.value = value ? *std::move(value) : "";
    return matcher;
  }

  PromqlScanner scanner_;
  int operators_ = 0;
  std::string error_;
};

// Where a range may stand, which the grammar alone does not say.
bool RangesAreArguments(const PromqlExpr& expr, bool may_be_range) {
  if (expr.range_ms != 0 && !may_be_range) return false;
  const bool takes_range = expr.kind == Kind::kCall && TakesRange(expr.name);
  return std::all_of(expr.children.begin(), expr.children.end(), [&](const PromqlExpr& child) {
    return RangesAreArguments(child, takes_range);
  });
}

}  // namespace

bool PromqlExpr::is_comparison() const {
  return kind == Kind::kBinary &&
         Has(std::array<std::string_view, 6>{"==", "!=", "<=", ">=", "<", ">"}, name);
}

bool PromqlExpr::is_set_operation() const {
  return kind == Kind::kBinary && (name == "and" || name == "or" || name == "unless");
}

bool TakesRange(std::string_view function) { return Has(kRangeFunctions, function); }

absl::StatusOr<PromqlExpr> ParsePromql(std::string_view text_untrusted) {
  absl::StatusOr<PromqlExpr> expr = Parser(text_untrusted).Parse();
  if (expr.ok() && !RangesAreArguments(*expr, false)) {
    return absl::InvalidArgumentError("a range like [5m] is for functions such as rate()");
  }
  return expr;
}

}  // namespace tallyd
