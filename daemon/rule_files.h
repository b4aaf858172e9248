// The files that the options name, read as a whole.

#ifndef TALLYD_DAEMON_RULE_FILES_H_
#define TALLYD_DAEMON_RULE_FILES_H_

#include "absl/status/statusor.h"
#include "core/rules/rules.h"
#include "daemon/options.h"

namespace tallyd {

// What the options, the mapping file and the catalogs ask of names, tags and series. A usage error
// says all that is wrong with any of the files, a line each, with file:line.
absl::StatusOr<Rules::Options> LoadRules(const Options& options);

// The same, if the web configuration file is in order too: all that is read before a start.
absl::StatusOr<Rules::Options> LoadRulesToStart(const Options& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RULE_FILES_H_
