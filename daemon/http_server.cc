#include "daemon/http_server.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <list>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/expose/negotiate.h"
#include "core/expose/text.h"
#include "daemon/clock.h"
#include "daemon/http_listener.h"
#include "daemon/http_session.h"
#include "daemon/status_page.h"

namespace tallyd {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;
using http::field;
using http::status;
using http::verb;

using SessionPtr = std::shared_ptr<HttpSession>;

constexpr char kReadMethods[] = "GET, HEAD";
constexpr char kLifecycleMethods[] = "POST, PUT";
constexpr char kRetryAfterSeconds[] = "1";
constexpr std::string_view kEndOfOpenMetrics = "# EOF\n";
// Connections over the bound are there to be refused, so they get little time.
constexpr absl::Duration kRefusalTimeout = absl::Seconds(1);
// Of the time that a scraper waits, what may pass before we have anything to send.
constexpr double kShareOfScrapeTimeout = 0.8;
constexpr double kMaxScrapeTimeoutSeconds = 3600;

HttpResponse MethodNotAllowed(const char* allowed) {
  HttpResponse response =
      HttpResponse::Plain(status::method_not_allowed, absl::StrCat("Allowed here: ", allowed, "."));
  response.headers.emplace_back("Allow", allowed);
  return response;
}

HttpResponse ComeBackLater(const std::string& text) {
  HttpResponse response = HttpResponse::Plain(status::service_unavailable, text);
  response.headers.emplace_back("Retry-After", kRetryAfterSeconds);
  return response;
}

bool IsRead(const HttpRequest& request) {
  return request.method() == verb::get || request.method() == verb::head;
}

// Whether a browser sends it. Other programs send none of these headers.
bool ComesFromBrowser(const HttpRequest& request) {
  return !request.Field(field::origin).empty() || !request.Field("Sec-Fetch-Site").empty() ||
         !request.Field(field::referer).empty() ||
         absl::StartsWith(request.Field(field::user_agent), "Mozilla/");
}

// Whether `host`, as in the header, can only mean this machine: an address, localhost, or the
// machine's own name. Any other name may be one that a foreign site has made lead here.
bool NamesThisMachine(const std::string& host) {
  std::string name = host;
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket)) {
    name.resize(colon);
  }
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
  }
  error_code not_numeric;
  boost::asio::ip::make_address(name, not_numeric);
  std::array<char, 256> own{};
  ::gethostname(own.data(), own.size() - 1);
  return !not_numeric || absl::EqualsIgnoreCase(name, "localhost") ||
         (!name.empty() && absl::EqualsIgnoreCase(name, own.data()));
}

// The scheme, host and port of a URL.
std::string OriginOf(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t host = scheme == std::string::npos ? 0 : scheme + 3;
  return url.substr(0, url.find_first_of("/?#", host));
}

// A web page of another site that makes the browser of an operator send a request here.
bool ComesFromForeignSite(const HttpRequest& request) {
  if (ComesFromBrowser(request) && !NamesThisMachine(request.Field(field::host))) return true;
  const std::string site = request.Field("Sec-Fetch-Site");
  if (!site.empty() && site != "same-origin" && site != "none") return true;
  std::string origin = request.Field(field::origin);
  if (origin.empty() && site.empty()) origin = OriginOf(request.Field(field::referer));
  if (origin.empty()) return false;
  const std::string host = request.Field(field::host);
  return !absl::EqualsIgnoreCase(origin, absl::StrCat("http://", host)) &&
         !absl::EqualsIgnoreCase(origin, absl::StrCat("https://", host));
}

// How long the scraper waits for us, if it says so sensibly.
std::optional<absl::Duration> ScrapeTimeout(const HttpRequest& request) {
  const std::string text = request.Field("X-Prometheus-Scrape-Timeout-Seconds");
  double seconds = 0;
  if (!absl::SimpleAtod(text, &seconds)) return {};
  if (!(seconds > 0 && seconds <= kMaxScrapeTimeoutSeconds)) return {};
  return absl::Seconds(seconds);
}

PageBuffer MakePage(std::string text, ContentCoding coding) {
  if (coding == ContentCoding::kGzip) text = GzipMember(text);
  return std::make_shared<const std::string>(std::move(text));
}

void AppendSection(const Snapshot& snapshot, size_t section, std::vector<PageBuffer>* body) {
  const std::vector<PageBuffer>& pages = snapshot.sections[section];
  body->insert(body->end(), pages.begin(), pages.end());
}

