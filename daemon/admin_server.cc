#include "daemon/admin_server.h"

#include <prometheus/counter.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/unix_path.h"

namespace tallyd {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;
using Local = boost::asio::local::stream_protocol;
using LocalSocket = boost::asio::basic_stream_socket<Local, Loop::executor_type>;
using LocalAcceptor = boost::asio::basic_socket_acceptor<Local, Loop::executor_type>;

// A line of the greatest length, each byte written as three.
constexpr uint32_t kMaxHeaderBytes = 256 * 1024;
constexpr absl::Duration kHeaderTimeout = absl::Seconds(5);
constexpr absl::Duration kWriteTimeout = absl::Seconds(30);
constexpr absl::Duration kDrainTimeout = absl::Seconds(1);
constexpr size_t kMaxDrainedBytes = size_t{1} << 20;
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
// How often rings are looked at in which nothing was.
constexpr absl::Duration kCapturePause = absl::Milliseconds(10);
constexpr size_t kCaptureWriteBytes = size_t{1} << 20;
// Of all rings together, as long as each can take the largest datagram.
constexpr size_t kMaxRingsBytes = size_t{64} << 20;
constexpr size_t kMinRingBytes = size_t{512} << 10;

std::optional<std::string> PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    const auto is_hex = [&text](size_t at) {
      return at < text.size() && absl::ascii_isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (!is_hex(i + 1) || !is_hex(i + 2)) return {};
    decoded += absl::HexStringToBytes(absl::string_view(text.data() + i + 1, 2));
    i += 2;
  }
  return decoded;
}

// What is asked, taken apart. Blanks in values are "%20": a plus is a plus, as in gauges.
struct AdminRequest {
  http::verb method = http::verb::unknown;
  std::string path;
  std::unordered_map<std::string, std::string> parameters_untrusted;

  static std::optional<AdminRequest> Of(const http::request_header<>& header) {
    AdminRequest request;
    request.method = header.method();
    const std::string target(header.target().data(), header.target().size());
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(target, absl::MaxSplits('?', 1));
    request.path = parts.first;
    for (const absl::string_view pair : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> item =
          absl::StrSplit(pair, absl::MaxSplits('=', 1));
      const std::optional<std::string> value = PercentDecoded(item.second);
      if (!value.has_value()) return {};
      request.parameters_untrusted[item.first] = *value;
    }
    return request;
  }

  const std::string* Find(const std::string& name) const {
    const auto found = parameters_untrusted.find(name);
    return found == parameters_untrusted.end() ? nullptr : &found->second;
  }

  // False if the parameter is there and is not in 1 to `most`.
  bool Number(const std::string& name, uint64_t most, uint64_t* number) const {
    const std::string* const text = Find(name);
    return text == nullptr || (absl::SimpleAtoi(*text, number) && *number >= 1 && *number <= most);
  }
};

struct CaptureLimits {
  uint64_t seconds = 0;
  uint64_t bytes = 0;
};

size_t RingBytes(int shards) {
  size_t bytes = AdminServer::kRingBytes;
  while (bytes > kMinRingBytes && bytes * static_cast<size_t>(shards) > kMaxRingsBytes) bytes /= 2;
  return bytes;
}

}  // namespace

// Shared: sessions refer to it weakly and may outlive it by a moment.
class AdminServer::Impl : public std::enable_shared_from_this<AdminServer::Impl> {
 public:
  Impl(Loop* loop, UnixPath path, prometheus::Registry* registry, Hooks hooks)
      : loop_(loop),
        path_(std::move(path)),
        hooks_(std::move(hooks)),
        acceptor_(*loop),
        pause_(*loop),
        dropped_lines_(
            &prometheus::BuildCounter()
                 .Name("tallyd_capture_dropped_lines_total")
                 .Help("Lines that a capture left out because it could not keep up with them.")
                 .Register(*registry)
                 .Add({})) {}

  void Start() {
    acceptor_.assign(Local(), path_.TakeFd().release());
    Accept();
  }

  void Stop();

 private:
  class Session;
  class Capture;

