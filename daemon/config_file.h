// The configuration file: one YAML file that can say what the flags say.

#ifndef TALLYD_DAEMON_CONFIG_FILE_H_
#define TALLYD_DAEMON_CONFIG_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/flags.h"

namespace tallyd {

// Largest file that is read.
inline constexpr size_t kMaxConfigBytes = 1 << 20;

// What the file gives to the flags. A key is a flag's name, whole or split at dots into nested
// maps; the value of one that repeats is a scalar or a list, whose entries for listeners may also
// be maps of `address` and `dialect`. Relative paths are relative to the file's folder.
//
//   statsd:
//     listen-udp: ["127.0.0.1:8125", {address: ":9125", dialect: dogstatsd}]
//     mapping-config: mapping.yml
//   series: {limit: 100000}
//   push:
//     pushgateway:
//       - {url: "http://gateway:9091", job: nightly}
//
// Records, of which push.pushgateway has a list, are maps of their own; a key of theirs that ends
// in
// "_file" names a file.
//
// `file` is for messages, and says where the folder is. Errors of the class kInvalidArgument, a
// line "FILE:LINE: what is wrong" for each.
absl::StatusOr<FlagValues> ParseConfig(const std::string& yaml, const std::string& file);

// Reads and parses.
absl::StatusOr<FlagValues> LoadConfig(const std::string& file);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CONFIG_FILE_H_
