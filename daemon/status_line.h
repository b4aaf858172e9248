// The line by which the service manager shows how we are.

#ifndef TALLYD_DAEMON_STATUS_LINE_H_
#define TALLYD_DAEMON_STATUS_LINE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/service_manager.h"

namespace tallyd {

// What the line is made of: totals since the start.
struct StatusNumbers {
  uint64_t received = 0;        // samples
  uint64_t dropped = 0;         // of these
  uint64_t kernel_dropped = 0;  // datagrams
  uint64_t series = 0;          // now
};

// "12345 samples/s, 678 series, 0 dropped/s"; datagrams that the kernel dropped only if there were.
std::string StatusText(const StatusNumbers& before, const StatusNumbers& now,
                       absl::Duration between);

// Sends the line every kInterval, if there is a manager.
//
// Ownership: the thread that runs `control`. What the constructor takes outlives it.
class StatusLine {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(5);
  using Numbers = std::function<StatusNumbers()>;

  StatusLine(Loop* control, const ServiceManager* manager, Numbers numbers);
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void Start();
  void Stop() { timer_.cancel(); }

 private:
  void SendLater();
  void Send();

  LoopTimer timer_;
  const ServiceManager* const manager_;
  const Numbers numbers_;
  StatusNumbers before_;
  int64_t before_ns_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STATUS_LINE_H_
