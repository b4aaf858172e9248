#include "daemon/push/gateway_jobs.h"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/expose/text.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/push/client_options.h"
#include "daemon/push/http_client.h"
#include "daemon/push/inconsistent_families.h"
#include "daemon/push/push_encoder.h"
#include "daemon/push/push_retry.h"

namespace tallyd {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int kMaxRefusals = 16;  // of one push
// Series of a job go when its group does, or a little later. Until then they are still the job's.
constexpr absl::Duration kSeriesGrace = absl::Minutes(1);
constexpr absl::Duration kFirstBackoff = absl::Seconds(1);

int64_t After(absl::Duration delay) { return MonotonicNs() + absl::ToInt64Nanoseconds(delay); }

}  // namespace

// Invariant: while `busy_` a rendering is awaited or a request is under way, and `queue_` has what
// comes then; else the timer runs if there is anything to wait for. A rendering and a timer whose
// serial is not `serial_` any more are forgotten.
class GatewayJobs::Impl {
 public:
  Impl(GatewayJobs* self, std::shared_ptr<Loop> loop, PushgatewayOptions options,
       PushSources sources)
      : self_(self),
        loop_(std::move(loop)),
        options_(std::move(options)),
        sources_(std::move(sources)),
        client_(loop_.get(), GatewayClientOptions(options_)),
        timer_(*loop_),
        random_(std::random_device()()) {}

  void OnJob(const JobChange& change) {
    const std::string path = KeyOfJob(change.labels).Path();
    if (groups_.count(path) == 0 && !MayAdd(path)) {
      if (known_.erase(path) > 0) index_ = nullptr;
      return;
    }
    Know(path, change);
    Group& group = groups_[path];
    group.labels = change.labels;
    group.shown = change.shown;
    group.running = change.running;
    group.restored = change.restored;
    group.due_ns = MonotonicNs();
    const bool stays = change.running || change.ttl == absl::ZeroDuration();
    group.expires_ns = stays ? kNever : After(change.ttl);
    ++group.changes;
    CountGroups();
    if (!busy_) AwaitNext();
  }

  std::shared_ptr<const JobGroupIndex> index() {
    const int64_t now_ns = MonotonicNs();
    const auto is_over = [now_ns](const auto& job) { return job.second.until_ns <= now_ns; };
    if (std::erase_if(known_, is_over) > 0) index_ = nullptr;
    if (known_.empty()) return nullptr;
    if (index_ == nullptr) {
      std::vector<Grouping> groups;
      for (const auto& [path, job] : known_) groups.push_back(job.labels);
      index_ = std::make_shared<const JobGroupIndex>(groups);
    }
    return index_;
  }

  void Finish(absl::Duration deadline, std::function<void()> done) {
    finished_ = std::move(done);
    deadline_ns_ = After(deadline);
    timer_.expires_after(absl::ToChronoNanoseconds(deadline));
    timer_.async_wait([weak = self_->weak_from_this()](const boost::system::error_code& cancelled) {
      const auto alive = weak.lock();
      if (!cancelled && alive != nullptr) alive->impl_->End();
    });
    queue_.resize(std::min<size_t>(queue_.size(), client_.under_way() ? 1 : 0));
    // A gateway may finish what was cancelled after what comes then, and so undo it.
    last_turn_ = !client_.under_way();
    if (last_turn_) Turn();
  }

  void AddTo(PushStatus* status) const {
    const std::lock_guard lock(mu_);
    for (size_t i = 0; i < kPushCauses; ++i) status->requests[i] += status_.requests[i];
    for (size_t i = 0; i < kPushDropReasons; ++i) status->dropped[i] += status_.dropped[i];
    status->sent_bytes += status_.sent_bytes;
    status->total_duration += status_.total_duration;
    status->stored_series += status_.stored_series;
    status->in_flight += status_.in_flight;
    status->job_groups += status_.job_groups;
    if (status->last_error.empty()) status->last_error = status_.last_error;
  }

