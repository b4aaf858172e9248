// Pushes the whole state to one group of a Pushgateway, again and again.

#ifndef TALLYD_DAEMON_PUSH_PUSHGATEWAY_TARGET_H_
#define TALLYD_DAEMON_PUSH_PUSHGATEWAY_TARGET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "core/merge/page_encoder.h"
#include "core/merge/snapshot.h"
#include "daemon/loop.h"
#include "daemon/push/inconsistent_families.h"
#include "daemon/push/job_groups.h"
#include "daemon/push/push_encoder.h"
#include "daemon/push/push_status.h"
#include "daemon/push/pushgateway_options.h"

namespace tallyd {

// What a target takes its state from. Any thread may call both.
struct PushSources {
  using Rendered = std::function<void(std::shared_ptr<const Snapshot>)>;
  // Calls `done` once, on any thread: with the newest state as `encoder` writes it, or with null if
  // there is none any more.
  std::function<void(std::shared_ptr<const PageEncoder> encoder, Rendered done)> render;
  // The same, with a state that is not older than the call.
  std::function<void(std::shared_ptr<const PageEncoder> encoder, Rendered done)> render_newest;
  // Series that a push leaves out since they have groups of their own. The thread of the pushes.
  std::function<std::shared_ptr<const JobGroupIndex>()> job_groups;
  // The daemon's own families that `selection` takes, as text 0.0.4.
  std::function<std::string(const PushSelection& selection)> own_text;
  // The daemon's own families, as `encoder` writes them.
  std::function<void(const PageEncoder& encoder, std::string* page)> own_families;
  // What was pushed to the daemon, and what it knows of jobs, as `encoder` writes it.
  std::function<void(const PageEncoder& encoder, std::string* page)> groups;
};

// A push replaces the whole group by the state of that moment, so that what was missed while the
// gateway was away is made up for by the next one, and nothing has to be kept. Failures that may
// pass are tried again sooner than the interval, later each time and never at the same time as
// other daemons; what cannot pass waits for the next interval. A family that the gateway calls
// inconsistent, because somebody else pushes that name with another type, is left out for a while,
// so that the others arrive.
//
// Ownership: the thread that runs `loop`, which the target keeps alive for those who render.
class PushgatewayTarget : public std::enable_shared_from_this<PushgatewayTarget> {
 public:
  // For how long an inconsistent family is left out.
  static constexpr absl::Duration kRejectedFor = absl::Minutes(10);
  // The longest that "Retry-After" is believed.
  static constexpr absl::Duration kMaxRetryAfter = absl::Minutes(10);

  PushgatewayTarget(std::shared_ptr<Loop> loop, PushgatewayOptions options, PushSources sources);
  ~PushgatewayTarget();
  PushgatewayTarget(const PushgatewayTarget&) = delete;
  PushgatewayTarget& operator=(const PushgatewayTarget&) = delete;

  // Once, to begin.
  void Start();
  // Once, to end: pushes a last time, deletes the group if that was asked for, and calls `done`,
  // all within `deadline`.
  void Finish(absl::Duration deadline, std::function<void()> done);
  // Any thread.
  PushStatus status() const;
  const PushgatewayOptions& options() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSHGATEWAY_TARGET_H_