  void Accept();
  void OnAcceptError(const error_code& error);
  void OnConnection(LocalSocket socket);
  void Route(const std::shared_ptr<Session>& session, const AdminRequest& request);
  void Explain(const std::shared_ptr<Session>& session, const AdminRequest& request);
  void OpenJob(const std::shared_ptr<Session>& session, const AdminRequest& request);
  void Top(const std::shared_ptr<Session>& session, const AdminRequest& request);
  void Work(const std::weak_ptr<Session>& asking, const std::string& type, Job job);
  void StartCapture(const std::shared_ptr<Session>& session, const AdminRequest& request);

  Loop* const loop_;
  UnixPath path_;
  const Hooks hooks_;
  LocalAcceptor acceptor_;
  LoopTimer pause_;
  prometheus::Counter* const dropped_lines_;
  boost::asio::thread_pool worker_{1};
  std::unordered_map<Session*, std::shared_ptr<Session>> sessions_;
  bool capturing_ = false;
  bool stopped_ = false;
};

// The lines of one capture on their way from the rings to a session.
class AdminServer::Impl::Capture {
 public:
  Capture(Impl* server, const CaptureLimits& limits)
      : server_(server), limits_(limits), began_ns_(MonotonicNs()), left_(limits.bytes) {
    server_->capturing_ = true;
    for (int shard = 0; shard < server_->hooks_.shards; ++shard) {
      rings_.push_back(std::make_shared<CaptureRing>(RingBytes(server_->hooks_.shards)));
      server_->hooks_.add_tap(shard, rings_.back());
    }
  }

  ~Capture() {
    RemoveTaps();
    CountDropped();
    server_->capturing_ = false;
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // What there is to send now; empty if there is nothing. Ends the capture where it is due.
  std::string Next() {
    if (ending_.empty() && Seconds() >= static_cast<double>(limits_.seconds)) End("time");
    std::string lines;
    // Each time another ring comes first, so that one that is never empty leaves room for others.
    for (size_t i = 0; i < rings_.size(); ++i) {
      TakeFrom(rings_[(first_ring_ + i) % rings_.size()].get(), &lines);
    }
    ++first_ring_;
    lines_ += static_cast<uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
    CountDropped();
    return lines;
  }

  // The first reason holds. What the rings have is still taken, but no more comes in.
  void End(const char* reason) {
    if (!ending_.empty()) return;
    ending_ = reason;
    RemoveTaps();
  }

  bool ended() const { return !ending_.empty(); }

  std::string Trailer() const {
    return absl::StrFormat(
        "# tallyd capture: %d lines, %d bytes in %.1f s, %d lines dropped, ended by %s\n", lines_,
        limits_.bytes - left_, Seconds(), dropped_, ending_);
  }

 private:
  void TakeFrom(CaptureRing* ring, std::string* lines) {
    if (ring->empty()) return;
    const uint64_t room = std::min<uint64_t>(left_, kCaptureWriteBytes - lines->size());
    const size_t taken = ring->Take(static_cast<size_t>(room), lines);
    if (taken == 0 && room == left_) End("bytes");
    left_ -= taken;
  }

  double Seconds() const { return static_cast<double>(MonotonicNs() - began_ns_) * 1e-9; }

  void RemoveTaps() {
    if (std::exchange(taps_removed_, true)) return;
    for (size_t shard = 0; shard < rings_.size(); ++shard) {
      server_->hooks_.remove_tap(static_cast<int>(shard), rings_[shard]);
    }
  }

  void CountDropped() {
    uint64_t dropped = 0;
    for (const auto& ring : rings_) dropped += ring->dropped_lines();
    server_->dropped_lines_->Increment(static_cast<double>(dropped - dropped_));
    dropped_ = dropped;
  }

  Impl* const server_;
  const CaptureLimits limits_;
  const int64_t began_ns_;
  std::vector<std::shared_ptr<CaptureRing>> rings_;
  size_t first_ring_ = 0;
  bool taps_removed_ = false;
  std::string ending_;
  uint64_t left_;
  uint64_t lines_ = 0;
  uint64_t dropped_ = 0;
};

// One connection: a request, an answer, the end. Keeps itself alive as long as an operation is
// under way.
class AdminServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(LocalSocket socket, std::weak_ptr<Impl> server)
      : socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
        pause_(socket_.get_executor()),
        server_(std::move(server)),
        buffer_(2 * kMaxHeaderBytes) {}

