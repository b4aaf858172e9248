#include "daemon/push/pushgateway_target.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>
#include <mutex>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/expose/text.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/push/client_options.h"
#include "daemon/push/http_client.h"
#include "daemon/push/push_retry.h"

namespace tallyd {
namespace {

// Of one push: each refusal may name more families that are inconsistent.
constexpr int kMaxRefusals = 16;
constexpr absl::Duration kFirstBackoff = absl::Seconds(1);
constexpr absl::Duration kMaxFirstDelay = absl::Seconds(2);

std::string Seconds(absl::Duration duration) { return absl::FormatDuration(duration); }

}  // namespace

// Invariant: at most one of these is so: the timer runs, a rendering is awaited, a request is under
// way. What is awaited of a rendering whose serial is not `serial_` any more is forgotten.
class PushgatewayTarget::Impl {
  // A handler that does nothing once the target is gone or its wait was cancelled.
  template <typename Function>
  auto Guarded(Function function) {
    return [weak = self_->weak_from_this(), function](const boost::system::error_code& error) {
      const auto alive = weak.lock();
      if (!error && alive != nullptr) function();
    };
  }

 public:
  Impl(PushgatewayTarget* self, std::shared_ptr<Loop> loop, PushgatewayOptions options,
       PushSources sources)
      : self_(self),
        loop_(std::move(loop)),
        options_(std::move(options)),
        sources_(std::move(sources)),
        client_(loop_.get(), GatewayClientOptions(options_)),
        timer_(*loop_),
        random_(std::random_device()()) {
    status_.target = options_.name;
    status_.kind = "pushgateway";
    status_.interval = options_.interval;
    target_ = absl::StrCat(options_.url.path, options_.key.Path());
  }

  const PushgatewayOptions& options() const { return options_; }

  PushStatus status() const {
    const std::lock_guard lock(mu_);
    return status_;
  }

  void Start() {
    due_ns_ = MonotonicNs();
    // Daemons that are started together shall not push together.
    Await(Jittered(std::min(options_.interval, kMaxFirstDelay)));
  }

  void Finish(absl::Duration deadline, std::function<void()> done) {
    finished_ = std::move(done);
    deadline_ns_ = MonotonicNs() + absl::ToInt64Nanoseconds(deadline);
    timer_.cancel();
    client_.Cancel();
    SetInFlight(0);
    // One that hangs while it renders shall not hold up the end either.
    timer_.expires_after(absl::ToChronoNanoseconds(deadline));
    timer_.async_wait(Guarded([this] { End(); }));
    Push();
  }

 private:
  absl::Duration Jittered(absl::Duration most) {
    return most * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  }

  void Await(absl::Duration delay) {
    timer_.expires_after(absl::ToChronoNanoseconds(delay));
    timer_.async_wait(Guarded([this] { BeginPush(); }));
  }

  bool finishing() const { return finished_ != nullptr; }
  absl::Duration left() const { return absl::Nanoseconds(deadline_ns_ - MonotonicNs()); }

  void BeginPush() {
    refusals_ = 0;
    Push();
  }

  void Push() {
    rejected_.Forget(MonotonicNs());
    selection_ = PushSelection();
    selection_.filter = options_.families;
    selection_.key = options_.key;
    selection_.max_series = options_.max_series;
    for (const std::string& family : rejected_.names()) selection_.rejected.insert(family);
    if (sources_.job_groups) selection_.apart = sources_.job_groups();
    encoder_ = std::make_shared<const PushEncoder>(selection_);
    const auto rendered = [weak = self_->weak_from_this(), loop = loop_,
                           serial = ++serial_](std::shared_ptr<const Snapshot> snapshot) {
      // On the renderer's thread, which has better things to do.
      boost::asio::post(*loop, [weak, serial, snapshot = std::move(snapshot)] {
        const auto alive = weak.lock();
        if (alive == nullptr || serial != alive->impl_->serial_) return;
        alive->impl_->OnRendered(snapshot);
      });
    };
    sources_.render(encoder_, rendered);
  }

