#include "daemon/udp_listener.h"

#include <linux/sock_diag.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

int EffectiveReceiveBuffer(int fd) {
  int bytes = 0;
  socklen_t size = sizeof(bytes);
  ::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size);
  return bytes;
}

void AskForReceiveBuffer(int fd, int bytes) {
  // A socket that was handed in may have a larger one. The kernel reports twice what was asked.
  if (EffectiveReceiveBuffer(fd) / 2 >= bytes) return;
  // The first is allowed to pass net.core.rmem_max, and needs CAP_NET_ADMIN.
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == 0) return;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

absl::Status SharePort(int fd, const SocketAddress& address) {
  const int on = 1;
  if (::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("SO_REUSEPORT on udp ", address.ToString(), ": ", std::strerror(errno)));
}

// The first socket of a group binds as one that shares with nobody, which the kernel refuses if
// anybody has the address, and opens the group to the rest only then. Bound with SO_REUSEPORT from
// the start, a second instance of ours would silently take a part of the datagrams.
absl::StatusOr<UniqueFd> BindFirst(const SocketAddress& address) {
  absl::StatusOr<UniqueFd> fd = OpenSocket(address, SOCK_DGRAM);
  if (!fd.ok()) return fd.status();
  absl::Status status = BindSocket(fd->get(), address, "udp");
  status.Update(SharePort(fd->get(), address));
  if (!status.ok()) return status;
  return fd;
}

absl::StatusOr<UniqueFd> BindNext(const SocketAddress& address) {
  absl::StatusOr<UniqueFd> fd = OpenSocket(address, SOCK_DGRAM);
  if (!fd.ok()) return fd.status();
  absl::Status status = SharePort(fd->get(), address);
  status.Update(BindSocket(fd->get(), address, "udp"));
  if (!status.ok()) return status;
  return fd;
}

void SizeReceiveBuffers(int bytes, UdpGroup* group) {
  for (const UniqueFd& fd : group->sockets) AskForReceiveBuffer(fd.get(), bytes);
  group->receive_buffer_bytes = EffectiveReceiveBuffer(group->sockets.front().get());
}

// From now on the kernel takes only what comes from an address that nobody sends from; what is
// queued stays. Senders on this host are told by an error that nobody listens any more.
void LetNothingIn(int fd) {
  const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(fd);
  if (!bound.ok()) return;
  const absl::StatusOr<SocketAddress> nobody =
      SocketAddress::Parse(bound->family() == AF_INET ? "127.0.0.1:9" : "[::1]:9");
  // Where it fails, what still arrives is taken in until the drain is done.
  if (nobody.ok()) (void)::connect(fd, nobody->get(), nobody->size());
}

}  // namespace

absl::StatusOr<UdpGroup> OpenUdpGroup(const SocketAddress& address, int count,
                                      int read_buffer_bytes) {
  UdpGroup group;
  absl::StatusOr<UniqueFd> first = BindFirst(address);
  if (!first.ok()) return first.status();
  const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(first->get());
  if (!bound.ok()) return bound.status();
  group.address = bound->ToString();
  group.sockets.push_back(*std::move(first));
  for (int i = 1; i < count; ++i) {
    absl::StatusOr<UniqueFd> next = BindNext(*bound);
    if (!next.ok()) return next.status();
    group.sockets.push_back(*std::move(next));
  }
  SizeReceiveBuffers(read_buffer_bytes, &group);
  return group;
}

absl::StatusOr<UdpGroup> AdoptUdpGroup(std::vector<UniqueFd> sockets, int read_buffer_bytes) {
  const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(sockets.front().get());
  if (!bound.ok()) return bound.status();
  UdpGroup group;
  group.address = bound->ToString();
  group.sockets = std::move(sockets);
  SizeReceiveBuffers(read_buffer_bytes, &group);
  return group;
}

UdpListener::UdpListener(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps,
                         ReceiveRing* ring)
    : waits_(waits), shard_(shard), taps_(taps), ring_(ring), watched_(*loop) {}

