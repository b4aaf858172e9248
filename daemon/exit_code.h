// What the process says at its end, and how start-up errors lead there.

#ifndef TALLYD_DAEMON_EXIT_CODE_H_
#define TALLYD_DAEMON_EXIT_CODE_H_

#include <string>

#include "absl/status/status.h"

namespace tallyd {

enum class ExitCode : int {
  kClean = 0,
  kRuntimeFailure = 1,
  kUsage = 2,         // a flag or a configuration file is wrong
  kInUse = 3,         // an address, a socket path or a lock cannot be had; the message names it
  kFindings = 3,      // of tallyctl alone: what was checked holds, but a reviewer would object
  kStateRefused = 4,  // the saved state is not ours to read
};

// An address, path or lock that we cannot have.
inline absl::Status InUseError(const std::string& message) {
  return absl::AlreadyExistsError(message);
}

// A flag or file that asks for something that cannot be.
inline absl::Status UsageError(const std::string& message) {
  return absl::InvalidArgumentError(message);
}

// A saved state that is not to be gone on without.
inline absl::Status StateRefusedError(const std::string& message) {
  return absl::DataLossError(message);
}

inline ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return ExitCode::kClean;
  if (absl::IsInvalidArgument(status)) return ExitCode::kUsage;
  if (absl::IsAlreadyExists(status)) return ExitCode::kInUse;
  if (absl::IsDataLoss(status)) return ExitCode::kStateRefused;
  return ExitCode::kRuntimeFailure;
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_EXIT_CODE_H_
