// What a job sent, on its way from the session's sockets to a shard.

#ifndef TALLYD_DAEMON_JOB_LINES_H_
#define TALLYD_DAEMON_JOB_LINES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/groups/grouping.h"

namespace tallyd {

// The labels of a session, as shards and as taps take them. Immutable and therefore thread-safe.
class JobLabels {
 public:
  // `ttl` of the series; zero: as of all others.
  JobLabels(const Grouping& labels, absl::Duration ttl);

  // For Shard::ApplyInSession.
  const std::string& session() const { return session_; }

  // The lines for those who do not know of sessions: with the labels as DogStatsD tags behind their
  // own. Lines that have no room for a tag section stay as they are: events, several samples in
  // one, tags in the name.
  std::string Tagged(absl::string_view lines_untrusted) const;

 private:
  std::string tags_;
  std::string session_;
};

struct JobDatagram {
  std::string bytes;
  bool cut = false;  // its end is missing
};

// What was received at a time.
struct JobBatch {
  std::shared_ptr<const JobLabels> labels;
  std::vector<JobDatagram> datagrams;
  uint64_t kernel_dropped = 0;  // datagrams, since the batch before
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JOB_LINES_H_