// What a client has asked an exposition to look like.
struct Representation {
  ScrapeFormat format;
  ContentCoding coding;
};

Representation Negotiate(const HttpRequest& request) {
  return {.format = NegotiateFormat(request.Field(field::accept)),
          .coding = NegotiateCoding(request.Field(field::accept_encoding))};
}

HttpResponse ExpositionResponse(const Representation& representation) {
  HttpResponse response;
  const std::string_view type = ContentType(representation.format);
  response.content_type = std::string(type);
  response.headers.emplace_back("Vary", "Accept, Accept-Encoding");
  if (representation.coding == ContentCoding::kGzip) {
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
  return response;
}

// The scrapes whose answers are being written, in the order in which that began, and the snapshots
// that they keep in memory.
class PinnedSnapshots {
 public:
  using Entry = std::list<std::pair<SessionPtr, std::shared_ptr<const Snapshot>>>::iterator;

  Entry Add(SessionPtr session, std::shared_ptr<const Snapshot> snapshot) {
    writing_.emplace_back(std::move(session), std::move(snapshot));
    return std::prev(writing_.end());
  }
  void Remove(Entry entry) { writing_.erase(entry); }

  // The session that has been writing longest, if the snapshots have more than `limit` bytes. Pages
  // that several of them share are counted several times.
  SessionPtr OldestIfOver(size_t limit) const {
    std::unordered_set<const Snapshot*> seen;
    size_t bytes = 0;
    for (const auto& [session, snapshot] : writing_) {
      if (seen.insert(snapshot.get()).second) bytes += snapshot->bytes;
    }
    return bytes > limit ? writing_.front().first : nullptr;
  }

 private:
  std::list<std::pair<SessionPtr, std::shared_ptr<const Snapshot>>> writing_;
};

// A scrape between its request and the snapshot.
struct Scrape {
  Scrape(Loop& loop, SessionPtr session_in) : session(std::move(session_in)), deadline(loop) {}

  SessionPtr session;
  LoopTimer deadline;
  Representation representation{};
  int64_t begun_ns = 0;
  absl::Duration write_timeout = absl::InfiniteDuration();
};

}  // namespace

// Shared, because requests to the merger's thread and sessions may outlive the server by a moment:
// what comes back finds nothing and goes away.
class HttpServer::Impl : public std::enable_shared_from_this<HttpServer::Impl> {
 public:
  Impl(Loop& loop, Options options, MergeThread* merge_thread, OwnMetrics* own_metrics, Hooks hooks)
      : loop_(loop),
        options_(std::move(options)),
        merge_thread_(merge_thread),
        own_metrics_(own_metrics),
        hooks_(std::move(hooks)) {}

  absl::Status Listen() {
    for (const std::string& address : options_.addresses) {
      auto listener = HttpListener::Open(&loop_, address, "http", options_.handed);
      if (!listener.ok()) return listener.status();
      bound_.push_back((*listener)->bound());
      listeners_.push_back(*std::move(listener));
    }
    for (const auto& listener : listeners_) {
      listener->Start([weak = weak_from_this()](TcpSocket socket) {
        if (const std::shared_ptr<Impl> self = weak.lock()) self->OnConnection(std::move(socket));
      });
    }
    return absl::OkStatus();
  }

  const std::vector<std::string>& bound() const { return bound_; }

  void Stop() {
    stopped_ = true;
    for (const auto& listener : listeners_) listener->Stop();
    const auto sessions = sessions_;
    for (const auto& [raw, session] : sessions) session->Stop();
  }

 private:
  // Connections.

  void OnConnection(TcpSocket socket) {
    if (sessions_.size() >= 2 * options_.max_connections) return;  // closes it
    if (sessions_.size() >= options_.max_connections && !CloseLongestIdle()) {
      return StartSession(std::move(socket), RefusalLimits(), &Impl::RefuseConnection);
    }
    StartSession(std::move(socket), Limits(), &Impl::Route);
  }

  // A connection that waits for its next request is worth less than one that comes with one.
  bool CloseLongestIdle() {
    HttpSession* longest = nullptr;
    for (const auto& [raw, session] : sessions_) {
      if (!raw->waits_for_request()) continue;
      if (longest == nullptr || raw->waiting_since_ns() < longest->waiting_since_ns()) {
        longest = raw;
      }
    }
    if (longest == nullptr) return false;
    longest->Stop();
    return true;
  }

