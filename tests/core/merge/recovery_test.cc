// What a process leaves in its shards' memories: taken over whole, once, and without trust.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/merge/memory_recovery.h"
#include "core/merge/state_codec.h"
#include "core/merge/state_restorer.h"
#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

using Values = std::map<std::string, std::string>;

constexpr uint64_t kSession = 77;

ShardFeeder::Options HeldOptions(int shards, int64_t ttl_ms = 0) {
  ShardFeeder::Options options;
  options.shards = shards;
  options.ttl_ms = ttl_ms;
  options.session = {.session = kSession, .holds_retired = 1};
  return options;
}

std::vector<Shard*> ShardsOf(ShardFeeder* feeder) {
  std::vector<Shard*> shards;
  for (int i = 0; i < feeder->shards(); ++i) shards.push_back(&feeder->shard(i));
  return shards;
}

std::string Save(ShardFeeder* feeder, uint64_t sequence) {
  SavedHead head;
  head.session = kSession;
  head.sequence = sequence;
  head.unix_s = 1000;
  return feeder->merger().SaveState(std::move(head));
}

// Begins `after` with a saved state, or none, and the memories of `before`.
MemoryRecovery::Counts Recover(const std::string& state, ShardFeeder* before, ShardFeeder* after) {
  const StateRestorer::Options options = {
      .now_ns = after->now_ns(), .has_cells = true, .same_clock = true};
  StateRestorer restorer(options, ShardsOf(after), &after->merger(), &after->rules(),
                         &after->budget());
  EXPECT_TRUE(state.empty() || DecodeState(state, &restorer).ok());
  restorer.Finish();
  MemoryRecovery recovery(options, ShardsOf(after), &after->merger(), &after->rules(),
                          &after->budget());
  for (ShardMemory* memory : before->memories()) {
    auto left = ShardMemory::Open(dup(memory->fd()));
    EXPECT_TRUE(left.ok()) << left.status();
    recovery.Read(left->get(), restorer.head().folded, 1000);
  }
  recovery.Finish();
  return recovery.counts();
}

Rules::Options Mapped(std::vector<MappingRule> rules) {
  MappingConfig config;
  config.rules = std::move(rules);
  return {.mapping = Mapping::Compile(std::move(config)).value()};
}

MappingRule Renaming(std::string match, std::string name) {
  MappingRule rule;
  rule.match = std::move(match);
  rule.name = std::move(name);
  return rule;
}

void SendSome(ShardFeeder* feeder) {
  feeder->Send("c:3|c|#a:b\nc:1.5|c|#a:c\nbig:9007199254740993|c");
  feeder->Send("c:4|c|#a:b", feeder->shards() - 1);
  feeder->Send("g:12.5|g\nrel:+5|g");
  feeder->Send("t:100|ms|@0.6\nt:250|ms\nh:0.25|h\nh:-1|h\nh:0|h");
  feeder->Send("t:7000|ms", feeder->shards() - 1);
  feeder->Send("s:x|s\ns:y|s");
  feeder->Send("s:y|s\ns:z|s", feeder->shards() - 1);
}

TEST(RecoveryTest, EveryKindOfSeriesGoesOn) {
  for (const int shards_after : {2, 1, 3}) {
    for (const int merges : {0, 1, 2}) {
      ShardFeeder before(HeldOptions(2));
      SendSome(&before);
      std::string state;
      if (merges > 0) {
        before.Merge();
        state = Save(&before, 1);
        before.merger().Release(1);
      }
      SendSome(&before);
      if (merges > 1) before.Merge();
      SendSome(&before);

      ShardFeeder after({.shards = shards_after});
      EXPECT_EQ(Recover(state, &before, &after).unusable, 0u);
      const Values values = after.MergeAndParse();
      EXPECT_EQ(values, before.MergeAndParse()) << shards_after << " shards, " << merges;
      for (ShardFeeder* feeder : {&before, &after}) SendSome(feeder);
      EXPECT_EQ(after.MergeAndParse()["c{a=\"b\"}"], before.MergeAndParse()["c{a=\"b\"}"]);
    }
  }
}

