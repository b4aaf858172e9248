// The merger thread: merges on a timer and on demand, renders on demand.

#ifndef TALLYD_DAEMON_MERGE_THREAD_H_
#define TALLYD_DAEMON_MERGE_THREAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "core/expose/negotiate.h"
#include "core/expose/protobuf.h"
#include "core/merge/merger.h"
#include "core/merge/page_encoder.h"
#include "core/merge/snapshot.h"

namespace tallyd {

// Starts a thread that owns `merger` and merges every `interval`. Thread-safe.
//
// Each turn of the thread takes all requests that wait and serves them together: at most one merge,
// then at most one rendering of each variant asked for. A merge that began after a request arrived
// is fresh enough for it however long it took, so requests never chase one another.
class MergeThread {
 public:
  using Done = std::function<void(std::shared_ptr<const Snapshot>)>;
  // Called on the merger thread after every merge.
  using Observer = std::function<void(absl::Duration, const MergeStats&)>;

  // Rendered pages of a format that nobody asked for during this time are given back.
  static constexpr absl::Duration kForgetAfter = absl::Minutes(5);

  // What the formats leave to choose.
  struct Exposition {
    HistogramForm histograms = HistogramForm::kBoth;  // in protobuf
    bool created_lines = false;                       // in OpenMetrics
  };

  MergeThread(std::unique_ptr<Merger> merger, absl::Duration interval)
      : MergeThread(std::move(merger), interval, Exposition{}) {}
  MergeThread(std::unique_ptr<Merger> merger, absl::Duration interval,
              const Exposition& exposition);
  // Stops and joins. Requests that still wait get a null snapshot.
  ~MergeThread();
  MergeThread(const MergeThread&) = delete;
  MergeThread& operator=(const MergeThread&) = delete;

  // Any thread. Calls `done` on the merger thread with a snapshot not older than `max_age` at the
  // time of the call, merging and rendering first if it must. `done` must not wait for this class.
  void Request(ScrapeFormat format, ContentCoding coding, absl::Duration max_age, Done done);

  // Any thread. Calls `job` on the merger thread, between merges; with null if the thread ends. It
  // must be short, and must not wait for this class.
  using Job = std::function<void(Merger*)>;
  void Ask(Job job);

  // Any thread. The same as `encoder` writes it, every page afresh, with nothing kept: for pushes.
  void RequestOnce(std::shared_ptr<const PageEncoder> encoder, absl::Duration max_age, Done done);

  // Any thread but the merger's. Runs a merge now and returns when it is done.
  void MergeNow();

  // Any thread. Replaces the observer; when it returns the former one is not running any more.
  void SetObserver(Observer observer);

  // Any thread: for the own metrics.
  struct Status {
    uint64_t merges = 0;
    uint64_t series = 0;
    uint64_t families = 0;
    uint64_t folded_families = 0;
    uint64_t evicted = 0;    // series, over all merges
    uint64_t forgotten = 0;  // series that would start at 0 if they came back
    absl::Duration last_merge_duration;
    absl::Duration total_merge_duration;
    int64_t last_merge_ns = 0;  // monotonic clock, when it began; 0 before the first
    MergeStats last;
  };
  Status status() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MERGE_THREAD_H_
