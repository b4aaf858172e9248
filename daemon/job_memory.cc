#include "daemon/job_memory.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "daemon/log.h"

namespace tallyd {

JobMemory::JobMemory(std::unique_ptr<StateFile> file, prometheus::Registry* registry)
    : file_(std::move(file)),
      failures_(prometheus::BuildCounter()
                    .Name("tallyd_job_state_write_failures_total")
                    .Help("Attempts to save what is known of jobs that failed.")
                    .Register(*registry)
                    .Add({})) {
  Read();
  thread_ = std::thread([this] { Run(); });
}

JobMemory::~JobMemory() { Stop(); }

void JobMemory::Read() {
  absl::StatusOr<std::string> bytes = file_->Read();
  if (absl::IsNotFound(bytes.status())) return;
  absl::StatusOr<std::vector<JobRecord>> jobs = std::vector<JobRecord>();
  if (bytes.ok()) {
    jobs = DecodeJobs(*bytes);
  } else {
    jobs = bytes.status();
  }
  if (jobs.ok()) {
    for (JobRecord& job : *jobs) jobs_[job.labels] = std::move(job);
    return;
  }
  LogFields fields = {{"file", file_->path()}, {"error", std::string(jobs.status().message())}};
  const auto aside =
      file_->SetAside(absl::IsUnimplemented(jobs.status()) ? ".other-version" : ".bad");
  if (aside.ok()) fields.emplace_back("kept_as", *aside);
  LogError("what was known of jobs is not read", fields);
}

std::vector<JobRecord> JobMemory::Remembered(absl::Time now) {
  const std::lock_guard lock(mu_);
  for (auto& [labels, job] : jobs_) {
    if (job.running()) {
      job.values[kJobRunning] = 0;
      job.values[kJobSuccess] = 0;
      job.values[kJobExitCode] = kUnknownExitCode;
      if (job.ttl > absl::ZeroDuration()) job.until = now + job.ttl;
      dirty_ = true;
    }
    // A clock that was set back shall not keep a group for longer than was asked for.
    if (job.ttl > absl::ZeroDuration()) job.until = std::min(job.until, now + job.ttl);
  }
  ForgetOld(now);
  std::vector<JobRecord> remembered;
  for (const auto& [labels, job] : jobs_) remembered.push_back(job);
  wake_.notify_one();
  return remembered;
}

void JobMemory::Note(const JobRecord& job, absl::Time now) {
  const std::lock_guard lock(mu_);
  ForgetOld(now);
  JobValues values = job.values;
  JobRecord& known = jobs_[job.labels];
  values.merge(known.values);
  known = job;
  known.values = std::move(values);
  dirty_ = true;
  wake_.notify_one();
}

void JobMemory::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void JobMemory::Run() {
  ::pthread_setname_np(::pthread_self(), "jobs");
  std::unique_lock lock(mu_);
  while (true) {
    wake_.wait(lock, [this] { return dirty_ || stopping_; });
    if (dirty_) {
      dirty_ = false;
      const std::string bytes = Encode();
      lock.unlock();
      Write(bytes);
      lock.lock();
    }
    if (stopping_ && !dirty_) return;
    wake_.wait_for(lock, absl::ToChronoMilliseconds(kMinPause), [this] { return stopping_; });
  }
}

void JobMemory::Write(const std::string& bytes) {
  const absl::Status status = file_->Write(bytes);
  if (status.ok()) {
    if (std::exchange(failing_, false)) LogInfo("what is known of jobs is saved again");
    return;
  }
  failures_.Increment();
  // Once; the metric says how often.
  if (std::exchange(failing_, true)) return;
  LogError("what is known of jobs cannot be saved", {{"error", std::string(status.message())}});
}

void JobMemory::ForgetOld(absl::Time now) {
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    job = job->second.until <= now ? jobs_.erase(job) : std::next(job);
  }
}

std::string JobMemory::Encode() const {
  std::vector<JobRecord> jobs;
  jobs.reserve(jobs_.size());
  for (const auto& [labels, job] : jobs_) jobs.push_back(job);
  return EncodeJobs(jobs);
}

}  // namespace tallyd
