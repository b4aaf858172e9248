// Decides whether the wall clock can be believed, for those who send timestamps.

#ifndef TALLYD_DAEMON_PUSH_CLOCK_GUARD_H_
#define TALLYD_DAEMON_PUSH_CLOCK_GUARD_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace tallyd {

// One sample from the future makes a Prometheus refuse all that comes after it, from everybody. So
// the wall clock is believed only as long as it goes as fast as the monotonic one and is not ahead
// of the target's own. After a step it is believed again once two intervals agree and the target,
// if it says what time it has, does not contradict.
//
// Thread-compatible.
class ClockGuard {
 public:
  // What clocks may be apart.
  static constexpr absl::Duration kMaxApart = absl::Seconds(60);
  static constexpr int kAgreeingBeats = 2;

  enum class State : uint8_t {
    kBelieved,
    kUnchecked,     // shall be compared with the target's clock before anything is sent
    kStepped,       // went otherwise than the monotonic clock
    kAheadOfTarget  // of the target's own clock
  };

  // Once an interval. `wall_ms` is Unix time.
  void Beat(int64_t monotonic_ns, int64_t wall_ms);
  // What the target's clock said at `wall_ms`; nothing, if it did not say.
  void Compare(int64_t wall_ms, std::optional<int64_t> target_ms);
  State state() const { return state_; }
  // Whether a comparison is what stands between us and believing.
  bool wants_comparison() const {
    return state_ == State::kUnchecked || state_ == State::kAheadOfTarget;
  }

  // A timestamp to send: the wall clock, if it is believed and later than all that were taken.
  std::optional<int64_t> Take(int64_t wall_ms);
  // As Take, but just after the last one if the clock has not moved on since.
  std::optional<int64_t> TakeNext(int64_t wall_ms);
  int64_t last_taken_ms() const { return last_taken_ms_; }

 private:
  State state_ = State::kUnchecked;
  bool has_beaten_ = false;
  int64_t beat_monotonic_ns_ = 0;
  int64_t beat_wall_ms_ = 0;
  int agreeing_ = 0;
  int64_t last_taken_ms_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_CLOCK_GUARD_H_
