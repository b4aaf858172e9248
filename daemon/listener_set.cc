#include "daemon/listener_set.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/address.h"
#include "daemon/log.h"

namespace tallyd {

absl::StatusOr<std::unique_ptr<ListenerSet>> ListenerSet::Open(const Options& options, int shards) {
  std::unique_ptr<ListenerSet> set(new ListenerSet());
  absl::Status status = set->OpenUdp(options, shards);
  if (status.ok()) status = set->OpenTcp(options);
  if (status.ok()) status = set->OpenUnixgram(options);
  if (status.ok()) status = set->OpenUnixStreams(options);
  if (!status.ok()) return status;
  set->WarnOfSmallBuffers();
  return set;
}

uint16_t ListenerSet::AddBound(const std::string& kind, const std::string& address,
                               bool takes_connections) {
  BoundListener& bound = bound_.emplace_back();
  bound.kind = kind;
  bound.address = address;
  bound.takes_connections = takes_connections;
  return static_cast<uint16_t>(bound_.size() - 1);
}

absl::Status ListenerSet::OpenUdp(const Options& options, int shards) {
  for (const std::string& text : options.udp) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
    if (!address.ok()) return address.status();
    absl::StatusOr<UdpGroup> group = OpenUdpGroup(*address, shards, options.ReadBufferBytes());
    if (!group.ok()) return group.status();
    const uint16_t index = AddBound("udp", group->address, false);
    bound_[index].receive_buffer_asked_bytes = options.ReadBufferBytes();
    bound_[index].receive_buffer_bytes = group->receive_buffer_bytes;
    udp_indexes_.push_back(index);
    udp_.push_back(*std::move(group));
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenTcp(const Options& options) {
  for (const std::string& text : options.tcp) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
    if (!address.ok()) return address.status();
    absl::StatusOr<UniqueFd> fd = OpenTcpListener(*address);
    if (!fd.ok()) return fd.status();
    const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(fd->get());
    if (!bound.ok()) return bound.status();
    const uint16_t index = AddBound("tcp", bound->ToString(), true);
    streams_.push_back({*std::move(fd), StreamKind::kTcp, index});
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenUnixgram(const Options& options) {
  for (const std::string& path : options.unixgram) {
    absl::StatusOr<UnixPath> bound = UnixPath::Bind(path, SOCK_DGRAM, options.unixsocket_mode);
    if (!bound.ok()) return bound.status();
    const uint16_t index = AddBound("unixgram", path, false);
    unixgram_.push_back({bound->TakeFd(), StreamKind::kUnixSeqpacket, index});
    paths_.push_back(*std::move(bound));
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenUnixStreams(const Options& options) {
  absl::Status status;
  for (const std::string& path : options.unixstream) {
    status.Update(OpenUnixStream(path, StreamKind::kUnixStream, options.unixsocket_mode));
  }
  for (const std::string& path : options.unixseqpacket) {
    status.Update(OpenUnixStream(path, StreamKind::kUnixSeqpacket, options.unixsocket_mode));
  }
  return status;
}

absl::Status ListenerSet::OpenUnixStream(const std::string& path, StreamKind kind, mode_t mode) {
  const bool packets = kind == StreamKind::kUnixSeqpacket;
  absl::StatusOr<UnixPath> bound =
      UnixPath::Bind(path, packets ? SOCK_SEQPACKET : SOCK_STREAM, mode);
  if (!bound.ok()) return bound.status();
  absl::Status status = ListenOn(bound->fd(), absl::StrCat("socket ", path));
  if (!status.ok()) return status;
  const uint16_t index = AddBound(packets ? "unixseqpacket" : "unixstream", path, true);
  streams_.push_back({bound->TakeFd(), kind, index});
  paths_.push_back(*std::move(bound));
  return absl::OkStatus();
}

void ListenerSet::WarnOfSmallBuffers() const {
  for (const BoundListener& listener : bound_) {
    // The kernel reports twice what it granted, so less than what was asked is less than half of
    // it.
    if (listener.receive_buffer_bytes >= listener.receive_buffer_asked_bytes) continue;
    LogWarn(
        "the kernel grants a small receive buffer: bursts will be lost; raise net.core.rmem_max",
        {{"listener", listener.name()},
         {"asked_bytes", absl::StrCat(listener.receive_buffer_asked_bytes)},
         {"effective_bytes", absl::StrCat(listener.receive_buffer_bytes)}});
    return;  // all of them have the same cause
  }
}

absl::Status ListenerSet::GiveDatagramSockets(const Threads& threads) {
  absl::Status status;
  for (size_t i = 0; i < udp_.size(); ++i) {
    for (size_t shard = 0; shard < threads.size(); ++shard) {
      status.Update(threads[shard]->AddUdp(std::move(udp_[i].sockets[shard]),
                                           udp_[i].receive_buffer_bytes, {udp_indexes_[i]}));
    }
  }
  for (size_t i = 0; i < unixgram_.size(); ++i) {
    threads[i % threads.size()]->AddUnixgram(std::move(unixgram_[i].fd), {unixgram_[i].index});
  }
  return status;
}

void ListenerSet::StartAccepting(Loop* control, const Threads& threads, ConnectionBudget* budget,
                                 ConnectionCounts* counts) {
  const auto assign = [this, &threads](AcceptedConnection connection) {
    threads[next_thread_++ % threads.size()]->Assign(std::move(connection));
  };
  for (Listening& stream : streams_) {
    StreamListener::Options options;
    options.name = bound_[stream.index].name();
    options.kind = stream.kind;
    options.source.listener = stream.index;
    accepting_.push_back(std::make_unique<StreamListener>(
        control, std::move(stream.fd), std::move(options), budget, counts, assign));
    accepting_.back()->Start();
  }
}

void ListenerSet::Close() {
  for (const auto& listener : accepting_) listener->Stop();
  paths_.clear();
}

}  // namespace tallyd