  void Start() {
    SetDeadline(kHeaderTimeout);
    parser_.header_limit(kMaxHeaderBytes);
    parser_.body_limit(std::numeric_limits<uint64_t>::max());  // none is read
    http::async_read_header(
        socket_, buffer_, parser_,
        [self = shared_from_this()](const error_code& error, size_t) { self->OnHeader(error); });
  }

  void Answer(http::status status, const std::string& type, const std::string& body) {
    text_ = Header(status, type);
    absl::StrAppend(&text_, "Content-Length: ", body.size(), "\r\n\r\n", body);
    Write([](Session* self) { self->Drain(); });
  }
  void Refuse(http::status status, const std::string& why) {
    Answer(status, "text/plain; charset=utf-8", why + "\n");
  }

  void AnswerWith(const std::string& type, const absl::StatusOr<std::string>& text) {
    if (closed_) return;
    if (text.ok()) return Answer(http::status::ok, type, *text);
    Refuse(http::status::internal_server_error, std::string(text.status().message()));
  }

  // The end of the body is that of the connection; whether it is complete, its last line says.
  void StreamCapture(Impl* server, const CaptureLimits& limits) {
    capture_ = std::make_unique<Capture>(server, limits);
    text_ = Header(http::status::ok, "text/plain") + "\r\n";
    WatchPeer();
    Write([](Session* self) { self->ContinueCapture(); });
  }

  // The connection, with which this has nothing to do any more.
  LocalSocket HandOver() {
    LocalSocket connection = std::move(socket_);
    Close();
    return connection;
  }

  void Close() {
    if (std::exchange(closed_, true)) return;
    const auto keep_until_return = shared_from_this();
    capture_.reset();
    error_code ignored;
    socket_.close(ignored);
    deadline_.cancel();
    pause_.cancel();
    if (const auto server = server_.lock()) server->sessions_.erase(this);
  }

 private:
  static std::string Header(http::status status, const std::string& type) {
    const auto reason = http::obsolete_reason(status);
    return absl::StrCat("HTTP/1.1 ", static_cast<unsigned>(status), " ",
                        absl::string_view(reason.data(), reason.size()),
                        "\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: ", type,
                        "\r\n");
  }

  void OnHeader(const error_code& error) {
    const auto server = server_.lock();
    if (closed_ || server == nullptr) return;
    deadline_.cancel();
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return Refuse(http::status::request_header_fields_too_large, "The header is too long.");
    }
    if (error) return Close();
    const std::optional<AdminRequest> request = AdminRequest::Of(parser_.get().base());
    if (!request.has_value()) return Refuse(http::status::bad_request, "Bad percent-encoding.");
    server->Route(shared_from_this(), *request);
  }

  template <typename Then>
  void Write(Then then) {
    SetDeadline(kWriteTimeout);
    boost::asio::async_write(socket_, boost::asio::buffer(text_),
                             [self = shared_from_this(), then](const error_code& error, size_t) {
                               if (self->closed_) return;
                               if (error) return self->Close();
                               self->deadline_.cancel();
                               then(self.get());
                             });
  }

  void ContinueCapture() {
    text_ = capture_->Next();
    if (!text_.empty()) return Write([](Session* self) { self->ContinueCapture(); });
    if (capture_->ended()) {
      text_ = capture_->Trailer();
      return Write([](Session* self) { self->Close(); });
    }
    pause_.expires_after(absl::ToChronoNanoseconds(kCapturePause));
    pause_.async_wait([self = shared_from_this()](const error_code& error) {
      if (!error && !self->closed_) self->ContinueCapture();
    });
  }

  // A client that has sent its last byte wants no more lines; one that is gone cannot be told.
  void WatchPeer() {
    socket_.async_read_some(boost::asio::buffer(ignored_),
                            [self = shared_from_this()](const error_code& error, size_t) {
                              if (self->closed_ || self->capture_ == nullptr) return;
                              if (!error) return self->WatchPeer();
                              self->capture_->End("client");
                            });
  }

  // Closing with bytes unread would reset the connection, and the answer might be lost with it.
  void Drain() {
    error_code error;
    socket_.shutdown(LocalSocket::shutdown_send, error);
    if (error) return Close();
    SetDeadline(kDrainTimeout);
    ReadAway(kMaxDrainedBytes);
  }

  void ReadAway(size_t left) {
    socket_.async_read_some(boost::asio::buffer(ignored_),
                            [self = shared_from_this(), left](const error_code& error, size_t n) {
                              if (self->closed_) return;
                              if (error || n >= left) return self->Close();
                              self->ReadAway(left - n);
                            });
  }

  void SetDeadline(absl::Duration timeout) {
    deadline_.expires_after(absl::ToChronoNanoseconds(timeout));
    deadline_.async_wait([self = shared_from_this()](const error_code& error) {
      // A timer that was set anew meanwhile has a later time.
      if (error || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
      self->Close();
    });
  }

  LocalSocket socket_;
  LoopTimer deadline_;
  LoopTimer pause_;
  const std::weak_ptr<Impl> server_;
  boost::beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> parser_;
  std::string text_;  // being written
  std::array<char, 4096> ignored_;
  std::unique_ptr<Capture> capture_;
  bool closed_ = false;
};

