#include "daemon/own_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "daemon/budget_metrics.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/metric_builder.h"
#include "daemon/own_metrics_text.h"
#include "daemon/process_metrics.h"
#include "daemon/push/push_metrics.h"
#include "daemon/version.h"
#include "tallyd_revision.h"  // TALLYD_REVISION; generated

namespace tallyd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

constexpr std::string_view kProcessPrefix = "process_";

// What the shards know.
class LedgerMetrics : public prometheus::Collectable {
 public:
  explicit LedgerMetrics(const OwnMetrics* own) : own_(own) {}

  std::vector<MetricFamily> Collect() const override {
    const LedgerTotals totals = own_->totals();
    std::vector<MetricFamily> families;
    CollectListeners(totals, &families);
    CollectAccount(totals, &families);
    CollectShards(totals, &families);
    return families;
  }

 private:
  void CollectListener(std::string_view name, std::string_view help,
                       uint64_t LedgerTotals::Listener::*number,
                       const std::vector<ListenerInfo>& infos, const LedgerTotals& totals,
                       std::vector<MetricFamily>* families) const {
    FamilyBuilder family = CounterFamily(name, help);
    for (size_t i = 0; i < std::min(infos.size(), totals.listeners.size()); ++i) {
      family.Add(totals.listeners[i].*number, {ToLabel("listener", infos[i].name)});
    }
    family.MoveTo(families);
  }

  void CollectListeners(const LedgerTotals& totals, std::vector<MetricFamily>* families) const {
    using Listener = LedgerTotals::Listener;
    const std::vector<ListenerInfo> infos = own_->listeners();
    CollectListener("tallyd_received_datagrams_total",
                    "Datagrams, frames or stream reads that were taken in.", &Listener::datagrams,
                    infos, totals, families);
    CollectListener("tallyd_received_bytes_total", "Bytes that were taken in.", &Listener::bytes,
                    infos, totals, families);
    CollectListener("tallyd_received_samples_total",
                    "Samples that were taken in; each is applied or dropped for one reason.",
                    &Listener::samples, infos, totals, families);
    CollectListener("tallyd_truncated_datagrams_total",
                    "Datagrams that were longer than the receive buffer and lost their end.",
                    &Listener::truncated, infos, totals, families);
    CollectListener("tallyd_kernel_dropped_datagrams_total",
                    "Datagrams that the kernel dropped because the receive buffer was full.",
                    &Listener::kernel_dropped, infos, totals, families);
  }

  void CollectAccount(const LedgerTotals& totals, std::vector<MetricFamily>* families) const {
    CounterFamily("tallyd_applied_samples_total", "Samples that count in a series.")
        .Add(totals.applied)
        .MoveTo(families);
    CounterFamily("tallyd_folded_samples_total",
                  "Applied samples that count in an overflow series instead of their own.")
        .Add(totals.folded)
        .MoveTo(families);
    FamilyBuilder dropped = CounterFamily("tallyd_dropped_samples_total",
                                          "Samples that count nowhere, by the reason for it.");
    for (size_t i = 0; i < kDropReasons; ++i) {
      dropped.Add(totals.dropped[i], {ToLabel("reason", kDropReasonNames[i])});
    }
    dropped.MoveTo(families);
    FamilyBuilder repaired = CounterFamily(
        "tallyd_repaired_total", "What was put right in samples that count, by what was wrong.");
    for (size_t i = 0; i < kRepairReasons; ++i) {
      repaired.Add(totals.repaired[i], {ToLabel("reason", kRepairReasonNames[i])});
    }
    repaired.MoveTo(families);
    FamilyBuilder events =
        CounterFamily("tallyd_received_events_total",
                      "Events and service checks that were recognised; they are no samples.");
    for (size_t i = 0; i < kEventKinds; ++i) {
      events.Add(totals.events[i], {ToLabel("kind", kEventKindNames[i])});
    }
    events.MoveTo(families);
  }