// A process may end between any two steps: what was counted is then in the state that was saved
// last, or in the memory, and never in both. Series come, expire, make room for others and come
// back all the time.
TEST(RecoveryTest, NothingIsLostOrDoubledWhereverItEnds) {
  constexpr int kKeys = 12;
  constexpr int64_t kTtlMs = 100;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    ShardFeeder before(HeldOptions(2, kTtlMs));
    std::map<std::string, uint64_t> sent;
    std::string state;
    uint64_t sequence = 0;
    for (int step = 0; step < 150; ++step) {
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          const std::string key = "k" + std::to_string(random() % kKeys);
          const uint64_t n = random() % 100;
          before.Send(key + ":" + std::to_string(n) + "|c", static_cast<int>(random() % 2));
          sent[key] += n;
          break;
        }
        case 3:
          before.Advance(int64_t{1'000'000} * static_cast<int64_t>(random() % 120));
          break;
        case 4:
          before.Turn();
          break;
        case 5:
          before.Merge();
          break;
        case 6:
          if (sequence > 0 || random() % 2 == 0) {
            before.Merge();
            state = Save(&before, ++sequence);
          }
          break;
        case 7:
          if (sequence > 0) before.merger().Release(sequence);
          break;
      }
      ShardFeeder after({.shards = 1 + static_cast<int>(random() % 2), .ttl_ms = kTtlMs});
      const MemoryRecovery::Counts counts = Recover(state, &before, &after);
      ASSERT_EQ(counts.unusable, 0u);
      after.Merge();
      for (const auto& [key, n] : sent) after.Send(key + ":0|c");
      const Values values = after.MergeAndParse();
      for (const auto& [key, n] : sent) {
        ASSERT_EQ(values.at(key), std::to_string(n)) << key << ", seed " << seed << ", " << step;
      }
    }
  }
}

// What other shards have changed since a gauge was set is not in the shard that set it.
TEST(RecoveryTest, AGaugeKeepsWhatOtherShardsHaveChanged) {
  ShardFeeder before(HeldOptions(2));
  before.Send("g:10|g\nonly_changed:+1|g");
  for (int i = 0; i < 100; ++i) {
    before.Merge();
    before.Advance(1'000'000'000);
    before.Send("g:+1|g\nonly_changed:+1|g", 1);
  }
  ShardFeeder after({.shards = 2});
  Recover("", &before, &after);
  EXPECT_EQ(after.MergeAndParse(), (Values{{"g", "110"}, {"only_changed", "101"}}));
}

// Its value is the one that the next merge would have shown, whichever shards set and change it,
// and whichever of them have forgotten it.
TEST(RecoveryTest, AGaugeOfSeveralShardsGoesOnWhereverItEnds) {
  constexpr int kShards = 3;
  constexpr int64_t kTtlMs = 100;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    ShardFeeder before(HeldOptions(kShards, kTtlMs));
    uint64_t sequence = 0;
    for (int round = 0; round < 60; ++round) {
      for (uint64_t step = random() % 6; step > 0; --step) {
        const int shard = static_cast<int>(random() % kShards);
        const std::string n = std::to_string(random() % 100);
        switch (random() % 8) {
          case 0:
            before.Send("g:" + n + "|g", shard);
            break;
          case 1:
            before.Send("g:-" + n + "|g", shard);
            break;
          case 2:
            before.Merge();
            break;
          case 3:
            before.Merge();
            Save(&before, ++sequence);
            before.merger().Release(sequence);
            break;
          default:
            before.Send("g:+" + n + "|g", shard);
        }
      }
      if (random() % 3 == 0) {
        // A cell that no merge has seen does not keep a gauge alive whose others expire.
        before.Merge();
        before.Advance(int64_t{1'037'000} * static_cast<int64_t>(random() % 120));
        before.Turn();
      }
      ShardFeeder after({.shards = 1 + static_cast<int>(random() % kShards), .ttl_ms = kTtlMs});
      Recover("", &before, &after);
      ASSERT_EQ(after.MergeAndParse(), before.MergeAndParse()) << seed << ", round " << round;
    }
  }
}

