#include "daemon/push/push_retry.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace tallyd {

bool MayPass(PushCause cause) {
  return cause != PushCause::kClientError && cause != PushCause::kRedirect;
}

absl::Duration RetryAfter(const HttpResult& result, absl::Duration most) {
  int64_t seconds = 0;
  const std::string_view text = result.Header("Retry-After");
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &seconds) || seconds < 0) {
    return absl::ZeroDuration();
  }
  return std::min(absl::Seconds(seconds), most);
}

}  // namespace tallyd
