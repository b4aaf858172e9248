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
    auto keeper = StateKeeper::Open(options, &handed);
    EXPECT_TRUE(keeper.ok()) << keeper.status();
    return *std::move(keeper);
  }

  std::string directory_;
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

}  // namespace
}  // namespace tallyd
