#include "daemon/http_session.h"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <limits>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/clock.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

// A header may share the buffer with the beginning of what follows it.
constexpr size_t kMaxBufferBytes = 2 * HttpSession::kMaxHeaderBytes;
// Written at a time: enough to make calls few, little enough not to hold up the loop.
constexpr size_t kMaxWriteBytes = 1 << 20;

// What a cancelled reading may take to end.
constexpr absl::Duration kCancelTimeout = absl::Milliseconds(100);

absl::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

// Buffers that lie elsewhere: Asio copies a sequence with each step of a write.
struct BufferRange {
  using value_type = boost::asio::const_buffer;
  using const_iterator = const value_type*;
  const_iterator begin() const { return first; }
  const_iterator end() const { return last; }

  const_iterator first;
  const_iterator last;
};

template <typename Name>
std::string JoinFields(const http::request_header<>& header, Name name) {
  std::string joined;
  const auto range = header.equal_range(name);
  for (auto field = range.first; field != range.second; ++field) {
    absl::StrAppend(&joined, joined.empty() ? "" : ",", View(field->value()));
  }
  return joined;
}

// The path of an origin-form or absolute-form target (RFC 9112 section 3.2), or nothing.
std::optional<std::string> PathOf(absl::string_view target) {
  if (absl::ConsumePrefix(&target, "http://") || absl::ConsumePrefix(&target, "https://")) {
    const size_t slash = target.find('/');
    if (slash == absl::string_view::npos) return "/";
    target.remove_prefix(slash);
  }
  if (target.empty() || target.front() != '/') return {};
  return std::string(target.substr(0, target.find_first_of("?#")));
}

// RFC 9112 section 3.2: exactly one Host header, from version 1.1 on.
bool HasProperHost(const http::request_header<>& header) {
  const size_t hosts = header.count(http::field::host);
  return hosts == 1 || (hosts == 0 && header.version() < 11);
}

// RFC 9112 section 6.3: of any other transfer coding, and of one that is sent with a version that
// has none, it is not certain where the body ends. A proxy before us may see another end than we
// do.
bool HasProperFraming(const http::request_header<>& header) {
  return header.count(http::field::transfer_encoding) == 0 ||
         (header.version() >= 11 &&
          absl::EqualsIgnoreCase(JoinFields(header, http::field::transfer_encoding), "chunked"));
}

// What came is no HTTP; as opposed to: nothing more came.
bool IsMalformed(const error_code& error) {
  const error_code any_of_http = http::error::bad_method;
  return error.category() == any_of_http.category() && error != http::error::end_of_stream &&
         error != http::error::partial_message;
}

std::string HttpDate(absl::Time time) {
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", time, absl::UTCTimeZone());
}

}  // namespace

bool BodyBudget::Grow(size_t from, size_t to) {
  const size_t more = to - from;
  const size_t left_to_others = to > kSmallBodyBytes ? small_bytes_ : 0;
  size_t left = left_.load(std::memory_order_relaxed);
  do {
    if (left < more + left_to_others) return false;
  } while (!left_.compare_exchange_weak(left, left - more, std::memory_order_relaxed));
  return true;
}

bool BodyRoom::GrowTo(size_t bytes) {
  if (!budget_->Grow(bytes_, bytes)) return false;
  bytes_ = bytes;
  return true;
}

size_t BudgetedBody::Reader::put(const boost::asio::const_buffer& part, error_code& error) {
  std::string& bytes = body_.bytes_untrusted;
  const size_t needed = bytes.size() + part.size();
  if (needed > bytes.capacity()) {
    // Twice as much each time, so that few bytes are copied often.
    const size_t wanted = std::max(needed, std::min(2 * bytes.capacity(), body_.max_bytes));
    if (body_.room == nullptr || !body_.room->GrowTo(wanted)) {
      error = make_error_code(boost::system::errc::not_enough_memory);
      return 0;
    }
    bytes.reserve(wanted);
  }
  bytes.append(static_cast<const char*>(part.data()), part.size());
  error = {};
  return part.size();
}

std::string HttpRequest::Field(http::field name) const {
  return JoinFields(header_untrusted, name);
}

std::string HttpRequest::Field(std::string_view name) const {
  return JoinFields(header_untrusted, boost::beast::string_view(name.data(), name.size()));
}

HttpResponse HttpResponse::Plain(http::status status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.body.push_back(std::make_shared<const std::string>(text + "\n"));
  return response;
}

HttpSession::HttpSession(TcpSocket socket, const Limits& limits, Handler handler, Closed closed,
                         std::shared_ptr<WebAccess> access)
    : stream_(std::move(socket)),
      deadline_(stream_.get_executor()),
      limits_(limits),
      handler_(std::move(handler)),
      closed_(std::move(closed)),
      access_(std::move(access)),
      buffer_(kMaxBufferBytes) {}

