// Remembers jobs over restarts of the daemon.

#ifndef TALLYD_DAEMON_JOB_MEMORY_H_
#define TALLYD_DAEMON_JOB_MEMORY_H_

#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "daemon/job_record.h"
#include "daemon/state_file.h"

namespace tallyd {

// A nightly job is not run again because tallyd was restarted: what is known of its last run, and
// when its groups in gateways are to be deleted, must outlive the process.
//
// What changes is written soon, by a thread of its own, so that no job waits for a disk; what a
// crash comes between is at most the changes of a moment. A file that cannot be read is set aside;
// one that cannot be written is said once and tried again with the next change.
//
// Thread-safe. Invariant: `jobs_` has one record of each labels; `dirty_` says that the file has
// other ones.
class JobMemory {
 public:
  static constexpr char kFileName[] = "jobs";
  // What is remembered of a single moment's many short jobs is written once.
  static constexpr absl::Duration kMinPause = absl::Milliseconds(200);

  // Reads what there is. `registry` outlives it.
  JobMemory(std::unique_ptr<StateFile> file, prometheus::Registry* registry);
  ~JobMemory();
  JobMemory(const JobMemory&) = delete;
  JobMemory& operator=(const JobMemory&) = delete;

  // The jobs whose time is not over. Those that ran when the former process ended have ended too,
  // nobody knows how: their sessions went with it.
  std::vector<JobRecord> Remembered(absl::Time now);
  // Values that the record does not have stay as they were.
  void Note(const JobRecord& job, absl::Time now);
  // Writes what is not written yet, and ends the thread.
  void Stop();

 private:
  void Read();
  void Run();
  void Write(const std::string& bytes);
  void ForgetOld(absl::Time now);
  std::string Encode() const;

  const std::unique_ptr<StateFile> file_;
  prometheus::Counter& failures_;
  bool failing_ = false;  // the thread's

  std::mutex mu_;  // guards all below, for moments
  std::condition_variable wake_;
  std::map<Grouping, JobRecord> jobs_;
  bool dirty_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JOB_MEMORY_H_
