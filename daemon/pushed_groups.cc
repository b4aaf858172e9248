#include "daemon/pushed_groups.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <utility>

#include "core/expose/protobuf.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

constexpr std::chrono::milliseconds kExpiryInterval(500);

prometheus::Gauge& AddGauge(prometheus::Registry* registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry).Add({});
}

// What was pushed has classic buckets alone.
const PageEncoder& EncoderOf(ScrapeFormat format) {
  static const TextEncoder text(TextFormat::kPrometheus004, ContentCoding::kIdentity);
  static const TextEncoder open_metrics(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  static const ProtobufEncoder protobuf(HistogramForm::kClassic, ContentCoding::kIdentity);
  switch (format) {
    case ScrapeFormat::kPrometheus004:
      break;
    case ScrapeFormat::kOpenMetrics100:
      return open_metrics;
    case ScrapeFormat::kProtobuf:
      return protobuf;
  }
  return text;
}

}  // namespace

// Shared: the timer and work that was posted refer to it.
class PushedGroups::Impl : public std::enable_shared_from_this<PushedGroups::Impl> {
 public:
  Impl(Loop* loop, const GroupLimits& limits, const FamilyTypes* aggregates,
       prometheus::Registry* registry)
      : aggregates_(aggregates),
        store_(limits, aggregates),
        timer_(*loop),
        groups_(AddGauge(registry, "tallyd_pushed_groups",
                         "Groups that were pushed, and those of jobs.")),
        series_(AddGauge(registry, "tallyd_pushed_series",
                         "Series of all groups, each bucket of a histogram for one.")),
        bytes_(AddGauge(registry, "tallyd_pushed_bytes", "Memory of all groups, about.")),
        hidden_(AddGauge(registry, "tallyd_pushed_hidden_families",
                         "Pushed families that the last exposition left out, because an aggregate "
                         "of the name came up later.")),
        expired_(prometheus::BuildCounter()
                     .Name("tallyd_pushed_expired_groups_total")
                     .Help("Groups that went because their time to live was over.")
                     .Register(*registry)
                     .Add({})) {}

  void Start() { ExpireLater(); }

  void Stop() {
    timer_.cancel();
    stopped_ = true;
    worker_.join();
  }

  void Post(std::function<void(GroupStore*)> work) {
    boost::asio::post(worker_, [self = shared_from_this(), work = std::move(work)] {
      work(&self->store_);
      self->Report();
    });
  }

  void AppendPages(ScrapeFormat format, ContentCoding coding,
                   std::vector<PageBuffer>* pages) const {
    const std::shared_ptr<const GroupsView> view = store_.view();
    const size_t left_out = view->AppendPages(EncoderOf(format), static_cast<size_t>(format),
                                              coding == ContentCoding::kGzip, aggregates_, pages);
    hidden_.Set(static_cast<double>(left_out));
  }

  void Append(const PageEncoder& encoder, std::string* page) const {
    store_.view()->Append(encoder, aggregates_, page);
  }

 private:
  void ExpireLater() {
    timer_.expires_after(kExpiryInterval);
    timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& cancelled) {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self == nullptr || cancelled || self->stopped_) return;
      self->Post([impl = self.get()](GroupStore* store) {
        impl->expired_.Increment(static_cast<double>(store->Expire(MonotonicNs())));
      });
      self->ExpireLater();
    });
  }

  void Report() {
    const std::shared_ptr<const GroupsView> view = store_.view();
    groups_.Set(static_cast<double>(view->groups));
    series_.Set(static_cast<double>(view->samples));
    bytes_.Set(static_cast<double>(view->bytes));
  }

  const FamilyTypes* const aggregates_;
  GroupStore store_;  // changed by the worker
  LoopTimer timer_;
  prometheus::Gauge& groups_;
  prometheus::Gauge& series_;
  prometheus::Gauge& bytes_;
  prometheus::Gauge& hidden_;
  prometheus::Counter& expired_;
  bool stopped_ = false;
  boost::asio::thread_pool worker_{1};
};

PushedGroups::PushedGroups(Loop* loop, const GroupLimits& limits, const FamilyTypes* aggregates,
                           prometheus::Registry* registry)
    : impl_(std::make_shared<Impl>(loop, limits, aggregates, registry)) {}

PushedGroups::~PushedGroups() { Stop(); }

void PushedGroups::Start() { impl_->Start(); }
void PushedGroups::Stop() { impl_->Stop(); }
void PushedGroups::Post(std::function<void(GroupStore*)> work) { impl_->Post(std::move(work)); }

void PushedGroups::AppendPages(ScrapeFormat format, ContentCoding coding,
                               std::vector<PageBuffer>* pages) const {
  impl_->AppendPages(format, coding, pages);
}

void PushedGroups::Append(const PageEncoder& encoder, std::string* page) const {
  impl_->Append(encoder, page);
}

}  // namespace tallyd