  void CollectShards(const LedgerTotals& totals, std::vector<MetricFamily>* families) const {
    CounterFamily("tallyd_batches_total", "Batches of datagrams that the shards took in.")
        .Add(totals.batches)
        .MoveTo(families);
    GaugeFamily("tallyd_keys", "Identities as sent that the shards know, over all shards.")
        .Add(totals.keys)
        .MoveTo(families);
    GaugeFamily("tallyd_key_bytes", "Memory of the identities that the shards know.")
        .Add(totals.key_bytes)
        .MoveTo(families);
    GaugeFamily("tallyd_slots", "Slots in use, over all shards.")
        .Add(totals.live_slots)
        .MoveTo(families);
    GaugeFamily("tallyd_retired_slots", "Slots that wait for the merger before their next use.")
        .Add(totals.retired_slots)
        .MoveTo(families);
  }

  const OwnMetrics* const own_;
};

// What the listeners know of their sockets.
class ListenerMetrics : public prometheus::Collectable {
 public:
  ListenerMetrics(const OwnMetrics* own, const std::atomic<const ConnectionCounts*>* counts)
      : own_(own), counts_(counts) {}

  std::vector<MetricFamily> Collect() const override {
    std::vector<MetricFamily> families;
    const std::vector<ListenerInfo> infos = own_->listeners();
    CollectBuffers(infos, &families);
    const ConnectionCounts* const counts = counts_->load(std::memory_order_acquire);
    if (counts != nullptr) CollectConnections(infos, *counts, &families);
    return families;
  }

 private:
  void CollectBuffers(const std::vector<ListenerInfo>& infos,
                      std::vector<MetricFamily>* families) const {
    FamilyBuilder asked = GaugeFamily("tallyd_receive_buffer_asked_bytes",
                                      "Receive buffer that each socket asked the kernel for.");
    FamilyBuilder effective = GaugeFamily("tallyd_receive_buffer_bytes",
                                          "Receive buffer that the kernel gave each socket.");
    for (const ListenerInfo& info : infos) {
      if (info.receive_buffer_asked_bytes == 0 && info.receive_buffer_bytes == 0) continue;
      const std::vector<ClientMetric::Label> labels = {ToLabel("listener", info.name)};
      asked.Add(static_cast<double>(info.receive_buffer_asked_bytes), labels);
      effective.Add(static_cast<double>(info.receive_buffer_bytes), labels);
    }
    asked.MoveTo(families);
    effective.MoveTo(families);
  }

  void CollectConnections(const std::vector<ListenerInfo>& infos, const ConnectionCounts& counts,
                          std::vector<MetricFamily>* families) const {
    FamilyBuilder open = GaugeFamily("tallyd_connections", "Open connections of senders.");
    for (size_t i = 0; i < std::min(infos.size(), counts.open.size()); ++i) {
      if (!infos[i].takes_connections) continue;
      open.Add(static_cast<double>(counts.open[i].load(std::memory_order_relaxed)),
               {ToLabel("listener", infos[i].name)});
    }
    open.MoveTo(families);
    FamilyBuilder closed = CounterFamily("tallyd_closed_connections_total",
                                         "Connections of senders that ended, by the reason.");
    for (size_t i = 0; i < kCloseReasons; ++i) {
      closed.Add(counts.closed[i].load(std::memory_order_relaxed),
                 {ToLabel("reason", kCloseReasonNames[i])});
    }
    closed.MoveTo(families);
    FamilyBuilder pauses = CounterFamily(
        "tallyd_accept_pauses_total",
        "Pauses of accepting, out of file descriptors or at the limit on connections.");
    pauses.Add(counts.accept_pauses.load(std::memory_order_relaxed), {});
    pauses.MoveTo(families);
  }

  const OwnMetrics* const own_;
  const std::atomic<const ConnectionCounts*>* const counts_;
};

// What the relay did with the lines.
class RelayMetrics : public prometheus::Collectable {
 public:
  explicit RelayMetrics(const std::atomic<const Relay*>* relay) : relay_(relay) {}

  std::vector<MetricFamily> Collect() const override {
    std::vector<MetricFamily> families;
    const Relay* const relay = relay_->load(std::memory_order_acquire);
    if (relay == nullptr) return families;
    const Relay::Totals totals = relay->totals();
    const std::vector<ClientMetric::Label> labels = {ToLabel("target", relay->target())};
    CounterFamily("tallyd_relay_packets_total", "Packets that were relayed.")
        .Add(totals.packets, labels)
        .MoveTo(&families);
    CounterFamily("tallyd_relay_lines_total", "Lines that were relayed.")
        .Add(totals.lines, labels)
        .MoveTo(&families);
    CounterFamily("tallyd_relay_long_lines_total",
                  "Lines that were not relayed because they are longer than a packet.")
        .Add(totals.long_lines, labels)
        .MoveTo(&families);
    CounterFamily("tallyd_relay_dropped_lines_total",
                  "Lines that were not relayed because the network or the target refused them.")
        .Add(totals.dropped_lines, labels)
        .MoveTo(&families);
    return families;
  }

