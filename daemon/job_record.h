// What is known of a job: the values that are shown of it, and how they are kept over restarts.

#ifndef TALLYD_DAEMON_JOB_RECORD_H_
#define TALLYD_DAEMON_JOB_RECORD_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/groups/grouping.h"
#include "core/groups/pushed_family.h"

namespace tallyd {

// The families that are shown of a job.
inline constexpr char kJobRunning[] = "tallyd_job_running";
inline constexpr char kJobStarted[] = "tallyd_job_started_timestamp_seconds";
inline constexpr char kJobDuration[] = "tallyd_job_duration_seconds";
inline constexpr char kJobExitCode[] = "tallyd_job_exit_code";
inline constexpr char kJobSuccess[] = "tallyd_job_success";
inline constexpr char kJobLastSuccess[] = "tallyd_job_last_success_timestamp_seconds";

inline constexpr int kUnknownExitCode = -1;

// By the name of the family.
using JobValues = std::map<std::string, double, std::less<>>;

// As families, with their help. Names that are none of a job's are left out.
PushedFamilies JobFamilies(const JobValues& values);

// A value.
struct JobRecord {
  Grouping labels;
  absl::Duration ttl;                         // from its end on; zero: it stays
  absl::Time until = absl::InfiniteFuture();  // while it runs, and if it stays: for ever
  JobValues values;

  bool running() const;
};

// The records as the bytes of a file, and back. DataLoss if they do not verify, Unimplemented if
// another version wrote them.
std::string EncodeJobs(const std::vector<JobRecord>& jobs);
absl::StatusOr<std::vector<JobRecord>> DecodeJobs(std::string_view bytes_untrusted);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JOB_RECORD_H_
