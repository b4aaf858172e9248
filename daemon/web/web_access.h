// Who may talk HTTP to us: the web configuration in force.

#ifndef TALLYD_DAEMON_WEB_WEB_ACCESS_H_
#define TALLYD_DAEMON_WEB_WEB_ACCESS_H_

#include <prometheus/registry.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/web/password_check.h"
#include "daemon/web/web_config.h"

namespace prometheus {
class Counter;
}  // namespace prometheus

namespace tallyd {

// Why an HTTP client was turned away: a closed list.
enum class WebRefusal : uint8_t { kHandshake, kUnauthorized, kBusy, kForeignOrigin, kCount };

// The files are looked at again on new connections, at most once a second. What was changed holds
// from then on; if it cannot be used, what was in force stays, the log says so once, and it is
// tried again with each look. Whether there is TLS is decided at the start, and passwords do not
// end.
//
// Ownership: the thread that runs `loop`, which outlives it, as does the registry.
class WebAccess {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  using Verdict = PasswordCheck::Verdict;

  // Reads `file` and the files that it names. No file: everybody may come in, without TLS.
  static absl::StatusOr<std::shared_ptr<WebAccess>> Open(boost::asio::io_context* loop,
                                                         const std::string& file,
                                                         prometheus::Registry* registry);
  // What is wrong with the file and those that it names.
  static absl::Status CheckFile(const std::string& file);

  WebAccess(const WebAccess&) = delete;
  WebAccess& operator=(const WebAccess&) = delete;

  // For a new connection. Null: no TLS.
  std::shared_ptr<boost::asio::ssl::context> TlsForConnection();
  // For every answer.
  const std::shared_ptr<const Headers>& headers() const { return headers_; }
  // Calls `done`, once unless it is stopped first, on the loop's thread, at once or later, with
  // what to do about a request with this header Authorization, which may be empty.
  void Authorize(const std::string& authorization_untrusted, std::function<void(Verdict)> done);
  bool wants_password() const { return !config_.users.empty(); }
  void CountRefused(WebRefusal why);
  // Lets nobody in any more. To be called before the loop ends.
  void Stop() { passwords_.reset(); }

 private:
  // What is made of the files.
  struct Loaded {
    WebConfig config;
    std::shared_ptr<boost::asio::ssl::context> tls;
    std::string signature;  // of the files, each from before it was read
  };

  WebAccess(boost::asio::io_context* loop, std::string file, prometheus::Registry* registry);
  static absl::StatusOr<Loaded> Load(const std::string& file);
  absl::StatusOr<Loaded> LoadAgain() const;
  void Use(Loaded loaded);
  void LookAgain();
  void OnUnusable(const std::string& signature, const absl::Status& why);

  boost::asio::io_context* const loop_;
  const std::string file_;  // empty: none
  WebConfig config_;
  std::shared_ptr<boost::asio::ssl::context> tls_;
  std::shared_ptr<const Headers> headers_ = std::make_shared<const Headers>();
  std::unique_ptr<PasswordCheck> passwords_;  // null until there are users, and once stopped
  std::string signature_;                     // of the files that are in force
  std::string unusable_;                      // signature and reason of what was last complained of
  int64_t looked_ns_ = 0;

  std::array<prometheus::Counter*, static_cast<size_t>(WebRefusal::kCount)> refused_{};
  prometheus::Counter* reload_successes_ = nullptr;
  prometheus::Counter* reload_failures_ = nullptr;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WEB_WEB_ACCESS_H_
