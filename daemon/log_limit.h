// How often one kind of log line may be said.

#ifndef TALLYD_DAEMON_LOG_LIMIT_H_
#define TALLYD_DAEMON_LOG_LIMIT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace tallyd {

// Lets at most kLines of one kind through within any kWindowNs, and counts the others. A kind is
// a message without its fields. Kinds past kMaxKinds share one allowance, so that messages that are
// made up from what came in cannot grow this.
//
// Thread-compatible.
class LogLimit {
 public:
  static constexpr size_t kLines = 10;
  static constexpr int64_t kWindowNs = 60'000'000'000;
  static constexpr size_t kMaxKinds = 256;

  struct Verdict {
    bool let_through = false;
    uint64_t held_back = 0;  // of this kind since the last that was let through
  };

  // `now_ns` is monotonic.
  Verdict Take(const std::string& kind, int64_t now_ns);

 private:
  struct Allowance {
    std::array<int64_t, kLines> said_ns{};  // a ring; `next` is the oldest once it is full
    size_t said = 0;
    size_t next = 0;
    uint64_t held_back = 0;
  };

  Allowance* AllowanceOf(const std::string& kind);

  absl::flat_hash_map<std::string, Allowance> kinds_;
  Allowance others_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOG_LIMIT_H_
