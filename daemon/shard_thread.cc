#include "daemon/shard_thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

constexpr int64_t kHeartbeatNs = 1'000'000'000;
constexpr int64_t kDrainNs = 3'000'000'000;

// Signals are the main thread's: a shard's system calls shall not be interrupted for them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

void NameThread(int index) {
  char name[16];
  std::snprintf(name, sizeof(name), "shard-%d", index);
  ::pthread_setname_np(::pthread_self(), name);
}

void PinThread(int cpu, int index) {
  if (cpu < 0) return;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<size_t>(cpu), &only);
  if (::pthread_setaffinity_np(::pthread_self(), sizeof(only), &only) != 0) {
    LogWarn("cannot pin a shard to its CPU; it runs unpinned",
            {{"shard", absl::StrCat(index)}, {"cpu", absl::StrCat(cpu)}});
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardThread>> ShardThread::Create(Shard* shard,
                                                                 const Options& options,
                                                                 ConnectionCounts* counts) {
  auto udp_ring = ReceiveRing::Create(kUdpMessages, kUdpMessageBytes);
  if (!udp_ring.ok()) return udp_ring.status();
  auto unix_ring = ReceiveRing::Create(kUnixMessages, kUnixMessageBytes);
  if (!unix_ring.ok()) return unix_ring.status();
  return std::unique_ptr<ShardThread>(
      new ShardThread(shard, options, counts, *std::move(udp_ring), *std::move(unix_ring)));
}

ShardThread::ShardThread(Shard* shard, const Options& options, ConnectionCounts* counts,
                         std::unique_ptr<ReceiveRing> udp_ring,
                         std::unique_ptr<ReceiveRing> unix_ring)
    : shard_(shard),
      options_(options),
      // One thread runs the loop, so it need not hand work over to others; it still may be posted
      // to from anywhere, for which its locks stay on.
      loop_(1),
      heartbeat_(loop_),
      senders_(shard),
      udp_ring_(std::move(udp_ring)),
      unix_ring_(std::move(unix_ring)),
      udp_(&loop_, &waits_, shard, &taps_, udp_ring_.get()),
      connections_(&loop_, &waits_, shard, &taps_, unix_ring_.get(), counts, &senders_,
                   options.idle_timeout_ns) {}

ShardThread::~ShardThread() {
  if (!thread_.joinable()) return;
  loop_.stop();
  thread_.join();
}

absl::Status ShardThread::AddUdp(UdpSocket socket) { return udp_.Add(std::move(socket)); }

void ShardThread::AddUnixgram(UnixgramSocket socket) {
  unixgram_.push_back(std::make_unique<UnixgramListener>(
      &loop_, &waits_, shard_, &taps_, unix_ring_.get(), &senders_, std::move(socket)));
}

void ShardThread::ReplaceUnixgram(UnixgramSocket socket) {
  boost::asio::post(loop_, [this, socket = std::move(socket)]() mutable {
    const uint16_t listener = socket.source.listener;
    EndFormerUnixgrams(listener);
    for (const auto& present : unixgram_) {
      if (present->listener() == listener) present->BecomeFormer();
    }
    AddUnixgram(std::move(socket));
    unixgram_.back()->Start();
  });
}

void ShardThread::EndFormerUnixgrams(uint16_t listener) {
  const auto ends = std::stable_partition(unixgram_.begin(), unixgram_.end(), [&](const auto& one) {
    return one->listener() != listener || !one->former();
  });
  for (auto end = ends; end != unixgram_.end(); ++end) {
    (*end)->DrainAndClose(MonotonicNs() + kDrainNs);
    // A handler of its may be queued, and is run before this one.
    boost::asio::post(loop_, [ended = std::move(*end)] {});
  }
  unixgram_.erase(ends, unixgram_.end());
}

absl::Status ShardThread::Start() {
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start the thread of shard ", shard_->index(), ": ", error.what()));
  }
  return absl::OkStatus();
}

void ShardThread::Run() {
  NameThread(shard_->index());
  PinThread(options_.cpu, shard_->index());
  udp_.Start();
  for (const auto& listener : unixgram_) listener->Start();
  BeatLater();
  while (!loop_.stopped()) RunOnce();
}