absl::Status UdpListener::Add(UdpSocket added) {
  if (!watched_.is_open()) watched_.assign(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = sockets_.size();
  if (::epoll_ctl(watched_.native_handle(), EPOLL_CTL_ADD, added.fd.get(), &event) != 0) {
    return absl::InternalError(absl::StrCat("cannot watch a UDP socket: ", std::strerror(errno)));
  }
  smallest_buffer_bytes_ = std::min<int64_t>(smallest_buffer_bytes_, added.receive_buffer_bytes);
  sockets_.push_back({std::move(added.fd), added.source, added.drops_counted, added.outlives_us});
  return absl::OkStatus();
}

void UdpListener::Start() {
  if (sockets_.empty()) return;
  naps_ = NapPolicy(smallest_buffer_bytes_);
  idle_since_ns_ = MonotonicNs();
  WaitForWatched();
}

void UdpListener::WaitForWatched() {
  const auto on_readable = [this](const boost::system::error_code& error) {
    if (error || closed_) return;
    OnWatchedReadable();
    WaitForWatched();
  };
  watched_.async_wait(LoopDescriptor::wait_read, HandlerIn(waits_, on_readable));
}

void UdpListener::OnWatchedReadable() {
  // Taking the events is what makes the sockets quiet: each is reported once.
  std::array<epoll_event, 16> events;
  int count = 0;
  do {
    count = ::epoll_wait(watched_.native_handle(), events.data(), events.size(), 0);
    for (int i = 0; i < count; ++i) sockets_[events[i].data.u64].draining = true;
  } while (count == static_cast<int>(events.size()));
  if (turn_due_) return;
  naps_.AfterWait(MonotonicNs() - idle_since_ns_);
  turn_due_ = true;
  nap_end_ = {};
}

void UdpListener::Turn() {
  NapPolicy::Drain drain;
  bool found = false;
  for (Socket& socket : sockets_) {
    if (!socket.draining) continue;
    if (DrainSocket(&socket, &drain)) {
      found = true;
    } else {
      Watch(&socket);
    }
  }
  if (!found) {
    turn_due_ = false;
    idle_since_ns_ = MonotonicNs();
    return;
  }
  nap_end_ = std::chrono::steady_clock::now() + std::chrono::nanoseconds(naps_.AfterDrain(drain));
}

bool UdpListener::DrainSocket(Socket* socket, NapPolicy::Drain* drain) {
  for (int batch = 0; batch < ReceiveRing::kMaxBatchesPerTurn; ++batch) {
    const int count = ring_->Receive(socket->fd.get());
    if (count <= 0) return batch > 0;
    ApplyBatch(*ring_, count, socket->source, shard_, taps_);
    if (count < ring_->capacity()) return true;
    // Only now it is worth to ask how much there is: less than a batch is little in any buffer that
    // we nap with.
    if (batch == 0) drain->queued_bytes = std::max(drain->queued_bytes, ReadMemInfo(socket));
  }
  drain->emptied = false;
  return true;
}

void UdpListener::Watch(Socket* socket) {
  socket->draining = false;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = static_cast<uint64_t>(socket - sockets_.data());
  ::epoll_ctl(watched_.native_handle(), EPOLL_CTL_MOD, socket->fd.get(), &event);
}

int64_t UdpListener::ReadMemInfo(Socket* socket) {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(socket->fd.get(), SOL_SOCKET, SO_MEMINFO, info.data(), &size) != 0) return 0;
  const uint32_t drops = info[SK_MEMINFO_DROPS];
  const uint32_t counted = socket->drops_counted->load(std::memory_order_relaxed);
  if (drops != counted) {
    Ledger::Listener& counts = shard_->ledger().listeners[socket->source.listener];
    counts.kernel_dropped.Add(drops - counted);
    socket->drops_counted->store(drops, std::memory_order_relaxed);
  }
  return info[SK_MEMINFO_RMEM_ALLOC];
}

void UdpListener::CountKernelDrops() {
  for (Socket& socket : sockets_) ReadMemInfo(&socket);
}

void UdpListener::DrainAndClose(int64_t deadline_ns) {
  closed_ = true;
  turn_due_ = false;
  for (const Socket& socket : sockets_) {
    if (!socket.outlives_us) LetNothingIn(socket.fd.get());
  }
  for (Socket& socket : sockets_) {
    int count = 0;
    while (MonotonicNs() < deadline_ns && (count = ring_->Receive(socket.fd.get())) > 0) {
      ApplyBatch(*ring_, count, socket.source, shard_, taps_);
      // What comes later is our successor's; senders that go on would hold us here.
      if (socket.outlives_us && count < ring_->capacity()) break;
    }
    ReadMemInfo(&socket);
  }
  watched_.close();
  sockets_.clear();
}

}  // namespace tallyd
