// Asks a running daemon by its admin socket: the side of tallyctl.

#ifndef TALLYD_DAEMON_ADMIN_CLIENT_H_
#define TALLYD_DAEMON_ADMIN_CLIENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// One request and its answer, waiting for both. Thread-compatible.
class AdminClient {
 public:
  // NotFound or Unavailable, with the path, if nobody answers there. All of a request must be done
  // within `timeout`.
  static absl::StatusOr<AdminClient> Connect(const std::string& path,
                                             absl::Duration timeout = absl::InfiniteDuration());

  using Body = std::function<absl::Status(std::string_view)>;

  // Sends the request and hands on the body as it comes; an error of `body` ends it. Where the
  // daemon refuses, the error is what it says. `stop` is asked some times a second; once it is
  // true the daemon is told to come to an end, and the rest is still read.
  absl::Status Get(const std::string& target, const Body& body, const std::function<bool()>& stop);

 private:
  AdminClient(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status Send(const std::string& text);
  // Waits for bytes; empty at the end.
  absl::StatusOr<std::string> Receive(const std::function<bool()>& stop);
  absl::Status Error(const std::string& what) const;

  std::string path_;
  UniqueFd fd_;
  bool stopped_ = false;
  int64_t deadline_ns_ = INT64_MAX;
};

// For the value of a query's parameter.
std::string PercentEncoded(std::string_view text);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_ADMIN_CLIENT_H_
