// Keeps the groups of jobs in one Pushgateway up to date, and deletes them in time.

#ifndef TALLYD_DAEMON_PUSH_GATEWAY_JOBS_H_
#define TALLYD_DAEMON_PUSH_GATEWAY_JOBS_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/push/job_groups.h"
#include "daemon/push/push_status.h"
#include "daemon/push/pushgateway_options.h"
#include "daemon/push/pushgateway_target.h"

namespace tallyd {

// Each job has a group of its own, by its labels: what is known of it and all series that have
// these labels. The group is pushed when the job begins, at the target's interval while it runs,
// and as soon as it ended, with a state that has all that it sent; what fails is tried again. When
// the group's time is over it is deleted from the gateway, which would keep it for ever.
//
// What the target says of families, of how many series go and of families that the gateway calls
// inconsistent holds for these groups too.
//
// Ownership: the thread that runs `loop`, which the object keeps alive for those who render.
class GatewayJobs : public std::enable_shared_from_this<GatewayJobs> {
 public:
  // Groups at a time. With more, new jobs go with the target's own group, and the log says so.
  static constexpr size_t kMaxGroups = 1000;

  // `options` are the target's.
  GatewayJobs(std::shared_ptr<Loop> loop, PushgatewayOptions options, PushSources sources);
  ~GatewayJobs();
  GatewayJobs(const GatewayJobs&) = delete;
  GatewayJobs& operator=(const GatewayJobs&) = delete;

  void OnJob(const JobChange& change);
  // Whose series go to groups of their own, so that the target's own leaves them out. A job that
  // got no group is not among them. Null: nobody's.
  std::shared_ptr<const JobGroupIndex> index();
  // Once, to end: pushes what is not up to date, or deletes all groups if that was asked for, and
  // calls `done`, all within `deadline`.
  void Finish(absl::Duration deadline, std::function<void()> done);
  // Any thread. Adds what these groups cost to what the target's own cost.
  void AddTo(PushStatus* status) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_GATEWAY_JOBS_H_
