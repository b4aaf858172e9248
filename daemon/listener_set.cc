#include "daemon/listener_set.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/clock.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

// Whether the kernel will say of each datagram who sent it.
bool AskForSenders(int fd, const std::string& path) {
  if (TellSenders(fd)) return true;
  LogWarn("the kernel does not say who sends; senders stay unknown",
          {{"listener", "unixgram:" + path}, {"error", std::strerror(errno)}});
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ListenerSet>> ListenerSet::Open(const Options& options, int shards,
                                                               HandedSockets* handed,
                                                               DropMarks* drops) {
  std::unique_ptr<ListenerSet> set(new ListenerSet(options, handed, drops));
  absl::Status status = set->OpenUdp(options, shards);
  if (status.ok()) status = set->OpenTcp(options);
  if (status.ok()) status = set->OpenUnixgram(options);
  if (status.ok()) status = set->OpenUnixStreams(options);
  if (!status.ok()) return status;
  if (!options.admin_socket.empty() && set->bound_.size() < Ledger::kMaxListeners) {
    set->jobs_ = set->AddBound("jobs", "sessions", Dialect::kStatsd);
  }
  set->WarnOfSmallBuffers();
  drops->ForgetOthers();
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
    std::vector<UniqueFd> given = handed_->Take("udp", listen.address);
    const bool ours = given.empty();
    absl::StatusOr<UdpGroup> group =
        ours ? OpenUdpGroup(*address, shards, options.ReadBufferBytes())
             : AdoptUdpGroup(std::move(given), options.ReadBufferBytes());
    if (!group.ok()) return group.status();
    for (const UniqueFd& fd : group->sockets) {
      if (ours) handed_->Keep("udp", group->address, fd);
    }
    const Source source = AddBound("udp", group->address, listen.dialect);
    BoundListener& bound = bound_[source.listener];
    bound.receive_buffer_asked_bytes = options.ReadBufferBytes();
    bound.receive_buffer_bytes = group->receive_buffer_bytes;
    std::vector<UdpSocket>& sockets = udp_.emplace_back();
    for (UniqueFd& fd : group->sockets) {
      DropMarks::Mark* const mark = drops_->For(fd.get());
      sockets.push_back({std::move(fd), group->receive_buffer_bytes, source, mark, !ours || kept_});
    }
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenTcp(const Options& options) {
  for (const ListenAddress& listen : options.tcp) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(listen.address);
    if (!address.ok()) return address.status();
    std::vector<UniqueFd> fds = handed_->Take("tcp", listen.address);
    const bool ours = fds.empty();
    if (ours) {
      absl::StatusOr<UniqueFd> fd = OpenTcpListener(*address, "tcp");
      if (!fd.ok()) return fd.status();
      fds.push_back(*std::move(fd));
    }
    const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(fds.front().get());
    if (!bound.ok()) return bound.status();
    if (ours) handed_->Keep("tcp", bound->ToString(), fds.front());
    const Source source = AddBound("tcp", bound->ToString(), listen.dialect);
    for (UniqueFd& fd : fds) {
      absl::Status status = ListenOn(fd.get(), absl::StrCat("tcp ", bound->ToString()));
      if (!status.ok()) return status;
      AddStream({std::move(fd), StreamKind::kTcp, source});
    }
  }
  return absl::OkStatus();
}

absl::Status ListenerSet::OpenUnixgram(const Options& options) {
  for (const ListenAddress& listen : options.unixgram) {
    absl::StatusOr<std::vector<PathSocket>> sockets =
        OpenPath("unixgram", listen.address, SOCK_DGRAM);
    if (!sockets.ok()) return sockets.status();
    const Source source = AddBound("unixgram", listen.address, listen.dialect);
    SenderGate* const gate = GateOf(listen, source);
    for (PathSocket& socket : *sockets) {
      const absl::StatusOr<bool> told = Tells(socket.fd.get(), listen, options);
      if (!told.ok()) return told.status();
      unixgram_.push_back({std::move(socket.fd), source, *told, socket.outlives_us, gate});
    }
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
  const char* const name = packets ? "unixseqpacket" : "unixstream";
  absl::StatusOr<std::vector<PathSocket>> sockets =
      OpenPath(name, path, packets ? SOCK_SEQPACKET : SOCK_STREAM);
  if (!sockets.ok()) return sockets.status();
  const Source source = AddBound(name, path, listen.dialect);
  SenderGate* const gate = GateOf(listen, source);
  for (PathSocket& socket : *sockets) {
    absl::Status status = ListenOn(socket.fd.get(), absl::StrCat("socket ", path));
    if (!status.ok()) return status;
    AddStream({std::move(socket.fd), kind, source, options.sender_identity, gate});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ListenerSet::PathSocket>> ListenerSet::OpenPath(const std::string& kind,
                                                                           const std::string& path,
                                                                           int type) {
  std::vector<PathSocket> sockets;
  const bool ours = handed_->AreOurs(kind, path);
  for (UniqueFd& fd : handed_->Take(kind, path)) sockets.push_back({std::move(fd), true});
  if (!sockets.empty()) {
    absl::StatusOr<UnixPath> there = UnixPath::Adopt(path);
    if (there.ok()) {
      if (ours) {
        AddPath(*std::move(there), kind, type);
      } else {
        there->Leave();  // it stays where it is
      }
      return sockets;
    }
    LogWarn("the path of a socket that was handed in is gone; it is bound anew", {{"path", path}});
    handed_->Forget(kind, path);
  }
  absl::StatusOr<UnixPath> bound =
      UnixPath::Bind(path, type, mode_, group_, UnixPath::kPatience, senders_);
  if (!bound.ok()) return bound.status();
  sockets.push_back({bound->TakeFd(), kept_});
  handed_->Keep(kind, path, sockets.back().fd);
  AddPath(*std::move(bound), kind, type);
  return sockets;
}

void ListenerSet::AddPath(UnixPath path, const std::string& kind, int type) {
  paths_.push_back(
      std::make_unique<BoundPath>(BoundPath{std::move(path), kind, type, bound_.size()}));
}

void ListenerSet::AddStream(Listening stream) {
  bound_[stream.source.listener].takes_connections = true;
  streams_.push_back(std::move(stream));
}

SenderGate* ListenerSet::GateOf(const ListenAddress& listen, const Source& source) {
  if (listen.allow_uids.empty()) return nullptr;
  gates_.push_back(std::make_unique<Gate>(bound_[source.listener].name(), listen.allow_uids));
  return &gates_.back()->gate;
}

absl::StatusOr<bool> ListenerSet::Tells(int fd, const ListenAddress& listen,
                                        const Options& options) const {
  if (!options.sender_identity) return false;
  if (AskForSenders(fd, listen.address)) return true;
  if (listen.allow_uids.empty()) return false;
  return absl::InternalError(absl::StrCat("socket ", listen.address,
                                          ": the kernel does not say who sends, so allow_uids "
                                          "cannot be held"));
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

size_t ListenerSet::datagram_sockets() const {
  size_t sockets = unixgram_.size();
  for (const std::vector<UdpSocket>& group : udp_) sockets += group.size();
  return sockets;
}

absl::Status ListenerSet::GiveDatagramSockets(const Threads& threads) {
  absl::Status status;
  for (size_t i = 0; i < udp_.size(); ++i) {
    // Listeners with few sockets begin at different shards.
    size_t shard = i;
    for (UdpSocket& socket : udp_[i]) {
      status.Update(threads[shard++ % threads.size()]->AddUdp(std::move(socket)));
    }
  }
  for (size_t i = 0; i < unixgram_.size(); ++i) {
    for (const auto& path : paths_) {
      if (path->listener == unixgram_[i].source.listener) path->thread = i % threads.size();
    }
    UnixgramSocket& socket = unixgram_[i];
    threads[i % threads.size()]->AddUnixgram({std::move(socket.fd), socket.source,
                                              socket.tells_senders, socket.outlives_us,
                                              socket.gate});
  }
  return status;
}

void ListenerSet::StartAccepting(Loop* control, const Threads& threads, ConnectionBudget* budget,
                                 ConnectionCounts* counts) {
  host_.emplace(Host{control, &threads, budget, counts});
  for (Listening& stream : streams_) Accept(std::move(stream.fd), stream);
  watch_.emplace(*control);
  WatchLater();
}

void ListenerSet::Accept(UniqueFd fd, const Listening& stream) {
  const auto assign = [this](AcceptedConnection connection) {
    const Threads& threads = *host_->threads;
    threads[next_thread_++ % threads.size()]->Assign(std::move(connection));
  };
  StreamListener::Options options;
  options.name = bound_[stream.source.listener].name();
  options.kind = stream.kind;
  options.source = stream.source;
  options.tell_peers = stream.tell_senders;
  options.gate = stream.gate;
  accepting_.push_back(std::make_unique<StreamListener>(
      host_->control, std::move(fd), std::move(options), host_->budget, host_->counts, assign));
  accepting_.back()->Start();
}

void ListenerSet::TakeUp(std::vector<HandedConnection> connections, const Threads& threads,
                         ConnectionBudget* budget) {
  if (connections.empty()) return;
  size_t lost = 0;
  for (HandedConnection& connection : connections) {
    const auto stream = std::find_if(streams_.begin(), streams_.end(), [&](const Listening& one) {
      return bound_[one.source.listener].name() == connection.listener;
    });
    ConnectionBudget::Token token = budget->Take();
    if (stream == streams_.end() || !token.valid()) {
      ++lost;
      continue;
    }
    AcceptedConnection accepted;
    if (stream->tell_senders) accepted.peer = PeerOf(connection.fd.get());
    if (stream->gate != nullptr && !stream->gate->Admits(accepted.peer)) {
      ++lost;
      continue;
    }
    accepted.fd = std::move(connection.fd);
    accepted.token = std::move(token);
    accepted.kind = stream->kind;
    accepted.source = stream->source;
    if (!connection.partial_untrusted.empty()) {
      accepted.partial_since_ns = MonotonicNs() - connection.partial_age_ns;
    }
    accepted.partial_untrusted = std::move(connection.partial_untrusted);
    threads[next_thread_++ % threads.size()]->Assign(std::move(accepted));
  }
  LogInfo("connections go on", {{"connections", absl::StrCat(connections.size() - lost)}});
  if (lost == 0) return;
  LogWarn("connections of listeners that are no more, over the limit, or not allowed, are closed",
          {{"connections", absl::StrCat(lost)}});
}

std::vector<HandedConnection> ListenerSet::Describe(
    std::vector<ReleasedConnection> released) const {
  const int64_t now_ns = MonotonicNs();
  std::vector<HandedConnection> connections;
  for (ReleasedConnection& one : released) {
    const int64_t since_ns = one.partial_since_ns;
    connections.push_back({std::move(one.fd), bound_[one.listener].name(),
                           std::move(one.partial_untrusted),
                           since_ns == 0 ? 0 : now_ns - since_ns});
  }
  return connections;
}

ListenerSet::~ListenerSet() { GiveBackPaths(); }

void ListenerSet::Close() {
  watch_.reset();
  for (const auto& listener : accepting_) listener->Stop();
  GiveBackPaths();
}

void ListenerSet::GiveBackPaths() {
  if (kept_) {
    for (const auto& bound : paths_) bound->path->Leave();
  }
  paths_.clear();
}

}  // namespace tallyd
