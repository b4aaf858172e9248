// Keeps the state over restarts: reads it at the start, writes it now and then and at the end.

#ifndef TALLYD_DAEMON_STATE_KEEPER_H_
#define TALLYD_DAEMON_STATE_KEEPER_H_

#include <prometheus/registry.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/merge/memory_recovery.h"
#include "core/merge/merger.h"
#include "core/merge/saved_state.h"
#include "core/merge/state_restorer.h"
#include "core/shard/ledger.h"
#include "daemon/handed_fds.h"
#include "daemon/kept_memories.h"
#include "daemon/merge_thread.h"
#include "daemon/own_metrics.h"
#include "daemon/service_manager.h"
#include "daemon/shard_set.h"
#include "daemon/state_file.h"

namespace prometheus {
class Counter;
class Gauge;
}  // namespace prometheus

namespace tallyd {

// The state is made by the merger thread, between two merges, and written by a thread of its own:
// neither ingest nor a scrape waits for a disk. What cannot be written is said and counted, and
// tried again at the next turn.
//
// Ownership: the main thread. Open, Restore, Start and SaveLast are called in this order.
class StateKeeper {
 public:
  struct Options {
    std::string directory;  // empty: nothing is kept
    absl::Duration interval = absl::Seconds(10);
    bool strict = false;
    // For the shards' memories, where no manager keeps them; empty: they end with the process.
    std::string memory_directory;
  };
  // The listener that stands for those that are gone.
  static constexpr char kFormerListener[] = "former";

  // Reads what was saved. What does not verify, or is of another version, is set aside and said;
  // DataLoss if it is to be refused instead. AlreadyExists if another process has the directory.
  // Takes the memories that a predecessor left with the manager out of `handed`.
  static absl::StatusOr<std::unique_ptr<StateKeeper>> Open(const Options& options,
                                                           HandedFds* handed);
  ~StateKeeper();
  StateKeeper(const StateKeeper&) = delete;
  StateKeeper& operator=(const StateKeeper&) = delete;

  // Before NewMemories. The manager, which outlives this, keeps the shards' memories if it can.
  void UseManager(const ServiceManager* manager);
  // What the shards' memories are to be like. The seed for all that is hashed is the saved one,
  // or where none was saved that of the memories that were left, since sets and what has expired
  // are known by it; else a new one.
  ShardSet::Memories NewMemories(int shards);
  // Has the manager keep them, if there is one that does.
  void KeepMemories(const std::vector<ShardMemory*>& memories);

  // Before the threads of shards and merger run. Gives them what was saved.
  void Restore(const std::vector<Shard*>& shards, Merger* merger, const RuleBook* book,
               const SeriesBudget* budget, const std::vector<ListenerInfo>& listeners);
  // What was received before, to be added to the ledgers of the shards; its listeners are those
  // that Restore was told, then kFormerListener.
  const Ledger& inherited() const { return inherited_; }

  // Another file of the process in the state's directory; null if nothing is kept.
  std::unique_ptr<StateFile> FileBeside(const std::string& name) const;

  // Begins to save. `own` and `merger` outlive SaveLast, or this.
  void Start(MergeThread* merger, OwnMetrics* own);
  // When all that was received is merged and nothing comes any more. Saves it and ends the thread.
  void SaveLast();
  // Ends the thread without saving.
  void Stop();

 private:
  explicit StateKeeper(Options options);

  absl::Status ReadSaved();
  void Recover(const std::vector<KeptMemories::Left*>& left, const SavedHead& head,
               const StateRestorer::Options& options, const std::vector<Shard*>& shards,
               Merger* merger, const RuleBook* book, const SeriesBudget* budget,
               const std::vector<std::string>& listeners);
  void Release(uint64_t sequence);
  absl::Status Refuse(const absl::Status& status);
  void AddMetrics(prometheus::Registry* registry);
  void Run();
  void Save(bool is_final);
  SavedHead MakeHead(bool is_final);
  // Null if the merger thread has ended.
  std::unique_ptr<std::string> Encode(bool is_final);
  void NoteFailure(const absl::Status& status);

  const Options options_;
  std::unique_ptr<StateFile> file_;  // null: nothing is kept
  std::string saved_;                // until Restore
  bool has_saved_ = false;
  uint64_t hash_seed_ = 0;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  std::string boot_id_;
  std::unique_ptr<KeptMemories> memories_;
  uint64_t parent_ = 0;      // session of the saved state
  bool began_anew_ = false;  // what was saved could not be read
  MemoryRecovery::Counts recovered_;
  Ledger inherited_;
  StateRestorer::Counts loaded_;
  MergeThread* merger_ = nullptr;
  OwnMetrics* own_ = nullptr;

  absl::Duration encoding_;  // what the last one took of the merger's time
  bool failing_ = false;     // the last attempt failed
  std::mutex mu_;
  std::condition_variable wake_;
  bool stopping_ = false;  // guarded by mu_
  std::thread thread_;

  // In the registry of own_.
  prometheus::Gauge* last_write_ = nullptr;
  prometheus::Counter* writes_ = nullptr;
  prometheus::Counter* failures_ = nullptr;
  prometheus::Gauge* bytes_ = nullptr;
  prometheus::Gauge* encode_seconds_ = nullptr;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STATE_KEEPER_H_
