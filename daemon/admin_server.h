// A UNIX socket for the operator of this host: what becomes of a line, and which lines come in.

#ifndef TALLYD_DAEMON_ADMIN_SERVER_H_
#define TALLYD_DAEMON_ADMIN_SERVER_H_

#include <prometheus/registry.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/wire/sample.h"
#include "daemon/capture_ring.h"
#include "daemon/job_sessions.h"
#include "daemon/loop.h"
#include "daemon/top_report.h"

namespace tallyd {

// Serves HTTP/1.1 on a socket of mode 0600, a request a connection:
//
//   GET /explain?line=...[&dialect=statsd|dogstatsd][&format=json|text]
//   GET or POST /capture[?seconds=N][&bytes=N]
//   GET /top[?families=N][&senders=N]
//   POST /job?job=...[&instance=...][&label.NAME=...][&ttl_ms=N]
//
// The last begins the session of a job, which has the connection from then on (job_sessions.h).
// The second streams lines as they come in, each with LF, and ends with one that begins with "# "
// and says what was left out; a client that shuts its side down ends it earlier. Bounds: time and
// bytes of a capture, one capture at a time, connections, headers, and the time that a client may
// take to read.
//
// Ownership: the thread that runs `loop`, which calls all hooks. Loop, registry, and what the hooks
// lead to outlive it.
class AdminServer {
 public:
  static constexpr absl::Duration kDefaultCaptureTime = absl::Seconds(10);
  static constexpr absl::Duration kMaxCaptureTime = absl::Hours(1);
  static constexpr uint64_t kDefaultCaptureBytes = uint64_t{64} << 20;
  static constexpr uint64_t kMaxCaptureBytes = uint64_t{64} << 30;
  // Between a shard and the capture.
  static constexpr size_t kRingBytes = size_t{4} << 20;
  static constexpr size_t kMaxConnections = 16;

  // Finds the answer to a question, on a thread of the server's own: it may take its time.
  using Job = std::function<absl::StatusOr<std::string>()>;

  struct Hooks {
    // Makes a job that says what becomes of a line, as JSON or as text for people. Without a
    // dialect it is that of the listeners, if they agree.
    std::function<Job(const std::string& line_untrusted, std::optional<Dialect> dialect,
                      bool as_json)>
        explain;
    // Calls `done`, on any thread, with a job that says what the daemon is doing, as JSON.
    std::function<void(const TopQuestion& question, std::function<void(Job)> done)> top;
    // Takes the connection of a job; null: there are no sessions of jobs.
    std::function<void(AdminSocket connection, const JobRequest& request)> open_job;
    int shards = 0;
    // Shows a shard's lines to a tap, and no longer.
    std::function<void(int shard, std::shared_ptr<LineTap> tap)> add_tap;
    std::function<void(int shard, std::shared_ptr<LineTap> tap)> remove_tap;
  };

  // Binds and begins to accept. AlreadyExists, naming the path, if somebody has it.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Listen(Loop* loop, const std::string& path,
                                                             prometheus::Registry* registry,
                                                             Hooks hooks);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Takes no more connections, ends those that there are, and waits for a job that is under way.
  void Stop();

 private:
  class Impl;
  explicit AdminServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_ADMIN_SERVER_H_
