#include "daemon/nap_policy.h"

#include <algorithm>

namespace tallyd {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;

}  // namespace

NapPolicy::NapPolicy(int64_t buffer_bytes)
    : buffer_bytes_(buffer_bytes),
      max_ns_(std::min(kMaxNs, buffer_bytes * 2 / 3 * kNsPerSecond / kWorstBytesPerSecond /
                                   kNsPerMs * kNsPerMs)),
      next_ns_(std::min(kMinNs, max_ns_)) {}

int64_t NapPolicy::AfterDrain(const Drain& drain) {
  const int64_t nap_ns = next_ns_;
  if (!drain.emptied) {
    next_ns_ = std::min(kMinNs, max_ns_);
    return 0;
  }
  if (drain.queued_bytes > buffer_bytes_ / 4) {
    next_ns_ = std::max(nap_ns / 2 / kNsPerMs * kNsPerMs, std::min(kMinNs, max_ns_));
    return next_ns_;
  }
  if (drain.queued_bytes <= buffer_bytes_ / 8) next_ns_ = std::min(nap_ns * 2, max_ns_);
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
