#include "core/rules/mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tallyd {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

using Labels = std::vector<std::pair<std::string, std::string>>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

MappingRule Glob(std::string match, std::string name, Labels labels = {},
                 MatchedType type = MatchedType::kAny) {
  MappingRule rule;
  rule.match = std::move(match);
  rule.name = std::move(name);
  rule.labels = std::move(labels);
  rule.matched_type = type;
  return rule;
}

MappingRule Regex(std::string match, std::string name, Labels labels = {},
                  MatchedType type = MatchedType::kAny) {
  MappingRule rule = Glob(std::move(match), std::move(name), std::move(labels), type);
  rule.match_type = MatchType::kRegex;
  return rule;
}

MappingConfig ConfigOf(std::vector<MappingRule> rules, bool unordered = false) {
  MappingConfig config;
  config.file = "test.yml";
  config.glob_disable_ordering = unordered;
  config.rules = std::move(rules);
  for (size_t i = 0; i < config.rules.size(); ++i) config.rules[i].line = static_cast<int>(i) + 1;
  return config;
}

std::shared_ptr<const Mapping> Compile(std::vector<MappingRule> rules, bool unordered = false) {
  auto mapping = Mapping::Compile(ConfigOf(std::move(rules), unordered));
  EXPECT_TRUE(mapping.ok()) << mapping.status();
  return mapping.ok() ? *mapping : nullptr;
}

// What a name is mapped to: "name{label=value,...}", "drop", or "-" for no rule.
std::string MapTo(const Mapping& mapping, std::string_view name,
                  SampleType type = SampleType::kCounter) {
  Mapped mapped;
  mapped.name = "left over";
  mapped.labels.emplace_back("left", "over");
  if (!mapping.Map(name, type, &mapped)) return "-";
  if (mapped.rule->drop) return "drop";
  std::string text = mapped.name;
  if (mapped.labels.empty()) return text;
  text += "{";
  for (const auto& [label, value] : mapped.labels) {
    if (text.back() != '{') text += ",";
    text.append(label);
    text += "=" + value;
  }
  return text + "}";
}

std::string MapTo(std::vector<MappingRule> rules, std::string_view name,
                  SampleType type = SampleType::kCounter) {
  return MapTo(*Compile(std::move(rules)), name, type);
}

// ---- Globs: what fits ----

TEST(GlobTest, AStarIsOneWholeSegmentWhateverItHolds) {
  const auto mapping = Compile({Glob("a.*.c", "hit", {{"seg", "$1"}})});
  EXPECT_EQ(MapTo(*mapping, "a.b.c"), "hit{seg=b}");
  EXPECT_EQ(MapTo(*mapping, "a..c"), "hit{seg=}");
  EXPECT_EQ(MapTo(*mapping, "a.\u00e9 x-y/$1.c"), "hit{seg=\u00e9 x-y/$1}");
  EXPECT_EQ(MapTo(*mapping, "a.c"), "-");
  EXPECT_EQ(MapTo(*mapping, "a.b.b.c"), "-");
  EXPECT_EQ(MapTo(*mapping, "a.b.c."), "-");
  EXPECT_EQ(MapTo(*mapping, ".a.b.c"), "-");
  EXPECT_EQ(MapTo(*mapping, "A.b.c"), "-");
  EXPECT_EQ(MapTo(*mapping, ""), "-");
}

TEST(GlobTest, OneStarFitsEverySegmentAlone) {
  const auto mapping = Compile({Glob("*", "any", {{"seg", "$1"}})});
  EXPECT_EQ(MapTo(*mapping, "x"), "any{seg=x}");
  EXPECT_EQ(MapTo(*mapping, ""), "any{seg=}");
  EXPECT_EQ(MapTo(*mapping, "x.y"), "-");
}

TEST(GlobTest, StarsAreNumberedFromTheLeft) {
  EXPECT_EQ(MapTo({Glob("*.b.*.*", "n_${3}_${1}", {{"mid", "$2"}})}, "1.b.2.3"), "n_3_1{mid=2}");
}