HttpSession::~HttpSession() = default;

void HttpSession::Start() {
  error_code ignored;
  stream_.socket().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  auto tls = access_ == nullptr ? nullptr : access_->TlsForConnection();
  if (tls == nullptr) return ReadHeader();
  stream_.UseTls(std::move(tls));
  state_ = State::kHandshake;
  SetDeadline(limits_.header_timeout);
  stream_.tls()->async_handshake(
      WebStream::Tls::server,
      [self = shared_from_this()](const error_code& error) { self->OnHandshake(error); });
}

void HttpSession::OnHandshake(const error_code& error) {
  if (state_ != State::kHandshake) return;
  if (!error) return ReadHeader();
  access_->CountRefused(WebRefusal::kHandshake);
  Close();
}

void HttpSession::AwaitRequest() {
  if (buffer_.size() > 0) return ReadHeader();
  state_ = State::kIdle;
  waiting_since_ns_ = MonotonicNs();
  SetDeadline(limits_.idle_timeout);
  if (stream_.tls() != nullptr) return AwaitDecrypted();
  stream_.socket().async_wait(TcpSocket::wait_read,
                              [self = shared_from_this()](const error_code& error) {
                                if (self->state_ != State::kIdle) return;
                                if (error) return self->Close();
                                self->ReadHeader();
                              });
}

// The socket alone does not tell: what has come may lie in the stream already.
void HttpSession::AwaitDecrypted() {
  stream_.async_read_some(buffer_.prepare(kMaxHeaderBytes),
                          [self = shared_from_this()](const error_code& error, size_t size) {
                            if (self->state_ != State::kIdle) return;
                            if (error) return self->Close();
                            self->buffer_.commit(size);
                            self->ReadHeader();
                          });
}

void HttpSession::ReadHeader() {
  state_ = State::kReadingHeader;
  timed_out_ = false;
  head_only_ = false;
  SetDeadline(limits_.header_timeout);
  body_parser_.reset();
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  // Bodies are not read, so they may be announced as long as they like. (Boost 1.74 takes "no
  // limit" for a limit below zero.)
  parser_->body_limit(std::numeric_limits<uint64_t>::max());
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](const error_code& error, size_t) { self->OnHeader(error); });
}

void HttpSession::OnHeader(const error_code& error) {
  if (state_ != State::kReadingHeader) return;
  if (error) return OnHeaderError(error);
  const http::request_header<>& header = parser_->get().base();
  const bool has_body = parser_->chunked() || parser_->content_length().value_or(0) > 0;
  head_only_ = header.method() == http::verb::head;
  reads_body_ = has_body && limits_.max_body_bytes > 0;
  keep_alive_ = parser_->get().keep_alive() && (!has_body || reads_body_);
  http_1_0_ = header.version() == 10;
  if (!HasProperFraming(header)) {
    return Refuse(http::status::bad_request, "Of transfer codings only chunked is known.");
  }
  if (access_ != nullptr && access_->wants_password()) return Authorize();
  OnLetIn();
}

void HttpSession::Authorize() {
  state_ = State::kHandling;
  deadline_.cancel();
  access_->Authorize(JoinFields(parser_->get().base(), http::field::authorization),
                     [weak = weak_from_this()](WebAccess::Verdict verdict) {
                       const std::shared_ptr<HttpSession> self = weak.lock();
                       if (self != nullptr && self->state_ == State::kHandling) {
                         self->OnVerdict(verdict);
                       }
                     });
}

void HttpSession::OnVerdict(WebAccess::Verdict verdict) {
  switch (verdict) {
    case WebAccess::Verdict::kRight:
      return OnLetIn();
    case WebAccess::Verdict::kWrong:
      access_->CountRefused(WebRefusal::kUnauthorized);
      return RefusePassword();
    case WebAccess::Verdict::kBusy:
      access_->CountRefused(WebRefusal::kBusy);
      return Refuse(http::status::service_unavailable, "Too many passwords are being checked.");
  }
}

void HttpSession::OnLetIn() { reads_body_ ? StartBody() : Handle(); }

void HttpSession::StartBody() {
  const auto length = parser_->content_length();
  const uint64_t bytes = length.has_value() ? *length : limits_.max_body_bytes;
  if (bytes > limits_.max_body_bytes) {
    return Refuse(http::status::payload_too_large, "The body is too long.");
  }
  body_parser_.emplace(std::move(*parser_));
  body_parser_->body_limit(limits_.max_body_bytes);
  BudgetedBody::Content& body = body_parser_->get().body();
  body.max_bytes = static_cast<size_t>(bytes);
  body.room = std::make_shared<BodyRoom>(limits_.body_budget);
  state_ = State::kReadingBody;
  SetDeadline(limits_.body_timeout);
  // HTTP/1.0 knows no answers before the answer.
  const bool waits =
      !http_1_0_ && boost::beast::iequals(body_parser_->get()[http::field::expect], "100-continue");
  waits && (buffer_.size() == 0) ? SendContinue() : ReadBody();
}

