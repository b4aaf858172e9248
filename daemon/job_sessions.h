// Sessions of short-lived jobs: sockets of their own, and what is known of how they ended.

#ifndef TALLYD_DAEMON_JOB_SESSIONS_H_
#define TALLYD_DAEMON_JOB_SESSIONS_H_

#include <prometheus/registry.h>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/groups/grouping.h"
#include "daemon/job_lines.h"
#include "daemon/job_memory.h"
#include "daemon/loop.h"
#include "daemon/push/job_groups.h"
#include "daemon/pushed_groups.h"

namespace tallyd {

using AdminSocket =
    boost::asio::basic_stream_socket<boost::asio::local::stream_protocol, Loop::executor_type>;

struct JobRequest {
  Grouping labels;                       // "job" and others, of all that the job sends
  absl::Duration ttl = absl::Hours(48);  // of its group and series; zero: they stay
};

// Reads the parameters of a request: job, instance, ttl_ms, and label.NAME for others.
// InvalidArgument for what could not be a tag.
absl::StatusOr<JobRequest> ParseJobRequest(
    const std::unordered_map<std::string, std::string>& parameters_untrusted);

// A session is a connection of tallyctl. It is told a UNIX datagram socket and a UDP port that are
// the session's alone; all that comes in there has the session's labels, over any other. When the
// connection says how the job ended, or ends itself, what the kernel has queued is taken in, and
// then the job's group is shown as ended.
//
// Sessions are read on the control loop, one batch at a time, so that shards never know of them: a
// batch goes to a shard as any other, and the next is read when it is counted.
//
// Ownership: the thread that runs `loop`. Loop, groups and registry outlive it.
class JobSessions {
 public:
  static constexpr size_t kMaxSessions = 64;

  // Has a shard take in what was received; `done` may be called on any thread.
  using Take = std::function<void(JobBatch batch, std::function<void()> done)>;

  // Is told of jobs that began and ended, when they are shown so. Called on the groups' thread.
  using Tell = std::function<void(const JobChange& change)>;

  // Sockets are called `prefix` and a number, with permissions `mode`. `memory` is null if jobs are
  // forgotten with the process; else it outlives the groups' thread.
  JobSessions(Loop* loop, std::string prefix, mode_t mode, PushedGroups* groups, JobMemory* memory,
              prometheus::Registry* registry, Take take, Tell tell);
  ~JobSessions();
  JobSessions(const JobSessions&) = delete;
  JobSessions& operator=(const JobSessions&) = delete;

  // Shows, and tells of, the jobs that the process before this one knew. Once, before Open.
  void Restore();
  // Takes over a connection whose request was read, and answers it.
  void Open(AdminSocket connection, const JobRequest& request);
  // Ends all sessions, whose jobs go on; from now on others are refused. `done` is called once what
  // the kernel had queued for them is counted, or after 3 s of that: shards must run until then.
  void Stop(std::function<void()> done);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JOB_SESSIONS_H_