void AdminServer::Impl::Stop() {
  if (std::exchange(stopped_, true)) return;
  error_code ignored;
  acceptor_.close(ignored);
  pause_.cancel();
  const auto sessions = sessions_;
  for (const auto& [raw, session] : sessions) session->Close();
  worker_.stop();
  worker_.join();
}

void AdminServer::Impl::Accept() {
  acceptor_.async_accept(*loop_,
                         [weak = weak_from_this()](const error_code& error, LocalSocket socket) {
                           const std::shared_ptr<Impl> self = weak.lock();
                           if (self == nullptr || self->stopped_) return;
                           if (error) return self->OnAcceptError(error);
                           self->OnConnection(std::move(socket));
                           self->Accept();
                         });
}

void AdminServer::Impl::OnAcceptError(const error_code& error) {
  LogDebug("cannot accept a connection on the admin socket", {{"error", error.message()}});
  pause_.expires_after(absl::ToChronoNanoseconds(kAcceptPause));
  pause_.async_wait([weak = weak_from_this()](const error_code& cancelled) {
    const std::shared_ptr<Impl> self = weak.lock();
    if (self != nullptr && !cancelled && !self->stopped_) self->Accept();
  });
}

void AdminServer::Impl::OnConnection(LocalSocket socket) {
  if (sessions_.size() >= kMaxConnections) return;  // closes it
  const auto session = std::make_shared<Session>(std::move(socket), weak_from_this());
  sessions_.emplace(session.get(), session);
  session->Start();
}

void AdminServer::Impl::Route(const std::shared_ptr<Session>& session,
                              const AdminRequest& request) {
  const bool get = request.method == http::verb::get;
  if (request.path == "/explain") {
    if (get) return Explain(session, request);
    return session->Refuse(http::status::method_not_allowed, "Allowed here: GET.");
  }
  if (request.path == "/capture") {
    if (get || request.method == http::verb::post) return StartCapture(session, request);
    return session->Refuse(http::status::method_not_allowed, "Allowed here: GET, POST.");
  }
  if (request.path == "/top") {
    if (get) return Top(session, request);
    return session->Refuse(http::status::method_not_allowed, "Allowed here: GET.");
  }
  if (request.path == "/job") {
    if (request.method == http::verb::post) return OpenJob(session, request);
    return session->Refuse(http::status::method_not_allowed, "Allowed here: POST.");
  }
  session->Refuse(http::status::not_found, "There is nothing here.");
}

