#include "daemon/merge_thread.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/clock.h"

namespace tallyd {
namespace {

using SteadyClock = std::chrono::steady_clock;

// The variants: three formats in two codings.
constexpr size_t kCodings = 2;
constexpr size_t kVariants = 3 * kCodings;

size_t VariantIndex(ScrapeFormat format, ContentCoding coding) {
  return static_cast<size_t>(format) * kCodings + (coding == ContentCoding::kGzip ? 1 : 0);
}

std::unique_ptr<PageEncoder> MakeEncoder(ScrapeFormat format, ContentCoding coding,
                                         const MergeThread::Exposition& exposition) {
  switch (format) {
    case ScrapeFormat::kProtobuf:
      return std::make_unique<ProtobufEncoder>(exposition.histograms, coding);
    case ScrapeFormat::kOpenMetrics100:
      return std::make_unique<TextEncoder>(TextFormat::kOpenMetrics100, coding,
                                           exposition.created_lines);
    case ScrapeFormat::kPrometheus004:
      break;
  }
  return std::make_unique<TextEncoder>(TextFormat::kPrometheus004, coding);
}

// libstdc++'s steady clock is the monotonic one.
SteadyClock::time_point TimePoint(int64_t monotonic_ns) {
  return SteadyClock::time_point(std::chrono::nanoseconds(monotonic_ns));
}

}  // namespace

// Invariant: `merger_`, `variants_` and what else has no mutex are the merger thread's alone; what
// `mu_` guards is changed under it for moments only, never across a merge or a rendering.
//
// The standard mutex and not absl's: absl waits by the wall clock, and a clock that is set back by
// an hour would stop merging for an hour.
class MergeThread::Impl {
 public:
  Impl(std::unique_ptr<Merger> merger, absl::Duration interval, const Exposition& exposition)
      : merger_(std::move(merger)),
        interval_ns_(std::max<int64_t>(1, absl::ToInt64Nanoseconds(interval))) {
    RegisterVariants(exposition);
    thread_ = std::thread([this] { Run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    wake_.notify_all();
    merged_.notify_all();
    thread_.join();
  }

  void Request(size_t variant, absl::Duration max_age, Done done) {
    Enqueue({.variant = variant, .oldest_ns = OldestNs(max_age), .done = std::move(done)});
  }

  void RequestOnce(std::shared_ptr<const PageEncoder> encoder, absl::Duration max_age, Done done) {
    Enqueue(
        {.encoder = std::move(encoder), .oldest_ns = OldestNs(max_age), .done = std::move(done)});
  }

  void Ask(Job job) {
    {
      const std::lock_guard lock(mu_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

  void MergeNow() {
    std::unique_lock lock(mu_);
    // The merge that may be running began before this call and need not show what came before it.
    const uint64_t wanted = merges_begun_ + 1;
    wanted_merges_ = std::max(wanted_merges_, wanted);
    wake_.notify_one();
    merged_.wait(lock, [&] { return stopping_ || status_.merges >= wanted; });
  }

  void SetObserver(Observer observer) {
    const std::lock_guard lock(observer_mu_);
    observer_ = std::move(observer);
  }

  Status status() const {
    const std::lock_guard lock(mu_);
    return status_;
  }

 private:
  struct Waiting {
    std::shared_ptr<const PageEncoder> encoder = nullptr;  // null: the variant's
    size_t variant = 0;
    int64_t oldest_ns = 0;  // the merge must have begun then or later
    Done done;
  };

  static int64_t OldestNs(absl::Duration max_age) {
    if (max_age == absl::InfiniteDuration()) return 0;
    return MonotonicNs() - absl::ToInt64Nanoseconds(max_age);
  }

  void Enqueue(Waiting waiting) {
    {
      const std::lock_guard lock(mu_);
      waiting_.push_back(std::move(waiting));
    }
    wake_.notify_one();
  }

  struct Variant {
    std::unique_ptr<PageEncoder> encoder;
    int index = 0;                             // the merger's name for it
    int64_t asked_ns = 0;                      // when it was last asked for
    bool has_pages = false;                    // the merger keeps pages for it
    std::shared_ptr<const Snapshot> snapshot;  // of the last merge, once rendered
  };

  void RegisterVariants(const Exposition& exposition) {
    for (const ScrapeFormat format :
         {ScrapeFormat::kPrometheus004, ScrapeFormat::kOpenMetrics100, ScrapeFormat::kProtobuf}) {
      for (const ContentCoding coding : {ContentCoding::kIdentity, ContentCoding::kGzip}) {
        Variant& variant = variants_[VariantIndex(format, coding)];
        variant.encoder = MakeEncoder(format, coding, exposition);
        variant.index = merger_->AddVariant(variant.encoder.get());
      }
    }
  }

  void Run() {
    pthread_setname_np(pthread_self(), "merger");
    int64_t due_ns = MonotonicNs() + interval_ns_;
    std::vector<Waiting> requests;
    while (WaitForWork(due_ns, &requests)) {
      const bool due = MonotonicNs() >= due_ns;
      if (due || MustMergeFor(requests)) Merge();
      Serve(&requests);
      RunJobs(merger_.get());
      ForgetUnusedPages();
      if (due) due_ns = NextDue(due_ns);
    }
    for (const Waiting& request : requests) request.done(nullptr);
    RunJobs(nullptr);
  }

  // Waits until there is something to do and takes the requests over. False: stop.
  bool WaitForWork(int64_t due_ns, std::vector<Waiting>* requests) {
    std::unique_lock lock(mu_);
    wake_.wait_until(lock, TimePoint(due_ns), [this] {
      return stopping_ || !waiting_.empty() || !jobs_.empty() || wanted_merges_ > status_.merges;
    });
    requests->clear();
    requests->swap(waiting_);
    return !stopping_;
  }

  // The next beat of the timer. Beats that a long turn has missed are left out rather than made up
  // for, and the others keep to the times they would have had.
  int64_t NextDue(int64_t due_ns) const {
    const int64_t late = std::max<int64_t>(0, MonotonicNs() - due_ns);
    return due_ns + (late / interval_ns_ + 1) * interval_ns_;
  }

  bool MustMergeFor(const std::vector<Waiting>& requests) {
    const std::lock_guard lock(mu_);
    if (status_.merges == 0 || wanted_merges_ > status_.merges) return true;
    return std::any_of(requests.begin(), requests.end(), [this](const Waiting& request) {
      return request.oldest_ns > status_.last_merge_ns;
    });
  }

  void Merge() {
    {
      const std::lock_guard lock(mu_);
      ++merges_begun_;
    }
    const int64_t begin_ns = MonotonicNs();
    const MergeStats stats = merger_->Merge(begin_ns, UnixSeconds());
    const absl::Duration took = absl::Nanoseconds(MonotonicNs() - begin_ns);
    // They show the merge before, and would keep its pages in memory.
    for (Variant& variant : variants_) variant.snapshot.reset();
    Publish(begin_ns, took, stats);
    const std::lock_guard lock(observer_mu_);
    if (observer_) observer_(took, stats);
  }

  void Publish(int64_t begin_ns, absl::Duration took, const MergeStats& stats) {
    {
      const std::lock_guard lock(mu_);
      ++status_.merges;
      status_.series = merger_->series();
      status_.families = merger_->families();
      status_.folded_families = merger_->folded_families();
      status_.evicted += stats.series_evicted;
      status_.forgotten = merger_->forgotten();
      status_.last_merge_duration = took;
      status_.total_merge_duration += took;
      status_.last_merge_ns = begin_ns;
      status_.last = stats;
    }
    merged_.notify_all();
  }

  void Serve(std::vector<Waiting>* requests) {
    for (const Waiting& request : *requests) {
      if (request.encoder != nullptr) {
        request.done(merger_->RenderOnce(*request.encoder));
        continue;
      }
      Variant& variant = variants_[request.variant];
      if (variant.snapshot == nullptr) variant.snapshot = merger_->Render(variant.index);
      variant.has_pages = true;
      variant.asked_ns = MonotonicNs();
      request.done(variant.snapshot);
    }
    requests->clear();
  }

  void RunJobs(Merger* merger) {
    std::vector<Job> jobs;
    {
      const std::lock_guard lock(mu_);
      jobs.swap(jobs_);
    }
    for (const Job& job : jobs) job(merger);
  }

  void ForgetUnusedPages() {
    const int64_t forget_before = MonotonicNs() - absl::ToInt64Nanoseconds(kForgetAfter);
    for (Variant& variant : variants_) {
      if (!variant.has_pages || variant.asked_ns >= forget_before) continue;
      variant.snapshot.reset();
      merger_->ForgetPages(variant.index);
      variant.has_pages = false;
    }
  }

  // Merger thread, once it runs.
  const std::unique_ptr<Merger> merger_;
  const int64_t interval_ns_;
  std::array<Variant, kVariants> variants_;

  // Guarded by mu_.
  mutable std::mutex mu_;
  std::condition_variable wake_;    // the merger thread waits
  std::condition_variable merged_;  // callers of MergeNow wait
  std::vector<Waiting> waiting_;
  std::vector<Job> jobs_;
  uint64_t merges_begun_ = 0;
  uint64_t wanted_merges_ = 0;  // merge until so many are done
  bool stopping_ = false;
  Status status_;

  // Guards observer_ and is held while it runs.
  std::mutex observer_mu_;
  Observer observer_;

  std::thread thread_;
};

MergeThread::MergeThread(std::unique_ptr<Merger> merger, absl::Duration interval,
                         const Exposition& exposition)
    : impl_(std::make_unique<Impl>(std::move(merger), interval, exposition)) {}

MergeThread::~MergeThread() = default;

void MergeThread::Request(ScrapeFormat format, ContentCoding coding, absl::Duration max_age,
                          Done done) {
  impl_->Request(VariantIndex(format, coding), max_age, std::move(done));
}

void MergeThread::Ask(Job job) { impl_->Ask(std::move(job)); }

void MergeThread::RequestOnce(std::shared_ptr<const PageEncoder> encoder, absl::Duration max_age,
                              Done done) {
  impl_->RequestOnce(std::move(encoder), max_age, std::move(done));
}

void MergeThread::MergeNow() { impl_->MergeNow(); }

void MergeThread::SetObserver(Observer observer) { impl_->SetObserver(std::move(observer)); }

MergeThread::Status MergeThread::status() const { return impl_->status(); }

}  // namespace tallyd
