// What is to be known of the targets of pushes, as metrics.

#ifndef TALLYD_DAEMON_PUSH_PUSH_METRICS_H_
#define TALLYD_DAEMON_PUSH_PUSH_METRICS_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "daemon/push/push_status.h"

namespace tallyd {

// The families tallyd_push_*, with the labels `target` and `kind`. None if there are no targets.
std::vector<prometheus::MetricFamily> PushFamilies(const std::vector<PushStatus>& statuses);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_METRICS_H_
