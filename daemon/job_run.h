// Runs a command as a job of a running daemon: the side of tallyctl.

#ifndef TALLYD_DAEMON_JOB_RUN_H_
#define TALLYD_DAEMON_JOB_RUN_H_

#include <string>
#include <vector>

namespace tallyd {

struct JobRunOptions {
  std::string socket;  // the daemon's admin socket
  std::string job;
  std::string instance;               // empty: none
  std::vector<std::string> grouping;  // each "label=value"
  std::string ttl;                    // empty: the daemon's default
  bool require = false;               // without the daemon nothing is run
  std::vector<std::string> command;
};

// Runs the command and returns what to exit with: its exit code, or 128 and the signal's number;
// 126 or 127 if it cannot be run, as shells have it; 1 without a daemon that is required; 2 for
// usage. Without the daemon the command runs all the same. One thread, and nothing else forks
// meanwhile.
int RunJob(const JobRunOptions& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JOB_RUN_H_
