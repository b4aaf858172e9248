// UDP: one socket for each shard and address, read in batches.

#ifndef TALLYD_DAEMON_UDP_LISTENER_H_
#define TALLYD_DAEMON_UDP_LISTENER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/shard/shard.h"
#include "daemon/address.h"
#include "daemon/drop_marks.h"
#include "daemon/line_tap.h"
#include "daemon/loop.h"
#include "daemon/nap_policy.h"
#include "daemon/receive_ring.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Datagrams of one batch, and room for each.
inline constexpr int kUdpMessages = 64;
inline constexpr size_t kUdpMessageBytes = 65'536;

// The sockets of one address. The kernel picks one by a hash of both ends of a datagram, so a
// sender stays with a shard and the order of its gauges holds.
struct UdpGroup {
  std::string address;           // as bound
  int receive_buffer_bytes = 0;  // effective, of each socket
  std::vector<UniqueFd> sockets;
};

// A socket on its way to the shard that will read it.
struct UdpSocket {
  UniqueFd fd;
  int receive_buffer_bytes = 0;
  Source source;
  DropMarks::Mark* drops_counted = nullptr;
  // Somebody else holds the socket too and will have it read on: it is left as it is at the end.
  bool outlives_us = false;
};

// Binds `count` sockets to `address`, which nobody else may have: neither another user nor another
// instance of ours.
absl::StatusOr<UdpGroup> OpenUdpGroup(const SocketAddress& address, int count,
                                      int read_buffer_bytes);
// The same of sockets that were handed in, bound to one address. Their number is what it is: the
// kernel deals senders out to them, and one more would take over a part of the senders while the
// others still hold datagrams of theirs.
absl::StatusOr<UdpGroup> AdoptUdpGroup(std::vector<UniqueFd> sockets, int read_buffer_bytes);

// All UDP sockets of one shard.
//
// A socket is either watched, so that its next datagram wakes the shard, or being drained: then it
// is read, the shard naps (nap_policy.h), it is read again, and when nothing has come it is watched
// again. While it is being drained no datagram may wake the shard, but the loop watches everything
// it knows for good and by edges, so each datagram would. Therefore the sockets are in an epoll set
// of our own, one-shot, and the loop watches that.
//
// Ownership: the shard's thread, once the loop runs. What the constructor takes outlives it.
class UdpListener {
 public:
  UdpListener(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps, ReceiveRing* ring);
  UdpListener(const UdpListener&) = delete;
  UdpListener& operator=(const UdpListener&) = delete;

  // Before Start.
  absl::Status Add(UdpSocket added);
  // Before the loop runs.
  void Start();

  // Owner thread. Should Turn be called, now or at the end of a nap?
  bool turn_due() const { return turn_due_; }
  // Owner thread. When; now or earlier means at once.
  std::chrono::steady_clock::time_point nap_end() const { return nap_end_; }
  // Owner thread. Reads the sockets that are being drained.
  void Turn();

  // Owner thread. Brings the ledger's count of what the kernel dropped up to date.
  void CountKernelDrops();
  // Owner thread. Lets nothing more in, unless the socket outlives us, takes what is queued, and
  // ends. Gives up at `deadline_ns`.
  void DrainAndClose(int64_t deadline_ns);

 private:
  struct Socket {
    UniqueFd fd;
    Source source;
    DropMarks::Mark* drops_counted;  // the kernel's counter wraps
    bool outlives_us;
    bool draining = false;
  };

  void WaitForWatched();
  void OnWatchedReadable();
  // Reads what there is, up to a bound; false if there was nothing.
  bool DrainSocket(Socket* socket, NapPolicy::Drain* drain);
  void Watch(Socket* socket);
  // Asks the kernel for a socket's numbers: counts new drops, returns the bytes charged to its
  // queue.
  int64_t ReadMemInfo(Socket* socket);

  WaitPool* const waits_;
  Shard* const shard_;
  LineTaps* const taps_;
  ReceiveRing* const ring_;
  LoopDescriptor watched_;  // the epoll set
  std::vector<Socket> sockets_;
  int64_t smallest_buffer_bytes_ = INT64_MAX;
  NapPolicy naps_{0};
  bool turn_due_ = false;
  std::chrono::steady_clock::time_point nap_end_;
  int64_t idle_since_ns_ = 0;
  bool closed_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_UDP_LISTENER_H_
