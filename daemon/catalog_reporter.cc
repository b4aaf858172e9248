#include "daemon/catalog_reporter.h"

#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"

namespace tallyd {

CatalogReporter::CatalogReporter(Loop* loop, std::vector<ViolationLog*> logs,
                                 const SenderDirectory* senders, prometheus::Registry* registry)
    : logs_(std::move(logs)), senders_(senders), timer_(*loop) {
  auto& family =
      prometheus::BuildCounter()
          .Name("tallyd_catalog_violations_total")
          .Help(
              "Keys that are not as the catalogs declare them, by what differs, counted when a "
              "shard looks up what a key means; and second senders of gauges.")
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
  lines_ = 0;
  unsaid_ = 0;
  for (size_t shard = 0; shard < logs_.size(); ++shard) {
    for (const ReportedViolation& found : logs_[shard]->Take()) ReportViolation(shard, found);
    for (const GaugeReporter& found : logs_[shard]->TakeReporters()) {
      ReportSecondSender(shard, found);
    }
  }
  if (unsaid_ > 0) {
    LogWarn("more is not as the catalog declares it", {{"kinds", absl::StrCat(unsaid_)}});
  }
}

void CatalogReporter::ReportViolation(size_t shard, const ReportedViolation& found) {
  const std::string kind(Name(found.violation));
  const std::string sender = SenderText(senders_->Describe(shard, found.sender));
  if (said_.size() == kMaxRemembered) return;
  if (!said_.insert(absl::StrCat(kind, "|", found.metric, "|", found.label, "|", sender)).second) {
    return;
  }
  LogFields fields = {{"kind", kind}, {"metric", found.metric}};
  if (!found.label.empty()) fields.emplace_back("label", found.label);
  fields.emplace_back("sender", sender);
  Say("not as the catalog declares it", fields);
}

// Counted here: a shard does not know who is second.
void CatalogReporter::ReportSecondSender(size_t shard, const GaugeReporter& found) {
  const SenderInfo sender = senders_->Describe(shard, found.sender);
  const std::string text = SenderText(sender);
  const std::optional<std::string> first = gauge_reporters_.Note(found.family, sender, text);
  if (!first.has_value()) return;
  counters_[static_cast<size_t>(Violation::kSecondSender)]->Increment();
  Say("not as the catalog declares it", {{"kind", std::string(Name(Violation::kSecondSender))},
                                         {"metric", found.family},
                                         {"sender", text},
                                         {"first_sender", *first}});
}

void CatalogReporter::Say(const std::string& message, const LogFields& fields) {
  if (++lines_ <= kMaxLinesATurn) {
    LogWarn(message, fields);
  } else {
    ++unsaid_;
  }
}

}  // namespace tallyd
