#include "daemon/push/clock_guard.h"

#include <cstdlib>

namespace tallyd {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
const int64_t kMaxApartMs = absl::ToInt64Milliseconds(ClockGuard::kMaxApart);

}  // namespace

void ClockGuard::Beat(int64_t monotonic_ns, int64_t wall_ms) {
  const int64_t apart_ms =
      (wall_ms - beat_wall_ms_) - (monotonic_ns - beat_monotonic_ns_) / kNsPerMs;
  beat_monotonic_ns_ = monotonic_ns;
  beat_wall_ms_ = wall_ms;
  if (!has_beaten_) {
    has_beaten_ = true;
    return;
  }
  if (std::llabs(apart_ms) > kMaxApartMs) {
    state_ = State::kStepped;
    agreeing_ = 0;
  } else if (state_ == State::kStepped && ++agreeing_ >= kAgreeingBeats) {
    state_ = State::kUnchecked;
  }
}

void ClockGuard::Compare(int64_t wall_ms, std::optional<int64_t> target_ms) {
  if (state_ == State::kStepped) return;
  const bool is_ahead = target_ms.has_value() && wall_ms - *target_ms > kMaxApartMs;
  // A target that does not say its time cannot take back what it said.
  if (!target_ms.has_value() && state_ == State::kAheadOfTarget) return;
  state_ = is_ahead ? State::kAheadOfTarget : State::kBelieved;
}

std::optional<int64_t> ClockGuard::Take(int64_t wall_ms) {
  if (state_ != State::kBelieved || wall_ms <= last_taken_ms_) return std::nullopt;
  last_taken_ms_ = wall_ms;
  return wall_ms;
}

std::optional<int64_t> ClockGuard::TakeNext(int64_t wall_ms) {
  constexpr int64_t kSlackMs = 1'000;
  const bool just_taken = wall_ms <= last_taken_ms_ && wall_ms + kSlackMs > last_taken_ms_;
  return Take(just_taken ? last_taken_ms_ + 1 : wall_ms);
}

}  // namespace tallyd
