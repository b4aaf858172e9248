// The parts of LintCatalog, by what they look at.

#ifndef TALLYD_DAEMON_CATALOG_LINT_PARTS_H_
#define TALLYD_DAEMON_CATALOG_LINT_PARTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/rules/catalog.h"
#include "daemon/catalog/declared_names.h"
#include "daemon/catalog/lint.h"
#include "daemon/catalog/promql.h"

namespace tallyd {

// Findings about one thing of the catalog. Thread-compatible.
class LintSubject {
 public:
  LintSubject(const Catalog& catalog, int line, std::string name)
      : file_(catalog.file), line_(line), name_(std::move(name)) {}

  // Plainly wrong.
  void Wrong(std::string what, std::string remedy) {
    Add(std::move(what), std::move(remedy), false);
  }
  // Wrong, unless somebody says why not.
  void Doubt(std::string what, std::string remedy) {
    Add(std::move(what), std::move(remedy), true);
  }

  std::vector<LintFinding> Take() { return std::move(findings_); }

 private:
  void Add(std::string what, std::string remedy, bool is_judgement);

  std::string file_;
  int line_;
  std::string name_;
  std::vector<LintFinding> findings_;
};

void LintMetric(const Catalog& catalog, const DeclaredMetric& metric, LintSubject* subject);

// What an alert says beside its expression: duration, links, texts, tests.
void LintAlertTexts(const Catalog& catalog, const DeclaredAlert& alert, LintSubject* subject);
void LintAlertTests(const DeclaredAlert& alert, const DeclaredNames& names, LintSubject* subject);

// Names, labels, functions and ranges: what an expression gets wrong whatever it is for.
void LintExpression(const PromqlExpr& expr, const DeclaredNames& names, int64_t scrape_interval_ms,
                    LintSubject* subject);

// Quotients, sums and thresholds: whether an expression says what it seems to say.
void LintArithmetic(const PromqlExpr& expr, const DeclaredNames& names, LintSubject* subject);
void LintCondition(const PromqlExpr& expr, LintSubject* subject);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_LINT_PARTS_H_