 private:
  const std::atomic<const Relay*>* const relay_;
};

// How the targets of pushes are doing.
class PushMetrics : public prometheus::Collectable {
 public:
  explicit PushMetrics(const OwnMetrics* own) : own_(own) {}

  std::vector<MetricFamily> Collect() const override { return PushFamilies(own_->push_statuses()); }

 private:
  const OwnMetrics* const own_;
};

// What is so now, of the merger, the bounds and the log.
class StateMetrics : public prometheus::Collectable {
 public:
  explicit StateMetrics(const OwnMetrics* own) : own_(own) {}

  std::vector<MetricFamily> Collect() const override {
    const MergeThread::Status status = own_->merge_thread().status();
    std::vector<MetricFamily> families;
    GaugeFamily("tallyd_series", "Series of senders that the last merge shows.")
        .Add(status.series)
        .MoveTo(&families);
    GaugeFamily("tallyd_families", "Families of senders that the last merge shows.")
        .Add(status.families)
        .MoveTo(&families);
    GaugeFamily("tallyd_series_limit", "Most series of senders that there may be.")
        .Add(own_->series_limit())
        .MoveTo(&families);
    GaugeFamily("tallyd_snapshot_age_seconds", "Time since the last merge began.")
        .Add(absl::ToDoubleSeconds(own_->snapshot_age()))
        .MoveTo(&families);
    FamilyBuilder suppressed = CounterFamily("tallyd_log_suppressed_lines_total",
                                             "Log lines that were not written, by the reason.");
    const auto lines = LogLinesSuppressed();
    for (size_t i = 0; i < lines.size(); ++i) {
      suppressed.Add(lines[i], {ToLabel("reason", kLogSuppressionNames[i])});
    }
    suppressed.MoveTo(&families);
    return families;
  }

 private:
  const OwnMetrics* const own_;
};

void AddListener(const Ledger::Listener& listener, LedgerTotals::Listener* total) {
  total->datagrams += listener.datagrams.Get();
  total->bytes += listener.bytes.Get();
  total->samples += listener.samples.Get();
  total->truncated += listener.truncated.Get();
  total->kernel_dropped += listener.kernel_dropped.Get();
}

// The shard may be counting. What is accounted for is read before what was received, hence is no
// more than that: whoever saves it or finds it after a crash can tell what is missing.
void AddLedger(const Ledger& ledger, LedgerTotals* totals) {
  totals->folded += ledger.folded.Get();
  totals->applied += ledger.applied.Get();
  for (size_t i = 0; i < kDropReasons; ++i) totals->dropped[i] += ledger.dropped[i].Get();
  for (size_t i = 0; i < totals->listeners.size(); ++i) {
    AddListener(ledger.listeners[i], &totals->listeners[i]);
  }
  for (size_t i = 0; i < kRepairReasons; ++i) totals->repaired[i] += ledger.repaired[i].Get();
  for (size_t i = 0; i < kEventKinds; ++i) totals->events[i] += ledger.events[i].Get();
  totals->live_slots += ledger.live_series.Get();
  totals->retired_slots += ledger.retired_slots.Get();
  totals->keys += ledger.keys.Get();
  totals->key_bytes += ledger.key_bytes.Get();
  totals->batches += ledger.batches.Get();
}

}  // namespace

LedgerTotals SumLedgers(const std::vector<const Ledger*>& ledgers, size_t listeners) {
  LedgerTotals totals;
  totals.listeners.resize(std::min(listeners, Ledger::kMaxListeners));
  for (const Ledger* ledger : ledgers) AddLedger(*ledger, &totals);
  for (const LedgerTotals::Listener& listener : totals.listeners) {
    totals.received += listener.samples;
  }
  for (const uint64_t dropped : totals.dropped) totals.all_dropped += dropped;
  return totals;
}

