// The sets of rules that are in force or still needed: one for each reload.
//
// A slot's series is what the rules say of its first key, so a shard's memory need not hold names
// and labels. After a reload old slots still mean what they meant under the rules they were made
// by; these stay until no slot refers to them.

#ifndef TALLYD_CORE_RULES_RULE_BOOK_H_
#define TALLYD_CORE_RULES_RULE_BOOK_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "core/rules/layout_table.h"
#include "core/rules/rules.h"

namespace tallyd {

// Invariant: a generation that somebody holds is not freed, nor its number given to another. The
// newest is held by the book. Thread-safe where it says so.
class RuleBook {
 public:
  static constexpr size_t kMaxGenerations = 1024;

  // With a first generation by `options`.
  static absl::StatusOr<std::unique_ptr<RuleBook>> Create(Rules::Options options);
  ~RuleBook();
  RuleBook(const RuleBook&) = delete;
  RuleBook& operator=(const RuleBook&) = delete;

  // Control thread. Makes a new generation the newest and returns its number. ResourceExhausted if
  // there is no number or no layout left.
  absl::StatusOr<uint16_t> Publish(Rules::Options options);
  // Control thread.
  uint16_t newest() const { return newest_; }

  // Any thread that holds the generation, or has reached it by way of something that does.
  const Rules& At(uint16_t generation) const {
    // Relaxed: whoever knows the number learned it after the pointer was stored.
    return *rules_[generation].load(std::memory_order_relaxed);
  }
  const HistogramLayout& layout(uint16_t number) const { return layouts_[number]; }
  // Control thread. LayoutTable::FindIf.
  template <class Fits>
  bool FindLayoutIf(Fits&& fits, uint16_t* number) const {
    return layouts_.FindIf(fits, number);
  }

  // Any thread that holds the generation already, or the control thread.
  void Hold(uint16_t generation) { holders_[generation].fetch_add(1, std::memory_order_relaxed); }
  // Any thread. The holder's last use comes before it, hence release; Sweep acquires.
  void Release(uint16_t generation) {
    holders_[generation].fetch_sub(1, std::memory_order_release);
  }

  // Merger thread, between two passes, so that it reads no old rules itself. Frees what nobody
  // holds.
  void Sweep();

  // Any thread. How many generations there are.
  size_t generations() const;

 private:
  RuleBook() = default;
  // With mu_ held.
  absl::StatusOr<uint16_t> FreeNumber() const;

  LayoutTable layouts_;
  std::array<std::atomic<const Rules*>, kMaxGenerations> rules_{};
  std::array<std::atomic<uint64_t>, kMaxGenerations> holders_{};
  uint32_t sequence_ = 0;
  uint16_t newest_ = 0;
  mutable std::mutex mu_;
  std::array<std::unique_ptr<const Rules>, kMaxGenerations> owned_;  // guarded by mu_
  size_t generations_ = 0;                                           // guarded by mu_
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_RULE_BOOK_H_
