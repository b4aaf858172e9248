// Internet addresses to listen on, as flags write them.

#ifndef TALLYD_DAEMON_ADDRESS_H_
#define TALLYD_DAEMON_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// An IPv4 or IPv6 address with its port. A value.
// "HOST:PORT" in its parts, the brackets of an IPv6 address taken off. The host may be empty.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
absl::StatusOr<HostPort> SplitHostPort(const std::string& text);

class SocketAddress {
 public:
  // Reads "127.0.0.1:8125", "[::1]:8125", "localhost:8125" and ":8125", which is all interfaces of
  // both families where the host has IPv6. Port 0 stands for a free one. A name is looked up, so
  // this is for start-up only.
  static absl::StatusOr<SocketAddress> Parse(const std::string& text);
  // The same of an address in numbers, without looking anything up.
  static absl::StatusOr<SocketAddress> ParseNumeric(const std::string& text);
  // Whether Parse may read it, without looking the name up.
  static absl::Status CheckSyntax(const std::string& text);
  // The address that a socket is bound to.
  static absl::StatusOr<SocketAddress> OfSocket(int fd);

  // As Parse reads it, always with numbers.
  std::string ToString() const;

  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  static absl::StatusOr<SocketAddress> ParseWith(int flags, const std::string& text);

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// A non-blocking socket for `address`, not bound yet; on "[::]" it takes IPv4 too.
absl::StatusOr<UniqueFd> OpenSocket(const SocketAddress& address, int type);

// Binds; an error names `kind` and the address.
absl::Status BindSocket(int fd, const SocketAddress& address, const std::string& kind);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_ADDRESS_H_
