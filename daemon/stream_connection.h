// Connections of streams and seqpackets: the side of the shard that reads them.

#ifndef TALLYD_DAEMON_STREAM_CONNECTION_H_
#define TALLYD_DAEMON_STREAM_CONNECTION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/shard/shard.h"
#include "core/wire/frame.h"
#include "daemon/connection_counts.h"
#include "daemon/line_tap.h"
#include "daemon/loop.h"
#include "daemon/receive_ring.h"
#include "daemon/senders.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// What is read of a stream at a time.
inline constexpr size_t kStreamReadBytes = 65'536;

enum class StreamKind : uint8_t { kTcp, kUnixStream, kUnixSeqpacket };

// How many connections there may be, so that descriptors remain for scrapes and files. Thread-safe.
class ConnectionBudget {
 public:
  explicit ConnectionBudget(int limit) : left_(limit) {}

  // One connection's share; gives it back at the end of its life.
  class Token {
   public:
    Token() = default;
    explicit Token(ConnectionBudget* budget) : budget_(budget) {}
    Token(Token&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)) {}
    Token& operator=(Token&& other) noexcept {
      std::swap(budget_, other.budget_);
      return *this;
    }
    ~Token() {
      if (budget_ != nullptr) budget_->left_.fetch_add(1, std::memory_order_relaxed);
    }
    bool valid() const { return budget_ != nullptr; }

   private:
    ConnectionBudget* budget_ = nullptr;
  };

  // Any thread. An invalid token if there is nothing left.
  Token Take();

 private:
  std::atomic<int> left_;  // relaxed: a number, on which no other data hangs
};

// A connection on its way from the loop that accepted it to the shard that will read it.
struct AcceptedConnection {
  UniqueFd fd;
  ConnectionBudget::Token token;
  StreamKind kind = StreamKind::kTcp;
  Source source;
  Credentials peer;
  std::string partial_untrusted = {};  // begun with a predecessor (Framer::Partial)
  int64_t partial_since_ns = 0;        // 0: nothing is begun
};

// A connection that goes on with somebody else.
struct ReleasedConnection {
  UniqueFd fd;
  uint16_t listener = 0;
  std::string partial_untrusted;
  int64_t partial_since_ns = 0;  // 0: nothing is begun
};

// All connections of one shard.
//
// Ownership: the shard's thread. What the constructor takes pointers to outlives it.
class StreamConnections {
 public:
  // `ring` takes seqpackets; null if there can be none. A frame or line that was begun and is not
  // complete after `idle_timeout_ns` ends its connection.
  StreamConnections(Loop* loop, WaitPool* waits, Shard* shard, LineTaps* taps, ReceiveRing* ring,
                    ConnectionCounts* counts, SenderTable* senders, int64_t idle_timeout_ns);
  ~StreamConnections();
  StreamConnections(const StreamConnections&) = delete;
  StreamConnections& operator=(const StreamConnections&) = delete;

  // Owner thread.
  void Add(AcceptedConnection accepted);
  // Owner thread, now and then: ends those that are idle within a unit, frees unused buffers.
  void Sweep(int64_t now_ns);
  // Owner thread. Takes what is queued and ends all connections. Gives up at `deadline_ns`.
  void DrainAndClose(int64_t deadline_ns);
  // Owner thread. Takes what is queued, as long as there is time, and lets go of the connections
  // that are open then; of as many as `places` counts down. The others stay.
  std::vector<ReleasedConnection> DrainAndRelease(int64_t deadline_ns, std::atomic<int>* places);

 private:
  struct Connection;
  // What a read left behind.
  enum class Outcome { kMore, kEmptied, kClosed };

  void Wait(Connection* connection);
  void Turn(uint64_t id);
  // Reads up to a bound. After kClosed the connection is gone.
  Outcome Drain(Connection* connection, int max_reads);
  Outcome ReadStream(Connection* connection);
  Outcome ReadPackets(Connection* connection);
  Outcome OnBytes(Connection* connection, size_t size);
  Outcome OnEnd(Connection* connection);
  // Goes on with the unit that a predecessor had begun to read.
  Outcome TakeUp(Connection* connection, std::string partial_untrusted, int64_t since_ns);
  ReleasedConnection Release(Connection* connection);
  void Apply(Source source, char* unit_untrusted, size_t size);
  // Ends a connection; what it had begun is dropped as `lost`, unless nothing was.
  Outcome Close(Connection* connection, CloseReason reason, bool lost_a_unit, DropReason lost);

  Loop* const loop_;
  WaitPool* const waits_;
  Shard* const shard_;
  LineTaps* const taps_;
  ReceiveRing* const ring_;
  ConnectionCounts* const counts_;
  SenderTable* const senders_;
  const int64_t idle_timeout_ns_;
  std::vector<char> read_buffer_;  // of streams; a batch is applied before the next read
  CloseReason reason_of_end_ = CloseReason::kPeer;
  uint64_t next_id_ = 0;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> connections_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STREAM_CONNECTION_H_
