// How a target of pushes is doing: what its metrics and the status page show.

#ifndef TALLYD_DAEMON_PUSH_PUSH_STATUS_H_
#define TALLYD_DAEMON_PUSH_PUSH_STATUS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "daemon/push/push_cause.h"

namespace tallyd {

// Why a series did not go in a push that was made: a closed list, for the label `reason`.
enum class PushDropReason : uint8_t {
  kRejected,      // the target refuses it, whatever is done
  kReservedName,  // the target keeps the name for itself
  kSeriesLimit,   // the target was to get no more
  kTooOld,        // the target was away for longer than the sample is worth
  kSuperseded,    // the target was away, and newer values took their place
};
inline constexpr size_t kPushDropReasons = 5;
inline constexpr std::array<std::string_view, kPushDropReasons> kPushDropReasonNames = {
    "rejected", "reserved_name", "series_limit", "too_old", "superseded"};

// A value: of one target, at one moment.
struct PushStatus {
  void CountRequest(PushCause cause, size_t body_bytes, absl::Duration duration) {
    ++requests[static_cast<size_t>(cause)];
    sent_bytes += body_bytes;
    total_duration += duration;
  }
  void Drop(PushDropReason reason, uint64_t count) {
    dropped[static_cast<size_t>(reason)] += count;
  }
  uint64_t failures() const {
    uint64_t sum = 0;
    for (size_t i = 1; i < kPushCauses; ++i) sum += requests[i];
    return sum;
  }

  std::string target;  // its name in the configuration, or its URL
  std::string kind;    // "pushgateway", "remote_write"
  absl::Duration interval;

  std::array<uint64_t, kPushCauses> requests{};  // done, by PushCause
  uint64_t sent_bytes = 0;                       // of bodies
  absl::Duration total_duration;                 // of requests
  std::array<uint64_t, kPushDropReasons> dropped{};
  uint64_t series = 0;           // in the last push that succeeded
  uint64_t stored_series = 0;    // in all pushes that succeeded
  bool clock_suspended = false;  // nothing is pushed since the wall clock is not believed
  uint64_t queued_series = 0;    // that wait to be sent
  int in_flight = 0;             // requests
  uint64_t job_groups = 0;       // of jobs, that are kept up to date or are to be deleted
  absl::Time last_success = absl::UnixEpoch();  // the epoch: none yet
  std::string last_error;                       // empty: the last push succeeded
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSH_STATUS_H_
