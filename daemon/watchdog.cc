#include "daemon/watchdog.h"

#include <pthread.h>
#include <time.h>

#include <atomic>
#include <boost/system/error_code.hpp>
#include <chrono>

#include "daemon/clock.h"

namespace tallyd {

// Written by the merger's thread. Release and acquire: who sees the answer sees the clock.
struct Watchdog::Answer {
  clockid_t cpu_clock = 0;  // of the merger's thread
  std::atomic<bool> given{false};
  bool ever = false;  // the control loop's: cpu_clock is known
};

Watchdog::Watchdog(Loop* control, MergeThread* merger, const ServiceManager* manager)
    : timer_(*control), merger_(merger), manager_(manager), answer_(std::make_shared<Answer>()) {}

void Watchdog::Start() {
  if (manager_->watchdog() <= absl::ZeroDuration()) return;
  Ask();
  LookLater();
}

void Watchdog::Ask() {
  asked_ns_ = MonotonicNs();
  answer_->given.store(false, std::memory_order_relaxed);
  merger_->Ask([answer = answer_](Merger* merger) {
    if (merger == nullptr) return;  // its thread ends
    ::pthread_getcpuclockid(::pthread_self(), &answer->cpu_clock);
    answer->given.store(true, std::memory_order_release);
  });
}

void Watchdog::LookLater() {
  timer_.expires_after(absl::ToChronoNanoseconds(manager_->watchdog() / 4));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Look();
  });
}

void Watchdog::Look() {
  if (answer_->given.load(std::memory_order_acquire)) {
    answer_->ever = true;
    Feed();
    Ask();
  } else if (IsBusy()) {
    Feed();
  }
  LookLater();
}

bool Watchdog::IsBusy() const {
  if (!answer_->ever || MonotonicNs() - asked_ns_ > absl::ToInt64Nanoseconds(kLongestTurn)) {
    return false;
  }
  timespec used{};
  if (::clock_gettime(answer_->cpu_clock, &used) != 0) return false;
  return absl::ToInt64Nanoseconds(absl::DurationFromTimespec(used)) > cpu_ns_when_fed_;
}

void Watchdog::Feed() {
  timespec used{};
  if (::clock_gettime(answer_->cpu_clock, &used) == 0) {
    cpu_ns_when_fed_ = absl::ToInt64Nanoseconds(absl::DurationFromTimespec(used));
  }
  (void)manager_->NotifyIfRoom("WATCHDOG=1");  // said again soon
}

}  // namespace tallyd
