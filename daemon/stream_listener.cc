#include "daemon/stream_listener.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"
#include "daemon/log.h"
#include "daemon/senders.h"

namespace tallyd {
namespace {

constexpr int kBacklog = 4096;  // the kernel bounds it by net.core.somaxconn
constexpr int kMaxAcceptsPerTurn = 64;
// Doubled while there is no room for a single one: a shard that closes some soon makes room again.
constexpr auto kLeastPause = std::chrono::milliseconds(1);
constexpr auto kMostPause = std::chrono::milliseconds(100);
constexpr int64_t kWarningIntervalNs = 60'000'000'000;

bool OutOfMeans(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

absl::StatusOr<UniqueFd> OpenTcpListener(const SocketAddress& address, const std::string& kind) {
  absl::StatusOr<UniqueFd> fd = OpenSocket(address, SOCK_STREAM);
  if (!fd.ok()) return fd.status();
  // Connections of a predecessor that linger do not block the port; a listener still does.
  const int on = 1;
  ::setsockopt(fd->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  absl::Status status = BindSocket(fd->get(), address, kind);
  if (status.ok()) status = ListenOn(fd->get(), absl::StrCat(kind, " ", address.ToString()));
  if (!status.ok()) return status;
  return fd;
}

absl::Status ListenOn(int fd, const std::string& name) {
  if (::listen(fd, kBacklog) == 0) return absl::OkStatus();
  return InUseError(absl::StrCat("cannot listen on ", name, ": ", std::strerror(errno)));
}

StreamListener::StreamListener(Loop* loop, UniqueFd listening, Options options,
                               ConnectionBudget* budget, ConnectionCounts* counts, Assign assign)
    : listening_(*loop, listening.release()),
      pause_(*loop),
      pause_length_(kLeastPause),
      options_(std::move(options)),
      budget_(budget),
      counts_(counts),
      assign_(std::move(assign)) {}

void StreamListener::Stop() {
  stopped_ = true;
  pause_.cancel();
  if (listening_.is_open()) listening_.close();
}

void StreamListener::Wait() {
  listening_.async_wait(LoopDescriptor::wait_read, [this](const boost::system::error_code& error) {
    if (!error && !stopped_) AcceptSome();
  });
}

void StreamListener::AcceptSome() {
  bool exhausted = false;
  int accepted = 0;
  while (accepted < kMaxAcceptsPerTurn && AcceptOne(&exhausted)) ++accepted;
  if (accepted > 0 || !exhausted) pause_length_ = kLeastPause;
  if (exhausted) return Pause();
  Wait();
}

bool StreamListener::AcceptOne(bool* exhausted) {
  ConnectionBudget::Token token = budget_->Take();
  if (!token.valid()) {
    *exhausted = true;
    return false;
  }
  UniqueFd fd(
      ::accept4(listening_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd.valid()) {
    const Credentials peer = options_.tell_peers ? PeerOf(fd.get()) : Credentials();
    if (options_.gate != nullptr && !options_.gate->Admits(peer)) {
      counts_->Opened(options_.source.listener);
      counts_->Closed(options_.source.listener, CloseReason::kUnauthorized);
      return true;
    }
    assign_({std::move(fd), std::move(token), options_.kind, options_.source, peer});
    return true;
  }
  *exhausted = OutOfMeans(errno);
  // Anything else, an aborted connection or an error of the network, is about that connection only.
  return !*exhausted && errno != EAGAIN && errno != EWOULDBLOCK;
}

void StreamListener::Pause() {
  counts_->accept_pauses.fetch_add(1, std::memory_order_relaxed);
  const int64_t now_ns = MonotonicNs();
  if (last_warning_ns_ == 0 || now_ns - last_warning_ns_ > kWarningIntervalNs) {
    last_warning_ns_ = now_ns;
    LogWarn("accepting is paused: out of file descriptors or at the limit on connections",
            {{"listener", options_.name}});
  }
  pause_.expires_after(pause_length_);
  pause_length_ = std::min(2 * pause_length_, kMostPause);
  pause_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) AcceptSome();
  });
}

}  // namespace tallyd
