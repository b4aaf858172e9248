// The clocks, in the units that the core takes.

#ifndef TALLYD_DAEMON_CLOCK_H_
#define TALLYD_DAEMON_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace tallyd {

inline int64_t MonotonicNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

inline int64_t UnixSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec;
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CLOCK_H_
