// Expressions as trees: what binds how, what is refused, and that nothing makes it fall over.

#include "daemon/catalog/promql.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = PromqlExpr::Kind;

// The tree as text with all its brackets.
std::string Shape(const PromqlExpr& expr) {
  std::vector<std::string> children;
  for (const PromqlExpr& child : expr.children) children.push_back(Shape(child));
  const std::string range =
      expr.range_ms == 0 ? "" : absl::StrCat("[", PromqlDuration(expr.range_ms), "]");
  switch (expr.kind) {
    case Kind::kNumber:
      return absl::StrCat(expr.number);
    case Kind::kText:
      return absl::StrCat("'", expr.name, "'");
    case Kind::kSelector:
      return expr.name + range;
    case Kind::kSubquery:
      return children[0] + range;
    case Kind::kNegation:
      return "-" + children[0];
    case Kind::kBinary:
      return absl::StrCat("(", children[0], " ", expr.name, " ", children[1], ")");
    case Kind::kCall:
    case Kind::kAggregation:
      break;
  }
  return absl::StrCat(expr.name, "(", absl::StrJoin(children, ", "), ")");
}

std::string ShapeOf(const std::string& text) {
  const absl::StatusOr<PromqlExpr> expr = ParsePromql(text);
  return expr.ok() ? Shape(*expr) : std::string(expr.status().message());
}

TEST(Promql, OperatorsBindAsInPrometheus) {
  EXPECT_EQ(ShapeOf("a + b * c"), "(a + (b * c))");
  EXPECT_EQ(ShapeOf("a - b - c"), "((a - b) - c)");
  EXPECT_EQ(ShapeOf("a ^ b ^ c"), "(a ^ (b ^ c))");
  EXPECT_EQ(ShapeOf("-a ^ 2"), "-(a ^ 2)");
  EXPECT_EQ(ShapeOf("a > 1 and b < 2 or c"), "(((a > 1) and (b < 2)) or c)");
  EXPECT_EQ(ShapeOf("(a + b) / c > 0.5"), "(((a + b) / c) > 0.5)");
  EXPECT_EQ(ShapeOf("-3"), "-3");
  EXPECT_EQ(ShapeOf("a >= 0x10"), "(a >= 16)");
  EXPECT_EQ(ShapeOf("a < 1e3"), "(a < 1000)");
}

TEST(Promql, SelectorsHaveMatchersRangesAndOffsets) {
  const auto expr = ParsePromql("rate(x_total{a=\"1\", b!~'c|d',}[1h30m] offset -5m)");
  ASSERT_TRUE(expr.ok()) << expr.status();
  const PromqlExpr& selector = expr->children[0];
  EXPECT_EQ(selector.range_ms, 5'400'000);
  ASSERT_EQ(selector.matchers.size(), 2U);
  EXPECT_EQ(selector.matchers[1].op, "!~");
  EXPECT_EQ(selector.matchers[1].value, "c|d");
  EXPECT_EQ(ShapeOf("max_over_time(rate(x[5m])[1h:1m])"), "max_over_time(rate(x[5m])[1h])");
  EXPECT_EQ(ShapeOf("job:errors:rate5m > 1"), "(job:errors:rate5m > 1)");
  EXPECT_EQ(ParsePromql("rate(x[$__rate_interval])")->children[0].range_ms,
            PromqlExpr::kVariableRange);
}

TEST(Promql, GroupingStandsOnEitherSide) {
  for (const char* const text : {"sum by (a, b) (x)", "sum(x) by (a, b)", "SUM BY(a,b,)(x)"}) {
    const auto expr = ParsePromql(text);
    ASSERT_TRUE(expr.ok()) << text << expr.status();
    EXPECT_EQ(expr->grouping, PromqlExpr::Grouping::kBy);
    EXPECT_THAT(expr->grouping_labels, ElementsAre("a", "b"));
  }
  const auto joined = ParsePromql("a * on (job) group_left (version) b");
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->matching, PromqlExpr::Matching::kOn);
  EXPECT_EQ(joined->many, PromqlExpr::Many::kLeft);
  EXPECT_THAT(joined->included_labels, ElementsAre("version"));
}

TEST(Promql, CommentsAndLineEndsAreBlanks) {
  EXPECT_EQ(ShapeOf("a # first\n  + # second\nb"), "(a + b)");
}

TEST(Promql, WhatCannotBeReadIsSaid) {
  EXPECT_THAT(ShapeOf(""), HasSubstr("ends too early"));
  EXPECT_THAT(ShapeOf("sum(a"), HasSubstr("\")\" is missing"));
  EXPECT_THAT(ShapeOf("a b"), HasSubstr("more than one expression"));
  EXPECT_THAT(ShapeOf("rat(a[5m])"), HasSubstr("no function \"rat\""));
  EXPECT_THAT(ShapeOf("rate(a)"), HasSubstr("wants a range"));
  EXPECT_THAT(ShapeOf("sum(a[5m])"), HasSubstr("for functions such as rate()"));
  EXPECT_THAT(ShapeOf("a[5q]"), HasSubstr("duration"));
  EXPECT_THAT(ShapeOf("rate(sum(a)[5m])"), HasSubstr("subquery"));
  EXPECT_THAT(ShapeOf("a{b=c}"), HasSubstr("matcher"));
  EXPECT_THAT(ShapeOf("a + bool b"), HasSubstr("comparisons"));
  EXPECT_THAT(ShapeOf(std::string(5000, '(')), HasSubstr("too deep"));
  EXPECT_THAT(ShapeOf(std::string(5000, '-')), HasSubstr("too deep"));
  std::string chain = "a";
  for (int i = 0; i < 100'000; ++i) chain += "+a";
  EXPECT_THAT(ShapeOf(chain), HasSubstr("too long"));
}

TEST(Promql, NoTextMakesItFallOver) {
  const std::string alphabet = "ab(){}[],.:+-*/<>=!~^%\"'`# \n5m0exby sumrateon$_@\\";
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    const size_t length = random() % 40;
    for (size_t i = 0; i < length; ++i) text += alphabet[random() % alphabet.size()];
    const auto expr = ParsePromql(text);
    if (expr.ok()) Shape(*expr);
  }
}

TEST(Promql, DurationsAreWrittenAsTheyAreRead) {
  EXPECT_EQ(PromqlDurationMs("1h30m"), 5'400'000);
  EXPECT_EQ(PromqlDurationMs("1d"), 86'400'000);
  EXPECT_EQ(PromqlDurationMs("5"), 0);
  EXPECT_EQ(PromqlDurationMs("999999999y999999999y999999999y"), 0);
  EXPECT_EQ(PromqlDuration(0), "0s");
  for (const int64_t ms : {1L, 1500L, 15'000L, 90'000L, 5'400'000L, 90'061'001L}) {
    EXPECT_EQ(PromqlDurationMs(PromqlDuration(ms)), ms);
  }
}

}  // namespace
}  // namespace tallyd