 private:
  struct Group {
    Grouping labels;
    std::vector<FamilyText> shown;
    bool running = false;
    bool restored = false;        // the gateway may have more of it than this process
    int64_t due_ns = kNever;      // when it is to be pushed
    int64_t expires_ns = kNever;  // when it is to be deleted
    uint64_t changes = 0;         // that the job reported
  };
  // A job that has or had a group, for as long as there may be series of it.
  struct KnownJob {
    Grouping labels;
    int64_t until_ns = 0;
  };
  struct Task {
    std::string path;
    uint64_t changes = 0;  // of the group, when it was rendered
    bool deletes = false;
    std::vector<FamilyText> families{};
    uint64_t series = 0;  // that go
    int refusals = 0;
  };

  bool finishing() const { return finished_ != nullptr; }
  absl::Duration left() const { return absl::Nanoseconds(deadline_ns_ - MonotonicNs()); }

  bool MayAdd(const std::string& path) {
    if (path == options_.key.Path()) {
      LogWarn("a job has the labels of the target's own group, and goes with it",
              {{"target", options_.name}, {"group", path}});
      return false;
    }
    if (groups_.size() < kMaxGroups) return true;
    if (!std::exchange(full_, true)) {
      LogWarn("there are too many groups of jobs; new jobs go with the target's own",
              {{"target", options_.name}, {"max_groups", absl::StrCat(kMaxGroups)}});
    }
    return false;
  }

  void Know(const std::string& path, const JobChange& change) {
    const bool stays = change.running || change.ttl == absl::ZeroDuration();
    known_[path] = {change.labels, stays ? kNever : After(change.ttl + kSeriesGrace)};
    index_ = nullptr;
  }

  void AwaitNext() {
    busy_ = false;
    int64_t next_ns = kNever;
    for (const auto& [path, group] : groups_) {
      next_ns = std::min({next_ns, group.due_ns, group.expires_ns});
    }
    timer_.cancel();
    if (next_ns == kNever) return;
    timer_.expires_after(std::chrono::nanoseconds(std::max<int64_t>(0, next_ns - MonotonicNs())));
    // One that was over before it was cancelled comes nonetheless.
    timer_.async_wait([weak = self_->weak_from_this(),
                       serial = ++serial_](const boost::system::error_code& cancelled) {
      const auto alive = weak.lock();
      if (cancelled || alive == nullptr || serial != alive->impl_->serial_) return;
      alive->impl_->Turn();
    });
  }

  // Begins with all that is due.
  void Turn() {
    ++serial_;
    busy_ = true;
    queue_.clear();
    const int64_t now_ns = MonotonicNs();
    const bool deletes_all = finishing() && options_.delete_on_exit;
    std::vector<Grouping> labels;
    std::vector<std::string> pushed;  // by place in the index, or empty
    for (const auto& [path, group] : groups_) {
      const bool deletes = deletes_all || group.expires_ns <= now_ns;
      // At the end this is the last chance of those that wait for another try.
      const bool pushes =
          !deletes && (finishing() ? group.due_ns != kNever : group.due_ns <= now_ns);
      if (deletes) queue_.push_back({.path = path, .changes = group.changes, .deletes = true});
      labels.push_back(group.labels);
      pushed.push_back(pushes ? path : "");
    }
    const bool any = std::any_of(pushed.begin(), pushed.end(),
                                 [](const std::string& path) { return !path.empty(); });
    any ? Render(labels, std::move(pushed)) : ProcessNext();
  }

  void Render(const std::vector<Grouping>& labels, std::vector<std::string> pushed) {
    const auto index = std::make_shared<const JobGroupIndex>(labels);
    const auto encoder = std::make_shared<const JobGroupEncoder>(index);
    std::map<std::string, uint64_t> changes;
    for (const std::string& path : pushed) {
      if (!path.empty()) changes[path] = groups_[path].changes;
    }
    sources_.render_newest(
        encoder, [weak = self_->weak_from_this(), loop = loop_, encoder, pushed = std::move(pushed),
                  changes = std::move(changes),
                  serial = ++serial_](const std::shared_ptr<const Snapshot>& snapshot) {
          // On the renderer's thread, which has better things to do.
          boost::asio::post(*loop, [=, rendered = snapshot != nullptr] {
            const auto alive = weak.lock();
            if (alive == nullptr || serial != alive->impl_->serial_) return;
            rendered ? alive->impl_->OnRendered(*encoder, pushed, changes) : alive->impl_->End();
          });
        });
  }