  void OnRendered(const std::shared_ptr<const Snapshot>& snapshot) {
    if (snapshot == nullptr) return End();
    PushRequest request;
    request.method = "PUT";
    request.target = target_;
    request.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"},
                       {"Content-Encoding", "gzip"}};
    AddCompressed(*snapshot, &request);
    if (finishing() && left() <= absl::ZeroDuration()) return End();
    const auto on_result = [this](const HttpResult& result) { OnResult(result); };
    SetInFlight(1);
    client_.SendWithin(
        finishing() ? std::min(left(), options_.total_timeout) : options_.total_timeout,
        std::move(request), on_result);
  }

  // Whole gzip members one after the other are a gzip stream (RFC 1952 section 2.2).
  void AddCompressed(const Snapshot& snapshot, PushRequest* request) const {
    const auto add = [request](std::string_view text) {
      request->body.push_back(std::make_shared<const std::string>(GzipMember(text)));
    };
    for (const auto& section : snapshot.sections) {
      for (const PageBuffer& page : section) {
        if (!page->empty()) add(*page);
      }
    }
    if (options_.own_metrics && sources_.own_text) add(sources_.own_text(selection_));
    if (request->body.empty()) add("");
  }

  void OnResult(const HttpResult& result) {
    {
      const std::lock_guard lock(mu_);
      status_.in_flight = 0;
      status_.CountRequest(result.cause, result.sent_bytes, result.duration);
    }
    if (result.ok()) return OnSuccess();
    if (result.status == 400 && Reject(result.body) && ++refusals_ < kMaxRefusals) return Push();
    OnFailure(result);
  }

  void OnSuccess() {
    const PushEncoder::Counts& counts = encoder_->counts();
    bool recovered = false;
    {
      const std::lock_guard lock(mu_);
      recovered = !status_.last_error.empty();
      status_.last_error.clear();
      status_.last_success = absl::Now();
      status_.series = counts.pushed;
      status_.stored_series += counts.pushed;
      status_.Drop(PushDropReason::kRejected, counts.rejected);
      status_.Drop(PushDropReason::kReservedName, counts.reserved_name);
      status_.Drop(PushDropReason::kSeriesLimit, counts.series_limit);
    }
    if (recovered) LogInfo("pushes succeed again", {{"target", options_.name}});
    SayWhatIsLeftOut(counts);
    failures_ = 0;
    last_cause_ = PushCause::kOk;
    if (finishing()) return DeleteOrEnd();
    AwaitNextBeat();
  }

  // Once for each time that it begins.
  void SayWhatIsLeftOut(const PushEncoder::Counts& counts) {
    const bool over = counts.series_limit > 0;
    if (over && !over_limit_) {
      LogWarn("more series than a push may have; the rest is left out",
              {{"target", options_.name},
               {"max_series", absl::StrCat(options_.max_series)},
               {"left_out", absl::StrCat(counts.series_limit)}});
    }
    over_limit_ = over;
  }

  void OnFailure(const HttpResult& result) {
    {
      const std::lock_guard lock(mu_);
      status_.last_error = result.error;
    }
    // One line for each new cause: a target that is away for a day would fill the log.
    if (result.cause != last_cause_) {
      LogWarn("cannot push", {{"target", options_.name},
                              {"cause", std::string(PushCauseName(result.cause))},
                              {"error", result.error}});
    }
    last_cause_ = result.cause;
    ++failures_;
    if (finishing()) return DeleteOrEnd();
    const absl::Duration retry_after = RetryAfter(result, kMaxRetryAfter);
    if (retry_after > absl::ZeroDuration()) return Await(retry_after + Jittered(kFirstBackoff));
    if (!MayPass(result.cause)) return AwaitNextBeat();
    const int doublings = std::min(failures_ - 1, 16);
    Await(Jittered(std::min(options_.interval, kFirstBackoff * (1 << doublings))));
  }