std::string BuildVersion() { return TALLYD_VERSION; }

std::string BuildRevision() { return TALLYD_REVISION; }

std::string BuildCompiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

OwnMetrics::OwnMetrics(std::vector<const Ledger*> ledgers, std::vector<ListenerInfo> listeners,
                       MergeThread* merge_thread)
    : ledgers_(std::move(ledgers)), merge_thread_(merge_thread), listeners_(std::move(listeners)) {
  AddBuildInfo();
  AddConfiguration();
  AddMerging();
  AddScrapes();
  collectables_.push_back(std::make_unique<ProcessMetrics>());
  collectables_.push_back(std::make_unique<LedgerMetrics>(this));
  collectables_.push_back(std::make_unique<ListenerMetrics>(this, &connection_counts_));
  collectables_.push_back(std::make_unique<RelayMetrics>(&relay_));
  collectables_.push_back(std::make_unique<PushMetrics>(this));
  collectables_.push_back(std::make_unique<StateMetrics>(this));
  collectables_.push_back(std::make_unique<BudgetMetrics>(&budget_, merge_thread_));
  merge_thread_->SetObserver(
      [this](absl::Duration took, const MergeStats& stats) { ObserveMerge(took, stats); });
}

OwnMetrics::~OwnMetrics() { merge_thread_->SetObserver(nullptr); }

void OwnMetrics::AddBuildInfo() {
  prometheus::BuildGauge()
      .Name("tallyd_build_info")
      .Help("What this program was built from and with; always 1.")
      .Register(registry_)
      .Add({{"version", BuildVersion()},
            {"revision", BuildRevision()},
            {"compiler", BuildCompiler()}})
      .Set(1);
}

void OwnMetrics::AddConfiguration() {
  mapping_rules_ = &prometheus::BuildGauge()
                        .Name("tallyd_mapping_rules")
                        .Help("Rules of the mapping file in force.")
                        .Register(registry_)
                        .Add({});
  auto& reloads = prometheus::BuildCounter()
                      .Name("tallyd_config_reloads_total")
                      .Help("Attempts to read the configuration again, by what came of them.")
                      .Register(registry_);
  reload_successes_ = &reloads.Add({{"outcome", "success"}});
  reload_failures_ = &reloads.Add({{"outcome", "failure"}});
  reload_success_time_ = &prometheus::BuildGauge()
                              .Name("tallyd_config_last_reload_success_timestamp_seconds")
                              .Help("When the configuration in force was read, in Unix time.")
                              .Register(registry_)
                              .Add({});
  reload_success_time_->SetToCurrentTime();
  reload_successful_ = &prometheus::BuildGauge()
                            .Name("tallyd_config_last_reload_successful")
                            .Help("Whether the last attempt to read the configuration succeeded.")
                            .Register(registry_)
                            .Add({});
  reload_successful_->Set(1);
}

void OwnMetrics::AddMerging() {
  merge_duration_ = &prometheus::BuildHistogram()
                         .Name("tallyd_merge_duration_seconds")
                         .Help("How long it took to merge the shards.")
                         .Register(registry_)
                         .Add({}, prometheus::Histogram::BucketBoundaries{
                                      .0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10});
  const auto add_counter = [this](const char* name, const char* help) {
    return &prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add({});
  };
  visited_chunks_ =
      add_counter("tallyd_merge_visited_chunks_total",
                  "Chunks of cells that merges read because something in them changed.");
  visited_slots_ = add_counter("tallyd_merge_visited_slots_total", "Slots that merges read.");
  changed_series_ = add_counter("tallyd_merge_changed_series_total",
                                "Series that merges found changed, over all merges.");
  added_series_ = add_counter("tallyd_merge_added_series_total", "Series that merges found new.");
  removed_series_ =
      add_counter("tallyd_merge_removed_series_total", "Series that merges found retired.");
}

void OwnMetrics::AddScrapes() {
  scrape_duration_ = &prometheus::BuildHistogram()
                          .Name("tallyd_scrape_duration_seconds")
                          .Help("From the request of a scrape to the last byte of its answer.")
                          .Register(registry_)
                          .Add({}, prometheus::Histogram::BucketBoundaries{.001, .003, .01, .03, .1,
                                                                           .3, 1, 3, 10, 30});
  refused_scrapes_ = &prometheus::BuildCounter()
                          .Name("tallyd_refused_scrapes_total")
                          .Help("Scrapes that were told to come back later.")
                          .Register(registry_)
                          .Add({});
}

