// The shards' memories that outlive a process: with the service manager, or as files on a tmpfs.

#ifndef TALLYD_DAEMON_KEPT_MEMORIES_H_
#define TALLYD_DAEMON_KEPT_MEMORIES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/shard/shard_memory.h"
#include "daemon/handed_fds.h"
#include "daemon/service_manager.h"
#include "daemon/shard_set.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Those that processes which ended without notice have left, and our own.
//
// Ownership: the main thread until the state is saved for the first time, from then on whoever
// saves it, one at a time.
class KeptMemories {
 public:
  struct Left {
    std::string name;
    std::unique_ptr<ShardMemory> memory;  // null: it cannot be used
  };

  // `session` is a number of this process alone.
  explicit KeptMemories(uint64_t session) : session_(session) {}

  // What a manager handed to the process and is a shard's memory.
  static std::vector<HandedFd> TakeFrom(HandedFds* handed);

  // Looks at what was left: `handed`, and what is in `directory`, where ours will be if no manager
  // keeps them; empty: there is none.
  void Find(std::vector<HandedFd> handed, const std::string& directory);
  // The manager, which outlives this, keeps ours if it can.
  void UseManager(const ServiceManager* manager);

  // All that a process has left; nothing if some of it is missing.
  std::vector<Left*> Of(uint64_t session);
  // The same of all processes that began with the state of `parent` and ended before they saved one
  // of their own.
  std::vector<Left*> BegunWith(uint64_t parent);
  // With what seed those hashed, of whom there is one at least.
  std::optional<uint64_t> SeedOf(uint64_t parent) const;

  // Where the memories of so many shards are to be. They end with the process if they cannot be
  // kept, or have no room to begin in beside what was left, which is said.
  ShardSet::Memories New(size_t shards, uint64_t parent);
  // Has the manager keep them, if there is one that does.
  void Keep(const std::vector<ShardMemory*>& memories);

  // What was left, or what is ours, is wanted no more.
  void DropLeft();
  void DropOurs();

 private:
  void OpenDirectory(const std::string& directory);
  void FindFiles();
  void AddLeft(const std::string& name, UniqueFd fd);
  absl::Status MakeFiles(size_t shards, std::vector<UniqueFd>* files);
  absl::Status CheckRoom(size_t shards) const;
  void Drop(const std::string& name);
  std::string NameOf(size_t shard) const;

  const uint64_t session_;
  const ServiceManager* manager_ = nullptr;
  bool by_manager_ = false;  // it keeps them
  UniqueFd directory_;       // else they are there, if valid
  std::vector<Left> left_;
  std::vector<std::string> names_;  // of ours
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_KEPT_MEMORIES_H_
