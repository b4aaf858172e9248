// What an experienced reviewer would say of a catalog that is well formed.

#ifndef TALLYD_DAEMON_CATALOG_LINT_H_
#define TALLYD_DAEMON_CATALOG_LINT_H_

#include <string>
#include <vector>

#include "core/rules/catalog.h"

namespace tallyd {

struct LintFinding {
  std::string file;
  int line = 0;
  std::string subject;  // "alert MeetingControllerDropsMessages", "metric mc_meetings"
  std::string what;
  std::string remedy;
  // A matter of judgement, which the `reason` of an alert answers; others are plainly wrong.
  bool is_judgement = false;

  // "file:line: subject: what; remedy"
  std::string ToText() const;
};

// In the order of the file. Findings that an alert gives a reason for are not among them.
std::vector<LintFinding> LintCatalog(const Catalog& catalog);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_LINT_H_
