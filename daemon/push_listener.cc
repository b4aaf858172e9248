#include "daemon/push_listener.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/expose/negotiate.h"
#include "core/groups/grouping.h"
#include "daemon/clock.h"
#include "daemon/http_listener.h"
#include "daemon/http_session.h"
#include "daemon/push_request.h"

namespace tallyd {
namespace {

namespace http = boost::beast::http;
using http::field;
using http::status;
using http::verb;

using SessionPtr = std::shared_ptr<HttpSession>;

constexpr char kAggregate[] = "/aggregate";
constexpr char kMetrics[] = "/metrics";
constexpr std::string_view kEndOfOpenMetrics = "# EOF\n";

// What became of a request; one counter each, from the start.
enum class Outcome : uint8_t {
  kAccepted,
  kDeleted,
  kBadPath,
  kUnreadable,
  kInconsistent,
  kTooLarge,
  kNoRoom
};
constexpr std::array<const char*, 7> kOutcomeNames = {
    "accepted", "deleted", "bad_path", "unreadable", "inconsistent", "too_large", "no_room"};

struct Decision {
  Outcome outcome = Outcome::kAccepted;
  status code = status::ok;
  std::string text;
};

Decision DecisionOnBody(const absl::Status& error) {
  const std::string text(error.message());
  if (error.code() == absl::StatusCode::kResourceExhausted) {
    return {Outcome::kTooLarge, status::payload_too_large, text};
  }
  return {Outcome::kUnreadable, status::bad_request, text};
}

Decision DecisionOnPush(const absl::Status& error) {
  if (error.ok()) return {};
  if (error.code() == absl::StatusCode::kResourceExhausted) {
    return {Outcome::kNoRoom, status::too_many_requests, std::string(error.message())};
  }
  return {Outcome::kInconsistent, status::bad_request,
          absl::StrCat("pushed metrics are invalid or inconsistent with existing metrics: ",
                       error.message())};
}

HttpResponse MovedTo(status code, const std::string& path) {
  HttpResponse response = HttpResponse::Plain(code, "It is at another place.");
  response.headers.emplace_back("Location", EncodedPath(path));
  return response;
}

}  // namespace

// Shared, because sessions and work on the groups' thread may outlive the listener by a moment.
class PushListener::Impl : public std::enable_shared_from_this<PushListener::Impl> {
 public:
  Impl(Loop* loop, Options options, PushedGroups* groups, prometheus::Registry* registry)
      : loop_(*loop),
        options_(std::move(options)),
        groups_(groups),
        budget_(std::make_shared<BodyBudget>(
            kBodiesInMemory * options_.max_body_bytes,
            std::min(options_.max_body_bytes,
                     options_.max_connections * BodyBudget::kSmallBodyBytes))) {
    auto& family = prometheus::BuildCounter()
                       .Name("tallyd_pushed_requests_total")
                       .Help("Requests of clients that push, by what became of them.")
                       .Register(*registry);
    for (size_t i = 0; i < outcomes_.size(); ++i) {
      outcomes_[i] = &family.Add({{"result", kOutcomeNames[i]}});
    }
  }

  absl::Status Listen() {
    for (const std::string& address : options_.addresses) {
      auto listener = HttpListener::Open(&loop_, address, "push", options_.handed);
      if (!listener.ok()) return listener.status();
      listeners_.push_back(*std::move(listener));
    }
    for (const auto& listener : listeners_) {
      listener->Start([weak = weak_from_this()](TcpSocket socket) {
        if (const std::shared_ptr<Impl> self = weak.lock()) self->OnConnection(std::move(socket));
      });
    }
    return absl::OkStatus();
  }

  std::vector<std::string> bound() const {
    std::vector<std::string> addresses;
    for (const auto& listener : listeners_) addresses.push_back(listener->bound());
    return addresses;
  }

  void Stop() {
    for (const auto& listener : listeners_) listener->Stop();
    const auto sessions = sessions_;
    for (const auto& [raw, session] : sessions) session->Stop();
  }

