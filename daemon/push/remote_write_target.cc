#include "daemon/push/remote_write_target.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <mutex>
#include <random>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/push/client_options.h"
#include "daemon/push/http_client.h"
#include "daemon/push/write_answer.h"

namespace tallyd {
namespace {

constexpr absl::Duration kMaxFirstDelay = absl::Seconds(2);

// Writes what a filter wants. The families come in order, so one verdict is kept.
class FilteredEncoder final : public PageEncoder {
 public:
  FilteredEncoder(FamilyFilter filter, RemoteWriteEncoder::Options options)
      : filter_(std::move(filter)), encoder_(std::move(options)) {}

  void Family(const FamilyView& family, std::string* page) const override {
    if (Wants(family)) encoder_.Family(family, page);
  }
  void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
               std::string* page) const override {
    if (Wants(family)) encoder_.Counter(family, labels, value, page);
  }
  void Gauge(const FamilyView& family, std::string_view labels, double value,
             std::string* page) const override {
    if (Wants(family)) encoder_.Gauge(family, labels, value, page);
  }
  void Histogram(const FamilyView& family, std::string_view labels, const HistogramValue& value,
                 std::string* page) const override {
    if (Wants(family)) encoder_.Histogram(family, labels, value, page);
  }
  void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
               std::string* page) const override {
    if (Wants(family)) encoder_.Summary(family, labels, value, page);
  }
  bool wants_native_histograms() const override { return encoder_.wants_native_histograms(); }
  bool compresses() const override { return encoder_.compresses(); }
  void Finish(std::string* page) const override { encoder_.Finish(page); }

 private:
  bool Wants(const FamilyView& family) const {
    if (family.name != name_) {
      name_.assign(family.name);
      wants_ = filter_.Wants(family.name);
    }
    return wants_;
  }

  const FamilyFilter filter_;
  const RemoteWriteEncoder encoder_;
  mutable std::string name_;
  mutable bool wants_ = false;
};

PushDropReason ReasonOf(WriteDrop drop) {
  switch (drop) {
    case WriteDrop::kRejected:
      return PushDropReason::kRejected;
    case WriteDrop::kTooOld:
      return PushDropReason::kTooOld;
    case WriteDrop::kSuperseded:
      return PushDropReason::kSuperseded;
  }
  return PushDropReason::kRejected;
}

}  // namespace

class RemoteWriteTarget::Impl final : public RemoteWriteHost {
 private:
  // A handler that does nothing once the target is gone or its wait was cancelled.
  template <typename Function>
  auto Guarded(Function function) {
    return [weak = self_->weak_from_this(), function](const boost::system::error_code& error) {
      const auto alive = weak.lock();
      if (!error && alive != nullptr) function();
    };
  }

 public:
  Impl(RemoteWriteTarget* self, std::shared_ptr<Loop> loop, RemoteWriteOptions options,
       PushSources sources)
      : self_(self),
        loop_(std::move(loop)),
        options_(std::move(options)),
        sources_(std::move(sources)),
        timer_(*loop_),
        deadline_(*loop_),
        random_(std::random_device()()),
        sender_(options_.sender, this) {
    status_.target = options_.name;
    status_.kind = "remote_write";
    status_.interval = options_.sender.interval;
    for (int i = 0; i < options_.sender.connections; ++i) {
      clients_.push_back(std::make_unique<HttpClient>(loop_.get(), ClientOptionsOf(options_)));
    }
  }

  const RemoteWriteOptions& options() const { return options_; }

  PushStatus status() const {
    const std::lock_guard lock(mu_);
    return status_;
  }

  // Daemons that are started together shall not send together.
  void Start() {
    Await(MonotonicNs() +
          absl::ToInt64Nanoseconds(std::min(options_.sender.interval, kMaxFirstDelay) * Random()));
  }

  void Finish(absl::Duration deadline, std::function<void()> done) {
    finished_ = std::move(done);
    end_ns_ = MonotonicNs() + absl::ToInt64Nanoseconds(deadline);
    deadline_.expires_after(absl::ToChronoNanoseconds(deadline));
    deadline_.async_wait(Guarded([this] { End(); }));
    sender_.Finish();
    Settle();
  }

  // RemoteWriteHost.

  int64_t MonotonicNs() override { return tallyd::MonotonicNs(); }

  int64_t WallMs() override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  double Random() override { return std::uniform_real_distribution<double>(0, 1)(random_); }

  void Render(RemoteWriteEncoder::Options encoder_options) override {
    stored_of_rendering_ = 0;
    const auto encoder =
        std::make_shared<const FilteredEncoder>(options_.families, std::move(encoder_options));
    sources_.render(encoder, [weak = self_->weak_from_this(), loop = loop_,
                              encoder](std::shared_ptr<const Snapshot> snapshot) {
      // On the renderer's thread, which has better things to do.
      boost::asio::post(*loop, [weak, encoder, snapshot = std::move(snapshot)] {
        const auto alive = weak.lock();
        if (alive != nullptr) alive->impl_->OnRendered(snapshot.get(), *encoder);
      });
    });
  }

