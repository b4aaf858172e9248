#include "bench/load/run.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/string_view.h"

namespace tallyd::bench {
namespace {

// What a hiccup of the machine delayed by more than this is not sent in a burst afterwards: a burst
// would overflow sockets that the asked rate never fills. It shows as a lower rate instead.
constexpr int64_t kMostBehindNs = 20'000'000;

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

void SleepUntil(int64_t ns) {
  const timespec wake = {.tv_sec = ns / kNsPerSecond, .tv_nsec = ns % kNsPerSecond};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, nullptr);
}

double ToNs(const timeval& t) {
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_usec) * 1e3;
}

// CPU of the process so far, added to the account with `sign`.
void AddCpu(double sign, Account* account) {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  account->cpu_user_ns += sign * ToNs(usage.ru_utime);
  account->cpu_sys_ns += sign * ToNs(usage.ru_stime);
}

}  // namespace

Pacer::Pacer(double lines_per_second, int64_t tick_ns, int64_t start_ns)
    : ns_per_line_(lines_per_second > 0 ? 1e9 / lines_per_second : 0),
      tick_ns_(tick_ns),
      start_ns_(start_ns),
      woke_ns_(start_ns) {}

int64_t Pacer::DueAt(uint64_t offered) const {
  return start_ns_ + static_cast<int64_t>(static_cast<double>(offered) * ns_per_line_);
}

uint64_t Pacer::LinesDue(uint64_t offered, int64_t now_ns) {
  if (ns_per_line_ == 0) return std::numeric_limits<uint64_t>::max();
  int64_t late_ns = now_ns - DueAt(offered);
  if (late_ns < 0) return 0;
  if (late_ns > kMostBehindNs) {
    const int64_t excess_ns = late_ns - kMostBehindNs;
    start_ns_ += excess_ns;
    behind_ns_ += excess_ns;
    late_ns = kMostBehindNs;
  }
  return 1 + static_cast<uint64_t>(static_cast<double>(late_ns) / ns_per_line_);
}

void Pacer::SleepUntilDue(uint64_t offered) {
  SleepUntil(std::max(DueAt(offered), woke_ns_ + tick_ns_));
  woke_ns_ = NowNs();
}

LoadRun::LoadRun(const Plan& plan, RunOptions options, std::vector<std::unique_ptr<Sender>> senders)
    : plan_(plan),
      options_(std::move(options)),
      framing_(senders.front()->framing()),
      senders_(std::move(senders)),
      logs_(senders_.size()),
      current_(senders_.size() - 1) {}

bool LoadRun::NextSender() {
  for (size_t tried = 0; tried < senders_.size(); ++tried) {
    current_ = (current_ + 1) % senders_.size();
    if (options_.quotas.empty()) return true;
    if (logs_[current_].offered() < options_.quotas[current_]) return true;
  }
  return false;
}

absl::Span<const absl::string_view> LoadRun::NextBatch(uint64_t lines) {
  const PacketRing& ring = plan_.rings[current_];
  uint64_t seq = logs_[current_].offered();
  const uint64_t end =
      options_.quotas.empty() ? std::numeric_limits<uint64_t>::max() : options_.quotas[current_];
  size_t size = 0;
  for (uint64_t chosen = 0; size < options_.batch && seq < end && chosen < lines; ++seq) {
    const Packet& packet = ring.At(seq);
    batch_[size++] = ring.Bytes(packet, framing_);
    chosen += packet.lines;
  }
  return absl::MakeSpan(batch_).first(size);
}

void LoadRun::CountAccepted(size_t packets) {
  AcceptanceLog& log = logs_[current_];
  Counts counts;
  for (size_t i = 0; i < packets; ++i) {
    counts.Add(plan_.rings[current_].At(log.offered() + i));
  }
  log.AddAccepted(packets);
  account_.sent += counts;
  offered_lines_ += counts.lines;
}

void LoadRun::CountError(int error) {
  if (error == EINTR || (options_.wait && error == EAGAIN)) return;
  if (options_.wait && error == ENOBUFS) {
    // The kernel has no buffer and nothing to wait on: the one case where waiting is polling.
    SleepUntil(NowNs() + options_.tick_ns);
    return;
  }
  AcceptanceLog& log = logs_[current_];
  const Packet& packet = plan_.rings[current_].At(log.offered());
  log.AddRefused();
  account_.refused[error].Add(packet);
  offered_lines_ += packet.lines;
}

void LoadRun::SendBatch(uint64_t lines) {
  const absl::Span<const absl::string_view> batch = NextBatch(lines);
  const int64_t before_ns = options_.latency ? NowNs() : 0;
  const SendOutcome outcome = senders_[current_]->Send(batch);
  if (options_.latency) account_.latency.Add(static_cast<uint64_t>(NowNs() - before_ns));
  CountAccepted(outcome.accepted);
  if (outcome.error != 0) CountError(outcome.error);
}

Account LoadRun::Run(const std::atomic<bool>& stop) {
  AddCpu(-1, &account_);
  const int64_t start_ns = NowNs();
  const int64_t end_ns = options_.seconds > 0
                             ? start_ns + static_cast<int64_t>(options_.seconds * 1e9)
                             : std::numeric_limits<int64_t>::max();
  Pacer pacer(options_.lines_per_second, options_.tick_ns, start_ns);
  int64_t now_ns = start_ns;
  for (; !stop.load(std::memory_order_relaxed) && now_ns < end_ns; now_ns = NowNs()) {
    const uint64_t due = pacer.LinesDue(offered_lines_, now_ns);
    if (due == 0) {
      pacer.SleepUntilDue(offered_lines_);
    } else if (NextSender()) {
      SendBatch(due);
    } else {
      break;
    }
  }
  account_.seconds = static_cast<double>(NowNs() - start_ns) / 1e9;
  account_.lines_per_second_asked = options_.lines_per_second;
  account_.behind_seconds = static_cast<double>(pacer.behind_ns()) / 1e9;
  AddCpu(1, &account_);
  return account_;
}

}  // namespace tallyd::bench
