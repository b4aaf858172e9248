// The merger thread: merges on a timer and on demand, renders on demand.

#ifndef TALLYD_DAEMON_MERGE_THREAD_H_
#define TALLYD_DAEMON_MERGE_THREAD_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "core/expose/text.h"
#include "core/merge/merger.h"
#include "core/merge/snapshot.h"

namespace tallyd {

// Starts a thread that owns `merger` and merges every `interval`. Thread-safe.
class MergeThread {
 public:
  using Done = std::function<void(std::shared_ptr<const Snapshot>)>;

  MergeThread(std::unique_ptr<Merger> merger, absl::Duration interval);
  ~MergeThread();  // stops and joins
  MergeThread(const MergeThread&) = delete;
  MergeThread& operator=(const MergeThread&) = delete;

  // Any thread. Calls `done` on the merger thread with a snapshot not older than `max_age`, merging
  // and rendering first if it must. Requests that wait together share one merge and one rendering.
  void Request(TextFormat format, ContentCoding coding, absl::Duration max_age, Done done);

  // Any thread. Runs a merge now and returns when it is done.
  void MergeNow();

  // Any thread: for the own metrics.
  struct Status {
    uint64_t merges = 0;
    uint64_t series = 0;
    uint64_t families = 0;
    absl::Duration last_merge_duration;
    absl::Duration total_merge_duration;
    int64_t last_merge_ns = 0;  // monotonic clock; 0 before the first
    MergeStats last;
  };
  Status status() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MERGE_THREAD_H_
