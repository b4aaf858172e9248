#include "daemon/log_limit.h"

#include <utility>

namespace tallyd {

LogLimit::Allowance* LogLimit::AllowanceOf(const std::string& kind) {
  const auto known = kinds_.find(kind);
  if (known != kinds_.end()) return &known->second;
  if (kinds_.size() >= kMaxKinds) return &others_;
  return &kinds_[kind];
}

LogLimit::Verdict LogLimit::Take(const std::string& kind, int64_t now_ns) {
  Allowance& allowance = *AllowanceOf(kind);
  const bool full = allowance.said == kLines;
  if (full && now_ns - allowance.said_ns[allowance.next] < kWindowNs) {
    ++allowance.held_back;
    return {};
  }
  if (!full) ++allowance.said;
  allowance.said_ns[allowance.next] = now_ns;
  allowance.next = (allowance.next + 1) % kLines;
  return {true, std::exchange(allowance.held_back, 0)};
}

}  // namespace tallyd