  // Beats that were missed are left out.
  void AwaitNextBeat() {
    const int64_t interval_ns = absl::ToInt64Nanoseconds(options_.interval);
    const int64_t late_ns = std::max<int64_t>(0, MonotonicNs() - due_ns_);
    due_ns_ += (late_ns / interval_ns + 1) * interval_ns;
    Await(absl::Nanoseconds(due_ns_ - MonotonicNs()));
  }

  // Leaves out, for a while, the families of ours that the gateway calls inconsistent. False if
  // there is none that is not left out already.
  bool Reject(std::string_view answer_untrusted) {
    const int64_t until_ns = MonotonicNs() + absl::ToInt64Nanoseconds(kRejectedFor);
    const std::vector<std::string> added =
        rejected_.Add(answer_untrusted, until_ns, [this](const std::string& name) {
          return encoder_->families().count(name) > 0 || IsOwnFamily(name);
        });
    for (const std::string& family : added) {
      LogWarn("a family is left out, since it is inconsistent with what others pushed",
              {{"target", options_.name}, {"family", family}, {"for", Seconds(kRejectedFor)}});
    }
    return !added.empty();
  }

  bool IsOwnFamily(std::string_view name) const {
    return options_.own_metrics &&
           (name.rfind("tallyd_", 0) == 0 || name.rfind("process_", 0) == 0);
  }

  void DeleteOrEnd() {
    if (!options_.delete_on_exit || left() <= absl::ZeroDuration()) return End();
    PushRequest request;
    request.method = "DELETE";
    request.target = target_;
    SetInFlight(1);
    client_.SendWithin(left(), std::move(request), [this](const HttpResult& result) {
      {
        const std::lock_guard lock(mu_);
        status_.in_flight = 0;
        status_.CountRequest(result.cause, result.sent_bytes, result.duration);
      }
      if (!result.ok()) {
        LogWarn("cannot delete the group", {{"target", options_.name}, {"error", result.error}});
      }
      End();
    });
  }

  void End() {
    ++serial_;
    timer_.cancel();
    client_.Cancel();
    SetInFlight(0);
    if (const auto finished = std::exchange(finished_, nullptr)) finished();
  }

  void SetInFlight(int requests) {
    const std::lock_guard lock(mu_);
    status_.in_flight = requests;
  }

  PushgatewayTarget* const self_;
  const std::shared_ptr<Loop> loop_;
  const PushgatewayOptions options_;
  const PushSources sources_;
  std::string target_;  // of requests
  HttpClient client_;
  LoopTimer timer_;
  std::minstd_rand random_;

  RejectedFamilies rejected_;
  PushSelection selection_;  // of the push under way
  std::shared_ptr<const PushEncoder> encoder_;
  uint64_t serial_ = 0;
  int refusals_ = 0;  // of the push under way
  int failures_ = 0;  // in a row
  PushCause last_cause_ = PushCause::kOk;
  bool over_limit_ = false;
  int64_t due_ns_ = 0;              // the last beat
  std::function<void()> finished_;  // null: not at the end
  int64_t deadline_ns_ = 0;         // of the end

  mutable std::mutex mu_;  // guards status_, for moments
  PushStatus status_;
};

PushgatewayTarget::PushgatewayTarget(std::shared_ptr<Loop> loop, PushgatewayOptions options,
                                     PushSources sources)
    : impl_(std::make_unique<Impl>(this, std::move(loop), std::move(options), std::move(sources))) {
}

PushgatewayTarget::~PushgatewayTarget() = default;

void PushgatewayTarget::Start() { impl_->Start(); }

void PushgatewayTarget::Finish(absl::Duration deadline, std::function<void()> done) {
  impl_->Finish(deadline, std::move(done));
}

PushStatus PushgatewayTarget::status() const { return impl_->status(); }

const PushgatewayOptions& PushgatewayTarget::options() const { return impl_->options(); }

}  // namespace tallyd
