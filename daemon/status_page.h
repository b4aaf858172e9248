// The page at "/": what is going on, for people.

#ifndef TALLYD_DAEMON_STATUS_PAGE_H_
#define TALLYD_DAEMON_STATUS_PAGE_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/merge_thread.h"
#include "daemon/own_metrics.h"
#include "daemon/push/push_status.h"

namespace tallyd {

struct StatusPageInput {
  std::string telemetry_path;
  std::string not_ready;  // why not; empty if ready
  bool lifecycle_enabled = false;
  std::vector<ListenerInfo> listeners;
  LedgerTotals totals;
  MergeThread::Status merging;
  absl::Duration snapshot_age;
  uint64_t series_limit = 0;
  std::vector<PushStatus> pushes;
};

// One self-contained HTML document; it refers to nothing outside.
std::string RenderStatusPage(const StatusPageInput& input);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STATUS_PAGE_H_
