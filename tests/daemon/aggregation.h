// Shards, a merger thread and the own metrics, without sockets, for tests.

#ifndef TALLYD_TESTS_DAEMON_AGGREGATION_H_
#define TALLYD_TESTS_DAEMON_AGGREGATION_H_

#include <poll.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/merge/merger.h"
#include "core/rules/rule_book.h"
#include "core/shard/family_types.h"
#include "core/shard/shard.h"
#include "daemon/clock.h"
#include "daemon/merge_thread.h"
#include "daemon/own_metrics.h"

namespace tallyd {

// Waits for something that other threads bring about; false if it does not come.
inline bool Eventually(const std::function<bool()>& holds) {
  const int64_t deadline_ns = MonotonicNs() + 20'000'000'000;
  while (!holds()) {
    if (MonotonicNs() > deadline_ns) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

// Two shards, which the test feeds, and what the daemon makes of them. By default the merger does
// not merge by itself within the life of a test.
class Aggregation {
 public:
  explicit Aggregation(absl::Duration interval = absl::Hours(1))
      : rules_(RuleBook::Create({}).value()), families_(1 << 16, kSeed), budget_({}, kSeed) {
    std::vector<ShardMemory*> memories;
    for (int i = 0; i < kShards; ++i) {
      shards_.push_back(
          Shard::Create({.index = i, .hash_seed = kSeed}, rules_.get(), &families_, &budget_)
              .value());
      memories.push_back(&shards_.back()->memory());
      ledgers_.push_back(&shards_.back()->ledger());
    }
    merge_thread_ = std::make_unique<MergeThread>(
        std::make_unique<Merger>(memories, rules_.get(), &families_, &budget_), interval);
    own_metrics_ = std::make_unique<OwnMetrics>(ledgers_, Listeners(), merge_thread_.get());
    merge_thread_->MergeNow();
  }

  // A batch of one datagram.
  void Send(std::string_view datagram, int shard = 0, uint16_t listener = 0) {
    std::string padded(datagram);
    padded.resize(datagram.size() + kReadPadding);
    shards_[shard]->BeginBatch(MonotonicNs());
    shards_[shard]->Apply({.listener = listener}, padded.data(), datagram.size());
    shards_[shard]->EndBatch();
  }

  Ledger& ledger(int shard) { return shards_[shard]->ledger(); }
  ShardMemory& memory(int shard) { return shards_[shard]->memory(); }
  MergeThread& merge_thread() { return *merge_thread_; }
  OwnMetrics& own_metrics() { return *own_metrics_; }
  void DestroyMergeThread() {
    own_metrics_.reset();
    merge_thread_.reset();
  }

  static constexpr int kShards = 2;

 private:
  static constexpr uint64_t kSeed = 7;

  static std::vector<ListenerInfo> Listeners() {
    return {{.name = "udp:127.0.0.1:8125",
             .receive_buffer_asked_bytes = 1000,
             .receive_buffer_bytes = 2000},
            {.name = "tcp:127.0.0.1:9125", .takes_connections = true}};
  }

  std::unique_ptr<RuleBook> rules_;
  FamilyTypes families_;
  SeriesBudget budget_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<const Ledger*> ledgers_;
  std::unique_ptr<MergeThread> merge_thread_;
  std::unique_ptr<OwnMetrics> own_metrics_;
};

// All pages of a snapshot, one after the other.
inline std::string TextOf(const Snapshot& snapshot) {
  std::string text;
  for (const auto& section : snapshot.sections) {
    for (const PageBuffer& page : section) text += *page;
  }
  return text;
}

}  // namespace tallyd

#endif  // TALLYD_TESTS_DAEMON_AGGREGATION_H_
