// Buffers for a batch of datagrams, and the call that fills them.

#ifndef TALLYD_DAEMON_RECEIVE_RING_H_
#define TALLYD_DAEMON_RECEIVE_RING_H_

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/shard/shard.h"
#include "daemon/line_tap.h"
#include "daemon/sender_gate.h"
#include "daemon/senders.h"

namespace tallyd {

// Invariant: every buffer has kReadPadding readable bytes behind it, and message() is asked only
// for what the last Receive returned. Buffers are reserved once and cost memory as far as datagrams
// reach into them. Thread-compatible: one thread owns it.
class ReceiveRing {
 public:
  // Room for `messages` datagrams of up to `buffer_bytes` each.
  static absl::StatusOr<std::unique_ptr<ReceiveRing>> Create(int messages, size_t buffer_bytes);
  ~ReceiveRing();
  ReceiveRing(const ReceiveRing&) = delete;
  ReceiveRing& operator=(const ReceiveRing&) = delete;

  struct Message {
    char* bytes_untrusted;
    size_t size;
    bool truncated;
  };
  // Whether the kernel is to say who sent, for which the socket must have SO_PASSCRED.
  enum class Senders { kIgnore, kTell };

  // Takes what is queued on `fd`, without waiting. Returns how many datagrams there were, or -1 and
  // errno; nothing queued is 0.
  int Receive(int fd, Senders senders = Senders::kIgnore);
  // The i-th of the last Receive.
  Message message(int i) const;
  // Who sent it; unknown unless the kernel was to tell.
  Credentials sender(int i) const;
  int capacity() const { return static_cast<int>(headers_.size()); }

  // After so many a listener gives the loop's timers and other descriptors their chance.
  static constexpr int kMaxBatchesPerTurn = 16;

  // Bytes from one buffer to the next.
  static constexpr size_t Stride(size_t buffer_bytes) { return buffer_bytes + kStrideSkew; }

 private:
  ReceiveRing(char* base, int messages, size_t buffer_bytes);

  // Datagrams mostly touch the beginning of their buffers. A stride of a power of two would map all
  // beginnings to the same few cache sets.
  static constexpr size_t kStrideSkew = 1600;

  // Room for credentials and nothing else: the kernel closes file descriptors that a peer passes,
  // rather than making them ours, where they find no room.
  struct Control {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> bytes;
  };

  char* const base_;
  const size_t buffer_bytes_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> headers_;
  std::vector<Control> controls_;
  Senders senders_ = Senders::kIgnore;  // of the last Receive
  size_t used_ = 0;                     // headers that the kernel has written to
};

// Owner thread of the shard. Applies the first `count` messages of the ring as one batch, and shows
// them to `taps`. With `senders` each counts for whoever sent it, and with `gate` besides only
// those count that it admits; the others are refused as unauthorized, and of nobody.
void ApplyBatch(const ReceiveRing& ring, int count, Source source, Shard* shard, LineTaps* taps,
                SenderTable* senders = nullptr, SenderGate* gate = nullptr);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RECEIVE_RING_H_
