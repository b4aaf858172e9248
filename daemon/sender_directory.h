// Senders by name: what /proc says of the processes that a shard knows by number.

#ifndef TALLYD_DAEMON_SENDER_DIRECTORY_H_
#define TALLYD_DAEMON_SENDER_DIRECTORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/loop.h"
#include "daemon/senders.h"

namespace tallyd {

// What /proc says of a process. All of it is empty where it does not tell: the process is gone, is
// hidden from us, or lives in another PID namespace.
struct ProcessNames {
  std::string command;       // comm, which the process may have set itself
  std::string unit;          // systemd's service or scope, else the path of its cgroup
  uint64_t start_ticks = 0;  // since the boot; 0: unknown
};

// Takes apart what the files of /proc/PID hold.
std::optional<uint64_t> StartTicksOf(std::string_view stat);
std::string UnitOf(std::string_view cgroup);
// Reads them. `seen_ns`: somebody had this pid then, by the monotonic clock; a process that began
// later is somebody else.
ProcessNames NamesOf(int32_t pid, int64_t seen_ns);

// Whether the process is gone that had this pid and began at `start_ticks` (0: unknown).
bool HasEnded(int32_t pid, uint64_t start_ticks);

// A sender, over all shards.
struct SenderInfo {
  enum class Kind { kProcess, kUnknown, kOthers };

  Kind kind = Kind::kProcess;
  Credentials who;
  ProcessNames names;
  bool ended = false;
  int64_t first_seen_ns = 0;
  int64_t last_seen_ns = 0;
  SenderTable::Counts counts;
};

// "pid 12 (shop), uid 1000, unit shop.service", as far as the kernel and /proc tell; "unknown",
// "others".
std::string SenderText(const SenderInfo& sender);

// Looks names up as soon as a shard has a new sender, some at a time, and now and then whether the
// processes are still there.
//
// Ownership: the thread that runs `loop`, but for Ask. The tables outlive the loop's last turn.
class SenderDirectory {
 public:
  SenderDirectory(Loop* loop, std::vector<SenderTable*> tables);
  SenderDirectory(const SenderDirectory&) = delete;
  SenderDirectory& operator=(const SenderDirectory&) = delete;

  void Start() { WatchLater(); }
  void Stop();
  // Any thread: a table has a new sender. Wakes the loop at most once until that has looked.
  void Ask();

  // All senders: the unknown ones, the others, then processes. Their counts add up to the ledgers'.
  std::vector<SenderInfo> List() const;
  // The sender that a shard has under a number now; of kOthers if it has none.
  SenderInfo Describe(size_t shard, uint16_t number) const;

 private:
  struct Named {
    uint32_t version = 0;
    bool ended = false;
    ProcessNames names;
  };

  void Turn();
  // True if there is more to look up.
  bool LookUpSome();
  void WatchLater();
  void WatchSome();
  void WatchOne(size_t table, uint16_t number);
  // Null if that sender was not looked up yet.
  const Named* Find(size_t table, uint16_t number, uint32_t version) const;

  Loop* const loop_;
  const std::vector<SenderTable*> tables_;
  std::vector<std::vector<Named>> named_;  // by table and number
  LoopTimer pause_;
  LoopTimer watch_;
  // Acquire and release: whoever finds it set leaves his sender to the turn that clears it.
  std::atomic<bool> asked_{false};
  bool pausing_ = false;
  bool stopped_ = false;
  size_t watched_table_ = 0;
  uint16_t watched_number_ = SenderTable::kFirst;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_SENDER_DIRECTORY_H_
