#include "daemon/unixgram_listener.h"

#include <sys/socket.h>

#include "daemon/clock.h"

namespace tallyd {

bool TellSenders(int fd) {
  const int on = 1;
  return ::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0;
}

UnixgramListener::UnixgramListener(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps,
                                   ReceiveRing* ring, SenderTable* senders, UnixgramSocket socket)
    : waits_(waits),
      shard_(shard),
      taps_(taps),
      ring_(ring),
      senders_(socket.tells_senders ? senders : nullptr),
      gate_(socket.gate),
      socket_(*loop, socket.fd.release()),
      source_(socket.source),
      outlives_us_(socket.outlives_us) {}

void UnixgramListener::Wait() {
  const auto on_readable = [this](const boost::system::error_code& error) {
    if (!error && !closed_) Turn();
  };
  socket_.async_wait(LoopDescriptor::wait_read, HandlerIn(waits_, on_readable));
}

void UnixgramListener::Turn() {
  // Read until nothing is left: a sender that waited for room has been let go by the last read, and
  // asking once more costs less than being woken again.
  for (int batch = 0; batch < ReceiveRing::kMaxBatchesPerTurn; ++batch) {
    if (TakeBatch() <= 0) return Wait();
  }
  Wait();  // is over at once, after everybody else had a turn
}

int UnixgramListener::TakeBatch() {
  const auto tell =
      senders_ == nullptr ? ReceiveRing::Senders::kIgnore : ReceiveRing::Senders::kTell;
  const int count = ring_->Receive(socket_.native_handle(), tell);
  if (count > 0) ApplyBatch(*ring_, count, source_, shard_, taps_, senders_, gate_);
  return count;
}

void UnixgramListener::DrainAndClose(int64_t deadline_ns) {
  closed_ = true;
  // Senders get an error; what is queued stays.
  if (!outlives_us_) ::shutdown(socket_.native_handle(), SHUT_RD);
  int count = 0;
  while (MonotonicNs() < deadline_ns && (count = TakeBatch()) > 0) {
    // What comes later is our successor's; senders that go on would hold us here.
    if (outlives_us_ && count < ring_->capacity()) break;
  }
  socket_.close();
}

}  // namespace tallyd
