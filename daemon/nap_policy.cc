#include "daemon/nap_policy.h"

#include <algorithm>

namespace tallyd {

NapPolicy::NapPolicy(int64_t buffer_bytes)
    : buffer_bytes_(buffer_bytes),
      // No longer than the worst rate needs to fill half of the buffer.
      max_ns_(std::min(kMaxNs, buffer_bytes / 2 * 1'000'000'000 / kWorstBytesPerSecond)),
      next_ns_(std::min(kMinNs, max_ns_)) {}

int64_t NapPolicy::AfterDrain(const Drain& drain) {
  if (!drain.emptied) {
    next_ns_ = std::min(kMinNs, max_ns_);
    return 0;
  }
  const int64_t nap_ns = next_ns_;
  if (drain.queued_bytes > buffer_bytes_ / 4) {
    next_ns_ = std::max(next_ns_ / 2, kMinNs / 8);
    return next_ns_;
  }
  if (drain.queued_bytes <= buffer_bytes_ / 8) next_ns_ = std::min(next_ns_ * 2, max_ns_);
  return nap_ns;
}

void NapPolicy::AfterWait(int64_t waited_ns) {
  if (waited_ns > 4 * kMaxNs) {
    next_ns_ = std::min(kMinNs, max_ns_);
  } else if (waited_ns < kMaxNs) {
    next_ns_ = std::min(next_ns_ * 2, max_ns_);
  }
}

}  // namespace tallyd
