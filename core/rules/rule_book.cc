#include "core/rules/rule_book.h"

#include <utility>

namespace tallyd {

absl::StatusOr<std::unique_ptr<RuleBook>> RuleBook::Create(Rules::Options options) {
  std::unique_ptr<RuleBook> book(new RuleBook());
  absl::StatusOr<uint16_t> first = book->Publish(std::move(options));
  if (!first.ok()) return first.status();
  return book;
}

RuleBook::~RuleBook() = default;

absl::StatusOr<uint16_t> RuleBook::FreeNumber() const {
  for (size_t number = 0; number < kMaxGenerations; ++number) {
    if (owned_[number] == nullptr) return static_cast<uint16_t>(number);
  }
  return absl::ResourceExhaustedError(
      "series made by 1024 earlier sets of rules are still there; restart tallyd, or give series a "
      "ttl");
}

absl::StatusOr<uint16_t> RuleBook::Publish(Rules::Options options) {
  auto rules = Rules::Create(std::move(options), &layouts_, sequence_ + 1);
  if (!rules.ok()) return rules.status();
  const std::lock_guard lock(mu_);
  absl::StatusOr<uint16_t> number = FreeNumber();
  if (!number.ok()) return number;
  ++sequence_;
  if (generations_++ > 0) Release(newest_);
  newest_ = *number;
  Hold(newest_);
  rules_[*number].store(rules->get(), std::memory_order_relaxed);
  owned_[*number] = *std::move(rules);
  return number;
}

void RuleBook::Sweep() {
  const std::lock_guard lock(mu_);
  if (generations_ == 1) return;
  for (size_t number = 0; number < kMaxGenerations; ++number) {
    if (owned_[number] == nullptr) continue;
    if (holders_[number].load(std::memory_order_acquire) != 0) continue;
    rules_[number].store(nullptr, std::memory_order_relaxed);
    owned_[number].reset();
    --generations_;
  }
}

size_t RuleBook::generations() const {
  const std::lock_guard lock(mu_);
  return generations_;
}

}  // namespace tallyd
