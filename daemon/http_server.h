// The HTTP side of the daemon: scrapes, health, and what operators may ask of it.

#ifndef TALLYD_DAEMON_HTTP_SERVER_H_
#define TALLYD_DAEMON_HTTP_SERVER_H_

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/handed_sockets.h"
#include "daemon/merge_thread.h"
#include "daemon/own_metrics.h"
#include "daemon/web/web_access.h"

namespace tallyd {

// Serves
//
//   telemetry_path      the aggregates and our own metrics
//   /-/metrics          our own metrics alone
//   /-/healthy          200 as long as the control loop turns
//   /-/ready            200, or 503 and why not
//   /-/reload, /-/quit  POST or PUT, if enabled; never from a page of another site
//   /                   a page that says what is going on
//
// Bounds: connections, headers, requests being answered, and the pages that slow readers keep from
// being freed. Past each of them somebody is refused or cut off, so that the rest are served.
//
// Ownership: the thread that runs `loop`; a scrape passes through the merger's thread and comes
// back. The loop, the merger's thread and the metrics outlive the server.
class HttpServer {
 public:
  struct Options {
    std::vector<std::string> addresses;  // as SocketAddress::Parse reads them
    HandedSockets* handed = nullptr;     // where some of their sockets may be; used by Listen
    std::string telemetry_path = "/metrics";
    int max_requests = 40;  // scrapes being answered at a time
    bool enable_lifecycle = false;
    std::shared_ptr<WebAccess> access = nullptr;  // null: everybody is let in, without TLS
    absl::Duration header_timeout = absl::Seconds(5);
    absl::Duration write_timeout = absl::Seconds(30);
    absl::Duration idle_timeout = absl::Seconds(60);
    absl::Duration snapshot_max_age = absl::Milliseconds(100);
    // As many again are answered 503 and closed; more than that are closed.
    size_t max_connections = 512;
    // What slow readers of different snapshots may keep in memory together, though never less than
    // kMinPinnedSnapshots whole ones.
    size_t max_pinned_bytes = size_t{256} << 20;
  };
  static constexpr size_t kMinPinnedSnapshots = 4;

  struct Hooks {
    std::function<absl::Status()> ready;
    std::function<absl::Status()> reload;
    std::function<void()> quit;  // called once the answer is on its way
    // Appends the groups that were pushed, whose families are none of the snapshot's.
    std::function<void(ScrapeFormat, ContentCoding, std::vector<PageBuffer>*)> append_groups;
  };

  HttpServer(boost::asio::io_context& loop, Options options, MergeThread* merge_thread,
             OwnMetrics* own_metrics, Hooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds all addresses and begins to accept. AlreadyExists, naming the address, if one is in use.
  absl::Status Listen();
  // The addresses bound, with the ports that were taken.
  std::vector<std::string> bound() const;
  // Takes no more connections and ends those that there are.
  void Stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HTTP_SERVER_H_
