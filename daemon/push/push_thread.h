// The thread on which all pushes are made.

#ifndef TALLYD_DAEMON_PUSH_PUSH_THREAD_H_
#define TALLYD_DAEMON_PUSH_PUSH_THREAD_H_

#include <boost/asio/executor_work_guard.hpp>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/push/gateway_jobs.h"
#include "daemon/push/job_groups.h"
#include "daemon/push/push_status.h"
#include "daemon/push/pushgateway_target.h"
#include "daemon/push/remote_write_target.h"

namespace tallyd {

// Runs the targets on a loop of its own, so that neither the data path nor the merger nor the
// control loop ever wait for a target, nor one target for another. Thread-safe.
class PushThread {
 public:
  PushThread(std::vector<PushgatewayOptions> gateways,
             std::vector<RemoteWriteOptions> remote_writes, const PushSources& sources);
  // Ends at once, without a last push unless Finish has made it.
  ~PushThread();
  PushThread(const PushThread&) = delete;
  PushThread& operator=(const PushThread&) = delete;

  // Once, of the end: a last push to every target, all at the same time. Returns when all are done,
  // and at the deadline at the latest.
  void Finish(absl::Duration deadline);

  // A job began or ended: from now on its series have groups of their own in the gateways.
  void OnJob(const JobChange& change);

  // In the order of the configuration, gateways first.
  std::vector<PushStatus> statuses() const;

 private:
  const std::shared_ptr<Loop> loop_;
  boost::asio::executor_work_guard<Loop::executor_type> work_;
  std::vector<std::shared_ptr<PushgatewayTarget>> gateways_;
  std::vector<std::shared_ptr<GatewayJobs>> jobs_;  // of each gateway
  std::vector<std::shared_ptr<RemoteWriteTarget>> remote_writes_;
  std::thread thread_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_THREAD_H_
