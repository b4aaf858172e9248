// Signals of the process, as events of the control loop.

#ifndef TALLYD_DAEMON_PROCESS_SIGNALS_H_
#define TALLYD_DAEMON_PROCESS_SIGNALS_H_

#include <boost/asio/signal_set.hpp>
#include <functional>

#include "daemon/loop.h"

namespace tallyd {

// TERM and INT ask for a shutdown, once: after the first, a second one ends the process at once
// with exit code 1, even if the loop is stuck. HUP asks for a reload, each that is delivered for
// one, one after the other.
//
// Ownership: the control loop's thread.
class ProcessSignals {
 public:
  struct Hooks {
    std::function<void()> shutdown;
    std::function<void()> reload;
  };

  ProcessSignals(Loop* control, Hooks hooks);

  // From now on TERM and INT end the process at once. For a shutdown that no signal asked for.
  static void NextOneQuits();

 private:
  void WaitForEnd();
  void WaitForReload();

  boost::asio::signal_set end_;
  boost::asio::signal_set reload_;
  const Hooks hooks_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PROCESS_SIGNALS_H_
