// The kernel's number of a socket.

#ifndef TALLYD_DAEMON_SOCKET_COOKIE_H_
#define TALLYD_DAEMON_SOCKET_COOKIE_H_

#include <sys/socket.h>

#include <cstdint>

namespace tallyd {

// The same in every process that holds the socket, and never given to another as long as the host
// runs; 0 for what is no socket.
inline uint64_t CookieOf(int socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return 0;
  return cookie;
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SOCKET_COOKIE_H_
