// One connection of an HTTP client: requests in, answers out, one after the other.

#ifndef TALLYD_DAEMON_HTTP_SESSION_H_
#define TALLYD_DAEMON_HTTP_SESSION_H_

#include <array>
#include <atomic>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>
#include <boost/optional/optional.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/merge/snapshot.h"
#include "daemon/loop.h"
#include "daemon/web/web_access.h"
#include "daemon/web_stream.h"

namespace tallyd {

using TcpAcceptor = boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, Loop::executor_type>;

// Memory for bodies that are being read or worked on, over all sessions that share it. Thread-safe.
class BodyBudget {
 public:
  static constexpr size_t kSmallBodyBytes = 64 * 1024;

  // The last `small_bytes` of `bytes` are for bodies of up to kSmallBodyBytes.
  explicit BodyBudget(size_t bytes, size_t small_bytes = 0)
      : small_bytes_(small_bytes), left_(bytes) {}

  // For a body that has room for `from` bytes, and wants it for `to`. False if there is none.
  bool Grow(size_t from, size_t to);
  void GiveBack(size_t bytes) { left_.fetch_add(bytes, std::memory_order_relaxed); }

 private:
  const size_t small_bytes_;
  std::atomic<size_t> left_;
};

// What one body has of a budget, for as long as it lives. Thread-compatible.
class BodyRoom {
 public:
  explicit BodyRoom(std::shared_ptr<BodyBudget> budget) : budget_(std::move(budget)) {}
  ~BodyRoom() { budget_->GiveBack(bytes_); }
  BodyRoom(const BodyRoom&) = delete;
  BodyRoom& operator=(const BodyRoom&) = delete;

  // To no less than before.
  bool GrowTo(size_t bytes);

 private:
  const std::shared_ptr<BodyBudget> budget_;
  size_t bytes_ = 0;
};

// A body, as Beast wants one, that takes room as it comes in: what was only announced takes none.
struct BudgetedBody {
  struct Content {
    std::string bytes_untrusted;
    size_t max_bytes = 0;            // what it may grow to
    std::shared_ptr<BodyRoom> room;  // null: no more is taken in
  };

  class Reader {
   public:
    template <typename Header>
    Reader(const Header&, Content& body) : body_(body) {}

    void init(const boost::optional<uint64_t>&, boost::system::error_code& error) { error = {}; }
    // not_enough_memory: there is no room.
    size_t put(const boost::asio::const_buffer& part, boost::system::error_code& error);
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    Content& body_;
  };
  using value_type = Content;
  using reader = Reader;
};

// A request. Its body is there if the session reads bodies.
struct HttpRequest {
  boost::beast::http::request_header<> header_untrusted;
  std::string path_untrusted;  // without query, not decoded; begins with "/"
  std::string body_untrusted;
  std::shared_ptr<void> body_room;  // to be kept as long as the body is

  boost::beast::http::verb method() const { return header_untrusted.method(); }
  // The value of a header; of one that comes several times, all of them with commas between.
  std::string Field(boost::beast::http::field name) const;
  std::string Field(std::string_view name) const;
};

struct HttpResponse {
  boost::beast::http::status status = boost::beast::http::status::ok;
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;  // besides those of every answer
  std::vector<PageBuffer> body;                              // sent from where it lies
  absl::Duration write_timeout = absl::InfiniteDuration();   // if shorter than the session's
  bool close = false;                                        // end the connection after it
  // Called once: the answer has been handed to the kernel, or never will be.
  std::function<void(bool complete)> done;

  // A sentence as an answer; a line feed is added.
  static HttpResponse Plain(boost::beast::http::status status, const std::string& text);
};

// Speaks TLS if it is to, reads a header under a deadline and a size limit, lets in whom it is to
// let in before anything more is read, hands the request to the handler, writes its answer under
// another deadline, and waits for the next request. Whoever overruns a deadline or a limit is
// answered with the reason where there is still somebody to read it, and closed.
//
// Invariant: at most one request is open; the next is not read before the answer is written.
// Ownership: the control loop's thread. Keeps itself alive as long as an operation is under way.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  // Must lead to one call of Answer, at once or later.
  using Handler = std::function<void(const std::shared_ptr<HttpSession>&, const HttpRequest&)>;
  using Closed = std::function<void(HttpSession*)>;

