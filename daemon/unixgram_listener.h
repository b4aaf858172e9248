// UNIX datagram sockets.

#ifndef TALLYD_DAEMON_UNIXGRAM_LISTENER_H_
#define TALLYD_DAEMON_UNIXGRAM_LISTENER_H_

#include <cstdint>

#include "core/shard/shard.h"
#include "daemon/loop.h"
#include "daemon/receive_ring.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Buffers for UNIX datagrams and seqpackets. A sender with the default send buffer can send 212,992
// bytes less a little in one; a sender that raised it can send more, which is cut and counted. The
// queue holds eleven datagrams unless the host says otherwise, so a large ring would stay empty.
inline constexpr size_t kUnixMessageBytes = 212'992;
inline constexpr int kUnixMessages = 32;

// A socket on its way to the shard that will read it.
struct UnixgramSocket {
  UniqueFd fd;
  Source source;
  bool tells_senders = false;  // it has SO_PASSCRED
  // Somebody else holds the socket too and will have it read on: it is left as it is at the end.
  bool outlives_us = false;
  SenderGate* gate = nullptr;  // null: whoever the file's mode lets send; else tells_senders
};

// Has the kernel say of each datagram who sent it; false, and errno, if it does not.
bool TellSenders(int fd);

// One UNIX datagram socket, read by one shard: several readers would wait for each other in the
// kernel and share one queue.
//
// It never naps. The queue is short, and a sender that finds it full waits or loses the datagram
// without our knowing.
//
// Ownership: the shard's thread, once the loop runs. What the constructor takes pointers to
// outlives it.
class UnixgramListener {
 public:
  UnixgramListener(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps, ReceiveRing* ring,
                   SenderTable* senders, UnixgramSocket socket);
  UnixgramListener(const UnixgramListener&) = delete;
  UnixgramListener& operator=(const UnixgramListener&) = delete;

  // Owner thread, or before the loop runs.
  void Start() { Wait(); }
  uint16_t listener() const { return source_.listener; }
  // Owner thread. Another socket has taken the place of this one, which is for those who are
  // connected to it; nobody has it read on after us.
  void BecomeFormer() {
    outlives_us_ = false;
    former_ = true;
  }
  bool former() const { return former_; }
  // Owner thread. Lets nothing more in, unless the socket outlives us, takes what is queued, and
  // ends. Gives up at `deadline_ns`.
  void DrainAndClose(int64_t deadline_ns);

 private:
  void Wait();
  void Turn();
  // Takes in what is queued, up to a batch; how many datagrams there were, or -1.
  int TakeBatch();

  WaitPool* const waits_;
  Shard* const shard_;
  LineTaps* const taps_;
  ReceiveRing* const ring_;
  SenderTable* const senders_;  // null: the kernel does not tell
  SenderGate* const gate_;      // null: all may send
  LoopDescriptor socket_;
  const Source source_;
  bool outlives_us_;
  bool former_ = false;
  bool closed_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_UNIXGRAM_LISTENER_H_
