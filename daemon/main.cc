// tallyd: adds up StatsD events and shows the sums to Prometheus.

#include <malloc.h>

#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/check_config.h"
#include "daemon/daemon.h"
#include "daemon/exit_code.h"
#include "daemon/handed_fds.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/service_manager.h"

namespace tallyd {
namespace {

ExitCode Fail(const absl::Status& status) {
  const ExitCode code = ExitCodeFor(status);
  LogError(std::string(status.message()), {{"exit", std::to_string(static_cast<int>(code))}});
  return code;
}

ExitCode Serve(const Options& options, absl::StatusOr<HandedFds> handed, ServiceManager manager) {
  if (!handed.ok()) return Fail(handed.status());
  if (!options.meaningless.empty()) {
    LogInfo("these flags have no meaning here and change nothing",
            {{"flags", absl::StrJoin(options.meaningless, ",")}});
  }
  auto daemon = Daemon::Start(options, *std::move(handed), std::move(manager));
  if (!daemon.ok()) return Fail(daemon.status());
  return (*daemon)->Run();
}

void SayProblems(const absl::Status& status) {
  for (const auto problem : absl::StrSplit(status.message(), '\n')) {
    std::cerr << "tallyd: " << problem << "\n";
  }
}

ExitCode Check(const Options& options) {
  const absl::StatusOr<ConfigReport> report = CheckConfig(options);
  if (!report.ok()) {
    SayProblems(report.status());
    return ExitCode::kUsage;
  }
  for (const std::string& warning : report->warnings) {
    std::cerr << "tallyd: warning: " << warning << "\n";
  }
  std::cout << report->text;
  return ExitCode::kClean;
}

ExitCode Main(const std::vector<std::string>& arguments) {
  const absl::StatusOr<Options> options = ParseOptions(arguments);
  if (!options.ok()) {
    SayProblems(options.status());
    return ExitCode::kUsage;
  }
  if (options->show_help) {
    std::cout << HelpText();
    return ExitCode::kClean;
  }
  if (options->show_version) {
    std::cout << VersionText("tallyd");
    return ExitCode::kClean;
  }
  if (options->check_config) return Check(*options);
  // Before the log has its thread: both change the environment.
  absl::StatusOr<HandedFds> handed = HandedFds::FromEnvironment();
  ServiceManager manager = ServiceManager::FromEnvironment();
  StartLog(options->log_level, options->log_format);
  const ExitCode code = Serve(*options, std::move(handed), std::move(manager));
  StopLog();
  return code;
}

}  // namespace
}  // namespace tallyd

int main(int argc, char** argv) {
  // Rendered pages come and go by the hundred megabytes. By default each larger one would be mapped
  // afresh, and touching fresh pages costs more than rendering into them.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  try {
    return static_cast<int>(tallyd::Main(std::vector<std::string>(argv + 1, argv + argc)));
  } catch (const std::exception& error) {  // such as of a thread that the system will not give
    std::cerr << "tallyd: " << error.what() << "\n";
    return static_cast<int>(tallyd::ExitCode::kRuntimeFailure);
  }
}
