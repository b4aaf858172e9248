// Where a push goes.

#ifndef TALLYD_DAEMON_PUSH_HTTP_URL_H_
#define TALLYD_DAEMON_PUSH_HTTP_URL_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tallyd {

// A value.
struct HttpUrl {
  // Reads "http://host:9091", "https://[::1]/path?query". Refused, with the reason: other schemes,
  // a user or password (they would show in logs and metrics), a fragment, white space, control
  // characters and what is not ASCII.
  static absl::StatusOr<HttpUrl> Parse(std::string_view text);

  // For the Host header: without the port if it is the scheme's own.
  std::string Authority() const;
  // For people and metrics: without the query, which may hold a password.
  std::string ToString() const;

  bool tls = false;
  std::string host;  // a name, or an address without brackets
  std::string port;  // a number from 1 to 65535
  std::string path;  // empty, or from the slash on; with the query
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_HTTP_URL_H_