  void Send(int connection, WriteMessage message) override {
    PushRequest request;
    request.method = "POST";
    request.target = options_.url.path.empty() ? "/" : options_.url.path;
    request.headers = options_.headers;
    request.headers.emplace_back("Content-Type", WriteContentType(message.protocol));
    request.headers.emplace_back("Content-Encoding", "snappy");
    request.headers.emplace_back("X-Prometheus-Remote-Write-Version",
                                 WriteVersion(message.protocol));
    request.body = {std::move(message.body)};
    absl::Duration timeout = options_.total_timeout;
    if (finished_ != nullptr) {
      timeout =
          std::clamp(absl::Nanoseconds(end_ns_ - MonotonicNs()), absl::Milliseconds(1), timeout);
    }
    ++in_flight_;
    clients_[static_cast<size_t>(connection)]->SendWithin(
        timeout, std::move(request),
        [this, connection](const HttpResult& result) { OnResult(connection, result); });
  }

  void CountStored(uint64_t series) override {
    stored_of_rendering_ += series;
    const std::lock_guard lock(mu_);
    status_.stored_series += series;
    status_.last_success = absl::Now();
  }

  void CountDropped(WriteDrop reason, uint64_t series) override {
    const std::lock_guard lock(mu_);
    status_.Drop(ReasonOf(reason), series);
  }

  void Warn(const std::string& what, const std::string& detail) override {
    LogWarn(what, {{"target", options_.name}, {"error", detail}});
  }

  void Inform(const std::string& what, const std::string& detail) override {
    LogFields fields = {{"target", options_.name}};
    if (!detail.empty()) fields.emplace_back("because", detail);
    LogInfo(what, fields);
  }

 private:
  void Await(int64_t monotonic_ns) {
    // libstdc++'s steady clock is the monotonic one.
    timer_.expires_at(
        std::chrono::steady_clock::time_point(std::chrono::nanoseconds(monotonic_ns)));
    timer_.async_wait(Guarded([this] {
      sender_.Advance();
      Settle();
    }));
  }

  void OnRendered(const Snapshot* snapshot, const PageEncoder& encoder) {
    if (ended_) return;
    std::shared_ptr<WritePages> pages;
    if (snapshot != nullptr) {
      pages = std::make_shared<WritePages>();
      for (const auto& section : snapshot->sections) {
        pages->insert(pages->end(), section.begin(), section.end());
      }
      auto rest = std::make_shared<std::string>();
      if (sources_.groups) sources_.groups(encoder, rest.get());
      if (options_.own_metrics && sources_.own_families) {
        sources_.own_families(encoder, rest.get());
      }
      pages->push_back(std::move(rest));
    }
    sender_.OnRendered(std::move(pages));
    Settle();
  }

  void OnResult(int connection, const HttpResult& result) {
    --in_flight_;
    {
      const std::lock_guard lock(mu_);
      status_.CountRequest(result.cause, result.sent_bytes, result.duration);
    }
    if (ended_) return;
    sender_.OnAnswer(connection, AnswerOf(result));
    Settle();
  }

  // After all that may have changed the sender.
  void Settle() {
    {
      const std::lock_guard lock(mu_);
      status_.series = stored_of_rendering_;
      status_.queued_series = sender_.pending();
      status_.in_flight = in_flight_;
      status_.last_error = sender_.Trouble();
      status_.clock_suspended = sender_.clock_suspended();
    }
    if (finished_ != nullptr && sender_.finished()) return End();
    if (!ended_) Await(sender_.NextWakeNs());
  }

  void End() {
    if (ended_) return;
    ended_ = true;
    if (!sender_.finished()) {
      LogWarn("the last samples were not sent in time",
              {{"target", options_.name}, {"series", absl::StrCat(sender_.pending())}});
    }
    timer_.cancel();
    deadline_.cancel();
    for (const auto& client : clients_) client->Cancel();
    if (const auto finished = std::exchange(finished_, nullptr)) finished();
  }

  RemoteWriteTarget* const self_;
  const std::shared_ptr<Loop> loop_;
  const RemoteWriteOptions options_;
  const PushSources sources_;
  std::vector<std::unique_ptr<HttpClient>> clients_;  // by connection
  LoopTimer timer_;
  LoopTimer deadline_;
  std::minstd_rand random_;
  RemoteWriteSender sender_;
  int in_flight_ = 0;
  uint64_t stored_of_rendering_ = 0;
  std::function<void()> finished_;  // null: not at the end
  int64_t end_ns_ = 0;
  bool ended_ = false;

  mutable std::mutex mu_;  // guards status_, for moments
  PushStatus status_;
};

RemoteWriteTarget::RemoteWriteTarget(std::shared_ptr<Loop> loop, RemoteWriteOptions options,
                                     PushSources sources)
    : impl_(std::make_unique<Impl>(this, std::move(loop), std::move(options), std::move(sources))) {
}

RemoteWriteTarget::~RemoteWriteTarget() = default;

void RemoteWriteTarget::Start() { impl_->Start(); }

void RemoteWriteTarget::Finish(absl::Duration deadline, std::function<void()> done) {
  impl_->Finish(deadline, std::move(done));
}

PushStatus RemoteWriteTarget::status() const { return impl_->status(); }

const RemoteWriteOptions& RemoteWriteTarget::options() const { return impl_->options(); }

}  // namespace tallyd
