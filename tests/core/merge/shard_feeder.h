// Feeds lines to shards and reads back what the merger shows, for tests.

#ifndef TALLYD_TESTS_CORE_MERGE_SHARD_FEEDER_H_
#define TALLYD_TESTS_CORE_MERGE_SHARD_FEEDER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/text.h"
#include "core/merge/merger.h"
#include "core/shard/shard.h"

namespace tallyd {

// A few shards and a merger, on a clock that the test turns. Thread-compatible.
class ShardFeeder {
 public:
  struct Options {
    int shards = 1;
    SeriesBudget::Limits limits = {};
    MergerOptions merging = {};
    int64_t ttl_ms = 0;
    Dialect dialect = Dialect::kStatsd;
    std::shared_ptr<const Mapping> mapping = nullptr;
    std::shared_ptr<const CatalogIndex> catalog = nullptr;
    MemorySession session = {};  // the shard's number apart
    int memory_fd = -1;          // of the only shard
  };

  ShardFeeder() : ShardFeeder(Options{}) {}
  explicit ShardFeeder(Options options)
      : options_(options),
        rules_(RuleBook::Create({.default_ttl_ms = options.ttl_ms,
                                 .mapping = options.mapping,
                                 .catalog = options.catalog})
                   .value()),
        families_(1 << 18, kSeed),
        budget_(options.limits, kSeed),
        encoder_(TextFormat::kPrometheus004, ContentCoding::kIdentity) {
    std::vector<ShardMemory*> memories;
    for (int i = 0; i < options.shards; ++i) {
      ShardOptions shard_options;
      shard_options.index = i;
      shard_options.hash_seed = kSeed;
      shard_options.session = options.session;
      shard_options.session.shard = static_cast<uint32_t>(i);
      shard_options.session.shards = static_cast<uint32_t>(options.shards);
      shard_options.memory_fd = options.memory_fd;
      shards_.push_back(Shard::Create(shard_options, rules_.get(), &families_, &budget_).value());
      memories.push_back(&shards_.back()->memory());
    }
    merger_ =
        std::make_unique<Merger>(memories, rules_.get(), &families_, &budget_, options.merging);
    variant_ = merger_->AddVariant(&encoder_);
  }

  // One batch of one datagram.
  void Send(std::string_view datagram, int shard = 0) {
    std::string padded(datagram);
    padded.resize(datagram.size() + kReadPadding);
    now_ns_ += 1000;
    shards_[shard]->BeginBatch(now_ns_);
    shards_[shard]->Apply({.listener = 0, .dialect = options_.dialect}, padded.data(),
                          datagram.size());
    shards_[shard]->EndBatch();
  }

  void Advance(int64_t ns) { now_ns_ += ns; }
  void Turn() {
    for (auto& shard : shards_) shard->Turn(now_ns_);
  }
  MergeStats Merge(int64_t unix_s = 0) { return merger_->Merge(now_ns_, unix_s); }

  // The exposition, as text.
  std::string Text() {
    std::string text;
    const auto snapshot = merger_->Render(variant_);
    for (const auto& section : snapshot->sections) {
      for (const PageBuffer& page : section) text += *page;
    }
    return text;
  }

  // Sample name with labels -> value as written.
  static std::map<std::string, std::string> Parse(const std::string& text) {
    std::map<std::string, std::string> values;
    size_t start = 0;
    while (start < text.size()) {
      const size_t end = text.find('\n', start);
      const std::string line = text.substr(start, end - start);
      start = end + 1;
      if (line.empty() || line[0] == '#') continue;
      const size_t space = line.rfind(' ');
      values[line.substr(0, space)] = line.substr(space + 1);
    }
    return values;
  }
  std::map<std::string, std::string> MergeAndParse() {
    Merge();
    return Parse(Text());
  }

  uint64_t Received() const {
    uint64_t n = 0;
    for (const auto& shard : shards_) n += shard->ledger().listeners[0].samples.Get();
    return n;
  }
  uint64_t Applied() const {
    uint64_t n = 0;
    for (const auto& shard : shards_) n += shard->ledger().applied.Get();
    return n;
  }
  uint64_t Folded() const {
    uint64_t n = 0;
    for (const auto& shard : shards_) n += shard->ledger().folded.Get();
    return n;
  }
  uint64_t Dropped() const {
    uint64_t n = 0;
    for (size_t i = 0; i < kDropReasons; ++i) n += Dropped(static_cast<DropReason>(i));
    return n;
  }
  uint64_t Dropped(DropReason reason) const {
    uint64_t n = 0;
    for (const auto& shard : shards_)
      n += shard->ledger().dropped[static_cast<size_t>(reason)].Get();
    return n;
  }
  uint64_t Repaired(RepairReason reason) const {
    uint64_t n = 0;
    for (const auto& shard : shards_) {
      n += shard->ledger().repaired[static_cast<size_t>(reason)].Get();
    }
    return n;
  }

  int shards() const { return options_.shards; }
  Shard& shard(int i = 0) { return *shards_[i]; }
  Merger& merger() { return *merger_; }
  // The shards read keys by these rules from now on.
  void UseRules(Rules::Options options) {
    const uint16_t generation = rules_->Publish(std::move(options)).value();
    for (auto& shard : shards_) {
      rules_->Hold(generation);
      shard->UseRules(generation);
    }
  }
  RuleBook& rules() { return *rules_; }
  FamilyTypes& families() { return families_; }
  SeriesBudget& budget() { return budget_; }
  int64_t now_ns() const { return now_ns_; }
  std::vector<ShardMemory*> memories() {
    std::vector<ShardMemory*> memories;
    for (auto& shard : shards_) memories.push_back(&shard->memory());
    return memories;
  }

 private:
  static constexpr uint64_t kSeed = 0x5eed;

  Options options_;
  std::unique_ptr<RuleBook> rules_;
  FamilyTypes families_;
  SeriesBudget budget_;
  TextEncoder encoder_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<Merger> merger_;
  int variant_ = 0;
  int64_t now_ns_ = int64_t{1'000'000'000'000};
};

}  // namespace tallyd

#endif  // TALLYD_TESTS_CORE_MERGE_SHARD_FEEDER_H_
