// What a daemon is doing, as `tallyctl top` asks for it: who sends what, what becomes of it, where
// series are.

#ifndef TALLYD_DAEMON_TOP_REPORT_H_
#define TALLYD_DAEMON_TOP_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tallyd {

// Which of the long lists to send, and how much of them.
struct TopQuestion {
  static constexpr uint64_t kMostRows = 10'000;

  uint64_t families = 200;
  uint64_t senders = 200;
};

// What is optional is left out where it is not known: rates of a single report, say. Everything
// that counts grows from the start of the daemon; rates are a second.

struct TopListener {
  std::string name = {};
  uint64_t datagrams = 0;
  uint64_t bytes = 0;
  uint64_t samples = 0;
  uint64_t truncated = 0;
  uint64_t kernel_dropped = 0;  // datagrams
  std::optional<int64_t> connections = {};
  std::optional<double> samples_rate = {};
  std::optional<double> datagrams_rate = {};
};

struct TopReason {
  std::string reason = {};
  uint64_t count = 0;
  std::optional<double> rate = {};
};

struct TopFamily {
  std::string name = {};
  std::string type = {};
  uint64_t series = 0;
  uint64_t changes = 0;  // of series, each counted once a merge
  std::optional<uint64_t> limit = {};
  std::optional<uint64_t> folded = {};  // samples
  std::optional<double> changes_rate = {};
};

struct TopSender {
  std::string kind = {};  // "process", "unknown" (UDP, TCP), "others" (no room to tell them apart)
  int32_t pid = 0;        // 0: not known
  std::optional<uint32_t> uid = {};
  std::optional<uint32_t> gid = {};
  std::string command = {};
  std::string unit = {};
  uint64_t start_ticks = 0;  // tells processes apart that had the same pid
  bool ended = false;
  std::optional<double> seen_seconds_ago = {};  // of its last datagram, to the second
  uint64_t datagrams = 0;
  uint64_t samples = 0;
  uint64_t dropped = 0;
  uint64_t folded = 0;
  uint64_t series_made = 0;
  std::optional<uint64_t> series = {};  // that its budget is charged with
  std::optional<double> samples_rate = {};
  std::optional<double> dropped_rate = {};
};

// A bound on series that was reached, so that samples fold.
struct TopOverBudget {
  std::string of = {};      // "family", "sender", "all", "label_bytes"
  std::string family = {};  // empty if no single one
  std::string label = {};   // whose values are too many; empty if none stands out
  std::string sender = {};  // whose sample was the last without room, as far as it is known
  uint64_t series = 0;
  uint64_t limit = 0;
  std::optional<uint64_t> folded = {};  // samples
};

struct TopBudgets {
  uint64_t family_limit = 0;  // series; 0: none
  uint64_t sender_limit = 0;
  std::vector<TopOverBudget> over = {};
};

// A value.
struct TopReport {
  using Listener = TopListener;
  using Reason = TopReason;
  using Family = TopFamily;
  using Sender = TopSender;
  using OverBudget = TopOverBudget;
  using Budgets = TopBudgets;

  double at_seconds = 0;  // of the daemon's monotonic clock
  double up_seconds = 0;
  std::string version;
  int64_t pid = 0;
  uint64_t shards = 0;
  double cpu_seconds = 0;
  double resident_bytes = 0;

  uint64_t received = 0;  // samples; at rest the sum of the next two
  uint64_t applied = 0;
  uint64_t dropped = 0;
  uint64_t folded = 0;  // of the applied ones
  uint64_t datagrams = 0;
  uint64_t bytes = 0;
  uint64_t kernel_dropped = 0;  // datagrams

  uint64_t series = 0;
  uint64_t series_limit = 0;
  uint64_t family_count = 0;
  uint64_t keys = 0;
  uint64_t key_bytes = 0;

  std::vector<Listener> listeners;
  std::vector<Reason> drops;    // every reason, samples
  std::vector<Reason> repairs;  // every reason
  std::vector<Family> families;
  std::vector<Sender> senders;
  uint64_t sender_count = 0;  // processes, those that are not listed too
  std::optional<Budgets> budgets;

  // Over the time between two reports.
  std::optional<double> interval_seconds;
  std::optional<double> received_rate;
  std::optional<double> applied_rate;
  std::optional<double> dropped_rate;
  std::optional<double> folded_rate;
  std::optional<double> datagrams_rate;
  std::optional<double> bytes_rate;
  std::optional<double> cpu_share;  // of one CPU
};

// One JSON object and LF. What is not known is left out.
std::string TopJson(const TopReport& report);
// Of what TopJson writes, by this version or another: what is missing stays as it is by default.
absl::StatusOr<TopReport> ParseTop(const std::string& json_untrusted);

// Fills the rates of `now`, which came from the same daemon later. Rows that `before` has not get
// none, but for senders that came in between: all of theirs is new. Another daemon, or one that was
// started anew, gives none.
void AddRates(const TopReport& before, TopReport* now);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TOP_REPORT_H_
