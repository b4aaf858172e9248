#include "daemon/sender_gate.h"

#include <algorithm>

namespace tallyd {

bool SenderGate::Admits(const Credentials& who) {
  // A few users at most, so the first look is the fastest.
  if (who.known() && std::find(uids_.begin(), uids_.end(), who.uid) != uids_.end()) return true;
  last_.store(uint64_t{who.uid} << 32 | static_cast<uint32_t>(who.pid), std::memory_order_relaxed);
  refused_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

SenderGate::Refusals SenderGate::refusals() const {
  const uint64_t last = last_.load(std::memory_order_relaxed);
  return {refused_.load(std::memory_order_relaxed), static_cast<uint32_t>(last >> 32),
          static_cast<int32_t>(last & UINT32_MAX)};
}

}  // namespace tallyd