// The memory has a slot of either name, and the same key in both.
TEST(RecoveryTest, WhatWasCountedBeforeAReloadIsOfTheOldName) {
  ShardFeeder before(HeldOptions(2));
  before.Send("c:3|c\nh:1|h\ng:5|g");
  before.UseRules(Mapped({Renaming("c", "new_c"), Renaming("h", "new_h"), Renaming("g", "new_g")}));
  before.Send("c:4|c\nh:2|h\nh:3|h\ng:6|g");
  before.Send("c:10|c", 1);

  ShardFeeder::Options options;
  options.mapping =
      Mapped({Renaming("c", "new_c"), Renaming("h", "new_h"), Renaming("g", "new_g")}).mapping;
  ShardFeeder after(options);
  EXPECT_EQ(Recover("", &before, &after).unusable, 1u) << "the gauge of the old name";
  Values values = after.MergeAndParse();
  EXPECT_EQ(values["new_c"], "14");
  EXPECT_EQ(values["new_h_count"], "2");
  EXPECT_EQ(values["new_g"], "6");
  EXPECT_EQ(values.count("c") + values.count("h_count") + values.count("g"), 0u);
  // And back again.
  after.UseRules({});
  after.Send("c:1|c\nh:1|h");
  values = after.MergeAndParse();
  EXPECT_EQ(values["c"], "4");
  EXPECT_EQ(values["h_count"], "2");
  EXPECT_EQ(values["h_sum"], "2");
  EXPECT_EQ(values["new_c"], "14");
}

TEST(RecoveryTest, WhatTheEditedRulesNameOtherwiseOrRefuseWaits) {
  ShardFeeder before(HeldOptions(1));
  before.Send("c:3|c\nrefused:7|c\nkept:5|c\ng:1|g\ns:x|s");
  before.Merge();
  const std::string state = Save(&before, 1);
  before.Send("c:3|c\nrefused:7|c\nkept:5|c\ng:1|g\ns:x|s");

  MappingRule drop = Renaming("refused", "x");
  drop.drop = true;
  ShardFeeder::Options options;
  options.mapping =
      Mapped({Renaming("c", "new_c"), drop, Renaming("g", "new_g"), Renaming("s", "new_s")})
          .mapping;
  for (const std::string& saved : {std::string(), state}) {
    ShardFeeder after(options);
    EXPECT_EQ(Recover(saved, &before, &after).unusable, 2u) << "gauge and set";
    EXPECT_EQ(after.MergeAndParse(), (Values{{"kept", "10"}}));
    after.UseRules({});
    after.Send("c:0|c\nrefused:0|c");
    EXPECT_EQ(after.MergeAndParse(), (Values{{"kept", "10"}, {"c", "6"}, {"refused", "14"}}));
  }
}

// A series is known by a hash: with another seed it says nothing, and all of it is left.
TEST(RecoveryTest, HashesWithAnotherSeedAreNotBelieved) {
  ShardFeeder before(HeldOptions(1));
  before.Send("c:3|c\ng:1|g");
  ++before.memories()[0]->header().hash_seed;
  ShardFeeder after;
  const MemoryRecovery::Counts counts = Recover("", &before, &after);
  EXPECT_EQ(counts.unusable, 2u);
  EXPECT_EQ(counts.cells, 0u);
  EXPECT_TRUE(after.MergeAndParse().empty());
}

