// A shard's thread: its loop, its sockets, its heartbeat.

#ifndef TALLYD_DAEMON_SHARD_THREAD_H_
#define TALLYD_DAEMON_SHARD_THREAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/shard/shard.h"
#include "daemon/connection_counts.h"
#include "daemon/job_lines.h"
#include "daemon/line_tap.h"
#include "daemon/loop.h"
#include "daemon/receive_ring.h"
#include "daemon/senders.h"
#include "daemon/stream_connection.h"
#include "daemon/udp_listener.h"
#include "daemon/unique_fd.h"
#include "daemon/unixgram_listener.h"

namespace tallyd {

// Runs one shard. From Start to Join the thread is the shard's owner; before and after it is the
// caller.
//
// Thread-safe where it says so: work for the thread goes through its loop, which takes a lock when
// something is posted and so makes everything before it visible. Nothing is posted for an event.
class ShardThread {
 public:
  struct Options {
    int cpu = -1;  // to stay on; -1: wherever the scheduler likes
    int64_t idle_timeout_ns = 10'000'000'000;
  };

  // `shard` and `counts` outlive the thread.
  static absl::StatusOr<std::unique_ptr<ShardThread>> Create(Shard* shard, const Options& options,
                                                             ConnectionCounts* counts);
  ~ShardThread();
  ShardThread(const ShardThread&) = delete;
  ShardThread& operator=(const ShardThread&) = delete;

  // Before Start.
  absl::Status AddUdp(UdpSocket socket);
  void AddUnixgram(UnixgramSocket socket);
  absl::Status Start();
  // Any thread, by the rules of the class.
  SenderTable& senders() { return senders_; }

  // Any thread, after Start. The socket takes the place of that of the same listener, which stays
  // open for who is connected to it; what was in its place before is drained and closed.
  void ReplaceUnixgram(UnixgramSocket socket);
  // Any thread, after Start.
  void Assign(AcceptedConnection connection);
  // Any thread. From some batch on, and until some batch after Remove, the tap sees every line.
  void AddTap(std::shared_ptr<LineTap> tap);
  void RemoveTap(std::shared_ptr<LineTap> tap);
  // Any thread, after Start. Has the shard take in what came by a job's session, as one batch; then
  // calls `done`.
  void Take(JobBatch batch, Source source, std::function<void()> done);
  // Any thread, after Start. The shard uses this generation of rules, whose hold it takes over;
  // then calls `done`.
  void UseRules(uint16_t generation, std::function<void()> done);
  // Any thread, once, after Start. The thread takes what the kernel has queued for it, closes its
  // sockets and ends; just before, it calls `done`. As many connections as `places` counts down
  // stay open, for released(); null: none.
  void Stop(std::atomic<int>* places, std::function<void()> done);
  // The thread that called Start. Waits for the end of the thread.
  void Join();
  // After Join: the connections that stay open.
  std::vector<ReleasedConnection>& released() { return released_; }

 private:
  ShardThread(Shard* shard, const Options& options, ConnectionCounts* counts,
              std::unique_ptr<ReceiveRing> udp_ring, std::unique_ptr<ReceiveRing> unix_ring);

  void Run();
  void RunOnce();
  void BeatLater();
  void Beat();
  void DrainAndClose(std::atomic<int>* places);
  void EndFormerUnixgrams(uint16_t listener);
  void ApplyJob(JobBatch* batch, Source source);

  Shard* const shard_;
  const Options options_;
  WaitPool waits_;  // outlives the loop
  Loop loop_;
  LoopTimer heartbeat_;
  LineTaps taps_;
  SenderTable senders_;
  std::unique_ptr<ReceiveRing> udp_ring_;
  std::unique_ptr<ReceiveRing> unix_ring_;
  UdpListener udp_;
  std::vector<std::unique_ptr<UnixgramListener>> unixgram_;
  StreamConnections connections_;
  std::vector<ReleasedConnection> released_;
  std::thread thread_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SHARD_THREAD_H_
