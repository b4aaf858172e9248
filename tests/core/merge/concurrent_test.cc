// Property: whatever the merger renders while shards count, expire and reuse slots is a legal
// exposition of a moment that was: every line parses, a counter that never left never went down, a
// histogram's count is its +Inf bucket, and a series shows only what was sent to its own name. When
// all is quiet, what never expired is exact.
//
// Data validate themselves: every increment of a counter is a multiple of a number in its name. The
// same steps run without threads first, where a failure is easy to read, then with.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/core/merge/exposition.h"
#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kBatches = 1500;
#else
constexpr int kBatches = 8000;
#endif
constexpr int kShards = 2;
constexpr int64_t kBatchNs = 2'000'000;

// One shard's sender: steady counters and timers that every shard feeds, and names that come and
// go.
class Sender {
 public:
  explicit Sender(int shard) : shard_(shard), random_(static_cast<unsigned>(shard)) {}

  std::string NextDatagram(int batch) {
    std::string lines;
    for (int i = 0; i < 5; ++i) {
      const unsigned prime = kPrimes[random_() % 5];
      lines += "steady." + std::to_string(prime) + ":" + std::to_string(prime) + "|c\n";
      steady_total_ += prime;
      lines += "passing." + std::to_string(batch / 20 + static_cast<int>(random_() % 10)) + ".p" +
               std::to_string(prime) + ":" + std::to_string(prime) +
               "|c|#s:" + std::to_string(shard_) + "\n";
      lines += "timer:" + std::to_string(random_() % 9000) + "|ms\n";
      ++timers_;
    }
    return lines;
  }
  uint64_t steady_total() const { return steady_total_; }
  uint64_t timers() const { return timers_; }

 private:
  static constexpr unsigned kPrimes[] = {3, 7, 11, 13, 17};
  int shard_;
  std::mt19937 random_;
  uint64_t steady_total_ = 0;
  uint64_t timers_ = 0;
};

// Looks at one exposition after the other.
class Watcher {
 public:
  void Look(const std::string& text) {
    const Exposition exposition(text);
    ASSERT_TRUE(exposition.ok()) << exposition.error();
    std::map<std::string, uint64_t> now;
    for (const auto& [series, value] : exposition.values()) {
      if (series.rfind("passing_", 0) == 0) {
        const uint64_t count = std::stoull(value);
        const uint64_t prime = std::stoull(series.substr(series.find("_p", 8) + 2));
        // It may have expired and come back since the last look, so it may be less than then.
        ASSERT_EQ(count % prime, 0u) << series << " shows " << value << ", another's number";
      } else if (series.rfind("steady_", 0) == 0 || series.rfind("timer_bucket", 0) == 0 ||
                 series == "timer_count") {
        now[series] = std::stoull(value);
      }
    }
    for (const auto& [series, value] : now) {
      const auto before = last_.find(series);
      if (before == last_.end()) continue;
      ASSERT_GE(value, before->second) << series << " went down";
    }
    if (now.contains("timer_count")) {
      ASSERT_EQ(now["timer_count"], now["timer_bucket{le=\"+Inf\"}"]);
    }
    last_ = std::move(now);
    ++looks_;
  }
  int looks() const { return looks_; }

 private:
  std::map<std::string, uint64_t> last_;
  int looks_ = 0;
};

void ExpectExactAtRest(ShardFeeder* feeder, const std::vector<Sender>& senders) {
  uint64_t steady = 0;
  uint64_t timers = 0;
  for (const Sender& sender : senders) {
    steady += sender.steady_total();
    timers += sender.timers();
  }
  uint64_t shown = 0;
  const auto values = feeder->MergeAndParse();
  for (const auto& [series, value] : values) {
    if (series.rfind("steady_", 0) == 0) shown += std::stoull(value);
  }
  EXPECT_EQ(shown, steady);
  EXPECT_EQ(std::stoull(values.at("timer_count")), timers);
  EXPECT_EQ(feeder->Received(), feeder->Applied() + feeder->Dropped());
  EXPECT_LT(feeder->merger().series(), 2000u) << "nothing expired";
}

ShardFeeder::Options FeederOptions() { return {.shards = kShards, .ttl_ms = 100}; }