void OwnMetrics::ObserveMerge(absl::Duration took, const MergeStats& stats) {
  merge_duration_->Observe(absl::ToDoubleSeconds(took));
  visited_chunks_->Increment(static_cast<double>(stats.chunks_visited));
  visited_slots_->Increment(static_cast<double>(stats.slots_visited));
  changed_series_->Increment(static_cast<double>(stats.series_changed));
  added_series_->Increment(static_cast<double>(stats.series_added));
  removed_series_->Increment(static_cast<double>(stats.series_removed));
}

void OwnMetrics::SetListeners(std::vector<ListenerInfo> listeners) {
  const std::lock_guard lock(mu_);
  listeners_ = std::move(listeners);
}

void OwnMetrics::SetConnectionCounts(const ConnectionCounts* counts) {
  // Release: whoever reads the pointer must see the numbers that it points to initialised.
  connection_counts_.store(counts, std::memory_order_release);
}

void OwnMetrics::SetSeriesLimit(uint64_t series) {
  series_limit_.store(series, std::memory_order_relaxed);  // a number, on which no data hangs
}

void OwnMetrics::SetPushStatuses(PushStatuses statuses) {
  const std::lock_guard lock(mu_);
  push_statuses_ = std::move(statuses);
}

std::vector<PushStatus> OwnMetrics::push_statuses() const {
  const std::lock_guard lock(mu_);
  return push_statuses_ ? push_statuses_() : std::vector<PushStatus>();
}

void OwnMetrics::SetBudget(const SeriesBudget* budget) {
  // Release, as for the connection counts.
  budget_.store(budget, std::memory_order_release);
}

void OwnMetrics::SetRelay(const Relay* relay) {
  // Release, as for the connection counts.
  relay_.store(relay, std::memory_order_release);
}

void OwnMetrics::SetMappingRules(size_t rules) { mapping_rules_->Set(static_cast<double>(rules)); }

void OwnMetrics::SetReloadSuccessful(bool successful) {
  (successful ? reload_successes_ : reload_failures_)->Increment();
  reload_successful_->Set(successful ? 1 : 0);
  if (successful) reload_success_time_->SetToCurrentTime();
}

void OwnMetrics::CountScrape(absl::Duration took) {
  scrape_duration_->Observe(absl::ToDoubleSeconds(took));
}

void OwnMetrics::CountRefusedScrape() { refused_scrapes_->Increment(); }

std::vector<ListenerInfo> OwnMetrics::listeners() const {
  const std::lock_guard lock(mu_);
  return listeners_;
}

LedgerTotals OwnMetrics::totals() const { return SumLedgers(ledgers_, listeners().size()); }

absl::Duration OwnMetrics::snapshot_age() const {
  const int64_t merged_ns = merge_thread_->status().last_merge_ns;
  if (merged_ns == 0) return absl::InfiniteDuration();
  return absl::Nanoseconds(MonotonicNs() - merged_ns);
}

std::vector<MetricFamily> OwnMetrics::Collect() const {
  std::vector<MetricFamily> families = registry_.Collect();
  for (const auto& collectable : collectables_) {
    std::vector<MetricFamily> more = collectable->Collect();
    std::move(more.begin(), more.end(), std::back_inserter(families));
  }
  // A family without a metric would be a HELP and a TYPE of nothing.
  std::erase_if(families, [](const MetricFamily& family) { return family.metric.empty(); });
  std::sort(families.begin(), families.end(),
            [](const MetricFamily& a, const MetricFamily& b) { return a.name < b.name; });
  return families;
}

OwnMetrics::Text OwnMetrics::Render(ScrapeFormat format) const {
  Text text;
  for (const MetricFamily& family : Collect()) {
    const bool of_process =
        std::string_view(family.name).substr(0, kProcessPrefix.size()) == kProcessPrefix;
    AppendFamily(family, format, of_process ? &text.process : &text.tallyd);
  }
  return text;
}

}  // namespace tallyd
