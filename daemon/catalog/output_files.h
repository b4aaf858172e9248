// Puts generated files where they belong, and says which of them are not what they should be.

#ifndef TALLYD_DAEMON_CATALOG_OUTPUT_FILES_H_
#define TALLYD_DAEMON_CATALOG_OUTPUT_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/catalog/generators.h"

namespace tallyd {

enum class OutputState : uint8_t {
  kSame,  // is there, with these bytes
  kMissing,
  kDiffers,
  kEdited,  // a stub that somebody went on with: it is theirs
};

// A stub's text with the first line by which it is known whether somebody has edited it since.
std::string WithStubMark(const std::string& text);

// What is below the folder `directory` where a file belongs.
absl::StatusOr<OutputState> StateOf(const std::string& directory, const GeneratedFile& file);

// Writes it, by way of a file beside it that is renamed: it is there as a whole or not at all.
// Makes folders where they are missing.
absl::Status WriteOutput(const std::string& directory, const GeneratedFile& file);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_OUTPUT_FILES_H_
