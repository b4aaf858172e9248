#include "daemon/stream_connection.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

#include "daemon/clock.h"
#include "daemon/options.h"

namespace tallyd {
namespace {

constexpr int kMaxReadsPerTurn = 8;
// More than a receive buffer holds, so that a peer that does not stop sending cannot hold us.
constexpr int kMaxReadsAtEnd = 256;

std::unique_ptr<Framer> MakeFramer(StreamKind kind) {
  if (kind == StreamKind::kTcp) return std::make_unique<LineFramer>(kMaxLineBytes);
  if (kind == StreamKind::kUnixStream) return std::make_unique<LengthFramer>(kMaxStreamFrameBytes);
  return nullptr;
}

CloseReason CloseReasonFor(FrameError error) {
  return error == FrameError::kLineTooLong ? CloseReason::kLineTooLong : CloseReason::kFrameTooLong;
}

// A seqpacket read of nothing is an empty packet or the end; only the hang-up tells them apart, and
// what may still be queued before it.
bool SeqpacketEnded(int fd) {
  pollfd state{fd, POLLIN | POLLRDHUP, 0};
  if (::poll(&state, 1, 0) <= 0 || (state.revents & (POLLRDHUP | POLLHUP)) == 0) return false;
  int queued = 0;
  return ::ioctl(fd, SIOCINQ, &queued) != 0 || queued == 0;
}

}  // namespace

ConnectionBudget::Token ConnectionBudget::Take() {
  if (left_.fetch_sub(1, std::memory_order_relaxed) > 0) return Token(this);
  left_.fetch_add(1, std::memory_order_relaxed);
  return Token();
}

struct StreamConnections::Connection {
  Connection(uint64_t number, Loop* loop, AcceptedConnection accepted)
      : id(number),
        token(std::move(accepted.token)),
        socket(*loop, accepted.fd.release()),
        kind(accepted.kind),
        source(accepted.source),
        framer(MakeFramer(accepted.kind)) {}