TEST(ConcurrentTest, WithoutThreads) {
  ShardFeeder feeder(FeederOptions());
  std::vector<Sender> senders = {Sender(0), Sender(1)};
  Watcher watcher;
  for (int batch = 0; batch < 1000; ++batch) {
    for (int shard = 0; shard < kShards; ++shard) {
      feeder.Send(senders[static_cast<size_t>(shard)].NextDatagram(batch), shard);
    }
    feeder.Advance(kBatchNs);
    if (batch % 7 == 0) feeder.Merge();
    if (batch % 50 == 0) watcher.Look(feeder.Text());
    if (HasFatalFailure()) return;
  }
  ExpectExactAtRest(&feeder, senders);
}

// Each shard's thread runs `before_batch(shard)` and sends; this one merges and looks, and calls
// `between_looks`.
template <class BeforeBatch, class BetweenLooks>
void RunThreads(ShardFeeder* feeder, std::vector<Sender>* senders, BeforeBatch&& before_batch,
                BetweenLooks&& between_looks) {
  std::atomic<int> running{kShards};
  std::vector<std::thread> threads;
  for (int shard = 0; shard < kShards; ++shard) {
    threads.emplace_back([&, shard] {
      int64_t now_ns = feeder->now_ns();
      for (int batch = 0; batch < kBatches; ++batch) {
        before_batch(shard);
        std::string datagram = (*senders)[static_cast<size_t>(shard)].NextDatagram(batch);
        const size_t size = datagram.size();
        datagram.resize(size + kReadPadding);
        feeder->shard(shard).BeginBatch(now_ns += kBatchNs);
        feeder->shard(shard).Apply({}, datagram.data(), size);
        feeder->shard(shard).EndBatch();
        if (batch % 16 == 0) std::this_thread::yield();
      }
      running.fetch_sub(1, std::memory_order_relaxed);
    });
  }
  Watcher watcher;
  while (running.load(std::memory_order_relaxed) > 0 && !testing::Test::HasFatalFailure()) {
    for (int i = 0; i < 10; ++i) feeder->Merge();
    watcher.Look(feeder->Text());
    between_looks();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(watcher.looks(), 5);
}

TEST(ConcurrentTest, WithThreads) {
  ShardFeeder feeder(FeederOptions());
  std::vector<Sender> senders = {Sender(0), Sender(1)};
  RunThreads(
      &feeder, &senders, [](int) {}, [] {});
  ExpectExactAtRest(&feeder, senders);
}

// New rules while shards count and the merger reads: what they do not change goes on.
TEST(ConcurrentTest, WithReloads) {
  ShardFeeder feeder(FeederOptions());
  std::vector<Sender> senders = {Sender(0), Sender(1)};
  constexpr int kNone = -1;
  std::array<std::atomic<int>, kShards> next;
  for (std::atomic<int>& mailbox : next) mailbox.store(kNone, std::memory_order_relaxed);
  int reloads = 0;
  RunThreads(
      &feeder, &senders,
      [&](int shard) {
        const int generation = next[static_cast<size_t>(shard)].load(std::memory_order_acquire);
        if (generation == kNone) return;
        feeder.shard(shard).UseRules(static_cast<uint16_t>(generation));
        next[static_cast<size_t>(shard)].store(kNone, std::memory_order_release);
      },
      [&] {
        for (const std::atomic<int>& mailbox : next) {
          if (mailbox.load(std::memory_order_acquire) != kNone) return;
        }
        Rules::Options options;
        options.default_ttl_ms = FeederOptions().ttl_ms;
        MappingConfig config;
        config.defaults.ttl_ms = options.default_ttl_ms;
        MappingRule rule;
        rule.match = "unrelated" + std::to_string(++reloads);
        rule.name = "unrelated";
        config.rules.push_back(rule);
        options.mapping = Mapping::Compile(std::move(config)).value();
        const uint16_t generation = feeder.rules().Publish(std::move(options)).value();
        for (std::atomic<int>& mailbox : next) {
          feeder.rules().Hold(generation);
          mailbox.store(generation, std::memory_order_release);
        }
      });
  EXPECT_GT(reloads, 5);
  ExpectExactAtRest(&feeder, senders);
}

}  // namespace
}  // namespace tallyd
