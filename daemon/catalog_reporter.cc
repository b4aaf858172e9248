#include "daemon/catalog_reporter.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/rules/complaints.h"
#include "daemon/log.h"

namespace tallyd {

CatalogReporter::CatalogReporter(Loop* loop, std::vector<ViolationLog*> logs,
                                 const SenderDirectory* senders, prometheus::Registry* registry)
    : logs_(std::move(logs)), senders_(senders), timer_(*loop) {
  auto& family = prometheus::BuildCounter()
                     .Name("tallyd_catalog_violations_total")
                     .Help(
                         "Keys that are not as the catalogs declare them, by what differs; "
                         "counted when a shard looks up what a key means.")
                     .Register(*registry);
  for (size_t i = 0; i < kViolations; ++i) {
    counters_[i] = &family.Add({{"kind", std::string(kViolationNames[i])}});
  }
}

void CatalogReporter::Stop() {
  stopped_ = true;
  timer_.cancel();
  Count();
}

void CatalogReporter::WaitLater() {
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) Turn();
  });
}

void CatalogReporter::Turn() {
  Count();
  Report();
  WaitLater();
}

void CatalogReporter::Count() {
  for (size_t i = 0; i < kViolations; ++i) {
    uint64_t total = 0;
    for (const ViolationLog* log : logs_) total += log->Count(static_cast<Violation>(i));
    counters_[i]->Increment(static_cast<double>(total - counted_[i]));
    counted_[i] = total;
  }
}

void CatalogReporter::Report() {
  size_t lines = 0;
  size_t more = 0;
  for (size_t shard = 0; shard < logs_.size(); ++shard) {
    for (const ReportedViolation& found : logs_[shard]->Take()) {
      const std::string kind(Name(found.violation));
      const std::string sender = SenderText(senders_->Describe(shard, found.sender));
      if (said_.size() == kMaxRemembered) continue;
      if (!said_.insert(absl::StrCat(kind, "|", found.metric, "|", found.label, "|", sender))
               .second) {
        continue;
      }
      if (++lines > kMaxLinesATurn) {
        ++more;
        continue;
      }
      LogFields fields = {{"kind", kind}, {"metric", found.metric}};
      if (!found.label.empty()) fields.emplace_back("label", found.label);
      fields.emplace_back("sender", sender);
      LogWarn("not as the catalog declares it", fields);
    }
  }
  if (more > 0) {
    LogWarn("more is not as the catalog declares it", {{"kinds", absl::StrCat(more)}});
  }
}

}  // namespace tallyd
