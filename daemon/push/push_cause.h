// What became of a request of a push.

#ifndef TALLYD_DAEMON_PUSH_PUSH_CAUSE_H_
#define TALLYD_DAEMON_PUSH_PUSH_CAUSE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tallyd {

// What became of a request: a closed list, for the label `cause` of metrics.
enum class PushCause : uint8_t {
  kOk,               // 2xx
  kCredentials,      // a password, token, key or certificate of ours cannot be used
  kLookup,           // the host's name has no address, or nobody says which
  kConnect,          // refused or unreachable
  kConnectTimeout,   // no answer to the connection
  kTls,              // no agreement on TLS, or a certificate that is not trusted
  kTimeout,          // connected, but not done in time
  kClosed,           // the connection ended before the answer did
  kBadAnswer,        // no HTTP, or longer than is borne
  kRedirect,         // 3xx: never followed, a body would not be sent again
  kClientError,      // 4xx but 429
  kTooManyRequests,  // 429
  kServerError,      // 5xx and what is no status at all
};
inline constexpr size_t kPushCauses = 13;
// As metrics show it: "ok", "connect_timeout".
std::string_view PushCauseName(PushCause cause);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_CAUSE_H_