// A writer in a process of its own is killed in the midst of its work.
TEST(RecoveryTest, WhatAKilledProcessHadAppliedIsThere) {
  constexpr int kLines = 50;
  for (int round = 0; round < 8; ++round) {
    const int fd = memfd_create("recovery-test", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ShardFeeder::Options options = HeldOptions(1);
      options.memory_fd = fd;
      ShardFeeder writer(options);
      std::string datagram;
      for (int i = 0; i < kLines; ++i) {
        datagram += "n:1|c\nh:" + std::to_string(i) + "|h\n";
      }
      for (;;) writer.Send(datagram);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30 + 7 * round));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);

    auto left = ShardMemory::Open(fd);
    if (!left.ok()) continue;  // it had not begun yet
    const Ledger& ledger = (*left)->ledger();
    const uint64_t applied = ledger.applied.Get() / 2;
    ShardFeeder after;
    const StateRestorer::Options options = {.now_ns = after.now_ns(), .same_clock = true};
    MemoryRecovery recovery(options, ShardsOf(&after), &after.merger(), &after.rules(),
                            &after.budget());
    recovery.Read(left->get(), {}, 0);
    recovery.Finish();
    Values values = after.MergeAndParse();
    if (applied == 0) continue;
    const uint64_t n = std::stoull(values.at("n"));
    const uint64_t count = std::stoull(values.at("h_count"));
    EXPECT_GE(n, applied);
    EXPECT_LE(n, applied + kLines) << "no more than the batch in hand";
    EXPECT_GE(count, applied);
    EXPECT_LE(count, applied + kLines);
    EXPECT_EQ(recovery.counts().unusable, 0u);
  }
}

TEST(RecoveryTest, AnotherVersionOrFormIsRefused) {
  ShardFeeder feeder(HeldOptions(1));
  const int fd = feeder.memories()[0]->fd();
  const uint32_t version = ShardHeader::kVersion + 1;
  ASSERT_EQ(pwrite(fd, &version, sizeof(version), 8), static_cast<ssize_t>(sizeof(version)));
  const absl::Status status = ShardMemory::Open(dup(fd)).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_NE(status.message().find(std::to_string(version)), absl::string_view::npos);

  const int other = memfd_create("recovery-test", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(other, 1 << 20), 0);
  EXPECT_TRUE(absl::IsDataLoss(ShardMemory::Open(dup(other)).status())) << "zeros";
  ShardHeader header;
  header.max_slots = ShardMemory::kMaxSlots;
  ASSERT_EQ(pwrite(other, &header, sizeof(header), 0), static_cast<ssize_t>(sizeof(header)));
  EXPECT_TRUE(absl::IsDataLoss(ShardMemory::Open(other).status())) << "cut";
  EXPECT_FALSE(ShardMemory::Open(memfd_create("recovery-test", MFD_CLOEXEC)).ok()) << "empty";
}

// Whatever bytes there are: numbers may be wrong, but nothing else is read than the memory.
TEST(RecoveryTest, DamagedMemoriesAreReadWithoutHarm) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 25; ++round) {
    ShardFeeder before(HeldOptions(1));
    SendSome(&before);
    ShardMemory* const memory = before.memories()[0];
    // The parts that are in use, each begins where it does.
    const std::vector<std::pair<char*, size_t>> parts = {
        {reinterpret_cast<char*>(memory->chunks()), 8 * sizeof(ChunkHead)},
        {reinterpret_cast<char*>(memory->states()), 512 * sizeof(SlotStateWord)},
        {reinterpret_cast<char*>(memory->identities()), 512 * sizeof(SlotIdentity)},
        {reinterpret_cast<char*>(memory->layouts()), 16 * sizeof(uint64_t)},
        {memory->keys(), 256},
        {reinterpret_cast<char*>(memory->cells()), 64 << 10},
        {reinterpret_cast<char*>(&memory->header().chunk_count), 4},
    };
    for (int i = 0; i < 40; ++i) {
      const auto& [bytes, size] = parts[random() % parts.size()];
      bytes[random() % size] = static_cast<char>(random());
    }
    auto left = ShardMemory::Open(dup(memory->fd()));
    ASSERT_TRUE(left.ok());
    ShardFeeder after;
    const StateRestorer::Options options = {.now_ns = after.now_ns(), .same_clock = true};
    MemoryRecovery recovery(options, ShardsOf(&after), &after.merger(), &after.rules(),
                            &after.budget());
    recovery.Read(left->get(), {}, 0);
    recovery.Finish();
    after.MergeAndParse();
  }
}

}  // namespace
}  // namespace tallyd
