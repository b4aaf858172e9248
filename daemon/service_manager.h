// What we tell the service manager, and what it keeps for us.

#ifndef TALLYD_DAEMON_SERVICE_MANAGER_H_
#define TALLYD_DAEMON_SERVICE_MANAGER_H_

#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// The protocol of sd_notify(3), spoken directly: it is a datagram, and this way no call waits
// longer than we say. Without a manager all of it does nothing.
//
// Descriptors that are stored come back to our successor as HandedFds, after a crash too. A name
// may stand for several. The manager keeps a descriptor until it is removed by its name, or the
// service is stopped rather than restarted.
//
// Thread-safe: nothing changes after the constructor but the socket's queue, which is the kernel's.
class ServiceManager {
 public:
  // What of NOTIFY_SOCKET, FDSTORE, WATCHDOG_USEC and WATCHDOG_PID concerns us.
  struct Environment {
    std::string notify_socket;  // a path, or "@" and an abstract name; empty: no manager
    int store_capacity = 0;     // descriptors that the manager keeps; 0: none
    absl::Duration watchdog = absl::ZeroDuration();  // zero: nobody watches
  };

  // No manager.
  ServiceManager() = default;
  explicit ServiceManager(const Environment& environment);
  // Reads the environment, and removes what it read, so that no child of ours speaks for us. Once,
  // before other threads run.
  static ServiceManager FromEnvironment();

  ServiceManager(ServiceManager&&) = default;
  ServiceManager& operator=(ServiceManager&&) = default;

  bool present() const { return socket_.valid(); }
  // How often the manager wants to hear of us; zero: never.
  absl::Duration watchdog() const { return watchdog_; }
  // systemd tells by FDSTORE since version 254; a unit for an older one sets it as it sets
  // FileDescriptorStoreMax=.
  int store_capacity() const { return present() ? store_capacity_ : 0; }
  bool stores_fds() const { return store_capacity() > 0; }

  // Sends assignments, one a line: "READY=1\nSTATUS=fine". Waits at most kPatience for room in the
  // manager's queue.
  absl::Status Notify(std::string_view assignments) const;
  // The same without waiting: for what is said again soon. False if there was no room.
  bool NotifyIfRoom(std::string_view assignments) const;

  // Has the manager keep duplicates of `fds` under `name`, which must be as fd names are: printable
  // ASCII without colon, at most 255 bytes; it should begin with HandedFds::kOwnPrefix. What is
  // stored already is not stored twice. FailedPrecondition if there is no store.
  absl::Status Store(std::string_view name, const std::vector<int>& fds) const;
  absl::Status Store(std::string_view name, int fd) const {
    return Store(name, std::vector<int>{fd});
  }
  // Has it forget all that it keeps under `name`.
  absl::Status Remove(std::string_view name) const;

  static constexpr absl::Duration kPatience = absl::Seconds(1);

 private:
  absl::Status Send(std::string_view assignments, const int* fds, size_t count, int flags) const;

  sockaddr_un address_{};
  socklen_t address_size_ = 0;
  UniqueFd socket_;
  int store_capacity_ = 0;
  absl::Duration watchdog_ = absl::ZeroDuration();
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SERVICE_MANAGER_H_
