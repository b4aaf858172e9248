// Which handed-in socket serves which listener.

#ifndef TALLYD_DAEMON_HANDED_SOCKETS_H_
#define TALLYD_DAEMON_HANDED_SOCKETS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/handed_fds.h"
#include "daemon/options.h"
#include "daemon/service_manager.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// A listener as it is configured.
struct WantedSocket {
  std::string kind;     // udp, tcp, unixgram, unixstream, unixseqpacket, http, push
  int type = 0;         // SOCK_DGRAM, ...
  std::string address;  // host:port as SocketAddress::Parse reads it, or a path
};

// All listeners that a socket may be handed in for.
std::vector<WantedSocket> WantedSockets(const Options& options);

// Sockets are matched to listeners by type and by the address that they are bound to. A name that
// is one of the kinds of listeners restricts a socket to that kind; a listener on port 0 takes only
// sockets that are named so, with any port. A listener takes any number of sockets, which then
// share its address; one of HTTP takes one.
//
// What our predecessor stored comes back the same way, under names of ours.
//
// Ownership: the main thread, at start.
class HandedSockets {
 public:
  // Takes all sockets out of `fds`. InvalidArgument, naming all of them, if there are some that no
  // listener wants; what our predecessor stored and nobody wants any more is given up with a
  // warning instead. `manager` outlives this; null: there is none.
  static absl::StatusOr<HandedSockets> Match(HandedFds* fds,
                                             const std::vector<WantedSocket>& wanted,
                                             const ServiceManager* manager);
  HandedSockets() = default;
  HandedSockets(HandedSockets&&) = default;
  HandedSockets& operator=(HandedSockets&&) = default;

  // The sockets of a listener: non-blocking, close-on-exec.
  std::vector<UniqueFd> Take(std::string_view kind, std::string_view address);

  // Whether the sockets that Take would return are those that our predecessor bound.
  bool AreOurs(std::string_view kind, std::string_view address) const;

  // Whether the manager keeps our own sockets for our successor.
  bool keeps() const { return manager_ != nullptr && manager_->stores_fds(); }
  // Has it keep a socket that we bound ourselves; that it cannot be kept is said in the log.
  void Keep(std::string_view kind, std::string_view bound_address, const UniqueFd& fd) const;
  // Has it forget those of an address.
  void Forget(std::string_view kind, std::string_view bound_address) const;

 private:
  struct Matched {
    WantedSocket wanted;
    std::vector<HandedFd> sockets;
  };

  const ServiceManager* manager_ = nullptr;
  std::vector<Matched> matched_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HANDED_SOCKETS_H_
