// The shards of the process, with what they share, and their threads.

#ifndef TALLYD_DAEMON_SHARD_SET_H_
#define TALLYD_DAEMON_SHARD_SET_H_

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/rules/rule_book.h"
#include "core/shard/family_types.h"
#include "core/shard/shard.h"
#include "core/shard/violation_log.h"
#include "daemon/connection_counts.h"
#include "daemon/listener_set.h"
#include "daemon/options.h"
#include "daemon/shard_thread.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Ownership: the main thread builds, starts and stops it; the shards belong to their threads
// meanwhile.
class ShardSet {
 public:
  // What the shards' memories are to be like.
  struct Memories {
    uint64_t hash_seed = 0;      // unknown to senders, so that they cannot choose keys that collide
    MemorySession session = {};  // the shard's number apart
    std::vector<UniqueFd> files = {};  // empty ones, one for each shard; or none
  };
  static absl::StatusOr<std::unique_ptr<ShardSet>> Create(const Options& options,
                                                          Rules::Options rules, int shards,
                                                          Memories memories,
                                                          ConnectionCounts* counts);
  ShardSet(const ShardSet&) = delete;
  ShardSet& operator=(const ShardSet&) = delete;

  absl::Status Start();
  // Has every thread take what the kernel queued and end; then calls `done`, on the last of them.
  // At most `connections_kept` connections stay open, for TakeReleased.
  void Stop(int connections_kept, std::function<void()> done);
  // After `done`.
  void Join();
  // After Join.
  std::vector<ReleasedConnection> TakeReleased();

  // Control thread. Has every shard read keys by `options` from its next batch on; calls `done`, on
  // the last of their threads, once they all do. On an error nothing has changed.
  absl::Status UseRules(Rules::Options options, std::function<void()> done);

  RuleBook* rules() { return book_.get(); }
  FamilyTypes* families() { return families_.get(); }
  SeriesBudget* budget() { return budget_.get(); }
  const ListenerSet::Threads& threads() const { return threads_; }
  std::vector<Shard*> shards();
  std::vector<ShardMemory*> memories();
  std::vector<const Ledger*> ledgers() const;
  std::vector<SenderTable*> senders();
  std::vector<ViolationLog*> violations();

 private:
  ShardSet() = default;

  std::unique_ptr<RuleBook> book_;
  std::unique_ptr<FamilyTypes> families_;
  std::unique_ptr<SeriesBudget> budget_;
  std::vector<std::unique_ptr<Shard>> shards_;
  ListenerSet::Threads threads_;
  std::atomic<size_t> running_{0};  // threads that Stop waits for
  // Connections that may stay open yet. Relaxed: a number, on which no other data hangs.
  std::atomic<int> places_{0};
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SHARD_SET_H_
