// What the process is asked to do: statsd_exporter's flags and ours, from the command line and from
// the configuration file.

#ifndef TALLYD_DAEMON_OPTIONS_H_
#define TALLYD_DAEMON_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/expose/protobuf.h"
#include "core/shard/series_budget.h"
#include "core/wire/limits.h"
#include "core/wire/name_tags.h"
#include "core/wire/sample.h"
#include "daemon/flags.h"
#include "daemon/log.h"
#include "daemon/push/pushgateway_options.h"
#include "daemon/push/remote_write_options.h"

namespace tallyd {

// Where to listen, and how to read what comes in there. Of an address or path alone it is made
// without further words.
struct ListenAddress {
  ListenAddress(std::string where, Dialect how = Dialect::kStatsd)  // NOLINT: implicit
      : address(std::move(where)), dialect(how) {}
  ListenAddress(const char* where) : address(where) {}  // NOLINT: implicit

  std::string address;  // or path
  Dialect dialect = Dialect::kStatsd;
  std::vector<uid_t> allow_uids = {};  // of a UNIX socket: who may send; empty: all

  bool operator==(const ListenAddress&) const = default;
};

// A value; complete and checked once ParseOptions has returned it.
struct Options {
  // Empty: that kind is off.
  std::vector<ListenAddress> udp = {"127.0.0.1:8125", "127.0.0.1:9125"};
  std::vector<ListenAddress> tcp = {"127.0.0.1:9125"};
  std::vector<ListenAddress> unixgram;
  std::vector<ListenAddress> unixstream;
  std::vector<ListenAddress> unixseqpacket;
  mode_t unixsocket_mode = 0755;
  gid_t unixsocket_group = static_cast<gid_t>(-1);  // -1: our own
  bool sender_identity = true;                      // false: nobody asks the kernel who sends
  int read_buffer_bytes = 0;                        // 0: kDefaultReadBufferBytes
  absl::Duration idle_timeout = absl::Seconds(10);

  std::string mapping_config;              // path; empty: no rules
  std::vector<std::string> catalog_files;  // paths; empty: nothing is declared
  TagDialects tags;
  bool container_id_label = true;  // false: container ids are ignored

  size_t max_line_bytes = kMaxLineBytes;
  KeyLimits key_limits;

  std::string relay_address;  // empty: no relay
  size_t relay_packet_bytes = 1'400;

  std::vector<PushgatewayOptions> pushgateways;
  std::vector<RemoteWriteOptions> remote_writes;
  absl::Duration push_exit_timeout = absl::Seconds(5);

  std::vector<std::string> web = {"127.0.0.1:9102"};
  std::string telemetry_path = "/metrics";
  bool enable_lifecycle = false;
  std::string web_config_file;  // path; empty: no TLS, no passwords
  int web_max_requests = 40;
  HistogramForm native_histograms = HistogramForm::kBoth;
  bool created_timestamps = false;  // as lines of OpenMetrics

  std::vector<std::string> push;                         // empty: nobody can push
  absl::Duration push_group_ttl = absl::ZeroDuration();  // zero: never
  size_t push_max_body_bytes = size_t{16} << 20;
  size_t push_max_groups = 1'000;
  size_t push_max_group_series = 20'000;
  size_t push_max_series = 100'000;

  int shards = 0;  // 0: one for each usable CPU
  bool pin_shards = false;
  absl::Duration merge_interval = absl::Seconds(1);
  absl::Duration series_ttl = absl::ZeroDuration();  // zero: never
  uint32_t series_limit = 1'000'000;
  uint32_t family_series_limit = 100'000;
  uint32_t sender_series_limit = 0;  // 0: half of series_limit
  uint32_t key_limit = 0;            // of a shard; 0: four for each series
  uint64_t label_bytes = uint64_t{512} << 20;
  uint64_t expired_bytes = uint64_t{64} << 20;
  absl::Duration evict_after = absl::Hours(1);

  std::string state_directory;  // path; empty: nothing is kept over restarts
  absl::Duration state_interval = absl::Seconds(10);
  bool state_strict = false;
  std::string state_memory_directory;  // path; empty: the shards' memories end with the process

  std::string config_file;   // path; empty: none
  std::string admin_socket;  // path; empty: none
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kLogfmt;

  bool check_config = false;
  bool show_help = false;
  bool show_version = false;
  std::vector<std::string> meaningless;  // flags given that have no meaning here

  // The number of shards to start.
  int ShardCount() const;
  int ReadBufferBytes() const;
  SeriesBudget::Limits SeriesLimits() const;
  uint64_t KeyLimit() const;
  size_t ListenerCount() const;
};

inline constexpr int kDefaultReadBufferBytes = 8 << 20;
inline constexpr int kMaxShards = 1024;
// Limits of the wire, for --check-config and for those who enforce them.
inline constexpr size_t kMaxStreamFrameBytes = 65'536;
inline constexpr size_t kMaxUdpPayloadBytes = 65'507;

// Reads the command line without the program's name, and the configuration file that it names. An
// error says, a line for each problem, what is wrong and where: the flag, or file:line.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments);

// Checks and converts what flags were given. Errors as ParseOptions.
absl::StatusOr<Options> OptionsFrom(const FlagValues& values);

// "tallyd, version 0.1.0 (revision: 0123456789ab)", and a line with the compiler.
std::string VersionText(const std::string& program);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_OPTIONS_H_
