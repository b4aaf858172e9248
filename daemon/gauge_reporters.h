// Which process reports a gauge that one alone may report (`single_sender` of a catalog).

#ifndef TALLYD_DAEMON_GAUGE_REPORTERS_H_
#define TALLYD_DAEMON_GAUGE_REPORTERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "daemon/sender_directory.h"

namespace tallyd {

// Remembers who reports each family. A process has the family until it ends; then whoever else
// reports it has it, so that a service that was restarted is no second sender. Shards tell of a
// process once, and it is remembered as long as it lives.
//
// Thread-compatible.
class GaugeReporters {
 public:
  static constexpr size_t kMaxFamilies = 10'000;
  // Of a family. Those who find no room are not reported: the first ones tell enough.
  static constexpr size_t kMaxProcesses = 16;

  // `has_ended`: whether a process is gone that had this pid and began at these ticks (0: unknown).
  explicit GaugeReporters(std::function<bool(int32_t, uint64_t)> has_ended = HasEnded)
      : has_ended_(std::move(has_ended)) {}

  // `sender` reports the family. If another living process does so too, and it was not said of
  // this one yet: that other one, as `text` was when it came.
  std::optional<std::string> Note(const std::string& family, const SenderInfo& sender,
                                  const std::string& text);
  // What is still so is to be said again.
  void Forget();

 private:
  struct Process {
    int32_t pid = 0;
    uint64_t start_ticks = 0;
    std::string text;
    bool was_said = false;
  };
  using Processes = std::vector<Process>;  // the one that has the family first

  bool IsGone(const Process& process) const { return has_ended_(process.pid, process.start_ticks); }
  Process* FindOrAdd(const SenderInfo& sender, const std::string& text, Processes* processes) const;

  const std::function<bool(int32_t, uint64_t)> has_ended_;
  absl::flat_hash_map<std::string, Processes> families_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_GAUGE_REPORTERS_H_