  void OnRendered(const JobGroupEncoder& encoder, const std::vector<std::string>& pushed,
                  const std::map<std::string, uint64_t>& changes) {
    for (size_t i = 0; i < pushed.size(); ++i) {
      const auto group = groups_.find(pushed[i]);
      if (group == groups_.end()) continue;
      Task task;
      task.path = pushed[i];
      task.changes = changes.at(task.path);
      task.families = encoder.groups()[i];
      task.families.insert(task.families.end(), group->second.shown.begin(),
                           group->second.shown.end());
      queue_.push_back(std::move(task));
    }
    ProcessNext();
  }

  void ProcessNext() {
    if (finishing() && (queue_.empty() || left() <= absl::ZeroDuration())) return End();
    if (queue_.empty()) return AwaitNext();
    Task& task = queue_.front();
    const auto group = groups_.find(task.path);
    // A job that runs again keeps its group.
    const bool stale = group == groups_.end() ||
                       (task.deletes && !finishing() && group->second.changes != task.changes);
    if (stale) {
      queue_.pop_front();
      return ProcessNext();
    }
    PushRequest request;
    request.target = absl::StrCat(options_.url.path, task.path);
    // PUT replaces all that the gateway has of the group; POST leaves what is not sent.
    request.method = task.deletes ? "DELETE" : (group->second.restored ? "POST" : "PUT");
    if (!task.deletes) AddBody(&task, &request);
    SetInFlight(1);
    client_.SendWithin(
        finishing() ? std::min(left(), options_.total_timeout) : options_.total_timeout,
        std::move(request), [this](const HttpResult& result) { OnResult(result); });
  }

