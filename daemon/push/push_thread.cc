#include "daemon/push/push_thread.h"

#include <pthread.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>

#include "daemon/log.h"

namespace tallyd {
namespace {

// What a target may take over its deadline, to say so.
constexpr absl::Duration kGrace = absl::Milliseconds(500);

// The targets that are not done yet.
struct Countdown {
  std::mutex mu;
  std::condition_variable done;
  size_t left = 0;
};

}  // namespace

PushThread::PushThread(std::vector<PushgatewayOptions> gateways,
                       std::vector<RemoteWriteOptions> remote_writes, const PushSources& sources)
    : loop_(std::make_shared<Loop>(1)), work_(loop_->get_executor()) {
  for (PushgatewayOptions& options : gateways) {
    jobs_.push_back(std::make_shared<GatewayJobs>(loop_, options, sources));
    PushSources gateway_sources = sources;
    gateway_sources.job_groups = [jobs = jobs_.back()] { return jobs->index(); };
    gateways_.push_back(
        std::make_shared<PushgatewayTarget>(loop_, std::move(options), std::move(gateway_sources)));
  }
  for (RemoteWriteOptions& options : remote_writes) {
    remote_writes_.push_back(
        std::make_shared<RemoteWriteTarget>(loop_, std::move(options), sources));
  }
  const auto start = [this](const auto& targets) {
    for (const auto& target : targets) {
      boost::asio::post(*loop_, [target] { target->Start(); });
    }
  };
  start(gateways_);
  start(remote_writes_);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "push");
    loop_->run();
  });
}

PushThread::~PushThread() {
  loop_->stop();
  thread_.join();
}

void PushThread::Finish(absl::Duration deadline) {
  const auto countdown = std::make_shared<Countdown>();
  countdown->left = gateways_.size() + jobs_.size() + remote_writes_.size();
  const auto finish = [&](const auto& targets) {
    for (const auto& target : targets) {
      boost::asio::post(*loop_, [target, deadline, countdown] {
        target->Finish(deadline, [countdown] {
          const std::lock_guard lock(countdown->mu);
          --countdown->left;
          countdown->done.notify_one();
        });
      });
    }
  };
  finish(gateways_);
  finish(jobs_);
  finish(remote_writes_);
  std::unique_lock lock(countdown->mu);
  const bool all = countdown->done.wait_for(lock, absl::ToChronoNanoseconds(deadline + kGrace),
                                            [&] { return countdown->left == 0; });
  if (!all) LogWarn("the last pushes were not done in time");
}

void PushThread::OnJob(const JobChange& change) {
  if (gateways_.empty()) return;
  boost::asio::post(*loop_, [this, change] {
    for (const auto& jobs : jobs_) jobs->OnJob(change);
  });
}

std::vector<PushStatus> PushThread::statuses() const {
  std::vector<PushStatus> statuses;
  for (size_t i = 0; i < gateways_.size(); ++i) {
    statuses.push_back(gateways_[i]->status());
    jobs_[i]->AddTo(&statuses.back());
  }
  for (const auto& target : remote_writes_) statuses.push_back(target->status());
  return statuses;
}

}  // namespace tallyd