void AdminServer::Impl::OpenJob(const std::shared_ptr<Session>& session,
                                const AdminRequest& request) {
  if (!hooks_.open_job) {
    return session->Refuse(http::status::forbidden,
                           "Jobs need a listener more, and tags of DogStatsD.");
  }
  const absl::StatusOr<JobRequest> job = ParseJobRequest(request.parameters_untrusted);
  if (!job.ok()) {
    return session->Refuse(http::status::bad_request, std::string(job.status().message()));
  }
  hooks_.open_job(session->HandOver(), *job);
}

void AdminServer::Impl::Explain(const std::shared_ptr<Session>& session,
                                const AdminRequest& request) {
  const std::string* const line = request.Find("line");
  if (line == nullptr) return session->Refuse(http::status::bad_request, "Which line?");
  const std::string* const dialect = request.Find("dialect");
  const std::string* const format = request.Find("format");
  if ((dialect != nullptr && *dialect != "statsd" && *dialect != "dogstatsd") ||
      (format != nullptr && *format != "json" && *format != "text")) {
    return session->Refuse(http::status::bad_request,
                           "dialect is statsd or dogstatsd, format is json or text.");
  }
  const bool as_json = format == nullptr || *format == "json";
  std::optional<Dialect> read_as;
  if (dialect != nullptr) {
    read_as = *dialect == "dogstatsd" ? Dialect::kDogstatsd : Dialect::kStatsd;
  }
  Job job = hooks_.explain(*line, read_as, as_json);
  const std::string type = as_json ? "application/json" : "text/plain; charset=utf-8";
  Work(session, type, std::move(job));
}

void AdminServer::Impl::Top(const std::shared_ptr<Session>& session, const AdminRequest& request) {
  TopQuestion question;
  if (!request.Number("families", TopQuestion::kMostRows, &question.families) ||
      !request.Number("senders", TopQuestion::kMostRows, &question.senders)) {
    return session->Refuse(http::status::bad_request, absl::StrCat("families and senders are 1 to ",
                                                                   TopQuestion::kMostRows, "."));
  }
  const std::weak_ptr<Session> asking = session;
  hooks_.top(question, [loop = loop_, weak = weak_from_this(), asking](Job job) {
    boost::asio::post(*loop, [weak, asking, job = std::move(job)]() mutable {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self != nullptr) self->Work(asking, "application/json", std::move(job));
    });
  });
}

// The session is the loop's, so only that looks whether it is still there.
void AdminServer::Impl::Work(const std::weak_ptr<Session>& asking, const std::string& type,
                             Job job) {
  boost::asio::post(worker_, [loop = loop_, asking, type, job = std::move(job)] {
    boost::asio::post(*loop, [asking, type, text = job()] {
      if (const auto waiting = asking.lock()) waiting->AnswerWith(type, text);
    });
  });
}

void AdminServer::Impl::StartCapture(const std::shared_ptr<Session>& session,
                                     const AdminRequest& request) {
  CaptureLimits limits;
  limits.seconds = static_cast<uint64_t>(absl::ToInt64Seconds(kDefaultCaptureTime));
  limits.bytes = kDefaultCaptureBytes;
  const auto most_seconds = static_cast<uint64_t>(absl::ToInt64Seconds(kMaxCaptureTime));
  if (!request.Number("seconds", most_seconds, &limits.seconds) ||
      !request.Number("bytes", kMaxCaptureBytes, &limits.bytes)) {
    return session->Refuse(
        http::status::bad_request,
        absl::StrCat("seconds is 1 to ", most_seconds, ", bytes is 1 to ", kMaxCaptureBytes, "."));
  }
  if (capturing_) return session->Refuse(http::status::conflict, "Another capture is running.");
  session->StreamCapture(this, limits);
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Listen(Loop* loop,
                                                                 const std::string& path,
                                                                 prometheus::Registry* registry,
                                                                 Hooks hooks) {
  absl::StatusOr<UnixPath> bound = UnixPath::Bind(path, SOCK_STREAM, 0600);
  if (!bound.ok()) return bound.status();
  auto impl = std::make_shared<Impl>(loop, *std::move(bound), registry, std::move(hooks));
  impl->Start();
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminServer::~AdminServer() { Stop(); }

void AdminServer::Stop() { impl_->Stop(); }

}  // namespace tallyd