  // The job's own families always go: whoever filters asks for the job to be seen nonetheless.
  void AddBody(Task* task, PushRequest* request) {
    request->headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"},
                        {"Content-Encoding", "gzip"}};
    rejected_.Forget(MonotonicNs());
    std::string text;
    std::array<uint64_t, kPushDropReasons> dropped{};
    task->series = 0;
    for (const FamilyText& family : task->families) {
      const bool is_own = absl::StartsWith(family.name, kOwnPrefix);
      if (!is_own && !options_.families.Wants(family.name)) continue;
      PushDropReason reason = PushDropReason::kSeriesLimit;
      if (PushSelection::IsReserved(family.name)) {
        reason = PushDropReason::kReservedName;
      } else if (rejected_.Has(family.name)) {
        reason = PushDropReason::kRejected;
      } else if (is_own || task->series + family.series <= options_.max_series) {
        text += family.text;
        task->series += family.series;
        continue;
      }
      dropped[static_cast<size_t>(reason)] += family.series;
    }
    {
      const std::lock_guard lock(mu_);
      for (size_t i = 0; i < kPushDropReasons; ++i) status_.dropped[i] += dropped[i];
    }
    request->body.push_back(std::make_shared<const std::string>(GzipMember(text)));
  }

  void OnResult(const HttpResult& result) {
    Task& task = queue_.front();
    {
      const std::lock_guard lock(mu_);
      status_.in_flight = 0;
      status_.CountRequest(result.cause, result.sent_bytes, result.duration);
      status_.last_error = result.ok() ? "" : result.error;
      if (result.ok()) status_.stored_series += task.series;
    }
    if (result.status == 400 && !task.deletes && Reject(result.body, task) &&
        ++task.refusals < kMaxRefusals) {
      return ProcessNext();
    }
    result.ok() ? OnSuccess(task) : OnFailure(result, task);
    queue_.pop_front();
    if (finishing() && !std::exchange(last_turn_, true)) return Turn();
    // Who does not answer will not answer the next request either.
    if (!result.ok() && MayPass(result.cause) && !finishing()) PutOffQueue();
    ProcessNext();
  }

  void OnSuccess(const Task& task) {
    if (last_cause_ != PushCause::kOk) {
      LogInfo("pushes of jobs succeed again", {{"target", options_.name}});
    }
    last_cause_ = PushCause::kOk;
    failures_ = 0;
    const auto group = groups_.find(task.path);
    if (group == groups_.end()) return;
    const bool changed = group->second.changes != task.changes;
    if (task.deletes) {
      if (!changed) groups_.erase(group);
      full_ = false;
      CountGroups();
    } else if (!changed) {
      group->second.due_ns = group->second.running ? After(options_.interval) : kNever;
    }
  }

  void OnFailure(const HttpResult& result, const Task& task) {
    // One line for each new cause: a target that is away for a day would fill the log.
    if (result.cause != last_cause_) {
      LogWarn("cannot push the group of a job",
              {{"target", options_.name},
               {"group", task.path},
               {"cause", std::string(PushCauseName(result.cause))},
               {"error", result.error}});
    }
    last_cause_ = result.cause;
    ++failures_;
    const absl::Duration asked = RetryAfter(result, PushgatewayTarget::kMaxRetryAfter);
    absl::Duration delay = options_.interval;
    if (asked > absl::ZeroDuration()) {
      delay = asked;
    } else if (MayPass(result.cause)) {
      delay = std::min(delay, kFirstBackoff * (1 << std::min(failures_ - 1, 16)));
    }
    retry_ns_ = After(delay * std::uniform_real_distribution<double>(1, 1.5)(random_));
    PutOff(task);
  }

  void PutOffQueue() {
    for (const Task& task : queue_) PutOff(task);
    queue_.clear();
  }

  void PutOff(const Task& task) {
    const auto group = groups_.find(task.path);
    if (group == groups_.end()) return;
    int64_t& when_ns = task.deletes ? group->second.expires_ns : group->second.due_ns;
    if (when_ns != kNever) when_ns = retry_ns_;
  }

  // Leaves out, for a while, the families of the task that the gateway calls inconsistent. False if
  // there is none that is not left out already.
  bool Reject(std::string_view answer_untrusted, const Task& task) {
    const auto is_ours = [&task](const std::string& name) {
      return std::any_of(task.families.begin(), task.families.end(),
                         [&name](const FamilyText& family) { return family.name == name; });
    };
    const std::vector<std::string> added =
        rejected_.Add(answer_untrusted, After(PushgatewayTarget::kRejectedFor), is_ours);
    for (const std::string& family : added) {
      LogWarn("a family of a job is left out, since it is inconsistent with what others pushed",
              {{"target", options_.name}, {"group", task.path}, {"family", family}});
    }
    return !added.empty();
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

  void CountGroups() {
    const std::lock_guard lock(mu_);
    status_.job_groups = groups_.size();
  }

  static constexpr absl::string_view kOwnPrefix = "tallyd_job_";

  GatewayJobs* const self_;
  const std::shared_ptr<Loop> loop_;
  const PushgatewayOptions options_;
  const PushSources sources_;
  HttpClient client_;
  LoopTimer timer_;
  std::minstd_rand random_;

  std::map<std::string, Group> groups_;         // by path
  std::map<std::string, KnownJob> known_;       // by path
  std::shared_ptr<const JobGroupIndex> index_;  // of known_; null: to be made
  std::deque<Task> queue_;                      // its first one is under way
  RejectedFamilies rejected_;
  bool busy_ = false;
  bool full_ = false;
  bool last_turn_ = false;  // has begun
  uint64_t serial_ = 0;
  int failures_ = 0;  // in a row
  int64_t retry_ns_ = 0;
  PushCause last_cause_ = PushCause::kOk;
  std::function<void()> finished_;  // null: not at the end
  int64_t deadline_ns_ = 0;         // of the end

  mutable std::mutex mu_;  // guards status_, for moments
  PushStatus status_;
};

GatewayJobs::GatewayJobs(std::shared_ptr<Loop> loop, PushgatewayOptions options,
                         PushSources sources)
    : impl_(std::make_unique<Impl>(this, std::move(loop), std::move(options), std::move(sources))) {
}

GatewayJobs::~GatewayJobs() = default;

void GatewayJobs::OnJob(const JobChange& change) { impl_->OnJob(change); }

std::shared_ptr<const JobGroupIndex> GatewayJobs::index() { return impl_->index(); }

void GatewayJobs::Finish(absl::Duration deadline, std::function<void()> done) {
  impl_->Finish(deadline, std::move(done));
}

void GatewayJobs::AddTo(PushStatus* status) const { impl_->AddTo(status); }

}  // namespace tallyd