 private:
  void OnConnection(TcpSocket socket) {
    if (sessions_.size() >= options_.max_connections) return;  // closes it
    HttpSession::Limits limits;
    limits.max_body_bytes = options_.max_body_bytes;
    limits.body_budget = budget_;
    auto session = std::make_shared<HttpSession>(
        std::move(socket), limits,
        [weak = weak_from_this()](const SessionPtr& from, const HttpRequest& request) {
          const std::shared_ptr<Impl> self = weak.lock();
          self == nullptr ? from->Abort() : self->Route(from, request);
        },
        [weak = weak_from_this()](HttpSession* closed) {
          if (const std::shared_ptr<Impl> self = weak.lock()) self->sessions_.erase(closed);
        },
        options_.access);
    sessions_.emplace(session.get(), session);
    session->Start();
  }

  void Count(Outcome outcome) { outcomes_[static_cast<size_t>(outcome)]->Increment(); }

  void Answer(const SessionPtr& session, const Decision& decision) {
    Count(decision.outcome);
    HttpResponse response = HttpResponse::Plain(decision.code, decision.text);
    if (decision.text.empty()) response.body.clear();
    session->Answer(std::move(response));
  }

  void Route(const SessionPtr& session, const HttpRequest& request) {
    const std::optional<std::string> path = DecodedPath(request.path_untrusted);
    if (!path.has_value()) {
      return Answer(session, {Outcome::kBadPath, status::bad_request, "Bad percent-encoding."});
    }
    const std::string clean = CleanPath(*path);
    if (clean != *path) return session->Answer(MovedTo(status::moved_permanently, clean));
    const bool reads = request.method() == verb::get || request.method() == verb::head;
    if (*path == kMetrics) {
      return reads ? ShowGroups(session, request)
                   : OnOtherMethod(session, request, "GET, HEAD, OPTIONS");
    }
    if (reads && (*path == "/-/healthy" || *path == "/-/ready")) {
      return session->Answer(HttpResponse::Plain(status::ok, "OK"));
    }
    absl::string_view rest = *path;
    const bool adds = absl::ConsumePrefix(&rest, kAggregate);
    if (!absl::ConsumePrefix(&rest, kMetrics) || !absl::ConsumePrefix(&rest, "/")) {
      return NotFound(session);
    }
    OnGroup(session, request, std::string(rest), adds);
  }

  void NotFound(const SessionPtr& session) {
    session->Answer(HttpResponse::Plain(status::not_found, "404 page not found"));
  }

  // OPTIONS asks what is allowed; any other method is not.
  void OnOtherMethod(const SessionPtr& session, const HttpRequest& request, const char* allowed) {
    HttpResponse response = HttpResponse::Plain(status::method_not_allowed, "Method Not Allowed");
    if (request.method() == verb::options) response = HttpResponse();
    response.headers.emplace_back("Allow", allowed);
    session->Answer(std::move(response));
  }

  void OnGroup(const SessionPtr& session, const HttpRequest& request, const std::string& path,
               bool adds) {
    if (path == "job/" || path == "job@base64/") {
      return session->Answer(MovedTo(status::temporary_redirect,
                                     absl::StrCat(kMetrics, "/", absl::StripSuffix(path, "/"))));
    }
    const bool pushes = request.method() == verb::put || request.method() == verb::post;
    const absl::StatusOr<Grouping> grouping = ParseGrouping(path);
    if (grouping.status().code() == absl::StatusCode::kNotFound) return NotFound(session);
    if (!pushes && request.method() != verb::delete_) {
      return OnOtherMethod(session, request, "DELETE, OPTIONS, POST, PUT");
    }
    if (!grouping.ok()) {
      return Answer(session, {Outcome::kBadPath, status::bad_request,
                              std::string(grouping.status().message())});
    }
    if (!pushes) return DeleteGroup(session, *grouping);
    Push push;
    push.grouping = *grouping;
    push.mode = adds                            ? PushMode::kAdd
                : request.method() == verb::put ? PushMode::kReplaceGroup
                                                : PushMode::kReplaceFamilies;
    TakePush(session, request, std::move(push));
  }

  // Answered before it is done, as the Pushgateway does: it is queued, and nothing can go wrong.
  void DeleteGroup(const SessionPtr& session, const Grouping& grouping) {
    groups_->Post([grouping](GroupStore* store) { store->Delete(GroupOwner::kPusher, grouping); });
    Answer(session, {Outcome::kDeleted, status::accepted, ""});
  }

