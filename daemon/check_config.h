// --check-config: what a start would do, without one.

#ifndef TALLYD_DAEMON_CHECK_CONFIG_H_
#define TALLYD_DAEMON_CHECK_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/options.h"

namespace tallyd {

struct ConfigReport {
  std::string text;                   // what is listened on, the limits, the worst-case memory
  std::vector<std::string> warnings;  // of the mapping file, "file:line: ..."
};

// Reads what the options name, and binds and starts nothing. Errors are those of a start: of the
// class kInvalidArgument, a line "file:line: ..." for each.
absl::StatusOr<ConfigReport> CheckConfig(const Options& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CHECK_CONFIG_H_