  HttpSession::Limits Limits() const {
    return {.header_timeout = options_.header_timeout,
            .write_timeout = options_.write_timeout,
            .idle_timeout = options_.idle_timeout};
  }

  HttpSession::Limits RefusalLimits() const {
    return {.header_timeout = std::min(options_.header_timeout, kRefusalTimeout),
            .write_timeout = std::min(options_.write_timeout, kRefusalTimeout),
            .idle_timeout = kRefusalTimeout};
  }

  using RequestHandler = void (Impl::*)(const SessionPtr&, const HttpRequest&);

  void StartSession(TcpSocket socket, const HttpSession::Limits& limits, RequestHandler handler) {
    auto session = std::make_shared<HttpSession>(
        std::move(socket), limits,
        [weak = weak_from_this(), handler](const SessionPtr& from, const HttpRequest& request) {
          const std::shared_ptr<Impl> self = weak.lock();
          if (self == nullptr) return from->Abort();
          (self.get()->*handler)(from, request);
        },
        [weak = weak_from_this()](HttpSession* closed) {
          if (const std::shared_ptr<Impl> self = weak.lock()) self->sessions_.erase(closed);
        },
        options_.access);
    sessions_.emplace(session.get(), session);
    session->Start();
  }

  void RefuseConnection(const SessionPtr& session, const HttpRequest&) {
    own_metrics_->CountRefusedScrape();
    HttpResponse response = ComeBackLater("Too many connections.");
    response.close = true;
    session->Answer(std::move(response));
  }

  // Requests.

  void Route(const SessionPtr& session, const HttpRequest& request) {
    const std::string& path = request.path_untrusted;
    if (path == options_.telemetry_path) return OnlyReads(session, request, &Impl::StartScrape);
    if (path == "/-/metrics") return OnlyReads(session, request, &Impl::AnswerOwnMetrics);
    if (path == "/-/healthy") return OnlyReads(session, request, &Impl::AnswerHealthy);
    if (path == "/-/ready") return OnlyReads(session, request, &Impl::AnswerReady);
    if (path == "/") return OnlyReads(session, request, &Impl::AnswerStatusPage);
    if (path == "/-/reload") return OnlyLifecycle(session, request, &Impl::AnswerReload);
    if (path == "/-/quit") return OnlyLifecycle(session, request, &Impl::AnswerQuit);
    session->Answer(HttpResponse::Plain(status::not_found, "There is nothing here."));
  }

  void OnlyReads(const SessionPtr& session, const HttpRequest& request, RequestHandler handler) {
    if (!IsRead(request)) return session->Answer(MethodNotAllowed(kReadMethods));
    (this->*handler)(session, request);
  }

  void OnlyLifecycle(const SessionPtr& session, const HttpRequest& request,
                     RequestHandler handler) {
    if (request.method() != verb::post && request.method() != verb::put) {
      return session->Answer(MethodNotAllowed(kLifecycleMethods));
    }
    if (!options_.enable_lifecycle) {
      return session->Answer(HttpResponse::Plain(
          status::forbidden, "This is off; --web.enable-lifecycle switches it on."));
    }
    if (ComesFromForeignSite(request)) {
      if (options_.access) options_.access->CountRefused(WebRefusal::kForeignOrigin);
      return session->Answer(
          HttpResponse::Plain(status::forbidden, "This request comes from a page elsewhere."));
    }
    (this->*handler)(session, request);
  }

  void AnswerHealthy(const SessionPtr& session, const HttpRequest&) {
    session->Answer(HttpResponse::Plain(status::ok, "tallyd is healthy."));
  }

  void AnswerReady(const SessionPtr& session, const HttpRequest&) {
    const std::string reason = NotReady();
    if (reason.empty()) return session->Answer(HttpResponse::Plain(status::ok, ReadyText()));
    session->Answer(ComeBackLater(absl::StrCat("tallyd is not ready: ", reason)));
  }

  // A target that cannot be pushed to makes nobody unready, but whoever asks may want to know.
  std::string ReadyText() const {
    std::string text = "tallyd is ready.";
    for (const PushStatus& status : own_metrics_->push_statuses()) {
      if (status.last_error.empty()) continue;
      absl::StrAppend(&text, "\n", status.kind, " ", status.target, ": ", status.last_error);
    }
    return text;
  }

