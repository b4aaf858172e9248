// What the stream listeners count about their connections.

#ifndef TALLYD_DAEMON_CONNECTION_COUNTS_H_
#define TALLYD_DAEMON_CONNECTION_COUNTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/shard/ledger.h"

namespace tallyd {

// Why a connection came to its end: a closed list.
enum class CloseReason : uint8_t {
  kPeer,          // the peer closed it, between two frames or lines
  kFrameTooLong,  // it announced a frame over the limit
  kLineTooLong,   // it sent a line over the limit
  kIdleTimeout,   // a partial frame or line was not continued in time
  kError,         // the kernel reported an error, such as a reset
  kShutdown,      // the daemon ends
  kHandedOver,    // it goes on with the daemon's successor
  kUnauthorized,  // its user may not send to this socket
  kCount
};
inline constexpr size_t kCloseReasons = static_cast<size_t>(CloseReason::kCount);

inline constexpr std::array<std::string_view, kCloseReasons> kCloseReasonNames = {
    "peer",  "frame_too_long", "line_too_long", "idle_timeout",
    "error", "shutdown",       "handed_over",   "unauthorized"};

// Invariant: every connection is opened once and closed once. Thread-safe: any thread counts and
// reads. Relaxed is enough, since no other data hangs on the numbers.
struct ConnectionCounts {
  std::array<std::atomic<int64_t>, Ledger::kMaxListeners> open{};
  std::array<std::atomic<uint64_t>, kCloseReasons> closed{};
  std::atomic<uint64_t> accept_pauses{0};  // out of descriptors, or at the limit on connections

  void Opened(size_t listener) { open[listener].fetch_add(1, std::memory_order_relaxed); }
  void Closed(size_t listener, CloseReason reason) {
    open[listener].fetch_sub(1, std::memory_order_relaxed);
    closed[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  }
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CONNECTION_COUNTS_H_
