// A datagram socket and the cheapest loop that empties it.

#ifndef TALLYD_BENCH_FLOOR_RECEIVER_H_
#define TALLYD_BENCH_FLOOR_RECEIVER_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tallyd::bench {

struct ReceiverOptions {
  std::string listen;  // udp://ADDRESS:PORT or unixgram:///PATH
  int receive_buffer = 0;
  // Ends this long after the last datagram, once there was one; 0: on SIGTERM or SIGINT alone.
  int64_t idle_ms = 0;
  // Receive nothing before SIGUSR1, so that the socket is full when the measuring begins.
  bool queued = false;
  // epoll_wait before each drain, as a program with other things to wait for does, rather than a
  // blocking recvmmsg.
  bool epoll = false;
  // After each drain sleep so long before looking again: wake-ups for many datagrams at once.
  int64_t rest_us = 0;
};

struct ReceiverAccount {
  uint64_t datagrams = 0;
  uint64_t bytes = 0;
  uint64_t truncated = 0;
  uint64_t batches = 0;
  uint64_t kernel_drops = 0;
  double cpu_user_ns = 0;  // between the first receive call and the end
  double cpu_sys_ns = 0;
};

// Owner thread only. Ends the process with a message where it cannot do its work.
class Receiver {
 public:
  explicit Receiver(ReceiverOptions options);
  ~Receiver();
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  // Calls handle(payload) for each datagram until it is told to end or idle for long. Prints
  // "ready" on the standard error once the socket is bound.
  template <class Handle>
  ReceiverAccount Run(Handle&& handle) {
    Start();
    for (size_t count; (count = NextBatch()) != kEnd;) {
      for (size_t i = 0; i < count; ++i) {
        account_.bytes += messages_[i].msg_len;
        account_.truncated += (messages_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
        handle(absl::string_view(static_cast<const char*>(vectors_[i].iov_base),
                                 messages_[i].msg_len));
      }
      account_.datagrams += count;
      account_.batches += count > 0;
    }
    Finish();
    return account_;
  }

 private:
  static constexpr size_t kEnd = ~size_t{0};
  static constexpr size_t kBatch = 64;
  // No power of two, so that the first lines of the buffers do not share one set of the cache.
  static constexpr size_t kBufferBytes = 9216;

  void Start();
  void Finish();
  void WaitForUser1() const;
  // The number of datagrams, 0 after a time-out, kEnd at the end.
  size_t NextBatch();
  void WaitForInput();
  bool IsOver();
  void CountCpu(double sign);

  const ReceiverOptions options_;
  int socket_;
  int epoll_ = -1;
  std::string unlink_path_;
  bool drained_ = true;
  int64_t last_input_ns_ = 0;
  ReceiverAccount account_;
  std::vector<char> buffers_;
  std::array<iovec, kBatch> vectors_ = {};
  std::array<mmsghdr, kBatch> messages_ = {};
};

// The account's members as JSON, without braces.
std::string ReceiverJson(const ReceiverAccount& account);

// --listen and the other options, read from the command line of a floor program.
ReceiverOptions ReceiverOptionsFromFlags(const std::string& about, int argc, char** argv);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_FLOOR_RECEIVER_H_