  struct Limits {
    absl::Duration header_timeout = absl::Seconds(5);  // for a whole header
    absl::Duration write_timeout = absl::Seconds(30);  // for a whole answer
    absl::Duration idle_timeout = absl::Seconds(60);   // between two requests
    absl::Duration drain_timeout = absl::Seconds(1);   // to let the peer read a last answer
    // Bodies of up to so many bytes are read, within the budget, before the request is handled; 0:
    // none is.
    size_t max_body_bytes = 0;
    absl::Duration body_timeout = absl::Seconds(30);  // for a whole body
    std::shared_ptr<BodyBudget> body_budget = nullptr;
  };
  static constexpr uint32_t kMaxHeaderBytes = 8192;
  // What is read and thrown away of a body, so that a reset does not overtake our answer.
  static constexpr size_t kMaxDrainedBytes = 256 * 1024;

  // `access` may be null: everybody is let in, without TLS.
  HttpSession(TcpSocket socket, const Limits& limits, Handler handler, Closed closed,
              std::shared_ptr<WebAccess> access = nullptr);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  void Start();
  // Once for each request. Without effect if the session was closed meanwhile.
  void Answer(HttpResponse response);
  // Ends the connection at once; the kernel still sends what it was given.
  void Stop() { Close(); }
  // Ends the connection at once; what the kernel still holds unsent is thrown away.
  void Abort();

  bool waits_for_request() const { return state_ == State::kIdle; }
  int64_t waiting_since_ns() const { return waiting_since_ns_; }

 private:
  enum class State {
    kHandshake,
    kIdle,
    kReadingHeader,
    kReadingBody,
    kHandling,
    kWriting,
    kDraining,
    kClosed
  };
  using Parser = boost::beast::http::request_parser<boost::beast::http::empty_body>;
  using BodyParser = boost::beast::http::request_parser<BudgetedBody>;

  void OnHandshake(const boost::system::error_code& error);
  void AwaitRequest();
  void AwaitDecrypted();
  void ReadHeader();
  void OnHeader(const boost::system::error_code& error);
  void OnHeaderError(const boost::system::error_code& error);
  void Authorize();
  void OnVerdict(WebAccess::Verdict verdict);
  void OnLetIn();
  void StartBody();
  void SendContinue();
  void ReadBody();
  void OnBody(const boost::system::error_code& error);
  void OnNoRoom();
  void Handle();
  // Answers what has not become a request.
  void Refuse(boost::beast::http::status status, const std::string& text);
  void RefusePassword();
  void RefuseVersion();
  void Write();
  void OnWritten(const boost::system::error_code& error);
  void ReportDone(bool complete);
  void ReleaseResponse();
  void Drain();
  void EndSending();
  void ReadAway(size_t left);
  void Close();

  void SetDeadline(absl::Duration timeout);
  void OnDeadline();
  void EndReading();
  std::string RenderHeader() const;

  WebStream stream_;
  LoopTimer deadline_;
  const Limits limits_;
  const Handler handler_;
  const Closed closed_;
  const std::shared_ptr<WebAccess> access_;  // may be null

  State state_ = State::kIdle;
  int64_t waiting_since_ns_ = 0;
  bool timed_out_ = false;   // the header or the body
  bool head_only_ = false;   // the request is a HEAD
  bool keep_alive_ = false;  // another request may follow
  bool http_1_0_ = false;
  bool reads_body_ = false;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::optional<BodyParser> body_parser_;  // takes over from parser_ where bodies are read
  HttpResponse response_;
  std::string response_header_;
  std::vector<boost::asio::const_buffer> response_buffers_;
  std::array<char, 4096> drained_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HTTP_SESSION_H_
