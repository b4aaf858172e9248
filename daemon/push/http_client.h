// An HTTP/1.1 client for pushes: one target, one request at a time, and an end to everything.

#ifndef TALLYD_DAEMON_PUSH_HTTP_CLIENT_H_
#define TALLYD_DAEMON_PUSH_HTTP_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/loop.h"
#include "daemon/push/credentials.h"
#include "daemon/push/http_url.h"
#include "daemon/push/name_lookup.h"
#include "daemon/push/push_cause.h"
#include "daemon/push/tls_options.h"

namespace tallyd {

struct PushRequest {
  std::string method = "PUT";
  std::string target =
      {};  // path and query, percent-encoded; replaces the path of the client's URL
  // Names and values without control characters. Host, Content-Length, Authorization, User-Agent
  // and Connection are the client's own.
  std::vector<std::pair<std::string, std::string>> headers = {};
  // Sent one after the other, without being copied. Empty parts are allowed, null ones are not.
  std::vector<std::shared_ptr<const std::string>> body = {};
};

struct HttpResult {
  bool ok() const { return cause == PushCause::kOk; }
  // The value of a header of the answer, or "". The name in any case.
  std::string_view Header(std::string_view name) const;

  PushCause cause = PushCause::kServerError;
  int status = 0;     // of the answer; 0: there was none in time
  std::string error;  // for people: what went wrong, or the beginning of the answer's body
  std::vector<std::pair<std::string, std::string>> headers;  // of the answer
  std::string body;       // the first bytes of the answer; may be anything
  size_t sent_bytes = 0;  // of the body; 0 if there was no connection to send it on
  absl::Duration duration;
};

struct HttpClientOptions {
  HttpUrl url;
  TlsOptions tls;  // for https
  PushCredentials credentials;
  absl::Duration connect_timeout = absl::Seconds(1);  // for each address of the host
  absl::Duration total_timeout = absl::Seconds(10);   // from Send to the answer's last byte
  // A connection is used again for so long, then made anew: a name may lead elsewhere by then.
  absl::Duration connection_life = absl::Minutes(1);
  size_t max_header_bytes = 16 * 1024;  // of an answer
  size_t max_answer_bytes = 64 * 1024;  // of an answer's body
  size_t kept_answer_bytes = 4 * 1024;  // of it, in HttpResult::body
  size_t max_addresses = 4;             // of the host that are tried
  NameLookup::Resolve resolve = NameLookup::SystemResolve;
};

// Nothing here blocks: names are looked up on threads that nobody waits for, and all waits have an
// end. Redirects are not followed. A connection is kept and used again; if it turns out to have
// been closed meanwhile, the request goes out once more on a new one, so requests must bear being
// received twice. Proxies are not used, whatever the environment says.
//
// Ownership: the thread that runs the loop calls everything and is called back. The loop outlives
// the client.
class HttpClient {
 public:
  using Done = std::function<void(HttpResult)>;

  HttpClient(Loop* loop, HttpClientOptions options);
  // A request under way is dropped, and its `done` never called.
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Only while none is under way. The loop calls `done` later, which may destroy the client.
  void Send(PushRequest request, Done done);
  // Send, with another total time-out: for the last push before the end.
  void SendWithin(absl::Duration total_timeout, PushRequest request, Done done);
  bool under_way() const;
  // Drops the request under way: its `done` is never called.
  void Cancel();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_HTTP_CLIENT_H_
