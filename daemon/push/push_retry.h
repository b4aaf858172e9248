// When a push that failed is worth another try.

#ifndef TALLYD_DAEMON_PUSH_PUSH_RETRY_H_
#define TALLYD_DAEMON_PUSH_PUSH_RETRY_H_

#include "absl/time/time.h"
#include "daemon/push/http_client.h"
#include "daemon/push/push_cause.h"

namespace tallyd {

// Whether the same request may succeed before long.
bool MayPass(PushCause cause);

// How long a gateway asks to be left alone, `most` at most; zero if it does not.
absl::Duration RetryAfter(const HttpResult& result, absl::Duration most);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_RETRY_H_
