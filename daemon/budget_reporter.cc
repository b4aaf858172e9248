#include "daemon/budget_reporter.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/budget_metrics.h"
#include "daemon/log.h"

namespace tallyd {

BudgetReporter::BudgetReporter(Loop* loop, MergeThread* merger, const SeriesBudget* budget,
                               const SenderDirectory* senders, absl::Duration evict_after)
    : loop_(loop),
      merger_(merger),
      budget_(budget),
      senders_(senders),
      evict_after_(evict_after),
      timer_(*loop) {}

void BudgetReporter::Stop() {
  stopped_ = true;
  timer_.cancel();
}

void BudgetReporter::SetCatalog(std::shared_ptr<const CatalogIndex> catalog) {
  const std::lock_guard lock(mu_);
  catalog_ = std::move(catalog);
}

void BudgetReporter::WaitLater() {
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) Turn();
  });
}

void BudgetReporter::Turn() {
  const MergeThread::Status status = merger_->status();
  LogEvictions(status.evicted);
  if (status.folded_families == 0 && folding_.empty()) return WaitLater();
  merger_->Ask([this, loop = loop_](const Merger* merger) {
    if (merger == nullptr) return;
    boost::asio::post(*loop, [this, folded = merger->FoldedFamilies()] {
      if (stopped_) return;
      Take(folded);
      WaitLater();
    });
  });
}

void BudgetReporter::Take(const std::vector<FoldedFamily>& folded) {
  LogNew(folded);
  std::vector<TopReport::OverBudget> over;
  for (const FoldedFamily& family : folded) {
    if (over.size() == kMaxTopRows) break;
    over.push_back(Describe(family));
  }
  const std::lock_guard lock(mu_);
  over_ = std::move(over);
}

void BudgetReporter::LogNew(const std::vector<FoldedFamily>& folded) {
  absl::flat_hash_set<std::string> folding;
  size_t begun = 0;
  for (const FoldedFamily& family : folded) {
    folding.insert(family.name);
    if (folding_.contains(family.name) || ++begun > kMaxLinesATurn) continue;
    const TopReport::OverBudget row = Describe(family);
    LogWarn("a family folds for want of room", {{"family", row.family},
                                                {"label", row.label.empty() ? "all" : row.label},
                                                {"sender", row.sender},
                                                {"bound", row.of},
                                                {"series", absl::StrCat(row.series)},
                                                {"limit", absl::StrCat(row.limit)}});
  }
  if (begun > kMaxLinesATurn) {
    LogWarn("more families fold for want of room",
            {{"families", absl::StrCat(begun - kMaxLinesATurn)}});
  }
  folding_ = std::move(folding);
}

void BudgetReporter::LogEvictions(uint64_t evicted) {
  const uint64_t more = evicted - std::exchange(evicted_, evicted);
  if (more == 0) return;
  LogWarn("series that did not change for long make room for others",
          {{"series", absl::StrCat(more)},
           {"unchanged_for", absl::FormatDuration(evict_after_)},
           {"refused", RefusalsSince()}});
}

// Since it was asked last: "series:12,family:3".
std::string BudgetReporter::RefusalsSince() {
  std::vector<std::string> parts;
  for (const auto& [answer, reason] : kRefusals) {
    const uint64_t now = budget_->refusals(answer);
    const uint64_t before = std::exchange(refusals_[static_cast<size_t>(answer)], now);
    if (now > before) parts.push_back(absl::StrCat(reason, ":", now - before));
  }
  return absl::StrJoin(parts, ",");
}

uint64_t BudgetReporter::FamilyLimit(const CatalogIndex* catalog, const SeriesBudget& budget,
                                     const std::string& family) {
  const DeclaredFamily* const declared = catalog == nullptr ? nullptr : catalog->Find(family);
  if (declared != nullptr && declared->catalog->mode == CatalogMode::kEnforce &&
      declared->series_limit != 0) {
    return declared->series_limit;
  }
  return budget.limits().family_series;
}

// By the nearest of the bounds that are reached now. None may be any more: room came back, and the
// overflow series stays.
TopReport::OverBudget BudgetReporter::Describe(const FoldedFamily& folded) const {
  const SeriesBudget::Limits& limits = budget_->limits();
  const SenderInfo sender = senders_->Describe(folded.sender.shard, folded.sender.number);
  TopReport::OverBudget row;
  row.family = folded.name;
  row.label = absl::StrJoin(folded.labels, ",");
  row.sender = SenderText(sender);
  row.of = "family";
  row.series = folded.series;
  row.limit = FamilyLimit(catalog_.get(), *budget_, folded.name);
  if (row.series >= row.limit) return row;
  if (sender.kind == SenderInfo::Kind::kProcess && sender.counts.series >= limits.sender_series) {
    row.of = "sender";
    row.series = sender.counts.series;
    row.limit = limits.sender_series;
    row.folded = sender.counts.folded;
  } else if (budget_->series() >= limits.series) {
    row.of = "all";
    row.series = budget_->series();
    row.limit = limits.series;
  } else if (budget_->refusals(SeriesBudget::Answer::kLabelBytes) > 0) {
    row.of = "label_bytes";
  }
  return row;
}

void BudgetReporter::AddTo(TopReport* report) const {
  TopReport::Budgets& budgets = report->budgets.emplace();
  budgets.family_limit = budget_->limits().family_series;
  budgets.sender_limit = budget_->limits().sender_series;
  const std::lock_guard lock(mu_);
  budgets.over = over_;
  for (TopReport::Family& family : report->families) {
    family.limit = FamilyLimit(catalog_.get(), *budget_, family.name);
  }
}

}  // namespace tallyd
