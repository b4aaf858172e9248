// The daemon's own metrics: the account of all samples, and how the parts are doing.

#ifndef TALLYD_DAEMON_OWN_METRICS_H_
#define TALLYD_DAEMON_OWN_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/expose/text.h"
#include "core/shard/ledger.h"
#include "core/shard/series_budget.h"
#include "core/wire/reason.h"
#include "daemon/connection_counts.h"
#include "daemon/merge_thread.h"
#include "daemon/push/push_status.h"
#include "daemon/relay.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace tallyd {

// A listener as the label `listener` and its gauges show it. Its place in the list is its index in
// the ledgers.
struct ListenerInfo {
  std::string name;
  int64_t receive_buffer_asked_bytes = 0;  // 0: no receive buffer of its own to report
  int64_t receive_buffer_bytes = 0;
  bool takes_connections = false;
};

// The ledgers of all shards added up.
struct LedgerTotals {
  struct Listener {
    uint64_t datagrams = 0;
    uint64_t bytes = 0;
    uint64_t samples = 0;
    uint64_t truncated = 0;
    uint64_t kernel_dropped = 0;
  };

  std::vector<Listener> listeners;
  uint64_t received = 0;
  uint64_t applied = 0;
  uint64_t folded = 0;
  uint64_t all_dropped = 0;
  std::array<uint64_t, kDropReasons> dropped{};
  std::array<uint64_t, kRepairReasons> repaired{};
  std::array<uint64_t, kEventKinds> events{};
  uint64_t live_slots = 0;
  uint64_t retired_slots = 0;
  uint64_t keys = 0;
  uint64_t key_bytes = 0;
  uint64_t batches = 0;
};

LedgerTotals SumLedgers(const std::vector<const Ledger*>& ledgers, size_t listeners);

// What a program may be asked about itself.
std::string BuildVersion();
std::string BuildRevision();
std::string BuildCompiler();

// What the process itself counts lives in a prometheus::Registry; what the shards count is read
// from their ledgers when it is asked for. Thread-safe. The ledgers, the merger thread and the
// connection counts outlive it.
class OwnMetrics {
 public:
  OwnMetrics(std::vector<const Ledger*> ledgers, std::vector<ListenerInfo> listeners,
             MergeThread* merge_thread);
  ~OwnMetrics();
  OwnMetrics(const OwnMetrics&) = delete;
  OwnMetrics& operator=(const OwnMetrics&) = delete;

  void SetListeners(std::vector<ListenerInfo> listeners);
  // Without, there are no families about connections.
  void SetConnectionCounts(const ConnectionCounts* counts);
  void SetSeriesLimit(uint64_t series);
  // Without, there are no families about pushes. Called by any thread that collects.
  using PushStatuses = std::function<std::vector<PushStatus>()>;
  void SetPushStatuses(PushStatuses statuses);
  std::vector<PushStatus> push_statuses() const;
  // Without, there are no families about it. It outlives this.
  void SetBudget(const SeriesBudget* budget);
  // Without, there are no families about a relay, which outlives this.
  void SetRelay(const Relay* relay);
  void SetMappingRules(size_t rules);
  // After each reload. The start counts as the first success, and as no reload.
  void SetReloadSuccessful(bool successful);
  void CountScrape(absl::Duration took);
  void CountRefusedScrape();

  // For whoever has something to add. Names begin with "tallyd_".
  prometheus::Registry& registry() { return registry_; }

  // All families, sorted by name.
  std::vector<prometheus::MetricFamily> Collect() const;

  // The same as text, in the two parts that fit between the sections of a snapshot. Without the end
  // that OpenMetrics wants.
  struct Text {
    std::string process;
    std::string tallyd;
  };
  Text Render(ScrapeFormat format) const;

  std::vector<ListenerInfo> listeners() const;
  LedgerTotals totals() const;
  // Null if there are none.
  const ConnectionCounts* connection_counts() const {
    return connection_counts_.load(std::memory_order_acquire);
  }
  // Since the last merge began; infinite before the first.
  absl::Duration snapshot_age() const;
  uint64_t series_limit() const { return series_limit_.load(std::memory_order_relaxed); }
  const MergeThread& merge_thread() const { return *merge_thread_; }

 private:
  void AddBuildInfo();
  void AddConfiguration();
  void AddMerging();
  void AddScrapes();
  void ObserveMerge(absl::Duration took, const MergeStats& stats);

  const std::vector<const Ledger*> ledgers_;
  MergeThread* const merge_thread_;
  std::atomic<const ConnectionCounts*> connection_counts_{nullptr};
  std::atomic<const Relay*> relay_{nullptr};
  std::atomic<const SeriesBudget*> budget_{nullptr};
  std::atomic<uint64_t> series_limit_{0};

  mutable std::mutex mu_;
  PushStatuses push_statuses_;           // guarded by mu_
  std::vector<ListenerInfo> listeners_;  // guarded by mu_

  prometheus::Registry registry_;
  std::vector<std::unique_ptr<prometheus::Collectable>> collectables_;

  // In registry_, whose metrics are thread-safe.
  prometheus::Histogram* merge_duration_ = nullptr;
  prometheus::Counter* visited_chunks_ = nullptr;
  prometheus::Counter* visited_slots_ = nullptr;
  prometheus::Counter* changed_series_ = nullptr;
  prometheus::Counter* added_series_ = nullptr;
  prometheus::Counter* removed_series_ = nullptr;
  prometheus::Histogram* scrape_duration_ = nullptr;
  prometheus::Counter* refused_scrapes_ = nullptr;
  prometheus::Gauge* mapping_rules_ = nullptr;
  prometheus::Counter* reload_successes_ = nullptr;
  prometheus::Counter* reload_failures_ = nullptr;
  prometheus::Gauge* reload_successful_ = nullptr;
  prometheus::Gauge* reload_success_time_ = nullptr;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_OWN_METRICS_H_
