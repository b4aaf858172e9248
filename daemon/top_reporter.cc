#include "daemon/top_reporter.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "core/wire/reason.h"
#include "daemon/clock.h"
#include "daemon/process_metrics.h"

namespace tallyd {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

const char* NameOf(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return "counter";
    case FamilyType::kGauge:
      return "gauge";
    case FamilyType::kHistogram:
      return "histogram";
    case FamilyType::kSummary:
      return "summary";
    case FamilyType::kUntyped:
      return "untyped";
  }
  return "";
}

const char* NameOf(SenderInfo::Kind kind) {
  switch (kind) {
    case SenderInfo::Kind::kProcess:
      return "process";
    case SenderInfo::Kind::kUnknown:
      return "unknown";
    case SenderInfo::Kind::kOthers:
      return "others";
  }
  return "";
}

template <typename Names, typename Counts>
std::vector<TopReport::Reason> Reasons(const Names& names, const Counts& counts) {
  std::vector<TopReport::Reason> reasons;
  for (size_t i = 0; i < counts.size(); ++i) {
    TopReport::Reason& reason = reasons.emplace_back();
    reason.reason = std::string(names[i]);
    reason.count = counts[i];
  }
  return reasons;
}

TopReport::Sender SenderRow(const SenderInfo& info, int64_t now_ns) {
  TopReport::Sender row;
  row.kind = NameOf(info.kind);
  row.datagrams = info.counts.datagrams;
  row.samples = info.counts.samples;
  row.dropped = info.counts.dropped;
  row.folded = info.counts.folded;
  row.series_made = info.counts.series_made;
  if (info.counts.series != 0) row.series = info.counts.series;
  if (info.kind != SenderInfo::Kind::kProcess) return row;
  row.pid = info.who.pid;
  row.uid = info.who.uid;
  row.gid = info.who.gid;
  row.command = info.names.command;
  row.unit = info.names.unit;
  row.start_ticks = info.names.start_ticks;
  row.ended = info.ended;
  row.seen_seconds_ago = Seconds(std::max<int64_t>(0, now_ns - info.last_seen_ns));
  return row;
}

}  // namespace

TopReporter::TopReporter(const OwnMetrics* own, MergeThread* merger, const SenderDirectory* senders,
                         size_t shards)
    : own_(own), merger_(merger), senders_(senders), shards_(shards), began_ns_(MonotonicNs()) {}

void TopReporter::Report(const TopQuestion& question, Done done) const {
  auto report = std::make_shared<TopReport>();
  AddProcess(report.get());
  AddAccount(report.get());
  AddSenders(question.senders, report.get());
  merger_->Ask(
      [report, question, done = std::move(done), budgets = budgets_](const Merger* merger) {
        if (merger == nullptr) return done([] { return absl::UnavailableError("shutting down"); });
        for (FamilyStats& stats : merger->LargestFamilies(question.families)) {
          TopReport::Family& family = report->families.emplace_back();
          family.name = std::move(stats.name);
          family.type = NameOf(stats.type);
          family.series = stats.series;
          family.changes = stats.changes;
        }
        if (budgets) budgets(report.get());
        done([report] { return TopJson(*report); });
      });
}

void TopReporter::AddProcess(TopReport* report) const {
  const int64_t now_ns = MonotonicNs();
  report->at_seconds = Seconds(now_ns);
  report->up_seconds = Seconds(now_ns - began_ns_);
  report->version = BuildVersion();
  report->pid = ::getpid();
  report->shards = shards_;
  report->cpu_seconds = ProcessCpuSeconds();
  report->resident_bytes = ProcessResidentBytes();
  const MergeThread::Status status = merger_->status();
  report->series = status.series;
  report->family_count = status.families;
  report->series_limit = own_->series_limit();
}

void TopReporter::AddAccount(TopReport* report) const {
  const LedgerTotals totals = own_->totals();
  report->received = totals.received;
  report->applied = totals.applied;
  report->dropped = totals.all_dropped;
  report->folded = totals.folded;
  report->keys = totals.keys;
  report->key_bytes = totals.key_bytes;
  report->drops = Reasons(kDropReasonNames, totals.dropped);
  report->repairs = Reasons(kRepairReasonNames, totals.repaired);
  AddListeners(totals, report);
}

void TopReporter::AddListeners(const LedgerTotals& totals, TopReport* report) const {
  const std::vector<ListenerInfo> infos = own_->listeners();
  const ConnectionCounts* const connections = own_->connection_counts();
  for (size_t i = 0; i < std::min(infos.size(), totals.listeners.size()); ++i) {
    const LedgerTotals::Listener& counts = totals.listeners[i];
    TopReport::Listener& listener = report->listeners.emplace_back();
    listener.name = infos[i].name;
    listener.datagrams = counts.datagrams;
    listener.bytes = counts.bytes;
    listener.samples = counts.samples;
    listener.truncated = counts.truncated;
    listener.kernel_dropped = counts.kernel_dropped;
    if (infos[i].takes_connections && connections != nullptr) {
      listener.connections = connections->open[i].load(std::memory_order_relaxed);
    }
    report->datagrams += counts.datagrams;
    report->bytes += counts.bytes;
    report->kernel_dropped += counts.kernel_dropped;
  }
}

// Those who sent most of late first: a list that is cut shall have whoever matters now. Without a
// former report "of late" is being heard of within the last seconds.
void TopReporter::AddSenders(uint64_t count, TopReport* report) const {
  constexpr int64_t kLateNs = 10'000'000'000;
  std::vector<SenderInfo> infos = senders_->List();
  const int64_t now_ns = MonotonicNs();
  const auto is_late = [now_ns](const SenderInfo& info) {
    return info.kind != SenderInfo::Kind::kProcess || now_ns - info.last_seen_ns < kLateNs;
  };
  std::stable_sort(infos.begin(), infos.end(), [&](const SenderInfo& a, const SenderInfo& b) {
    if (is_late(a) != is_late(b)) return is_late(a);
    return a.counts.samples > b.counts.samples;
  });
  for (const SenderInfo& info : infos) {
    if (info.kind == SenderInfo::Kind::kProcess) ++report->sender_count;
    const bool empty = info.kind != SenderInfo::Kind::kProcess && info.counts.datagrams == 0 &&
                       info.counts.samples == 0;
    if (!empty && report->senders.size() < count) {
      report->senders.push_back(SenderRow(info, now_ns));
    }
  }
}

}  // namespace tallyd
