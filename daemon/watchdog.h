// Tells the service manager that we live, as long as the merger does.

#ifndef TALLYD_DAEMON_WATCHDOG_H_
#define TALLYD_DAEMON_WATCHDOG_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/merge_thread.h"
#include "daemon/service_manager.h"

namespace tallyd {

// A manager that watches is fed four times as often as it asks for, from the control loop, so that
// a stuck loop starves it. Each time the merger's thread is asked for an answer, and fed is only if
//
//   it answered what it was asked before, or
//   it is busy with one long turn: its thread used CPU time since the last feeding.
//
// So a thread that waits for what never comes is found out, and one that is slow, or gets little of
// the CPU, is not taken for it. A turn longer than kLongestTurn is taken for an endless one.
//
// Ownership: the thread that runs `control`. What the constructor takes outlives it; an answer that
// comes later finds nobody, and does no harm.
class Watchdog {
 public:
  static constexpr absl::Duration kLongestTurn = absl::Minutes(10);

  Watchdog(Loop* control, MergeThread* merger, const ServiceManager* manager);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Does nothing if nobody watches.
  void Start();
  void Stop() { timer_.cancel(); }

 private:
  struct Answer;

  void Ask();
  void Look();
  void LookLater();
  // Whether the merger's thread does something.
  bool IsBusy() const;
  void Feed();

  LoopTimer timer_;
  MergeThread* const merger_;
  const ServiceManager* const manager_;
  std::shared_ptr<Answer> answer_;  // shared with the question that is under way
  int64_t asked_ns_ = 0;
  int64_t cpu_ns_when_fed_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WATCHDOG_H_
