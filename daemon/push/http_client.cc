#include "daemon/push/http_client.h"

#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cassert>
#include <chrono>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"
#include "daemon/clock.h"
#include "daemon/push/tls_context.h"
#include "daemon/version.h"

namespace tallyd {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
using Socket = asio::basic_stream_socket<Tcp, Loop::executor_type>;
using Parser = http::response_parser<http::string_body>;

constexpr std::array<std::string_view, kPushCauses> kCauseNames = {
    "ok",           "credentials",       "lookup",      "connect",    "connect_timeout",
    "tls",          "timeout",           "closed",      "bad_answer", "redirect",
    "client_error", "too_many_requests", "server_error"};

// The specification of remote write wants the version.
constexpr char kUserAgent[] = "tallyd/" TALLYD_VERSION;
// "100 Continue" and the like before the answer proper.
constexpr int kMaxInterimAnswers = 8;
constexpr size_t kMaxHeaders = 64;
constexpr size_t kMaxErrorBytes = 256;

std::chrono::nanoseconds Chrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

PushCause CauseOf(int status) {
  if (status >= 200 && status < 300) return PushCause::kOk;
  if (status >= 300 && status < 400) return PushCause::kRedirect;
  if (status == 429) return PushCause::kTooManyRequests;
  if (status >= 400 && status < 500) return PushCause::kClientError;
  return PushCause::kServerError;
}

bool IsOfHttp(const error_code& error) {
  const error_code any_of_http = http::error::bad_method;
  return error.category() == any_of_http.category();
}

bool IsEnd(const error_code& error) {
  return error == http::error::end_of_stream || error == http::error::partial_message ||
         error == asio::error::eof || error == asio::ssl::error::stream_truncated;
}

bool MayEndAHeader(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
}

// The beginning of an answer, fit for a line of the log.
std::string Readable(std::string_view text_untrusted) {
  std::string readable(text_untrusted.substr(0, kMaxErrorBytes));
  for (char& c : readable) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_iscntrl(byte) || byte >= 0x80) c = ' ';
  }
  absl::StripAsciiWhitespace(&readable);
  return readable;
}

enum class Phase : uint8_t { kLookup, kConnect, kHandshake, kAnswer };

const char* Describe(Phase phase) {
  switch (phase) {
    case Phase::kLookup:
      return "looking up the name";
    case Phase::kConnect:
      return "connecting";
    case Phase::kHandshake:
      return "the TLS handshake";
    case Phase::kAnswer:
      return "the answer";
  }
  return "";
}

// One connection and what is being read from it. Handlers hold it, so that it outlives the
// operations on it even when nobody wants their results any more.
struct Link {
  Link(Loop* loop, std::unique_ptr<asio::ssl::context> tls_context)
      : context(std::move(tls_context)) {
    if (context == nullptr) {
      plain.emplace(*loop);
    } else {
      tls.emplace(*loop, *context);
    }
  }

  Socket& socket() { return tls ? tls->next_layer() : *plain; }
  void Close() {
    error_code ignored;
    socket().close(ignored);
  }

  const std::unique_ptr<asio::ssl::context> context;
  std::optional<Socket> plain;
  std::optional<asio::ssl::stream<Socket>> tls;
  boost::beast::flat_buffer buffer;
  std::optional<Parser> parser;
  std::string header;  // of the request that is being written
  std::vector<std::shared_ptr<const std::string>> body;
  std::vector<asio::const_buffer> parts;  // of both
  bool writing = false;
  int64_t made_ns = 0;
};

}  // namespace

std::string_view PushCauseName(PushCause cause) { return kCauseNames[static_cast<size_t>(cause)]; }

std::string_view HttpResult::Header(std::string_view name) const {
  for (const auto& [header, value] : headers) {
    if (absl::EqualsIgnoreCase(header, View(name))) return value;
  }
  return {};
}

