// Reads a mapping file of statsd_exporter: YAML 1.1 as its own reader takes it, old keys included.

#ifndef TALLYD_DAEMON_MAPPING_FILE_H_
#define TALLYD_DAEMON_MAPPING_FILE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/rules/mapping.h"

namespace tallyd {

// Largest file that is read, and most YAML nodes with all aliases followed.
inline constexpr size_t kMaxMappingBytes = 16 << 20;
inline constexpr size_t kMaxMappingNodes = 2'000'000;

// `file` is for messages. Errors as Mapping::Compile has them, of the class kInvalidArgument.
absl::StatusOr<MappingConfig> ParseMapping(std::string_view yaml, std::string_view file);

// Reads, parses and compiles.
absl::StatusOr<std::shared_ptr<const Mapping>> LoadMapping(const std::string& path);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MAPPING_FILE_H_
