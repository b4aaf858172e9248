// `tallyctl top`.

#ifndef TALLYD_DAEMON_TOP_COMMAND_H_
#define TALLYD_DAEMON_TOP_COMMAND_H_

#include <string>

#include "absl/time/time.h"
#include "daemon/exit_code.h"
#include "daemon/top_view.h"

namespace tallyd {

struct TopOptions {
  std::string socket;
  bool once = false;
  bool json = false;  // with `once`
  TopSort sort = TopSort::kRate;
  absl::Duration interval = absl::Seconds(1);  // zero, with `once`: no rates
};

// Runs until somebody quits, or once. Errors go to the standard error.
ExitCode RunTop(const TopOptions& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TOP_COMMAND_H_
