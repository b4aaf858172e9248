// Sends a plan's packets through its senders, at a pace or flat out.

#ifndef TALLYD_BENCH_LOAD_RUN_H_
#define TALLYD_BENCH_LOAD_RUN_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "bench/load/account.h"
#include "bench/load/expectation.h"
#include "bench/load/plan.h"
#include "bench/load/transport.h"

namespace tallyd::bench {

struct RunOptions {
  double lines_per_second = 0;  // 0: flat out
  double seconds = 0;           // 0: until the quotas are used up
  // Packets for each sender; empty: no end but that of the time.
  std::vector<uint64_t> quotas;
  // Offer again what found no room, rather than counting it as refused.
  bool wait = false;
  // Packets a call, at most Sender::kMostPackets. With 1, every refusal of an unheard UDP port is
  // counted; in a batch the kernel tells of it once and the packet that met it is offered again.
  size_t batch = Sender::kMostPackets;
  // Time each call (the clock's own 20 to 50 ns are in the figures). Meant for a batch of 1.
  bool latency = false;
  // A pacing sender wakes at most this often, so that it does not spend its CPU on waking up.
  // Slower packets than this leave one by one, each at its own time.
  int64_t tick_ns = 500'000;
};

// Says when lines are due. Owner thread only.
class Pacer {
 public:
  Pacer(double lines_per_second, int64_t tick_ns, int64_t start_ns);

  // How many lines are due now when `offered` have been offered; all there are when not pacing.
  uint64_t LinesDue(uint64_t offered, int64_t now_ns);
  // Returns when a line is due, a tick has passed since it last returned, or a signal came.
  void SleepUntilDue(uint64_t offered);
  int64_t behind_ns() const { return behind_ns_; }

 private:
  int64_t DueAt(uint64_t offered) const;

  double ns_per_line_;  // 0: flat out
  int64_t tick_ns_;
  int64_t start_ns_;
  int64_t woke_ns_;
  int64_t behind_ns_ = 0;
};

// One run of a plan. Owner thread only.
class LoadRun {
 public:
  // One sender for each ring. `plan` must outlive the run.
  LoadRun(const Plan& plan, RunOptions options, std::vector<std::unique_ptr<Sender>> senders);

  // Returns when the quotas are used up, the time is over, or `stop` is set.
  Account Run(const std::atomic<bool>& stop);

  // What became of each packet: the input of Expectation. After Run().
  const std::vector<AcceptanceLog>& logs() const { return logs_; }

 private:
  // False when all quotas are used up; else the next sender in turn that has packets left.
  bool NextSender();
  // The current sender's next packets, as many as `lines` allow, one at least.
  absl::Span<const absl::string_view> NextBatch(uint64_t lines);
  void SendBatch(uint64_t lines);
  void CountAccepted(size_t packets);
  void CountError(int error);

  const Plan& plan_;
  const RunOptions options_;
  const Framing framing_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<AcceptanceLog> logs_;
  size_t current_;
  uint64_t offered_lines_ = 0;
  Account account_;
  std::array<absl::string_view, Sender::kMostPackets> batch_;
};

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_RUN_H_
