#include "daemon/process_signals.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "daemon/exit_code.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

// Async-signal-safe.
void QuitAtOnce(int) { ::_exit(static_cast<int>(ExitCode::kRuntimeFailure)); }

}  // namespace

ProcessSignals::ProcessSignals(Loop* control, Hooks hooks)
    : end_(*control, SIGTERM, SIGINT), reload_(*control, SIGHUP), hooks_(std::move(hooks)) {
  ::signal(SIGPIPE, SIG_IGN);  // a peer that goes away is an error of that write
  WaitForEnd();
  WaitForReload();
}

void ProcessSignals::NextOneQuits() {
  // Over the loop's own handler, which would wait for its turn.
  struct sigaction action {};
  action.sa_handler = QuitAtOnce;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
}

void ProcessSignals::WaitForEnd() {
  end_.async_wait([this](const boost::system::error_code& error, int number) {
    if (error) return;
    NextOneQuits();
    LogInfo("shutting down", {{"signal", number == SIGINT ? "INT" : "TERM"}});
    hooks_.shutdown();
  });
}

void ProcessSignals::WaitForReload() {
  reload_.async_wait([this](const boost::system::error_code& error, int) {
    if (error) return;
    hooks_.reload();
    WaitForReload();
  });
}

}  // namespace tallyd