void ShardThread::RunOnce() {
  if (!udp_.turn_due()) {
    loop_.run_one();
    return;
  }
  // Everybody else goes on during the nap, and has a turn even if there is none.
  if (udp_.nap_end() > std::chrono::steady_clock::now()) {
    loop_.run_until(udp_.nap_end());
  } else {
    loop_.poll_one();
  }
  if (udp_.turn_due()) udp_.Turn();
}

void ShardThread::BeatLater() {
  const int64_t interval_ns = std::min(kHeartbeatNs, options_.idle_timeout_ns / 4 + 1);
  heartbeat_.expires_after(std::chrono::nanoseconds(interval_ns));
  const auto on_time = [this](const boost::system::error_code& error) {
    if (!error) Beat();
  };
  heartbeat_.async_wait(HandlerIn(&waits_, on_time));
}

void ShardThread::Beat() {
  const int64_t now_ns = MonotonicNs();
  shard_->Turn(now_ns);
  udp_.CountKernelDrops();
  connections_.Sweep(now_ns);
  senders_.Beat(now_ns);
  taps_.OnBeat(now_ns);
  BeatLater();
}

void ShardThread::Assign(AcceptedConnection connection) {
  boost::asio::post(loop_, [this, accepted = std::move(connection)]() mutable {
    connections_.Add(std::move(accepted));
  });
}

void ShardThread::AddTap(std::shared_ptr<LineTap> tap) {
  boost::asio::post(loop_, [this, added = std::move(tap)] { taps_.Add(added); });
}

void ShardThread::RemoveTap(std::shared_ptr<LineTap> tap) {
  boost::asio::post(loop_, [this, removed = std::move(tap)] {
    taps_.Remove(removed);
    removed->OnBeat(MonotonicNs());
  });
}

void ShardThread::Take(JobBatch batch, Source source, std::function<void()> done) {
  boost::asio::post(loop_,
                    [this, batch = std::move(batch), source, done = std::move(done)]() mutable {
                      shard_->BeginBatch(MonotonicNs());
                      ApplyJob(&batch, source);
                      shard_->EndBatch();
                      done();
                    });
}

// Of a datagram that was cut the last line is nobody's.
void ShardThread::ApplyJob(JobBatch* batch, Source source) {
  Ledger::Listener& counts = shard_->ledger().listeners[source.listener];
  for (JobDatagram& datagram : batch->datagrams) {
    std::string& bytes = datagram.bytes;
    const size_t size = datagram.cut ? bytes.rfind('\n') + 1 : bytes.size();
    if (!taps_.empty()) {
      const std::string lines = batch->labels->Tagged(absl::string_view(bytes).substr(0, size));
      taps_.OnLines(source, lines.data(), lines.size());
    }
    bytes.resize(size + kReadPadding);
    shard_->ApplyInSession(source, batch->labels->session(), bytes.data(), size);
    if (!datagram.cut) continue;
    counts.truncated.Add(1);
    shard_->Drop(source, DropReason::kTruncated);
  }
  if (batch->kernel_dropped > 0) counts.kernel_dropped.Add(batch->kernel_dropped);
}

void ShardThread::UseRules(uint16_t generation, std::function<void()> done) {
  boost::asio::post(loop_, [this, generation, done = std::move(done)] {
    shard_->UseRules(generation);
    done();
  });
}

void ShardThread::Stop(std::atomic<int>* places, std::function<void()> done) {
  boost::asio::post(loop_, [this, places, done = std::move(done)] {
    DrainAndClose(places);
    loop_.stop();
    done();
  });
}

void ShardThread::DrainAndClose(std::atomic<int>* places) {
  const int64_t deadline_ns = MonotonicNs() + kDrainNs;
  udp_.DrainAndClose(deadline_ns);
  for (const auto& listener : unixgram_) listener->DrainAndClose(deadline_ns);
  if (places != nullptr) released_ = connections_.DrainAndRelease(deadline_ns, places);
  connections_.DrainAndClose(deadline_ns);
  taps_.OnBeat(MonotonicNs());
}

void ShardThread::Join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace tallyd