  // Empty if it is.
  std::string NotReady() const {
    const absl::Status ready = hooks_.ready ? hooks_.ready() : absl::OkStatus();
    if (ready.ok()) return "";
    return ready.message().empty() ? ready.ToString() : std::string(ready.message());
  }

  void AnswerReload(const SessionPtr& session, const HttpRequest&) {
    const absl::Status reloaded = hooks_.reload ? hooks_.reload() : absl::OkStatus();
    if (reloaded.ok()) return session->Answer(HttpResponse::Plain(status::ok, "Reloaded."));
    session->Answer(HttpResponse::Plain(
        status::internal_server_error,
        absl::StrCat("Nothing was changed: ", absl::string_view(reloaded.message()))));
  }

  void AnswerQuit(const SessionPtr& session, const HttpRequest&) {
    HttpResponse response = HttpResponse::Plain(status::ok, "tallyd shuts down.");
    response.close = true;
    // Whether or not the answer arrived: the request did.
    response.done = [weak = weak_from_this()](bool) {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self == nullptr || self->stopped_ || !self->hooks_.quit) return;
      boost::asio::post(self->loop_, self->hooks_.quit);
    };
    session->Answer(std::move(response));
  }

  void AnswerStatusPage(const SessionPtr& session, const HttpRequest&) {
    const StatusPageInput input = {.telemetry_path = options_.telemetry_path,
                                   .not_ready = NotReady(),
                                   .lifecycle_enabled = options_.enable_lifecycle,
                                   .listeners = own_metrics_->listeners(),
                                   .totals = own_metrics_->totals(),
                                   .merging = merge_thread_->status(),
                                   .snapshot_age = own_metrics_->snapshot_age(),
                                   .series_limit = own_metrics_->series_limit(),
                                   .pushes = own_metrics_->push_statuses()};
    HttpResponse response;
    response.content_type = "text/html; charset=utf-8";
    response.headers.emplace_back("Content-Security-Policy",
                                  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
                                  "frame-ancestors 'none'");
    response.body.push_back(std::make_shared<const std::string>(RenderStatusPage(input)));
    session->Answer(std::move(response));
  }

  void AnswerOwnMetrics(const SessionPtr& session, const HttpRequest& request) {
    const Representation representation = Negotiate(request);
    OwnMetrics::Text text = own_metrics_->Render(representation.format);
    std::string all = std::move(text.process) + text.tallyd;
    if (representation.format == ScrapeFormat::kOpenMetrics100) all += kEndOfOpenMetrics;
    HttpResponse response = ExpositionResponse(representation);
    response.body.push_back(MakePage(std::move(all), representation.coding));
    session->Answer(std::move(response));
  }

  // Scrapes.

  void StartScrape(const SessionPtr& session, const HttpRequest& request) {
    if (scrapes_ >= options_.max_requests) {
      own_metrics_->CountRefusedScrape();
      return session->Answer(ComeBackLater("Too many scrapes are being answered."));
    }
    ++scrapes_;
    const uint64_t id = next_scrape_++;
    Scrape& scrape = waiting_.try_emplace(id, loop_, session).first->second;
    scrape.representation = Negotiate(request);
    scrape.begun_ns = MonotonicNs();
    const std::optional<absl::Duration> timeout = ScrapeTimeout(request);
    if (timeout.has_value()) scrape.write_timeout = *timeout;
    LimitWait(id, timeout.value_or(options_.write_timeout) * kShareOfScrapeTimeout, &scrape);
    RequestSnapshot(id, scrape.representation);
  }

  void LimitWait(uint64_t id, absl::Duration timeout, Scrape* scrape) {
    scrape->deadline.expires_after(absl::ToChronoNanoseconds(timeout));
    scrape->deadline.async_wait([weak = weak_from_this(), id](const error_code& cancelled) {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self != nullptr && !cancelled) self->OnSnapshot(id, nullptr);
    });
  }

  // Only the number of the scrape goes to the other thread, so nothing of ours can end its life
  // there.
  void RequestSnapshot(uint64_t id, const Representation& representation) {
    merge_thread_->Request(
        representation.format, representation.coding, options_.snapshot_max_age,
        [&loop = loop_, weak = weak_from_this(), id](std::shared_ptr<const Snapshot> snapshot) {
          boost::asio::post(loop, [weak, id, snapshot = std::move(snapshot)]() mutable {
            const std::shared_ptr<Impl> self = weak.lock();
            if (self != nullptr) self->OnSnapshot(id, std::move(snapshot));
          });
        });
  }

  // The first of a snapshot and the deadline, which has none, ends the wait.
  void OnSnapshot(uint64_t id, std::shared_ptr<const Snapshot> snapshot) {
    const auto node = waiting_.extract(id);
    if (node.empty()) return;
    const Scrape& scrape = node.mapped();
    if (snapshot == nullptr) return RefuseScrape(scrape);
    HttpResponse response = MakeExposition(scrape.representation, *snapshot);
    response.write_timeout = scrape.write_timeout;
    const PinnedSnapshots::Entry pin = pinned_.Add(scrape.session, snapshot);
    response.done = [weak = weak_from_this(), pin, begun_ns = scrape.begun_ns](bool complete) {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self != nullptr) self->EndScrape(pin, begun_ns, complete);
    };
    scrape.session->Answer(std::move(response));
    CutOffSlowestIfOver(snapshot->bytes);
  }

  void RefuseScrape(const Scrape& scrape) {
    --scrapes_;
    own_metrics_->CountRefusedScrape();
    scrape.session->Answer(ComeBackLater("There is no fresh snapshot in time."));
  }

  void EndScrape(PinnedSnapshots::Entry pin, int64_t begun_ns, bool complete) {
    --scrapes_;
    pinned_.Remove(pin);
    if (complete) own_metrics_->CountScrape(absl::Nanoseconds(MonotonicNs() - begun_ns));
  }

  void CutOffSlowestIfOver(size_t snapshot_bytes) {
    const size_t limit = std::max(options_.max_pinned_bytes, kMinPinnedSnapshots * snapshot_bytes);
    while (const SessionPtr slowest = pinned_.OldestIfOver(limit)) slowest->Abort();
  }

  HttpResponse MakeExposition(const Representation& representation, const Snapshot& snapshot) {
    OwnMetrics::Text text = own_metrics_->Render(representation.format);
    HttpResponse response = ExpositionResponse(representation);
    AppendSection(snapshot, 0, &response.body);
    response.body.push_back(MakePage(std::move(text.process), representation.coding));
    AppendSection(snapshot, 1, &response.body);
    response.body.push_back(MakePage(std::move(text.tallyd), representation.coding));
    AppendSection(snapshot, 2, &response.body);
    if (hooks_.append_groups) {
      hooks_.append_groups(representation.format, representation.coding, &response.body);
    }
    if (representation.format == ScrapeFormat::kOpenMetrics100) {
      response.body.push_back(EndOfOpenMetrics(representation.coding));
    }
    return response;
  }

  static PageBuffer EndOfOpenMetrics(ContentCoding coding) {
    static const PageBuffer plain =
        MakePage(std::string(kEndOfOpenMetrics), ContentCoding::kIdentity);
    static const PageBuffer zipped = MakePage(std::string(kEndOfOpenMetrics), ContentCoding::kGzip);
    return coding == ContentCoding::kGzip ? zipped : plain;
  }

  Loop& loop_;
  const Options options_;
  MergeThread* const merge_thread_;
  OwnMetrics* const own_metrics_;
  const Hooks hooks_;

  std::vector<std::unique_ptr<HttpListener>> listeners_;
  std::vector<std::string> bound_;
  std::unordered_map<HttpSession*, SessionPtr> sessions_;
  uint64_t next_scrape_ = 0;
  std::unordered_map<uint64_t, Scrape> waiting_;
  PinnedSnapshots pinned_;
  int scrapes_ = 0;  // from the request to the end of the answer
  bool stopped_ = false;
};

HttpServer::HttpServer(boost::asio::io_context& loop, Options options, MergeThread* merge_thread,
                       OwnMetrics* own_metrics, Hooks hooks)
    : impl_(std::make_shared<Impl>(loop, std::move(options), merge_thread, own_metrics,
                                   std::move(hooks))) {}

HttpServer::~HttpServer() { Stop(); }

absl::Status HttpServer::Listen() { return impl_->Listen(); }

std::vector<std::string> HttpServer::bound() const { return impl_->bound(); }

void HttpServer::Stop() { impl_->Stop(); }

}  // namespace tallyd
