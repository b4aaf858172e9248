// A TCP address that HTTP clients connect to.

#ifndef TALLYD_DAEMON_HTTP_LISTENER_H_
#define TALLYD_DAEMON_HTTP_LISTENER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/handed_sockets.h"
#include "daemon/http_session.h"
#include "daemon/loop.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Accepts connections and hands them on. Without descriptors it pauses until there may be some.
//
// Ownership: the thread that runs `loop`.
class HttpListener {
 public:
  // Takes the socket that was handed in for `address`, or binds. AlreadyExists, naming the address
  // as one of `kind`, if it is in use. `handed` may be null.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Open(Loop* loop, const std::string& address,
                                                            const std::string& kind,
                                                            HandedSockets* handed);
  ~HttpListener();
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;

  // The address, with the port that was taken.
  const std::string& bound() const;
  // Begins to accept. `take` may be called until Stop.
  void Start(std::function<void(TcpSocket)> take);
  void Stop();

 private:
  class Impl;
  explicit HttpListener(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HTTP_LISTENER_H_
