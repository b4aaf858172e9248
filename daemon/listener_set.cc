#include "daemon/listener_set.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

// Whether the kernel will say of each datagram who sent it.
bool AskForSenders(int fd, const std::string& path) {
  const int on = 1;
  if (::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0) return true;
  LogWarn("the kernel does not say who sends; senders stay unknown",
          {{"listener", "unixgram:" + path}, {"error", std::strerror(errno)}});
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ListenerSet>> ListenerSet::Open(const Options& options, int shards) {
  std::unique_ptr<ListenerSet> set(new ListenerSet());
  absl::Status status = set->OpenUdp(options, shards);
  if (status.ok()) status = set->OpenTcp(options);
  if (status.ok()) status = set->OpenUnixgram(options);
  if (status.ok()) status = set->OpenUnixStreams(options);
  if (!status.ok()) return status;
  if (!options.admin_socket.empty() && set->bound_.size() < Ledger::kMaxListeners) {
    set->jobs_ = set->AddBound("jobs", "sessions", Dialect::kStatsd);
  }
  set->WarnOfSmallBuffers();
  return set;
}

Source ListenerSet::AddBound(const std::string& kind, const std::string& address, Dialect dialect) {
  BoundListener& bound = bound_.emplace_back();
  bound.kind = kind;
  bound.address = address;
  Source source;
  source.listener = static_cast<uint16_t>(bound_.size() - 1);
  source.dialect = dialect;
  return source;
}

absl::Status ListenerSet::OpenUdp(const Options& options, int shards) {
  for (const ListenAddress& listen : options.udp) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(listen.address);
    if (!address.ok()) return address.status();
    absl::StatusOr<UdpGroup> group = OpenUdpGroup(*address, shards, options.ReadBufferBytes());
    if (!group.ok()) return group.status();
    const Source source = AddBound("udp", group->address, listen.dialect);
    BoundListener& bound = bound_[source.listener];
    bound.receive_buffer_asked_bytes = options.ReadBufferBytes();
    bound.receive_buffer_bytes = group->receive_buffer_bytes;
    udp_sources_.push_back(source);
    udp_.push_back(*std::move(group));
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenTcp(const Options& options) {
  for (const ListenAddress& listen : options.tcp) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(listen.address);
    if (!address.ok()) return address.status();
    absl::StatusOr<UniqueFd> fd = OpenTcpListener(*address);
    if (!fd.ok()) return fd.status();
    const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(fd->get());
    if (!bound.ok()) return bound.status();
    const Source source = AddBound("tcp", bound->ToString(), listen.dialect);
    AddStream(*std::move(fd), StreamKind::kTcp, source, false);
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenUnixgram(const Options& options) {
  for (const ListenAddress& listen : options.unixgram) {
    absl::StatusOr<UnixPath> bound =
        UnixPath::Bind(listen.address, SOCK_DGRAM, options.unixsocket_mode);
    if (!bound.ok()) return bound.status();
    const Source source = AddBound("unixgram", listen.address, listen.dialect);
    UniqueFd fd = bound->TakeFd();
    const bool told = options.sender_identity && AskForSenders(fd.get(), listen.address);
    unixgram_.push_back({std::move(fd), StreamKind::kUnixSeqpacket, source, told});
    paths_.push_back(*std::move(bound));
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenUnixStreams(const Options& options) {
  absl::Status status;
  for (const ListenAddress& listen : options.unixstream) {
    status.Update(OpenUnixStream(listen, StreamKind::kUnixStream, options));
  }
  for (const ListenAddress& listen : options.unixseqpacket) {
    status.Update(OpenUnixStream(listen, StreamKind::kUnixSeqpacket, options));
  }
  return status;
}

absl::Status ListenerSet::OpenUnixStream(const ListenAddress& listen, StreamKind kind,
                                         const Options& options) {
  const std::string& path = listen.address;
  const bool packets = kind == StreamKind::kUnixSeqpacket;
  absl::StatusOr<UnixPath> bound =
      UnixPath::Bind(path, packets ? SOCK_SEQPACKET : SOCK_STREAM, options.unixsocket_mode);
  if (!bound.ok()) return bound.status();
  absl::Status status = ListenOn(bound->fd(), absl::StrCat("socket ", path));
  if (!status.ok()) return status;
  const Source source = AddBound(packets ? "unixseqpacket" : "unixstream", path, listen.dialect);
  AddStream(bound->TakeFd(), kind, source, options.sender_identity);
  paths_.push_back(*std::move(bound));
  return absl::OkStatus();
}

void ListenerSet::AddStream(UniqueFd fd, StreamKind kind, Source source, bool tell_peers) {
  bound_[source.listener].takes_connections = true;
  streams_.push_back({std::move(fd), kind, source, tell_peers});
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
                                           udp_[i].receive_buffer_bytes, udp_sources_[i]));
    }
  }
  for (size_t i = 0; i < unixgram_.size(); ++i) {
    Listening& socket = unixgram_[i];
    threads[i % threads.size()]->AddUnixgram(std::move(socket.fd), socket.source,
                                             socket.tell_senders);
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
    options.name = bound_[stream.source.listener].name();
    options.kind = stream.kind;
    options.source = stream.source;
    options.tell_peers = stream.tell_senders;
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