// As statsd_exporter has it: a literal "*" is found as if it were text of the rule.
TEST(GlobTest, ASegmentThatIsAStarIsNotCaptured) {
  const auto mapping = Compile({Glob("a.*.*", "n", {{"one", "$1"}, {"two", "$2"}})});
  EXPECT_EQ(MapTo(*mapping, "a.*.b"), "n{one=b,two=}");
  EXPECT_EQ(MapTo(*mapping, "a.b.*"), "n{one=b,two=}");
  EXPECT_EQ(MapTo(*mapping, "a.*.*"), "n{one=,two=}");
}

TEST(GlobTest, RulesAreForTheirTypes) {
  const auto mapping =
      Compile({Glob("a.*", "counters", {}, MatchedType::kCounter),
               Glob("a.*", "gauges", {}, MatchedType::kGauge),
               Glob("a.b", "observers", {}, MatchedType::kObserver), Glob("*.b", "rest")});
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kCounter), "counters");
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kGauge), "gauges");
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kSet), "gauges");
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kTimer), "observers");
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kHistogram), "observers");
  EXPECT_EQ(MapTo(*mapping, "a.c", SampleType::kTimer), "-");
  EXPECT_EQ(MapTo(*mapping, "c.b", SampleType::kTimer), "rest");
}

// ---- Which rule wins ----

TEST(OrderTest, OrderedTheFirstOfAllThatFitWins) {
  EXPECT_EQ(MapTo({Glob("*.*", "first"), Glob("a.b", "second")}, "a.b"), "first");
  EXPECT_EQ(MapTo({Glob("a.b", "first"), Glob("*.*", "second")}, "a.b"), "first");
  EXPECT_EQ(
      MapTo({Glob("a.*.c", "first"), Glob("a.b.*", "second"), Glob("*.b.c", "third")}, "a.b.c"),
      "first");
  EXPECT_EQ(MapTo({Glob("*.b.c", "first"), Glob("a.b.*", "second")}, "a.b.c"), "first");
}

TEST(OrderTest, OrderedDeadEndsAreLeftAgain) {
  const std::vector<MappingRule> rules = {Glob("aa.*.cc", "one", {{"seg", "$1"}}),
                                          Glob("aa.bb.dd", "two"),
                                          Glob("aa.*.*", "three", {{"seg", "$2"}})};
  const auto mapping = Compile(rules);
  EXPECT_EQ(MapTo(*mapping, "aa.bb.cc"), "one{seg=bb}");
  EXPECT_EQ(MapTo(*mapping, "aa.bb.dd"), "two");
  EXPECT_EQ(MapTo(*mapping, "aa.bb.ee"), "three{seg=ee}");
}

TEST(OrderTest, ATypedRuleBehindAnUntypedOneIsPassed) {
  EXPECT_EQ(MapTo({Glob("a.*", "typed", {}, MatchedType::kGauge), Glob("a.b", "any")}, "a.b"),
            "any");
  EXPECT_EQ(MapTo({Glob("a.b", "any"), Glob("a.*", "typed", {}, MatchedType::kGauge)}, "a.b",
                  SampleType::kGauge),
            "any");
}

// Where statsd_exporter's tree loses rules, the first that fits wins.
TEST(OrderTest, ARuleThatBeginsAnEarlierOneIsFound) {
  EXPECT_EQ(MapTo({Glob("a.b.c", "long"), Glob("a.b", "short")}, "a.b"), "short");
  EXPECT_EQ(MapTo({Glob("a.b", "short"), Glob("a.b.c", "long")}, "a.b"), "short");
  EXPECT_EQ(MapTo({Glob("a.b.c", "long"), Glob("a.b", "short")}, "a.b.c"), "long");
}

TEST(OrderTest, ARepeatedMatchLeavesTheFirstItsPlace) {
  EXPECT_EQ(MapTo({Glob("a.*", "first"), Glob("*.b", "second"), Glob("a.*", "third")}, "a.b"),
            "first");
}

TEST(OrderTest, UnorderedTheEarliestLiteralDecides) {
  const auto mapping = Compile({Glob("*.b.c", "star_first"), Glob("a.*.*", "literal_first")}, true);
  EXPECT_EQ(MapTo(*mapping, "a.b.c"), "literal_first");
  EXPECT_EQ(MapTo(*mapping, "x.b.c"), "star_first");
}

