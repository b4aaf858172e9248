// Who saves the state, and what the merger keeps until it is saved.

#include "daemon/state_keeper.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tests/daemon/aggregation.h"

namespace tallyd {
namespace {

namespace fs = std::filesystem;

class StateKeeperTest : public testing::Test {
 protected:
  StateKeeperTest() {
    std::string name = fs::temp_directory_path() / "tallyd-keeper-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~StateKeeperTest() override { fs::remove_all(directory_); }

  std::unique_ptr<StateKeeper> Open() {
    HandedFds handed;
    StateKeeper::Options options;
    options.directory = directory_;
    options.memory_directory = memory_directory_;
    auto keeper = StateKeeper::Open(options, &handed);
    EXPECT_TRUE(keeper.ok()) << keeper.status();
    return *std::move(keeper);
  }

  std::string directory_;
  std::string memory_directory_;  // empty: there is none
};

// On a tmpfs, as memories of shards must be.
class KeptMemoriesTest : public StateKeeperTest {
 protected:
  KeptMemoriesTest() {
    std::string name = "/dev/shm/tallyd-keeper-XXXXXX";
    memory_directory_ = mkdtemp(name.data());
  }
  ~KeptMemoriesTest() override { fs::remove_all(memory_directory_); }

  std::unique_ptr<ShardSet> MakeShard(StateKeeper* keeper) {
    auto shards = ShardSet::Create({}, {}, 1, keeper->NewMemories(1), &counts_);
    EXPECT_TRUE(shards.ok()) << shards.status();
    return *std::move(shards);
  }

 private:
  ConnectionCounts counts_;
};

// What the merger notes of a saving it forgets when that is released, and each saving has a note.
TEST_F(StateKeeperTest, ReleasesWhatIsSavedThoughNoMemoryIsKept) {
  Aggregation aggregation;
  const std::unique_ptr<StateKeeper> keeper = Open();
  aggregation.Send("a:1|c");
  aggregation.merge_thread().MergeNow();
  keeper->Start(&aggregation.merge_thread(), &aggregation.own_metrics());
  keeper->SaveLast();
  EXPECT_TRUE(
      Eventually([&] { return aggregation.memory(0).header().released_epoch.Acquire() > 0; }));
}

// What a shard counted is known by hashes, with a seed that is in no state yet.
TEST_F(KeptMemoriesTest, WhatWasCountedBeforeTheFirstSavingGoesOn) {
  for (int crash = 0; crash < 3; ++crash) {
    const std::unique_ptr<StateKeeper> keeper = Open();
    const std::unique_ptr<ShardSet> shards = MakeShard(keeper.get());
    Merger merger(shards->memories(), shards->rules(), shards->families(), shards->budget(), {});
    keeper->Restore(shards->shards(), &merger, shards->rules(), shards->budget(), {});
    merger.Merge(1, 1);
    EXPECT_EQ(merger.series(), crash == 0 ? 0u : 1u);
    Shard* const shard = shards->shards()[0];
    std::string datagram = "a:1|c";
    datagram.resize(datagram.size() + kReadPadding);
    shard->BeginBatch(1);
    shard->Apply({}, datagram.data(), datagram.size() - kReadPadding);
    shard->EndBatch();
  }
}

}  // namespace
}  // namespace tallyd
