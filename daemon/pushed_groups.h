// The pushed groups of the process: their store, the thread that changes it, and its metrics.

#ifndef TALLYD_DAEMON_PUSHED_GROUPS_H_
#define TALLYD_DAEMON_PUSHED_GROUPS_H_

#include <prometheus/registry.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/expose/negotiate.h"
#include "core/expose/text.h"
#include "core/groups/group_store.h"
#include "core/merge/snapshot.h"
#include "core/shard/family_types.h"
#include "daemon/loop.h"

namespace tallyd {

// A push of many series takes some tenths of a second to read and to check, so one thread of its
// own does that; the control loop goes on meanwhile. Thread-safe, but for Start and Stop, which are
// the control thread's.
class PushedGroups {
 public:
  // `loop`, `registry` and `aggregates` outlive it.
  PushedGroups(Loop* loop, const GroupLimits& limits, const FamilyTypes* aggregates,
               prometheus::Registry* registry);
  ~PushedGroups();
  PushedGroups(const PushedGroups&) = delete;
  PushedGroups& operator=(const PushedGroups&) = delete;

  // Begins to look for groups whose time is over.
  void Start();
  // Waits for the work that was asked for.
  void Stop();

  // Runs `work` on the thread, which owns the store.
  void Post(std::function<void(GroupStore*)> work);

  // Appends all groups as a format writes them, without the end of an exposition.
  void AppendPages(ScrapeFormat format, ContentCoding coding, std::vector<PageBuffer>* pages) const;
  // Appends all groups as `encoder`, which frames no families, writes them.
  void Append(const PageEncoder& encoder, std::string* page) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSHED_GROUPS_H_