// Invariant: a handler whose Link is not `link_` any more changes nothing. `done_` is null exactly
// while no request is under way.
class HttpClient::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Loop* loop, HttpClientOptions options)
      : loop_(loop),
        options_(std::move(options)),
        lookup_(loop, options_.resolve),
        total_timer_(*loop),
        connect_timer_(*loop) {}

  void Send(absl::Duration total_timeout, PushRequest request, Done done) {
    assert(!done_);
    request_ = std::move(request);
    done_ = std::move(done);
    begin_ns_ = MonotonicNs();
    retried_ = false;
    transmitted_ = false;
    ++serial_;
    StartTotalTimer(total_timeout);
    const absl::Status status = PrepareHeader();
    if (!status.ok()) return FailLater(PushCause::kCredentials, std::string(status.message()));
    if (CanReuseLink()) {
      reused_ = true;
      return Transmit();
    }
    Connect();
  }

  bool under_way() const { return done_ != nullptr; }
  absl::Duration total_timeout() const { return options_.total_timeout; }

  void Close() {
    Cancel();
    DropLink();
  }

  void Cancel() {
    if (!under_way()) return;
    End();
    DropLink();  // what is half sent cannot be continued
  }

 private:
  using LinkPtr = std::shared_ptr<Link>;

  void StartTotalTimer(absl::Duration timeout) {
    total_timer_.expires_after(Chrono(timeout));
    total_timer_.async_wait(
        [self = shared_from_this(), serial = serial_, timeout](const error_code& error) {
          if (error || serial != self->serial_ || !self->under_way()) return;
          const Phase phase = self->phase_;
          self->Fail(
              phase == Phase::kLookup ? PushCause::kLookup : PushCause::kTimeout,
              absl::StrCat(Describe(phase), " took longer than ", absl::FormatDuration(timeout)));
        });
  }

  size_t BodyBytes() const {
    size_t bytes = 0;
    for (const auto& part : request_.body) bytes += part->size();
    return bytes;
  }

  absl::Status PrepareHeader() {
    const absl::StatusOr<std::string> authorization = AuthorizationHeader(options_.credentials);
    if (!authorization.ok()) return authorization.status();
    const std::string& target = request_.target.empty() ? options_.url.path : request_.target;
    header_ = absl::StrCat(request_.method, " ", target.empty() ? "/" : target, " HTTP/1.1\r\n");
    absl::Status status = AddHeader("Host", options_.url.Authority());
    if (status.ok()) status = AddHeader("User-Agent", kUserAgent);
    if (status.ok()) status = AddHeader("Content-Length", absl::StrCat(BodyBytes()));
    if (status.ok() && !authorization->empty()) status = AddHeader("Authorization", *authorization);
    for (const auto& [name, value] : request_.headers) {
      if (status.ok()) status = AddHeader(name, value);
    }
    header_ += "\r\n";
    return status;
  }

  absl::Status AddHeader(const std::string& name, const std::string& value) {
    if (name.empty() || MayEndAHeader(name) || MayEndAHeader(value)) {
      return absl::InvalidArgumentError("a header of the request has a control character");
    }
    absl::StrAppend(&header_, name, ": ", value, "\r\n");
    return absl::OkStatus();
  }

  bool CanReuseLink() const {
    return link_ != nullptr &&
           absl::Nanoseconds(begin_ns_ - link_->made_ns) < options_.connection_life;
  }

  void DropLink() {
    if (link_ != nullptr) link_->Close();
    link_.reset();
  }

  void Connect() {
    DropLink();
    reused_ = false;
    phase_ = Phase::kLookup;
    lookup_.Start(options_.url.host, [weak = weak_from_this(), serial = serial_](
                                         absl::StatusOr<NameLookup::Addresses> addresses) {
      const auto self = weak.lock();
      if (self == nullptr || serial != self->serial_ || !self->under_way()) return;
      self->OnLookup(std::move(addresses));
    });
  }

  void OnLookup(absl::StatusOr<NameLookup::Addresses> addresses) {
    if (!addresses.ok()) {
      return Fail(PushCause::kLookup, std::string(addresses.status().message()));
    }
    addresses_ = *std::move(addresses);
    if (addresses_.size() > options_.max_addresses) addresses_.resize(options_.max_addresses);
    TryAddress(0);
  }

  void TryAddress(size_t index) {
    DropLink();
    std::unique_ptr<asio::ssl::context> context;
    if (options_.url.tls) {
      auto made = MakeTlsContext(options_.tls);
      if (!made.ok()) return Fail(PushCause::kCredentials, std::string(made.status().message()));
      context = *std::move(made);
    }
    link_ = std::make_shared<Link>(loop_, std::move(context));
    phase_ = Phase::kConnect;
    const Tcp::endpoint endpoint(addresses_[index],
                                 static_cast<uint16_t>(std::stoi(options_.url.port)));
    StartConnectTimer(link_, index);
    link_->socket().async_connect(
        endpoint, [self = shared_from_this(), link = link_, index](const error_code& error) {
          if (link != self->link_) return;
          self->connect_timer_.cancel();
          if (error) return self->NextAddress(index, PushCause::kConnect, error.message());
          self->OnConnect();
        });
  }

  void StartConnectTimer(const LinkPtr& link, size_t index) {
    connect_timer_.expires_after(Chrono(options_.connect_timeout));
    connect_timer_.async_wait([self = shared_from_this(), link, index](const error_code& error) {
      if (error || link != self->link_ || self->phase_ != Phase::kConnect) return;
      self->NextAddress(
          index, PushCause::kConnectTimeout,
          absl::StrCat("no answer within ", absl::FormatDuration(self->options_.connect_timeout)));
    });
  }

  void NextAddress(size_t index, PushCause cause, const std::string& why) {
    const std::string where = addresses_[index].to_string();
    if (index + 1 < addresses_.size()) return TryAddress(index + 1);
    Fail(cause, absl::StrCat("cannot connect to ", where, ": ", why));
  }

  void OnConnect() {
    link_->made_ns = MonotonicNs();
    error_code ignored;
    link_->socket().set_option(Tcp::no_delay(true), ignored);
    if (!link_->tls) return Transmit();
    phase_ = Phase::kHandshake;
    const absl::Status status =
        ExpectPeer(options_.url.host, options_.tls, link_->tls->native_handle());
    if (!status.ok()) return Fail(PushCause::kTls, std::string(status.message()));
    link_->tls->async_handshake(
        asio::ssl::stream_base::client,
        [self = shared_from_this(), link = link_](const error_code& error) {
          if (link != self->link_) return;
          if (!error) return self->Transmit();
          const std::string refused = CertificateError(link->tls->native_handle());
          self->Fail(PushCause::kTls,
                     absl::StrCat("TLS: ", refused.empty() ? error.message() : refused));
        });
  }

  // The answer is read from the first moment on: a server may answer before it has read all, and
  // close.
  void Transmit() {
    phase_ = Phase::kAnswer;
    transmitted_ = true;
    link_->header = header_;
    link_->body = request_.body;
    link_->parts.clear();
    link_->parts.push_back(asio::buffer(link_->header));
    for (const auto& part : link_->body) link_->parts.push_back(asio::buffer(*part));
    link_->writing = true;
    interim_answers_ = 0;
    NewParser();
    if (link_->tls) {
      Write(*link_->tls);
    } else {
      Write(*link_->plain);
    }
    ReadHeader();
  }

  void NewParser() {
    link_->parser.emplace();
    link_->parser->header_limit(static_cast<uint32_t>(options_.max_header_bytes));
    link_->parser->body_limit(options_.max_answer_bytes);
  }

  template <typename Stream>
  void Write(Stream& stream) {
    asio::async_write(stream, link_->parts,
                      [self = shared_from_this(), link = link_](const error_code&, size_t) {
                        // If it failed, so will reading, unless there is an answer that says more.
                        link->writing = false;
                        link->body.clear();
                      });
  }

  // The header alone at first: Beast's limit on bodies lets an announced length pass.
  void ReadHeader() {
    const auto on_header = [self = shared_from_this(), link = link_](const error_code& error,
                                                                     size_t) {
      if (link == self->link_) self->OnHeader(error);
    };
    if (link_->tls) {
      http::async_read_header(*link_->tls, link_->buffer, *link_->parser, on_header);
    } else {
      http::async_read_header(*link_->plain, link_->buffer, *link_->parser, on_header);
    }
  }

  void OnHeader(const error_code& error) {
    if (error) return OnReadError(error);
    const int status = static_cast<int>(link_->parser->get().result_int());
    if (status >= 100 && status < 200 && ++interim_answers_ <= kMaxInterimAnswers) {
      NewParser();
      return ReadHeader();
    }
    if (link_->parser->content_length_remaining().value_or(0) > options_.max_answer_bytes) {
      return OnReadError(http::error::body_limit);
    }
    ReadBody();
  }

  void ReadBody() {
    const auto on_body = [self = shared_from_this(), link = link_](const error_code& error,
                                                                   size_t) {
      if (link != self->link_) return;
      if (error) return self->OnReadError(error);
      self->OnAnswer();
    };
    if (link_->tls) {
      http::async_read(*link_->tls, link_->buffer, *link_->parser, on_body);
    } else {
      http::async_read(*link_->plain, link_->buffer, *link_->parser, on_body);
    }
  }

  void OnAnswer() {
    HttpResult result = ResultOfAnswer();
    if (link_->writing || !link_->parser->keep_alive() || link_->buffer.size() > 0) {
      DropLink();
    } else {
      link_->parser.reset();
    }
    Finish(std::move(result));
  }

  void OnReadError(const error_code& error) {
    const bool answered = link_->parser->is_header_done();
    if (reused_ && !retried_ && !link_->parser->got_some() && !answered) {
      // The server closed the idle connection before it saw the request.
      retried_ = true;
      return Connect();
    }
    const bool malformed = IsOfHttp(error) && !IsEnd(error);
    HttpResult result;
    if (answered) result = ResultOfAnswer();
    // What the server thinks of the request is known, though not all that it says about it.
    if (!answered || result.cause == PushCause::kOk) {
      result.cause = malformed ? PushCause::kBadAnswer : PushCause::kClosed;
    }
    const std::string what =
        IsEnd(error)
            ? "the connection was closed before the answer was complete"
            : (malformed ? absl::StrCat("bad answer: ", error.message()) : error.message());
    result.error = result.error.empty() ? what : absl::StrCat(result.error, " (", what, ")");
    DropLink();
    Finish(std::move(result));
  }

  HttpResult ResultOfAnswer() {
    const auto& answer = link_->parser->get();
    HttpResult result;
    result.status = static_cast<int>(answer.result_int());
    result.cause = CauseOf(result.status);
    for (const auto& field : answer) {
      if (result.headers.size() >= kMaxHeaders) break;
      result.headers.emplace_back(field.name_string().to_string(), field.value().to_string());
    }
    result.body = answer.body().substr(0, options_.kept_answer_bytes);
    if (result.cause != PushCause::kOk) {
      result.error = absl::StrCat("status ", result.status);
      // A redirect's text repeats the URL with its query, which may hold a password.
      const std::string readable =
          result.cause == PushCause::kRedirect ? "" : Readable(result.body);
      if (!readable.empty()) absl::StrAppend(&result.error, ": ", readable);
    }
    return result;
  }

  void Fail(PushCause cause, std::string error) {
    DropLink();
    HttpResult result;
    result.cause = cause;
    result.error = std::move(error);
    Finish(std::move(result));
  }

  // From within Send, whose caller is not called back before it returns.
  void FailLater(PushCause cause, std::string error) {
    asio::post(*loop_,
               [self = shared_from_this(), serial = serial_, cause, error = std::move(error)] {
                 if (serial == self->serial_ && self->under_way()) self->Fail(cause, error);
               });
  }

  void Finish(HttpResult result) {
    result.duration = absl::Nanoseconds(MonotonicNs() - begin_ns_);
    result.sent_bytes = transmitted_ ? BodyBytes() : 0;
    const Done done = End();
    done(std::move(result));
  }

  // Nothing is under way any more.
  Done End() {
    lookup_.Forget();
    total_timer_.cancel();
    connect_timer_.cancel();
    request_ = {};
    return std::exchange(done_, nullptr);
  }

  Loop* const loop_;
  const HttpClientOptions options_;
  NameLookup lookup_;
  LoopTimer total_timer_;
  LoopTimer connect_timer_;  // for one address
  LinkPtr link_;             // null: no connection

  // Of the request under way.
  PushRequest request_;
  Done done_;
  std::string header_;
  NameLookup::Addresses addresses_;
  Phase phase_ = Phase::kLookup;
  uint64_t serial_ = 0;
  int64_t begin_ns_ = 0;
  bool reused_ = false;   // the connection has served before
  bool retried_ = false;  // since it turned out to be closed
  bool transmitted_ = false;
  int interim_answers_ = 0;
};

HttpClient::HttpClient(Loop* loop, HttpClientOptions options)
    : impl_(std::make_shared<Impl>(loop, std::move(options))) {}

HttpClient::~HttpClient() { impl_->Close(); }

void HttpClient::Send(PushRequest request, Done done) {
  impl_->Send(impl_->total_timeout(), std::move(request), std::move(done));
}

void HttpClient::SendWithin(absl::Duration total_timeout, PushRequest request, Done done) {
  impl_->Send(total_timeout, std::move(request), std::move(done));
}

bool HttpClient::under_way() const { return impl_->under_way(); }

void HttpClient::Cancel() { impl_->Cancel(); }

}  // namespace tallyd