  // What the work needs of a request, which goes to another thread.
  struct Job {
    Push push;
    PushBody body;
    std::shared_ptr<void> room;  // of the body
  };

  void TakePush(const SessionPtr& session, const HttpRequest& request, Push push) {
    auto job = std::make_shared<Job>();
    job->push = std::move(push);
    job->push.unix_seconds = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
    job->push.now_ns = MonotonicNs();
    job->push.ttl_ns = absl::ToInt64Nanoseconds(options_.group_ttl);
    job->body.bytes_untrusted = request.body_untrusted;
    job->body.content_type = request.Field(field::content_type);
    job->body.content_encoding = request.Field(field::content_encoding);
    job->room = request.body_room;
    groups_->Post([weak = weak_from_this(), &loop = loop_, max_bytes = options_.max_body_bytes,
                   max_samples = options_.max_group_series, job,
                   asking = std::weak_ptr<HttpSession>(session)](GroupStore* store) {
      Decision decision = Work(job.get(), max_bytes, max_samples, store);
      boost::asio::post(loop, [weak, asking, decision = std::move(decision)] {
        const std::shared_ptr<Impl> self = weak.lock();
        const SessionPtr waiting = asking.lock();
        if (self == nullptr) return;
        // What was done counts, also if nobody waits for the answer any more.
        waiting == nullptr ? self->Count(decision.outcome) : self->Answer(waiting, decision);
      });
    });
  }

  // The groups' thread.
  static Decision Work(Job* job, size_t max_bytes, size_t max_samples, GroupStore* store) {
    absl::StatusOr<PushedFamilies> families = ReadPushBody(job->body, max_bytes, max_samples);
    if (!families.ok()) return DecisionOnBody(families.status());
    job->push.families = *std::move(families);
    return DecisionOnPush(store->Apply(std::move(job->push)));
  }

  void ShowGroups(const SessionPtr& session, const HttpRequest& request) {
    if (readers_ >= kMaxReaders) {
      return session->Answer(
          HttpResponse::Plain(status::service_unavailable, "Too many scrapes are being answered."));
    }
    ++readers_;
    const ScrapeFormat format = NegotiateFormat(request.Field(field::accept));
    const ContentCoding coding = NegotiateCoding(request.Field(field::accept_encoding));
    HttpResponse response;
    response.content_type = std::string(ContentType(format));
    response.headers.emplace_back("Vary", "Accept, Accept-Encoding");
    const bool gzip = coding == ContentCoding::kGzip;
    if (gzip) response.headers.emplace_back("Content-Encoding", "gzip");
    groups_->AppendPages(format, coding, &response.body);
    // Of nothing at all gzip has a member too.
    std::string end(format == ScrapeFormat::kOpenMetrics100 ? kEndOfOpenMetrics : "");
    if (gzip && (!end.empty() || response.body.empty())) end = GzipMember(end);
    response.body.push_back(std::make_shared<const std::string>(std::move(end)));
    response.done = [weak = weak_from_this()](bool) {
      if (const std::shared_ptr<Impl> self = weak.lock()) --self->readers_;
    };
    session->Answer(std::move(response));
  }

  Loop& loop_;
  const Options options_;
  PushedGroups* const groups_;
  const std::shared_ptr<BodyBudget> budget_;
  std::array<prometheus::Counter*, kOutcomeNames.size()> outcomes_{};
  std::vector<std::unique_ptr<HttpListener>> listeners_;
  std::unordered_map<HttpSession*, SessionPtr> sessions_;
  int readers_ = 0;
};

PushListener::PushListener(Loop* loop, Options options, PushedGroups* groups,
                           prometheus::Registry* registry)
    : impl_(std::make_shared<Impl>(loop, std::move(options), groups, registry)) {}

PushListener::~PushListener() { Stop(); }

absl::Status PushListener::Listen() { return impl_->Listen(); }
std::vector<std::string> PushListener::bound() const { return impl_->bound(); }
void PushListener::Stop() { impl_->Stop(); }

}  // namespace tallyd