// The rule "aa.*.cc" is within "aa.*.*", so nothing needs backtracking.
TEST(OrderTest, UnorderedDeadEndsStayWhereNoRuleNeedsBacktracking) {
  const auto mapping =
      Compile({Glob("aa.*.cc", "one"), Glob("aa.bb.dd", "two"), Glob("aa.*.*", "three")}, true);
  EXPECT_EQ(MapTo(*mapping, "aa.bb.cc"), "-");
  EXPECT_EQ(MapTo(*mapping, "aa.bb.dd"), "two");
  EXPECT_EQ(MapTo(*mapping, "aa.xx.cc"), "one");
  EXPECT_EQ(MapTo(*mapping, "aa.xx.yy"), "three");
}

TEST(OrderTest, UnorderedDeadEndsAreLeftWhereARuleNeedsIt) {
  const auto mapping = Compile({Glob("aa.*.cc", "one"), Glob("aa.bb.dd", "two")}, true);
  EXPECT_EQ(MapTo(*mapping, "aa.bb.cc"), "one");
  EXPECT_EQ(MapTo(*mapping, "aa.bb.ee"), "-");
}

TEST(OrderTest, UnorderedTheLengthsBelowALiteralDecideWhetherItIsEntered) {
  // No rule of three segments begins with "a.b", so the star is taken there.
  const auto mapping =
      Compile({Glob("a.b", "two"), Glob("a.*.c", "three"), Glob("a.*", "rest")}, true);
  EXPECT_EQ(MapTo(*mapping, "a.b"), "two");
  EXPECT_EQ(MapTo(*mapping, "a.b.c"), "three");
}

TEST(OrderTest, GlobsComeBeforeRegexes) {
  EXPECT_EQ(MapTo({Regex("a", "regex"), Glob("a.*", "glob")}, "a.b"), "glob");
  EXPECT_EQ(MapTo({Regex("a", "regex"), Glob("a.*", "glob")}, "a.b.c"), "regex");
}

// ---- Regexes ----

TEST(RegexTest, TheFirstOfTheFileThatFitsAndHasTheTypeWins) {
  const auto mapping = Compile({Regex("b", "gauges", {}, MatchedType::kGauge),
                                Regex("a.*b", "first"), Regex("a", "second")});
  EXPECT_EQ(MapTo(*mapping, "a.b"), "first");
  EXPECT_EQ(MapTo(*mapping, "a.b", SampleType::kSet), "gauges");
  EXPECT_EQ(MapTo(*mapping, "a.c"), "second");
  EXPECT_EQ(MapTo(*mapping, "c"), "-");
}

TEST(RegexTest, MatchesAnywhereLeftmostFirstAndMindsCase) {
  EXPECT_EQ(MapTo({Regex("b(x|xy)(y?)", "n", {{"one", "$1"}, {"two", "$2"}})}, "a.bxyz"),
            "n{one=x,two=y}");
  EXPECT_EQ(MapTo({Regex("A", "n")}, "a"), "-");
  EXPECT_EQ(MapTo({Regex("(?i)A", "n")}, "a"), "n");
  EXPECT_EQ(MapTo({Regex("a$", "n")}, "a\n"), "-") << "the end is the end of the text";
  EXPECT_EQ(MapTo({Regex("^a.b$", "n")}, "a\nb"), "-") << "a dot takes no line feed";
}

TEST(RegexTest, ReadsWhatGoReads) {
  EXPECT_EQ(MapTo({Regex(R"(\d)", "n")}, "\u0663"), "-") << "digits are ASCII's";
  EXPECT_EQ(MapTo({Regex(R"(^\pL$)", "n")}, "\u00e9"), "n");
  EXPECT_EQ(MapTo({Regex(R"(^[[:alpha:]]+$)", "n")}, "abc"), "n");
  EXPECT_EQ(MapTo({Regex(R"(a\_b)", "n")}, "a_b"), "n");
  EXPECT_EQ(MapTo({Regex(R"((?P<who>.)$)", "n", {{"who", "${who}"}})}, "xy"), "n{who=y}");
  EXPECT_EQ(MapTo({Regex(R"((?<who>.)$)", "n", {{"who", "${who}"}})}, "xy"), "n{who=y}");
  EXPECT_EQ(MapTo({Regex(R"(\(?<a)", "n")}, "<a"), "n") << "an escaped parenthesis opens no group";
  EXPECT_EQ(MapTo({Regex(R"(^[](?<]$)", "n")}, "<"), "n") << "nor does one in a class";
  EXPECT_EQ(MapTo({Regex(R"(\Q(?<a\E)", "n")}, "(?<a"), "n") << "nor a quoted one";
}

