#include "daemon/catalog/lint.h"

#include <re2/re2.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/catalog/declared_names.h"
#include "daemon/catalog/lint_parts.h"
#include "daemon/catalog/promql.h"

namespace tallyd {
namespace {

void LintRule(const std::string& text, const Catalog& catalog, const DeclaredNames& names,
              bool is_alert, LintSubject* subject) {
  const absl::StatusOr<PromqlExpr> expr = ParsePromql(text);
  if (!expr.ok()) {
    subject->Wrong(
        absl::StrCat("the expression cannot be read: ", std::string(expr.status().message())),
        "try it in Prometheus");
    return;
  }
  LintExpression(*expr, names, catalog.scrape_interval_ms, subject);
  LintArithmetic(*expr, names, subject);
  if (is_alert) LintCondition(*expr, subject);
}

void LintRecordingRule(const RecordingRule& rule, LintSubject* subject) {
  static const RE2* const pattern = new RE2("[a-z][a-z0-9_]*:[a-z][a-z0-9_]*:[a-z][a-z0-9_]*");
  if (!RE2::FullMatch(rule.record, *pattern)) {
    subject->Wrong("is not named level:metric:operations", "such as job:errors:ratio_rate5m");
  }
}

void LintPanel(const DeclaredMetric& metric, const Catalog& catalog, const DeclaredNames& names,
               LintSubject* subject) {
  if (metric.panel.expr.empty()) return;
  LintRule(metric.panel.expr, catalog, names, false, subject);
}

}  // namespace

std::string LintFinding::ToText() const {
  return absl::StrCat(file, ":", line, ": ", subject, ": ", what, "; ", remedy);
}

void LintSubject::Add(std::string what, std::string remedy, bool is_judgement) {
  LintFinding finding{file_, line_, name_, std::move(what), std::move(remedy), is_judgement};
  const std::string text = finding.ToText();
  const bool is_repeated = std::any_of(findings_.begin(), findings_.end(),
                                       [&](const auto& other) { return other.ToText() == text; });
  if (!is_repeated) findings_.push_back(std::move(finding));
}

std::vector<LintFinding> LintCatalog(const Catalog& catalog) {
  const DeclaredNames names(catalog);
  std::vector<LintFinding> findings;
  const auto take = [&](LintSubject* subject, bool has_reason) {
    for (LintFinding& finding : subject->Take()) {
      if (!finding.is_judgement || !has_reason) findings.push_back(std::move(finding));
    }
  };
  for (const DeclaredMetric& metric : catalog.metrics) {
    LintSubject subject(catalog, metric.line, absl::StrCat("metric ", metric.name));
    LintMetric(catalog, metric, &subject);
    LintPanel(metric, catalog, names, &subject);
    take(&subject, false);
  }
  for (const RecordingRule& rule : catalog.recording_rules) {
    LintSubject subject(catalog, rule.line, absl::StrCat("recording rule ", rule.record));
    LintRecordingRule(rule, &subject);
    LintRule(rule.expr, catalog, names, false, &subject);
    take(&subject, false);
  }
  for (const DeclaredAlert& alert : catalog.alerts) {
    LintSubject subject(catalog, alert.line, absl::StrCat("alert ", alert.name));
    LintRule(alert.expr, catalog, names, true, &subject);
    LintAlertTexts(catalog, alert, &subject);
    LintAlertTests(alert, names, &subject);
    take(&subject, !alert.reason.empty());
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const auto& a, const auto& b) { return a.line < b.line; });
  return findings;
}

}  // namespace tallyd
