// Looks up names without ever holding up a loop, or the end of the process.

#ifndef TALLYD_DAEMON_PUSH_NAME_LOOKUP_H_
#define TALLYD_DAEMON_PUSH_NAME_LOOKUP_H_

#include <boost/asio/ip/address.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/loop.h"

namespace tallyd {

// Each lookup runs on a thread of its own that nobody waits for. The resolver of Asio has one
// thread for a whole loop, so that one name server that does not answer would hold up all lookups
// and, since the loop joins that thread, the end of the process.
//
// Ownership: the thread that runs the loop, which outlives this. At most one lookup at a time is
// under way, however long its name server takes.
class NameLookup {
 public:
  using Addresses = std::vector<boost::asio::ip::address>;
  using Done = std::function<void(absl::StatusOr<Addresses>)>;
  // Blocks as long as it takes. Called on a thread of its own.
  using Resolve = std::function<absl::StatusOr<Addresses>(const std::string& host)>;

  explicit NameLookup(Loop* loop, Resolve resolve = SystemResolve);
  // A lookup that is still under way is forgotten: its `done` is never called.
  ~NameLookup();
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;

  // The loop calls `done` later, with at least one address or the reason. Numeric addresses need no
  // thread. While a former lookup is not answered the answer is Unavailable.
  void Start(const std::string& host, Done done);
  // The lookup under way, if there is one, shall not call its `done` any more.
  void Forget();

  // By the host's own files and name servers.
  static absl::StatusOr<Addresses> SystemResolve(const std::string& host);

 private:
  struct Shared;

  Loop* const loop_;
  const Resolve resolve_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_NAME_LOOKUP_H_
