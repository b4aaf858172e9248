// The command line: statsd_exporter's flags, and ours.

#ifndef TALLYD_DAEMON_OPTIONS_H_
#define TALLYD_DAEMON_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/log.h"

namespace tallyd {

// What the process is asked to do. A value; complete and checked once ParseOptions has returned it.
struct Options {
  // Addresses and paths to listen on. Empty: that kind is off.
  std::vector<std::string> udp = {"127.0.0.1:8125", "127.0.0.1:9125"};
  std::vector<std::string> tcp = {"127.0.0.1:9125"};
  std::vector<std::string> unixgram;
  std::vector<std::string> unixstream;
  std::vector<std::string> unixseqpacket;
  mode_t unixsocket_mode = 0755;
  int read_buffer_bytes = 0;  // 0: kDefaultReadBufferBytes
  absl::Duration idle_timeout = absl::Seconds(10);

  std::vector<std::string> web = {"127.0.0.1:9102"};
  std::string telemetry_path = "/metrics";
  bool enable_lifecycle = false;
  int web_max_requests = 40;

  int shards = 0;  // 0: one for each usable CPU
  bool pin_shards = false;
  absl::Duration merge_interval = absl::Seconds(1);
  absl::Duration series_ttl = absl::ZeroDuration();  // zero: never
  uint32_t series_limit = 1'000'000;

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kLogfmt;

  bool check_config = false;
  bool show_help = false;
  bool show_version = false;
  std::vector<std::string> meaningless;  // flags given that have no meaning here

  // The number of shards to start.
  int ShardCount() const;
  int ReadBufferBytes() const;
  size_t ListenerCount() const;
};

inline constexpr int kDefaultReadBufferBytes = 8 << 20;
inline constexpr int kMaxShards = 1024;
// Limits of the wire, for --check-config and for those who enforce them.
inline constexpr size_t kMaxStreamFrameBytes = 65'536;
inline constexpr size_t kMaxLineBytes = 65'535;

// Reads the command line without the program's name. An error is a sentence for the user.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments);

std::string HelpText();
std::string VersionText();
// What --check-config prints.
std::string DescribeLimits(const Options& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_OPTIONS_H_
