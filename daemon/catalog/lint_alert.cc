#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/rules/complaints.h"
#include "daemon/catalog/lint_parts.h"
#include "daemon/catalog/promql_meaning.h"

namespace tallyd {
namespace {

// One that fails must not wake anybody.
constexpr int64_t kScrapesToTolerate = 2;

constexpr std::array<std::string_view, 3> kSeverities = {"critical", "warning", "info"};

bool IsCamelCase(const std::string& name) {
  return !name.empty() && absl::ascii_isupper(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isalnum(c); });
}

void LintSeries(const std::string& series, const DeclaredNames& names, LintSubject* subject) {
  const absl::StatusOr<PromqlExpr> selector = ParsePromql(series);
  if (!selector.ok() || selector->kind != PromqlExpr::Kind::kSelector) {
    subject->Wrong(absl::StrCat("a test has the series ", Quoted(series), ", which is none"),
                   "write name{label=\"value\"}");
    return;
  }
  const DeclaredName* const declared = names.Find(selector->name);
  if (declared == nullptr || declared->role == SeriesRole::kWhole) {
    if (names.IsRecorded(selector->name) || IsForeignName(selector->name)) return;
    subject->Wrong(absl::StrCat("a test has series of ", selector->name, ", which is not exposed"),
                   "a test is worth something with the names that there are");
    return;
  }
  for (const PromqlMatcher& matcher : selector->matchers) {
    const DeclaredLabel* const label = FindLabel(*declared->metric, matcher.label);
    const std::string text =
        absl::StrCat(selector->name, "{", matcher.label, "=", Quoted(matcher.value), "}");
    if (declared->labels.count(matcher.label) == 0 && !IsTargetLabel(matcher.label)) {
      subject->Wrong(absl::StrCat("a test has ", text, ", but there is no such label"),
                     "test with series that there can be");
    } else if (label != nullptr && label->is_enumerable() &&
               std::find(label->values.begin(), label->values.end(), matcher.value) ==
                   label->values.end()) {
      subject->Wrong(absl::StrCat("a test has ", text, ", which is no declared value"),
                     absl::StrCat("there are ", absl::StrJoin(label->values, ", ")));
    }
  }
}

// The labels that a template asks for: {{ $labels.operation }}.
std::vector<std::string> LabelsIn(const std::string& text) {
  std::vector<std::string> labels;
  for (const char* const opening : {"$labels.", ".Labels."}) {
    size_t at = 0;
    while ((at = text.find(opening, at)) != std::string::npos) {
      at += std::string_view(opening).size();
      size_t end = at;
      while (end < text.size() && (absl::ascii_isalnum(text[end]) || text[end] == '_')) ++end;
      labels.push_back(text.substr(at, end - at));
    }
  }
  return labels;
}

void LintTemplates(const DeclaredAlert& alert, const DeclaredNames& names, LintSubject* subject) {
  const absl::StatusOr<PromqlExpr> expr = ParsePromql(alert.expr);
  if (!expr.ok()) return;
  const PromqlMeaning meaning = MeaningOf(*expr, names);
  if (!meaning.labels) return;
  for (const std::string& label : LabelsIn(alert.description)) {
    if (meaning.labels->count(label) != 0) continue;
    subject->Wrong(absl::StrCat("the description shows the label ", label,
                                ", which what the expression gives does not have"),
                   absl::StrCat("aggregate by (", label, "), or leave it out"));
  }
}

}  // namespace

void LintAlertTexts(const Catalog& catalog, const DeclaredAlert& alert, LintSubject* subject) {
  if (!IsCamelCase(alert.name)) {
    subject->Wrong("its name is not in CamelCase", "begin with the service's name, then say what");
  }
  if (alert.for_ms <= kScrapesToTolerate * catalog.scrape_interval_ms) {
    subject->Doubt(
        absl::StrCat("\"for\" is ", PromqlDuration(alert.for_ms),
                     ", not longer than two scrapes: one that fails wakes somebody"),
        absl::StrCat("take ", PromqlDuration(4 * catalog.scrape_interval_ms), " or more"));
  }
  if (std::find(kSeverities.begin(), kSeverities.end(), alert.severity) == kSeverities.end()) {
    subject->Wrong("has no severity", "write critical, warning or info");
  }
  if (alert.runbook.empty() && catalog.runbook_base.empty()) {
    subject->Wrong("has no runbook", "give it `runbook`, or the catalog `runbook_base`");
  }
  if (alert.owner.empty() && catalog.owner.empty()) {
    subject->Wrong("has no owner", "give it `owner`, or the catalog one");
  }
  if (alert.summary.empty()) {
    subject->Wrong("has no summary", "say in one sentence what is wrong");
  } else {
    if (alert.summary.find("{{") != std::string::npos) {
      subject->Wrong("the summary is a template, so that each firing reads differently",
                     "say it in one fixed sentence, and the numbers in the description");
    }
    if (alert.summary.back() != '.' || absl::ascii_islower(alert.summary[0])) {
      subject->Wrong("the summary is no sentence", "begin with a capital and end with a full stop");
    }
  }
  if (alert.description.empty()) {
    subject->Wrong("has no description", "say how much, where, and what it costs whom");
  }
}

void LintAlertTests(const DeclaredAlert& alert, const DeclaredNames& names, LintSubject* subject) {
  const auto count = [&](bool fires) {
    return std::count_if(alert.tests.begin(), alert.tests.end(),
                         [&](const AlertTest& test) { return test.fires == fires; });
  };
  if (count(true) == 0) subject->Wrong("has no test in which it fires", "give it one");
  if (count(false) == 0) {
    subject->Wrong("has no test in which it does not fire", "give it one, near the threshold");
  }
  for (const AlertTest& test : alert.tests) {
    if (test.fires && test.at_ms <= alert.for_ms) {
      subject->Wrong(absl::StrCat("a test wants it to fire after ", PromqlDuration(test.at_ms),
                                  ", before its \"for\" has passed"),
                     "look later");
    }
    if (!test.fires && test.series.empty()) {
      subject->Wrong("a test in which it does not fire has no series, and so says nothing",
                     "give it series just below the threshold");
    }
    for (const auto& [series, values] : test.series) LintSeries(series, names, subject);
  }
  LintTemplates(alert, names, subject);
}

}  // namespace tallyd