  const uint64_t id;
  ConnectionBudget::Token token;
  LoopDescriptor socket;
  const StreamKind kind;
  const Source source;
  std::unique_ptr<Framer> framer;  // null for seqpackets, which need none
  int64_t partial_since_ns = 0;    // 0: no unit is begun
  bool read_since_sweep = false;
};

StreamConnections::StreamConnections(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps,
                                     ReceiveRing* ring, ConnectionCounts* counts,
                                     SenderTable* senders, int64_t idle_timeout_ns)
    : loop_(loop),
      waits_(waits),
      shard_(shard),
      taps_(taps),
      ring_(ring),
      counts_(counts),
      senders_(senders),
      idle_timeout_ns_(idle_timeout_ns),
      read_buffer_(kStreamReadBytes + kReadPadding) {}

StreamConnections::~StreamConnections() = default;

void StreamConnections::Add(AcceptedConnection accepted) {
  const uint64_t id = next_id_++;
  accepted.source.sender = senders_->Open(accepted.peer, MonotonicNs());
  std::string partial_untrusted = std::move(accepted.partial_untrusted);
  const int64_t since_ns = accepted.partial_since_ns;
  auto added = std::make_unique<Connection>(id, loop_, std::move(accepted));
  Connection* const connection = added.get();
  connections_.emplace(id, std::move(added));
  counts_->Opened(connection->source.listener);
  if (TakeUp(connection, std::move(partial_untrusted), since_ns) != Outcome::kClosed) {
    Wait(connection);
  }
}

StreamConnections::Outcome StreamConnections::TakeUp(Connection* connection,
                                                     std::string partial_untrusted,
                                                     int64_t since_ns) {
  const size_t size = partial_untrusted.size();
  if (size == 0 || !connection->framer) return Outcome::kMore;
  partial_untrusted.resize(size + kReadPadding);
  // Nothing of it is complete, or the predecessor would have taken it.
  shard_->BeginBatch(MonotonicNs());
  const FrameError error = connection->framer->Feed(
      partial_untrusted.data(), size,
      [&](char* unit, size_t unit_size) { Apply(connection->source, unit, unit_size); });
  shard_->EndBatch();
  if (error != FrameError::kNone) {
    return Close(connection, CloseReasonFor(error), true, DropReason::kTooLong);
  }
  if (connection->framer->has_partial()) connection->partial_since_ns = since_ns;
  return Outcome::kMore;
}

void StreamConnections::Wait(Connection* connection) {
  // The wait may be over and its handler queued when the connection is closed, so the handler knows
  // it by its number.
  const auto on_readable = [this, id = connection->id](const boost::system::error_code& error) {
    if (!error) Turn(id);
  };
  connection->socket.async_wait(LoopDescriptor::wait_read, HandlerIn(waits_, on_readable));
}

void StreamConnections::Turn(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection* const connection = found->second.get();
  // If there is more to read the wait ends at once, after everybody else had a turn.
  if (Drain(connection, kMaxReadsPerTurn) != Outcome::kClosed) Wait(connection);
}

StreamConnections::Outcome StreamConnections::Drain(Connection* connection, int max_reads) {
  connection->read_since_sweep = true;
  Outcome outcome = Outcome::kMore;
  for (int i = 0; i < max_reads && outcome == Outcome::kMore; ++i) {
    outcome = connection->framer ? ReadStream(connection) : ReadPackets(connection);
  }
  return outcome;
}

StreamConnections::Outcome StreamConnections::ReadStream(Connection* connection) {
  const ssize_t size = ::recv(connection->socket.native_handle(), read_buffer_.data(),
                              kStreamReadBytes, MSG_DONTWAIT);
  if (size > 0) return OnBytes(connection, static_cast<size_t>(size));
  if (size == 0) return OnEnd(connection);
  if (errno == EAGAIN || errno == EINTR) return Outcome::kEmptied;
  return Close(connection, CloseReason::kError, connection->framer->has_partial(),
               DropReason::kTruncated);
}

StreamConnections::Outcome StreamConnections::OnBytes(Connection* connection, size_t size) {
  Framer* const framer = connection->framer.get();
  const uint64_t completed_before = framer->completed();
  const int64_t now_ns = MonotonicNs();

  shard_->BeginBatch(now_ns);
  const FrameError error =
      framer->Feed(read_buffer_.data(), size, [&](char* unit_untrusted, size_t unit_size) {
        Apply(connection->source, unit_untrusted, unit_size);
      });
  shard_->EndBatch();
  if (error != FrameError::kNone) {
    return Close(connection, CloseReasonFor(error), true, DropReason::kTooLong);
  }
  if (!framer->has_partial()) {
    connection->partial_since_ns = 0;
  } else if (connection->partial_since_ns == 0 || framer->completed() != completed_before) {
    connection->partial_since_ns = now_ns;
  }
  return size < kStreamReadBytes ? Outcome::kEmptied : Outcome::kMore;
}

StreamConnections::Outcome StreamConnections::OnEnd(Connection* connection) {
  shard_->BeginBatch(MonotonicNs());
  connection->framer->Finish(
      [&](char* unit_untrusted, size_t size) { Apply(connection->source, unit_untrusted, size); });
  shard_->EndBatch();
  return Close(connection, reason_of_end_, connection->framer->has_partial(),
               DropReason::kTruncated);
}

void StreamConnections::Apply(Source source, char* unit_untrusted, size_t size) {
  taps_->OnLines(source, unit_untrusted, size);
  shard_->Apply(source, unit_untrusted, size);
}

StreamConnections::Outcome StreamConnections::ReadPackets(Connection* connection) {
  const int fd = connection->socket.native_handle();
  const int count = ring_->Receive(fd);
  if (count < 0) return Close(connection, CloseReason::kError, false, DropReason::kTruncated);
  if (count == 0) return Outcome::kEmptied;
  // At the end of the stream every further message is one of no bytes.
  int packets = count;
  while (packets > 0 && ring_->message(packets - 1).size == 0) --packets;
  const bool ended = packets < count && SeqpacketEnded(fd);
  ApplyBatch(*ring_, ended ? packets : count, connection->source, shard_, taps_);
  if (ended) return Close(connection, reason_of_end_, false, DropReason::kTruncated);
  return count < ring_->capacity() ? Outcome::kEmptied : Outcome::kMore;
}

StreamConnections::Outcome StreamConnections::Close(Connection* connection, CloseReason reason,
                                                    bool lost_a_unit, DropReason lost) {
  if (lost_a_unit) {
    shard_->BeginBatch(MonotonicNs());
    shard_->Drop(connection->source, lost);
    shard_->EndBatch();
  }
  counts_->Closed(connection->source.listener, reason);
  senders_->Close(connection->source.sender);
  connections_.erase(connection->id);
  return Outcome::kClosed;
}

void StreamConnections::Sweep(int64_t now_ns) {
  std::vector<Connection*> overdue;
  for (const auto& [id, connection] : connections_) {
    if (!connection->framer) continue;
    const int64_t since_ns = connection->partial_since_ns;
    if (since_ns != 0 && now_ns - since_ns > idle_timeout_ns_) overdue.push_back(connection.get());
    if (!connection->read_since_sweep) connection->framer->Trim();
    connection->read_since_sweep = false;
  }
  for (Connection* connection : overdue) {
    Close(connection, CloseReason::kIdleTimeout, true, DropReason::kTruncated);
  }
}

void StreamConnections::DrainAndClose(int64_t deadline_ns) {
  reason_of_end_ = CloseReason::kShutdown;
  while (!connections_.empty()) {
    Connection* const connection = connections_.begin()->second.get();
    if (connection->kind != StreamKind::kTcp) {
      // Tells the peer, and makes an end of what is queued.
      ::shutdown(connection->socket.native_handle(), SHUT_RD);
    }
    const bool in_time = MonotonicNs() < deadline_ns;
    if (in_time && Drain(connection, kMaxReadsAtEnd) == Outcome::kClosed) continue;
    const bool partial = connection->framer && connection->framer->has_partial();
    Close(connection, CloseReason::kShutdown, partial, DropReason::kTruncated);
  }
}

std::vector<ReleasedConnection> StreamConnections::DrainAndRelease(int64_t deadline_ns,
                                                                   std::atomic<int>* places) {
  std::vector<uint64_t> ids;
  for (const auto& [id, connection] : connections_) ids.push_back(id);
  std::vector<ReleasedConnection> released;
  for (const uint64_t id : ids) {
    Connection* const connection = connections_.find(id)->second.get();
    const bool in_time = MonotonicNs() < deadline_ns;
    if (in_time && Drain(connection, kMaxReadsAtEnd) == Outcome::kClosed) continue;
    if (places->fetch_sub(1, std::memory_order_relaxed) <= 0) continue;
    released.push_back(Release(connection));
  }
  return released;
}

ReleasedConnection StreamConnections::Release(Connection* connection) {
  ReleasedConnection released;
  released.listener = connection->source.listener;
  if (connection->framer) released.partial_untrusted = connection->framer->Partial();
  released.partial_since_ns = connection->partial_since_ns;
  released.fd.reset(connection->socket.release());
  Close(connection, CloseReason::kHandedOver, false, DropReason::kTruncated);
  return released;
}

}  // namespace tallyd
