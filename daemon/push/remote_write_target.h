// Sends the state to a target of remote write, again and again.

#ifndef TALLYD_DAEMON_PUSH_REMOTE_WRITE_TARGET_H_
#define TALLYD_DAEMON_PUSH_REMOTE_WRITE_TARGET_H_

#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/push/push_status.h"
#include "daemon/push/pushgateway_target.h"  // PushSources
#include "daemon/push/remote_write_options.h"

namespace tallyd {

// A RemoteWriteSender with sockets, a clock and a log.
//
// Ownership: the thread that runs `loop`, which the target keeps alive for those who render.
class RemoteWriteTarget : public std::enable_shared_from_this<RemoteWriteTarget> {
 public:
  RemoteWriteTarget(std::shared_ptr<Loop> loop, RemoteWriteOptions options, PushSources sources);
  ~RemoteWriteTarget();
  RemoteWriteTarget(const RemoteWriteTarget&) = delete;
  RemoteWriteTarget& operator=(const RemoteWriteTarget&) = delete;

  // Once, to begin.
  void Start();
  // Once, to end: sends the last values and, if that was asked for, the end of all series, and
  // calls `done`, all within `deadline`.
  void Finish(absl::Duration deadline, std::function<void()> done);
  // Any thread.
  PushStatus status() const;
  const RemoteWriteOptions& options() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_REMOTE_WRITE_TARGET_H_