TEST(RegexTest, AGroupThatTookNoPartIsEmpty) {
  EXPECT_EQ(MapTo({Regex("^(a)|(b)$", "n", {{"aa", "$1"}, {"bb", "$2"}})}, "b"), "n{aa=,bb=b}");
  EXPECT_EQ(MapTo({Regex("^(?P<v>a)|(?P<v>b)$", "n", {{"vv", "$v"}})}, "b"), "n{vv=b}");
}

TEST(RegexTest, TheWholeMatchIsNumberZero) {
  EXPECT_EQ(MapTo({Regex("b.", "n", {{"all", "$0"}})}, "a.bcd"), "n{all=bc}");
}

TEST(RegexTest, ManyPatternsAreFoundInTheOrderOfTheFile) {
  std::vector<MappingRule> rules;
  for (int i = 0; i < 300; ++i) {
    const std::string number = std::to_string(i);
    rules.push_back(Regex("^svc" + number + R"(\.(\w+))", "svc_" + number, {{"op", "$1"}},
                          i % 2 == 0 ? MatchedType::kAny : MatchedType::kGauge));
  }
  rules.push_back(Regex("^SVC7[.]", "upper"));
  rules.push_back(Regex("(?i)^SVC9[.]", "folded"));
  rules.push_back(Regex("^[a-z]", "no_literal"));
  rules.push_back(Regex("\u00c9t\u00e9", "accents"));
  const auto mapping = Compile(std::move(rules));
  EXPECT_EQ(MapTo(*mapping, "svc42.get"), "svc_42{op=get}");
  EXPECT_EQ(MapTo(*mapping, "svc298.get"), "svc_298{op=get}");
  EXPECT_EQ(MapTo(*mapping, "svc7.get", SampleType::kGauge), "svc_7{op=get}");
  EXPECT_EQ(MapTo(*mapping, "svc7.get"), "no_literal");
  EXPECT_EQ(MapTo(*mapping, "SVC7.get"), "upper");
  EXPECT_EQ(MapTo(*mapping, "svc9.get"), "folded");
  EXPECT_EQ(MapTo(*mapping, "Svc9.get"), "folded");
  EXPECT_EQ(MapTo(*mapping, "other"), "no_literal");
  EXPECT_EQ(MapTo(*mapping, "7"), "-");
  EXPECT_EQ(MapTo(*mapping, "\u00c9t\u00e9"), "accents");
  EXPECT_EQ(MapTo(*mapping, "\u00e9t\u00e9"), "-");
}

// ---- What comes of a match ----

TEST(MappedTest, DropSaysNoMoreThanItsRule) {
  MappingRule rule = Glob("a.*", "name_${1}", {{"seg", "$1"}});
  rule.drop = true;
  const auto mapping = Compile({rule});
  Mapped mapped;
  ASSERT_TRUE(mapping->Map("a.b", SampleType::kTimer, &mapped));
  EXPECT_TRUE(mapped.rule->drop);
  EXPECT_EQ(mapped.name, "");
  EXPECT_TRUE(mapped.labels.empty());
}

TEST(MappedTest, NamesAreNotSanitizedAndLabelsKeepTheirOrder) {
  EXPECT_EQ(MapTo({Glob("*", "${1}", {{"zz", "1"}, {"aa", "2"}, {"mm", ""}})}, "9 x-"),
            "9 x-{zz=1,aa=2,mm=}");
  EXPECT_EQ(MapTo({Glob("*", "$2")}, "x"), "");
}

TEST(MappedTest, TheRuleIsTheOneOfTheConfig) {
  const auto mapping = Compile({Glob("a", "one"), Glob("b", "two")});
  Mapped mapped;
  ASSERT_TRUE(mapping->Map("b", SampleType::kGauge, &mapped));
  EXPECT_EQ(mapped.rule, &mapping->config().rules[1]);
  EXPECT_EQ(mapped.rule->line, 2);
}

TEST(MappedTest, NoRulesMapNothing) {
  const auto mapping = Compile({});
  EXPECT_EQ(MapTo(*mapping, "a"), "-");
  EXPECT_EQ(MapTo(*mapping, ""), "-");
}

