// What a confined process does without.

#ifndef TALLYD_DAEMON_MISSING_RIGHTS_H_
#define TALLYD_DAEMON_MISSING_RIGHTS_H_

#include <string>
#include <vector>

#include "daemon/options.h"

namespace tallyd {

// A sentence for each thing that the host or the unit keeps from us, and what follows from it. What
// is found out only by trying is said where it is tried: receive buffers (listener_set.h) and CPUs
// (shard_thread.h).
std::vector<std::string> MissingRights(const Options& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MISSING_RIGHTS_H_