void HttpSession::SendContinue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  boost::asio::async_write(stream_, boost::asio::buffer(kContinue.data(), kContinue.size()),
                           [self = shared_from_this()](const error_code& error, size_t) {
                             if (self->state_ != State::kReadingBody) return;
                             error ? self->Close() : self->ReadBody();
                           });
}

void HttpSession::ReadBody() {
  http::async_read(
      stream_, buffer_, *body_parser_,
      [self = shared_from_this()](const error_code& error, size_t) { self->OnBody(error); });
}

void HttpSession::OnBody(const error_code& error) {
  if (state_ != State::kReadingBody) return;
  if (!error) return Handle();
  if (timed_out_) return Refuse(http::status::request_timeout, "The body took too long.");
  if (error == http::error::body_limit) {
    return Refuse(http::status::payload_too_large, "The body is too long.");
  }
  if (error == boost::system::errc::not_enough_memory) return OnNoRoom();
  if (IsMalformed(error)) return Refuse(http::status::bad_request, "The body is malformed.");
  Close();
}

void HttpSession::OnNoRoom() {
  if (access_ != nullptr) access_->CountRefused(WebRefusal::kBusy);
  Refuse(http::status::service_unavailable, "Too many bodies are being read.");
}

void HttpSession::OnHeaderError(const error_code& error) {
  if (timed_out_ && parser_->got_some()) {
    return Refuse(http::status::request_timeout, "The header took too long.");
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refuse(http::status::request_header_fields_too_large, "The header is too long.");
  }
  if (error == http::error::bad_version) return RefuseVersion();
  if (IsMalformed(error)) return Refuse(http::status::bad_request, "This is not HTTP/1.1.");
  Close();
}

void HttpSession::Handle() {
  const http::request_header<>& header =
      body_parser_.has_value() ? body_parser_->get().base() : parser_->get().base();
  if (header.version() != 11 && header.version() != 10) {
    return RefuseVersion();
  }
  std::optional<std::string> path = PathOf(View(header.target()));
  if (!path.has_value() || !HasProperHost(header)) {
    return Refuse(http::status::bad_request, "The target or the Host header is malformed.");
  }
  state_ = State::kHandling;
  deadline_.cancel();
  HttpRequest request;
  request.header_untrusted = header;
  request.path_untrusted = *std::move(path);
  if (body_parser_.has_value()) {
    BudgetedBody::Content& body = body_parser_->get().body();
    request.body_untrusted = std::move(body.bytes_untrusted);
    request.body_room = std::move(body.room);
  }
  handler_(shared_from_this(), request);
}

void HttpSession::RefuseVersion() {
  Refuse(http::status::http_version_not_supported, "Please speak HTTP/1.1.");
}

void HttpSession::RefusePassword() {
  error_code error;
  const auto peer = stream_.socket().remote_endpoint(error);
  LogWarn("a request has no right user and password",
          {{"peer", error ? "unknown" : peer.address().to_string()}});
  keep_alive_ = false;
  HttpResponse response = HttpResponse::Plain(http::status::unauthorized, "Unauthorized");
  response.headers.emplace_back("WWW-Authenticate", "Basic");
  Answer(std::move(response));
}

void HttpSession::Refuse(http::status status, const std::string& text) {
  keep_alive_ = false;
  body_parser_.reset();
  state_ = State::kHandling;
  Answer(HttpResponse::Plain(status, text));
}

void HttpSession::Answer(HttpResponse response) {
  if (state_ != State::kHandling) {
    if (response.done) response.done(false);
    return;
  }
  response_ = std::move(response);
  if (response_.close) keep_alive_ = false;
  Write();
}