// ---- What is refused ----

// The message of a single bad rule, without "test.yml:1: ", or "ok".
std::string RefusalOf(const MappingRule& rule) {
  const auto mapping = Mapping::Compile(ConfigOf({rule}));
  if (mapping.ok()) return "ok";
  EXPECT_EQ(mapping.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(mapping.status().message());
  EXPECT_THAT(message, StartsWith("test.yml:1: "));
  return message.substr(std::string("test.yml:1: ").size());
}

TEST(CheckTest, Globs) {
  for (const char* good :
       {"*", "a", "_", "a.*", "*.a", "*.*", "a.1", "a.1b-c_d", "a-b", "A.B", "a.*.b.*.c", "*.9"}) {
    EXPECT_EQ(RefusalOf(Glob(good, "n")), "ok") << good;
  }
  for (const char* bad :
       {"a*", "**",  "*a", "?",    "a..b", "a.",  ".a",      ".",     " ",   "a b",  "a.b ",
        "1",  "1.a", "-a", "a.-b", "a:b",  "a.$", "a\u00e9", "a.b\n", "a/b", "a.**", "a,b"}) {
    EXPECT_THAT(RefusalOf(Glob(bad, "n")), StartsWith("match: ")) << bad;
    EXPECT_THAT(RefusalOf(Glob(bad, "n")), HasSubstr("is no glob; write")) << bad;
  }
  EXPECT_THAT(RefusalOf(Glob("", "n")), StartsWith("match: is missing"));
}

TEST(CheckTest, Regexes) {
  for (const char* good : {"", ".*", "^a.b$", R"(\Aa\z)", "a{1000}", "(?i)a", "(?U)a+", "(?s:.)"}) {
    EXPECT_EQ(RefusalOf(Regex(good, "n")), "ok") << good;
  }
  for (const char* bad :
       {"(",        ")",       "[a",      "a**",    "*",      "a{1001}", R"(\1)", R"((a)\1)",
        "(?P<é>a)", "(?<é>a)", "(?=a)",   "(?!a)",  "(?<=a)", "(?<!a)",  R"(\Z)", R"(\e)",
        R"(\C)",    "(?P<n",   "(?P<>a)", R"(\pX)", "[b-a]",  "a++",     "\\"}) {
    EXPECT_THAT(RefusalOf(Regex(bad, "n")), StartsWith("match: ")) << bad;
    EXPECT_THAT(RefusalOf(Regex(bad, "n")), HasSubstr("is no regular expression")) << bad;
  }
}

TEST(CheckTest, Names) {
  for (const char* good : {"a", "_", "a1", "$1", "${1}", "${1", "$1}", "a_${1}_b", "$10", "a$1$2",
                           "$1_b", "A", "$999"}) {
    EXPECT_EQ(RefusalOf(Glob("a.*", good)), "ok") << good;
  }
  for (const char* bad : {"1a", "a.b", "a-b", "a:b", "a b", "$", "a$", "${}", "${name}", "$name",
                          "$$1", "{1}", "a}", "\u00e9", "a\n"}) {
    EXPECT_THAT(RefusalOf(Glob("a.*", bad)), StartsWith("name: ")) << bad;
    EXPECT_THAT(RefusalOf(Glob("a.*", bad)), HasSubstr("is no name of a metric; use")) << bad;
  }
  EXPECT_THAT(RefusalOf(Glob("a", "")), StartsWith("name: is missing"));
  MappingRule drop = Glob("a", "");
  drop.drop = true;
  EXPECT_THAT(RefusalOf(drop), StartsWith("name: is missing"));
}

TEST(CheckTest, LabelNames) {
  for (const char* good : {"aa", "_a", "a1", "a_b", "AB", "_1", "quantile"}) {
    EXPECT_EQ(RefusalOf(Glob("a", "n", {{good, "x"}})), "ok") << good;
  }
  for (const char* bad : {"", "a", "_", "1a", "a-b", "a.b", "a b", "\u00e9\u00e9"}) {
    EXPECT_THAT(RefusalOf(Glob("a", "n", {{bad, "x"}})),
                HasSubstr("is no name of a label; use two or more"))
        << bad;
  }
  EXPECT_THAT(RefusalOf(Glob("a", "n", {{"__a", "x"}})), StartsWith("labels.__a: is reserved"));
  EXPECT_THAT(RefusalOf(Glob("a", "n", {{"aa", "x"}, {"aa", "y"}})),
              StartsWith("labels.aa: is set twice"));
}

TEST(CheckTest, LabelsThatObserversHaveThemselves) {
  const auto refusal = [](const char* label, ObserverType observer, MatchedType type, bool drop) {
    MappingRule rule = Glob("a", "n", {{label, "x"}}, type);
    rule.observer_type = observer;
    rule.drop = drop;
    return RefusalOf(rule);
  };
  constexpr auto kHistogram = ObserverType::kHistogram;
  constexpr auto kSummary = ObserverType::kSummary;
  EXPECT_THAT(refusal("le", kHistogram, MatchedType::kAny, false), StartsWith("labels.le: "));
  EXPECT_THAT(refusal("le", kHistogram, MatchedType::kObserver, false), StartsWith("labels.le: "));
  EXPECT_EQ(refusal("le", kHistogram, MatchedType::kCounter, false), "ok");
  EXPECT_EQ(refusal("le", kHistogram, MatchedType::kGauge, false), "ok");
  EXPECT_EQ(refusal("le", kHistogram, MatchedType::kAny, true), "ok");
  EXPECT_EQ(refusal("le", kSummary, MatchedType::kAny, false), "ok");
  EXPECT_THAT(refusal("quantile", kSummary, MatchedType::kAny, false),
              StartsWith("labels.quantile: "));
  EXPECT_EQ(refusal("quantile", kSummary, MatchedType::kCounter, false), "ok");
  EXPECT_EQ(refusal("quantile", kHistogram, MatchedType::kObserver, false), "ok");
}

std::string RefusalOfBuckets(std::vector<double> buckets) {
  MappingRule rule = Glob("a", "n");
  rule.histogram.buckets = std::move(buckets);
  return RefusalOf(rule);
}

TEST(CheckTest, Buckets) {
  constexpr char kKey[] = "histogram_options.buckets: ";
  EXPECT_EQ(RefusalOfBuckets({}), "ok");
  EXPECT_EQ(RefusalOfBuckets({-1, 0, 1}), "ok");
  EXPECT_EQ(RefusalOfBuckets({1, kInfinity}), "ok");
  EXPECT_EQ(RefusalOfBuckets({kInfinity}), "ok");
  EXPECT_EQ(RefusalOfBuckets({1, 3, 2}),
            std::string(kKey) + "do not rise: 2 follows 3; sort them, each once");
  EXPECT_THAT(RefusalOfBuckets({1, 1}), HasSubstr("do not rise: 1 follows 1"));
  EXPECT_THAT(RefusalOfBuckets({-0.0, 0}), HasSubstr("do not rise"));
  EXPECT_THAT(RefusalOfBuckets({kNan}), HasSubstr("are not all finite"));
  EXPECT_THAT(RefusalOfBuckets({-kInfinity, 1}), HasSubstr("are not all finite"));
  EXPECT_THAT(RefusalOfBuckets({1, kInfinity, 2}), HasSubstr("are not all finite"));
  EXPECT_THAT(RefusalOfBuckets({1, kInfinity, kInfinity}), HasSubstr("are not all finite"));
  std::vector<double> many;
  for (int i = 0; i < 200; ++i) many.push_back(i);
  EXPECT_EQ(RefusalOfBuckets(many), "ok");
  many.push_back(kInfinity);
  EXPECT_EQ(RefusalOfBuckets(many), "ok");
  many.back() = 200;
  EXPECT_THAT(RefusalOfBuckets(many), HasSubstr("are 201, and at most 200 are possible"));
}

TEST(CheckTest, Numbers) {
  MappingRule rule = Glob("a", "n");
  rule.summary.quantiles = {{0, 0}, {1, 0}};
  EXPECT_EQ(RefusalOf(rule), "ok");
  for (const double quantile : {-0.1, 1.1, 99.0, kNan}) {
    rule.summary.quantiles = {{quantile, 0.01}};
    EXPECT_THAT(RefusalOf(rule), StartsWith("summary_options.quantiles: ")) << quantile;
  }
  rule = Glob("a", "n");
  rule.summary.max_age_ms = 0;
  EXPECT_THAT(RefusalOf(rule), StartsWith("summary_options.max_age: "));
  rule = Glob("a", "n");
  rule.summary.age_buckets = 0;
  EXPECT_THAT(RefusalOf(rule), StartsWith("summary_options.age_buckets: "));
  rule = Glob("a", "n");
  rule.ttl_ms = -1;
  EXPECT_THAT(RefusalOf(rule), StartsWith("ttl: is negative"));
  rule = Glob("a", "n");
  for (const double scale : {0.0, -1.0, 1e-300}) {
    rule.scale = scale;
    EXPECT_EQ(RefusalOf(rule), "ok");
  }
  for (const double scale : {kInfinity, -kInfinity, kNan}) {
    rule.scale = scale;
    EXPECT_THAT(RefusalOf(rule), StartsWith("scale: is not finite"));
  }
  rule = Glob("a", "n");
  rule.histogram.native_factor = kInfinity;
  EXPECT_THAT(RefusalOf(rule),
              StartsWith("histogram_options.native_histogram_bucket_factor: is not finite"));
}

TEST(CheckTest, OptionsAreBroughtIntoOneForm) {
  MappingRule rule = Glob("a", "n");
  rule.histogram.buckets = {1, 2, kInfinity};
  rule.histogram.native_factor = 1;
  rule.histogram.native_max_buckets = 256;
  rule.summary.quantiles = {{0.9, 0.1}, {0.5, 0.1}, {0.9, 0.2}};
  rule.summary.age_buckets = 100'000;
  const auto mapping = Compile({rule});
  const MappingRule& kept = mapping->config().rules[0];
  EXPECT_EQ(kept.histogram.buckets, (std::vector<double>{1, 2}));
  EXPECT_EQ(kept.histogram.native_factor, 1.1);
  EXPECT_EQ(kept.histogram.native_max_buckets, 160U);
  EXPECT_EQ(kept.summary.age_buckets, 100);
  EXPECT_EQ(kept.summary.quantiles, (std::vector<Quantile>{{0.5, 0.1}, {0.9, 0.2}}));
}

TEST(CheckTest, WhatIsWrongWithTheDefaultsIsSaidOnce) {
  MappingConfig config = ConfigOf({Glob("a", "n"), Glob("b", "n")});
  config.defaults.line = 7;
  config.defaults.key_lines = {{"histogram_options.buckets", 9}};
  config.defaults.histogram.buckets = {2, 1};
  for (MappingRule& rule : config.rules) rule.histogram = config.defaults.histogram;
  EXPECT_EQ(Mapping::Compile(config).status().message(),
            "test.yml:9: defaults.histogram_options.buckets: do not rise: 1 follows 2; sort them, "
            "each once");
}

TEST(CheckTest, EverythingIsSaidInTheOrderOfTheFileWithTheLinesOfKeys) {
  MappingRule rule = Glob("a..b", "");
  rule.line = 10;
  rule.key_lines = {{"match", 12}, {"labels.x", 11}};
  rule.labels = {{"x", ""}};
  MappingConfig config;
  config.file = "dir/m.yml";
  config.rules = {rule};
  const std::string message(Mapping::Compile(config).status().message());
  EXPECT_THAT(message, StartsWith("dir/m.yml:10: name: is missing"));
  EXPECT_THAT(message, HasSubstr("\ndir/m.yml:11: labels.\"x\": is no name"));
  EXPECT_THAT(message, HasSubstr("\ndir/m.yml:12: match: \"a..b\" is no glob"));
}

TEST(CheckTest, AtMostTwentyLinesAreShown) {
  const auto message_of = [](int bad) {
    std::vector<MappingRule> rules(bad, Glob("a", ""));
    return std::string(Mapping::Compile(ConfigOf(std::move(rules))).status().message());
  };
  std::string message = message_of(20);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 19);
  message = message_of(123);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 20);
  EXPECT_THAT(message, testing::EndsWith("\nand 103 more"));
}

TEST(CheckTest, LongAndStrangeTextIsShownShortAndEscaped) {
  EXPECT_THAT(RefusalOf(Glob(std::string(500, ' '), "n")), HasSubstr("   ...\" is no glob"));
  EXPECT_THAT(RefusalOf(Glob("a\nb", "n")), HasSubstr(R"("a\nb" is no glob)"));
}

}  // namespace
}  // namespace tallyd
