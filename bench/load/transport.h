// The sockets of a sender: one class for datagrams, one for streams.

#ifndef TALLYD_BENCH_LOAD_TRANSPORT_H_
#define TALLYD_BENCH_LOAD_TRANSPORT_H_

#include <sys/socket.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "bench/load/plan.h"

namespace tallyd::bench {

// Where a load goes. A plain value.
struct Target {
  std::string url;
  int family = 0;  // AF_INET, AF_INET6 or AF_UNIX
  int type = 0;    // SOCK_DGRAM, SOCK_STREAM or SOCK_SEQPACKET
  Framing framing = Framing::kDatagram;
  sockaddr_storage address = {};
  socklen_t address_bytes = 0;
};

// udp://HOST:PORT, tcp://HOST:PORT (HOST an IPv4 address, localhost, or an IPv6 address in
// brackets), unixgram:///PATH, unixstream:///PATH, unixseqpacket:///PATH. No name is looked up:
// loads stay on the machines that were named.
absl::StatusOr<Target> ParseTarget(absl::string_view url);

// The first `accepted` packets of a call are in the kernel; if `error` is not 0, the one after them
// met that errno and is not.
struct SendOutcome {
  size_t accepted = 0;
  int error = 0;
};

// One connected socket. Owner thread only.
class Sender {
 public:
  // At most this many packets a call.
  static constexpr size_t kMostPackets = 64;

  explicit Sender(Framing framing) : framing_(framing) {}
  virtual ~Sender() = default;
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  Framing framing() const { return framing_; }
  // Each packet in this sender's framing. A blocking sender gives up with EAGAIN after about a
  // tenth of a second without room, so that its caller can look at the time.
  virtual SendOutcome Send(absl::Span<const absl::string_view> packets) = 0;

 private:
  const Framing framing_;
};

// `wait`: sends block while there is no room. A stream that takes a part of a packet is always
// waited for, since half a packet would garble all that follow.
absl::StatusOr<std::unique_ptr<Sender>> Connect(const Target& target, bool wait);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_TRANSPORT_H_
