// The configuration file and that of --web.config.file are written by whoever runs the daemon: any
// bytes must lead to options or to messages that say where, soon, also where an anchor names what
// contains it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "daemon/config_file.h"
#include "daemon/flags.h"
#include "daemon/push_config.h"
#include "daemon/remote_write_config.h"
#include "daemon/web/web_config.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

constexpr char kFile[] = "f.yml";

void CheckMessage(const absl::Status& status) {
  Check(status.code() == absl::StatusCode::kInvalidArgument);
  Check(absl::StartsWith(status.message(), "f.yml:"));
}

void CheckOptions(const std::string& yaml) {
  const absl::StatusOr<FlagValues> values = ParseConfig(yaml, kFile);
  if (!values.ok()) return CheckMessage(values.status());
  for (const auto& [name, given] : *values) {
    Check(FindFlag(name) != nullptr);
    for (const FlagValue& value : given) Check(absl::StartsWith(value.origin, "f.yml:"));
  }
  std::vector<std::string> problems;
  const PushDefaults defaults = {.instance = "here", .series_limit = 1000};
  for (const PushgatewayOptions& options : ReadPushgateways(*values, defaults, &problems)) {
    Check(!problems.empty() || (!options.name.empty() && options.max_series > 0 &&
                                options.interval >= absl::Milliseconds(1)));
  }
  for (const RemoteWriteOptions& options : ReadRemoteWrites(*values, defaults, &problems)) {
    Check(!problems.empty() || (!options.name.empty() && options.sender.connections > 0 &&
                                options.sender.interval >= absl::Milliseconds(1)));
    for (const auto& [name, value] : options.headers) {
      // Nothing that would end the header that it becomes.
      Check((name + value).find_first_of("\r\n") == std::string::npos);
    }
  }
  for (const std::string& problem : problems) Check(absl::StartsWith(problem, "f.yml:"));
}

void CheckWebConfig(std::string_view yaml) {
  const absl::StatusOr<WebConfig> config = ParseWebConfig(yaml, kFile);
  if (!config.ok()) return CheckMessage(config.status());
  for (const WebUser& user : config->users) Check(!user.name.empty() && !user.hash.empty());
  for (const auto& [name, value] : config->headers) {
    Check(!name.empty());
    // Nothing that would end the header that it becomes.
    Check((name + value).find_first_of("\r\n") == std::string::npos);
  }
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string yaml(reinterpret_cast<const char*>(data), size);
  tallyd::CheckOptions(yaml);
  tallyd::CheckWebConfig(yaml);
  return 0;
}
