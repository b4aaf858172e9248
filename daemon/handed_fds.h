// File descriptors that whoever started us handed in.

#ifndef TALLYD_DAEMON_HANDED_FDS_H_
#define TALLYD_DAEMON_HANDED_FDS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/unique_fd.h"

namespace tallyd {

struct HandedFd {
  std::string name;  // FileDescriptorName= of its unit, or FDNAME= of who stored it
  UniqueFd fd;       // close-on-exec
};

// What is left of the descriptors handed in by the protocol of sd_listen_fds(3): those of socket
// units and those that our predecessor left with the manager (service_manager.h). Each part of the
// daemon takes its own; what nobody took is somebody's mistake.
//
// Names that begin with kOwnPrefix are given by us alone: what carries one comes from our
// predecessor, who may have been another version of us. The manager's own are the exception: a
// socket that nobody named is called what its unit is, and that may be tallyd.socket.
//
// Ownership: the main thread, at start.
class HandedFds {
 public:
  static constexpr std::string_view kOwnPrefix = "tallyd.";
  static bool IsOwnName(std::string_view name);

  HandedFds() = default;
  HandedFds(HandedFds&&) = default;
  HandedFds& operator=(HandedFds&&) = default;

  // Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and removes them, so that no child of ours
  // takes them for its own. Once, before other threads run. Empty if they are not there, or meant
  // for another process; InvalidArgument if they are not what the protocol says.
  static absl::StatusOr<HandedFds> FromEnvironment();
  // The same of values as the environment has them, null if it does not; descriptors are counted
  // from `first`.
  static absl::StatusOr<HandedFds> Read(const char* pid, const char* count, const char* names,
                                        int first);

  bool empty() const { return fds_.empty(); }
  // All that are left, in the order of their numbers.
  const std::vector<HandedFd>& left() const { return fds_; }

  // All of this name.
  std::vector<UniqueFd> Take(std::string_view name);
  // All for which `wanted(const HandedFd&)` holds.
  template <typename Wanted>
  std::vector<HandedFd> TakeIf(Wanted wanted) {
    std::vector<HandedFd> taken;
    std::vector<HandedFd> kept;
    for (HandedFd& handed : fds_) {
      (wanted(handed) ? taken : kept).push_back(std::move(handed));
    }
    fds_ = std::move(kept);
    return taken;
  }

 private:
  std::vector<HandedFd> fds_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HANDED_FDS_H_
