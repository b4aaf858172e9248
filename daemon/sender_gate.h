// Which users may send to a UNIX socket.

#ifndef TALLYD_DAEMON_SENDER_GATE_H_
#define TALLYD_DAEMON_SENDER_GATE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "daemon/senders.h"

namespace tallyd {

// Lets in whom the kernel vouches for as one of a few users, and counts whom it refuses. Whom the
// kernel cannot name is refused.
//
// Thread-safe. Relaxed is enough: no other data hangs on the numbers.
class SenderGate {
 public:
  explicit SenderGate(std::vector<uid_t> uids) : uids_(std::move(uids)) {}
  SenderGate(const SenderGate&) = delete;
  SenderGate& operator=(const SenderGate&) = delete;

  // Counts who is not let in.
  bool Admits(const Credentials& who);

  struct Refusals {
    uint64_t count = 0;  // datagrams and connections
    uint32_t last_uid = Credentials::kNobody;
    int32_t last_pid = 0;
  };
  Refusals refusals() const;

 private:
  const std::vector<uid_t> uids_;
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> last_{0};  // uid and pid, in one word so that they are of one sender
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SENDER_GATE_H_
