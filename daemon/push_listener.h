// A Pushgateway for clients that only know how to push.

#ifndef TALLYD_DAEMON_PUSH_LISTENER_H_
#define TALLYD_DAEMON_PUSH_LISTENER_H_

#include <prometheus/registry.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/handed_sockets.h"
#include "daemon/loop.h"
#include "daemon/pushed_groups.h"
#include "daemon/web/web_access.h"

namespace tallyd {

// Serves what Pushgateway 1.5 serves to those who push, with its answers:
//
//   PUT, POST, DELETE  /metrics/job/JOB{/LABEL/VALUE}            replace, merge, delete a group
//   PUT, POST, DELETE  /aggregate/metrics/job/JOB{/LABEL/VALUE}  add up instead
//   GET                /metrics                                  the groups alone
//   GET                /-/healthy, /-/ready
//
// Bounds: connections, bodies (each, and all that are in memory), the time they may take, groups
// and series (the store's).
//
// Ownership: the thread that runs `loop`. The loop, the groups and the registry outlive it.
class PushListener {
 public:
  struct Options {
    std::vector<std::string> addresses;  // as SocketAddress::Parse reads them
    HandedSockets* handed = nullptr;     // where some of their sockets may be; used by Listen
    absl::Duration group_ttl = absl::ZeroDuration();  // zero: groups stay
    size_t max_body_bytes = size_t{16} << 20;         // as sent, and decompressed
    size_t max_group_series = 20'000;
    size_t max_connections = 128;
    std::shared_ptr<WebAccess> access = nullptr;  // null: everybody is let in, without TLS
  };
  // Bodies that are in memory together, as a multiple of the largest.
  static constexpr size_t kBodiesInMemory = 4;

  // Expositions of the groups that are being written at a time.
  static constexpr int kMaxReaders = 8;

  PushListener(Loop* loop, Options options, PushedGroups* groups, prometheus::Registry* registry);
  ~PushListener();
  PushListener(const PushListener&) = delete;
  PushListener& operator=(const PushListener&) = delete;

  // Binds all addresses and begins to accept. AlreadyExists, naming the address, if one is in use.
  absl::Status Listen();
  std::vector<std::string> bound() const;
  // Takes no more connections and ends those that there are.
  void Stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_LISTENER_H_