std::string HttpSession::RenderHeader() const {
  size_t body_bytes = 0;
  for (const PageBuffer& page : response_.body) body_bytes += page->size();
  std::string header = absl::StrCat(
      "HTTP/1.1 ", static_cast<unsigned>(response_.status), " ",
      View(http::obsolete_reason(response_.status)), "\r\nDate: ", HttpDate(absl::Now()),
      "\r\nContent-Type: ", response_.content_type, "\r\nContent-Length: ", body_bytes,
      "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
  for (const auto& [name, value] : response_.headers) {
    absl::StrAppend(&header, name, ": ", value, "\r\n");
  }
  if (access_ != nullptr) {
    for (const auto& [name, value] : *access_->headers()) {
      absl::StrAppend(&header, name, ": ", value, "\r\n");
    }
  }
  if (!keep_alive_) absl::StrAppend(&header, "Connection: close\r\n");
  if (keep_alive_ && http_1_0_) absl::StrAppend(&header, "Connection: keep-alive\r\n");
  header.append("\r\n");
  return header;
}

void HttpSession::Write() {
  state_ = State::kWriting;
  response_header_ = RenderHeader();
  response_buffers_.clear();
  response_buffers_.push_back(boost::asio::buffer(response_header_));
  if (!head_only_) {
    for (const PageBuffer& page : response_.body) {
      if (!page->empty()) response_buffers_.push_back(boost::asio::buffer(*page));
    }
  }
  SetDeadline(std::min(limits_.write_timeout, response_.write_timeout));
  const BufferRange range = {.first = response_buffers_.data(),
                             .last = response_buffers_.data() + response_buffers_.size()};
  boost::asio::async_write(
      stream_, range, [](const error_code& error, size_t) { return error ? 0 : kMaxWriteBytes; },
      [self = shared_from_this()](const error_code& error, size_t) { self->OnWritten(error); });
}

void HttpSession::OnWritten(const error_code& error) {
  if (state_ != State::kWriting) return;
  ReportDone(!error);
  ReleaseResponse();
  if (state_ != State::kWriting) return;
  if (error) return Close();
  if (keep_alive_) return AwaitRequest();
  Drain();
}

void HttpSession::ReportDone(bool complete) {
  if (const auto done = std::exchange(response_.done, nullptr)) done(complete);
}

// A connection that stays open keeps no pages.
void HttpSession::ReleaseResponse() {
  response_ = {};
  response_buffers_.clear();
}

void HttpSession::Drain() {
  state_ = State::kDraining;
  SetDeadline(limits_.drain_timeout);
  if (stream_.tls() == nullptr) return EndSending();
  // The end is told within TLS first, or the peer could not tell it from an attack.
  stream_.tls()->async_shutdown([self = shared_from_this()](const error_code&) {
    if (self->state_ == State::kDraining) self->EndSending();
  });
}

void HttpSession::EndSending() {
  error_code error;
  stream_.socket().shutdown(TcpSocket::shutdown_send, error);
  if (error) return Close();
  ReadAway(kMaxDrainedBytes);
}

void HttpSession::ReadAway(size_t left) {
  stream_.socket().async_read_some(
      boost::asio::buffer(drained_),
      [self = shared_from_this(), left](const error_code& error, size_t size) {
        if (self->state_ != State::kDraining) return;
        if (error || size >= left) return self->Close();
        self->ReadAway(left - size);
      });
}

void HttpSession::Abort() {
  if (state_ == State::kClosed) return;
  error_code ignored;
  stream_.socket().set_option(boost::asio::socket_base::linger(true, 0), ignored);
  Close();
}

void HttpSession::Close() {
  if (state_ == State::kClosed) return;
  const std::shared_ptr<HttpSession> keep_until_return = shared_from_this();
  state_ = State::kClosed;
  // A reading that is under way may look at the parser until its handler has run.
  if (body_parser_.has_value()) body_parser_->get().body().room = nullptr;
  error_code ignored;
  stream_.socket().close(ignored);
  deadline_.cancel();
  // A write that was under way may look at the response until its handler has run, so the response
  // goes with the session.
  ReportDone(false);
  closed_(this);
}

void HttpSession::SetDeadline(absl::Duration timeout) {
  deadline_.expires_after(absl::ToChronoNanoseconds(timeout));
  deadline_.async_wait([self = shared_from_this()](const error_code& error) {
    // A timer that was set anew meanwhile has a later time.
    if (error || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
    self->OnDeadline();
  });
}

// Has OnHeader or OnBody go on with an error. Bytes that arrived just before the deadline may keep
// the reading from being cancelled, so there is a second deadline, which closes.
void HttpSession::EndReading() {
  if (std::exchange(timed_out_, true)) return Close();
  error_code ignored;
  stream_.socket().cancel(ignored);
  SetDeadline(kCancelTimeout);
}

void HttpSession::OnDeadline() {
  switch (state_) {
    case State::kReadingHeader:
    case State::kReadingBody:
      return EndReading();
    case State::kWriting:
      return Abort();
    case State::kHandshake:
      access_->CountRefused(WebRefusal::kHandshake);
      return Close();
    case State::kIdle:
    case State::kDraining:
      return Close();
    case State::kHandling:
    case State::kClosed:
      return;
  }
}

}  // namespace tallyd
