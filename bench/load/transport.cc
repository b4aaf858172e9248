#include "bench/load/transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace tallyd::bench {
namespace {

constexpr int kWaitMs = 100;
// A stream that takes nothing for this long with a packet half sent is given up.
constexpr int kTornPacketWaits = 100;

absl::Status BadTarget(absl::string_view url, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(url, ": ", why));
}

absl::StatusOr<Target> ParseUnix(absl::string_view url, absl::string_view path, Target target) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path[0] != '/') return BadTarget(url, "the path must begin with a slash");
  if (path.size() >= sizeof(address.sun_path)) return BadTarget(url, "the path is too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  target.family = AF_UNIX;
  target.address_bytes = sizeof(address);
  std::memcpy(&target.address, &address, sizeof(address));
  return target;
}

absl::StatusOr<Target> ParseInternet(absl::string_view url, absl::string_view place,
                                     Target target) {
  const size_t colon = place.rfind(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(place.substr(colon + 1), &port) ||
      port == 0 || port > 65535) {
    return BadTarget(url, "no port");
  }
  std::string host(place.substr(0, colon));
  if (host == "localhost") host = "127.0.0.1";
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    sockaddr_in6 address = {};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(static_cast<uint16_t>(port));
    host = host.substr(1, host.size() - 2);
    if (inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) != 1) {
      return BadTarget(url, "not an IPv6 address");
    }
    target.family = AF_INET6;
    target.address_bytes = sizeof(address);
    std::memcpy(&target.address, &address, sizeof(address));
    return target;
  }
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return BadTarget(url, "not an IPv4 address (IPv6 addresses go in brackets)");
  }
  target.family = AF_INET;
  target.address_bytes = sizeof(address);
  std::memcpy(&target.address, &address, sizeof(address));
  return target;
}

iovec ToIovec(absl::string_view bytes) {
  // sendmsg reads only; its iovec just has no const.
  return {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
}

class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// UDP, UNIX datagrams and UNIX seqpackets.
class DatagramSender : public Sender {
 public:
  explicit DatagramSender(OwnedFd fd) : Sender(Framing::kDatagram), fd_(std::move(fd)) {
    for (size_t i = 0; i < kMostPackets; ++i) {
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  SendOutcome Send(absl::Span<const absl::string_view> packets) override {
    for (size_t i = 0; i < packets.size(); ++i) vectors_[i] = ToIovec(packets[i]);
    const int sent =
        sendmmsg(fd_.get(), messages_.data(), static_cast<unsigned>(packets.size()), MSG_NOSIGNAL);
    // What stopped a call that sent some is told by the next call.
    if (sent < 0) return {.accepted = 0, .error = errno};
    return {.accepted = static_cast<size_t>(sent), .error = 0};
  }

 private:
  OwnedFd fd_;
  std::array<iovec, kMostPackets> vectors_ = {};
  std::array<mmsghdr, kMostPackets> messages_ = {};
};

// TCP and UNIX streams.
class StreamSender : public Sender {
 public:
  StreamSender(OwnedFd fd, Framing framing) : Sender(framing), fd_(std::move(fd)) {}

  SendOutcome Send(absl::Span<const absl::string_view> packets) override {
    if (broken_) return {.accepted = 0, .error = EPIPE};
    for (size_t i = 0; i < packets.size(); ++i) vectors_[i] = ToIovec(packets[i]);
    msghdr message = {};
    message.msg_iov = vectors_.data();
    message.msg_iovlen = packets.size();
    const ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) return {.accepted = 0, .error = errno};
    return FinishTorn(packets, static_cast<size_t>(sent));
  }

 private:
  SendOutcome FinishTorn(absl::Span<const absl::string_view> packets, size_t bytes) {
    size_t whole = 0;
    while (whole < packets.size() && bytes >= packets[whole].size()) {
      bytes -= packets[whole++].size();
    }
    if (whole == packets.size() || bytes == 0) return {.accepted = whole, .error = 0};
    if (const int error = SendAll(packets[whole].substr(bytes)); error != 0) {
      broken_ = true;
      return {.accepted = whole, .error = error};
    }
    return {.accepted = whole + 1, .error = 0};
  }

  int SendAll(absl::string_view bytes) {
    for (int waits = 0; !bytes.empty() && waits < kTornPacketWaits;) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EAGAIN) {
        ++waits;
        pollfd writable = {.fd = fd_.get(), .events = POLLOUT, .revents = 0};
        poll(&writable, 1, kWaitMs);
      } else if (errno != EINTR) {
        return errno;
      }
    }
    return bytes.empty() ? 0 : ETIMEDOUT;
  }

  OwnedFd fd_;
  std::array<iovec, kMostPackets> vectors_ = {};
  // A torn packet was left: nothing that follows could be understood.
  bool broken_ = false;
};

absl::Status Errno(absl::string_view what, const Target& target) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", target.url));
}

// After connecting: a refused connection shall be told, whatever sends do later.
absl::Status SetBlocking(int fd, bool wait, const Target& target) {
  if (!wait && fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return Errno("fcntl", target);
  const timeval patience = {.tv_sec = 0, .tv_usec = kWaitMs * 1000};
  if (wait && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0) {
    return Errno("SO_SNDTIMEO", target);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Target> ParseTarget(absl::string_view url) {
  Target target;
  target.url = std::string(url);
  absl::string_view rest = url;
  target.type = SOCK_DGRAM;
  if (absl::ConsumePrefix(&rest, "udp://")) return ParseInternet(url, rest, target);
  if (absl::ConsumePrefix(&rest, "unixgram://")) return ParseUnix(url, rest, target);
  target.type = SOCK_SEQPACKET;
  if (absl::ConsumePrefix(&rest, "unixseqpacket://")) return ParseUnix(url, rest, target);
  target.type = SOCK_STREAM;
  target.framing = Framing::kNewline;
  if (absl::ConsumePrefix(&rest, "tcp://")) return ParseInternet(url, rest, target);
  target.framing = Framing::kLengthPrefixed;
  if (absl::ConsumePrefix(&rest, "unixstream://")) return ParseUnix(url, rest, target);
  return BadTarget(url, "not udp://, tcp://, unixgram://, unixstream:// or unixseqpacket://");
}

absl::StatusOr<std::unique_ptr<Sender>> Connect(const Target& target, bool wait) {
  OwnedFd fd(socket(target.family, target.type | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return Errno("socket", target);
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  if (connect(fd.get(), address, target.address_bytes) != 0) return Errno("connect", target);
  if (target.framing == Framing::kNewline) {
    const int on = 1;
    if (setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
      return Errno("TCP_NODELAY", target);
    }
  }
  if (absl::Status status = SetBlocking(fd.get(), wait, target); !status.ok()) return status;
  if (target.type == SOCK_STREAM) {
    return std::make_unique<StreamSender>(std::move(fd), target.framing);
  }
  return std::make_unique<DatagramSender>(std::move(fd));
}

}  // namespace tallyd::bench
