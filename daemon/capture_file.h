// `tallyctl capture`: lines of a running daemon into a file.

#ifndef TALLYD_DAEMON_CAPTURE_FILE_H_
#define TALLYD_DAEMON_CAPTURE_FILE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tallyd {

struct CaptureOptions {
  std::string socket;
  std::string file;  // "-": standard output
  uint64_t seconds = 10;
  uint64_t bytes = uint64_t{64} << 20;
};

// What the daemon says at the end: "12 lines, 345 bytes in 10.0 s, 0 lines dropped, ended by time".
//
// The file is there complete or not at all: it is written beside its place, readable by its owner
// alone, and renamed. `progress` is told bytes and lines some times a second; once `stop` is true
// the capture comes to an end early, and counts as complete.
absl::StatusOr<std::string> CaptureToFile(const CaptureOptions& options,
                                          const std::function<void(uint64_t, uint64_t)>& progress,
                                          const std::function<bool()>& stop);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CAPTURE_FILE_H_
