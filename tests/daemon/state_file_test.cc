// The file of the state: whatever fails, and wherever the process ends, it is the old one or the
// new one.

#include "daemon/state_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace tallyd {
namespace {

namespace fs = std::filesystem;

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() {
    std::string name = fs::temp_directory_path() / "tallyd-state-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~StateFileTest() override { fs::remove_all(directory_); }

  std::unique_ptr<StateFile> Open(StateFile::Calls calls = StateFile::KernelCalls()) {
    auto file = StateFile::Open(directory_, std::move(calls));
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  std::string directory_;
};

// Calls that fail from the n-th on, as those of a process that is not there any more.
struct Ending {
  int left = 0;
  int errors = EIO;
  // What a machine that loses its power loses: bytes of files that were not synced.
  std::map<int, size_t> unsynced;
  bool renamed_unsynced = false;

  bool Ends() {
    if (left-- > 0) return false;
    errno = errors;
    return true;
  }
  StateFile::Calls Calls() {
    const StateFile::Calls kernel = StateFile::KernelCalls();
    StateFile::Calls calls = kernel;
    calls.openat = [this, kernel](int directory, const char* name, int flags, mode_t mode) {
      return Ends() ? -1 : kernel.openat(directory, name, flags, mode);
    };
    calls.write = [this, kernel](int fd, const void* bytes, size_t size) -> ssize_t {
      if (Ends()) return -1;
      // A short write, as on a disk that is almost full.
      const ssize_t wrote = kernel.write(fd, bytes, (size + 1) / 2);
      unsynced[fd] += static_cast<size_t>(wrote);
      return wrote;
    };
    calls.fsync = [this, kernel](int fd) {
      if (Ends()) return -1;
      unsynced.erase(fd);
      return kernel.fsync(fd);
    };
    calls.rename = [this, kernel](int directory, const char* from, const char* to) {
      if (Ends()) return -1;
      renamed_unsynced |= !unsynced.empty();
      return kernel.rename(directory, from, to);
    };
    return calls;
  }
};

TEST_F(StateFileTest, GivesBackWhatWasWritten) {
  auto file = Open();
  EXPECT_TRUE(absl::IsNotFound(file->Read().status()));
  for (const size_t size : {0, 1, 5'000'000}) {
    const std::string bytes(size, 'x');
    ASSERT_TRUE(file->Write(bytes).ok());
    EXPECT_EQ(file->Read().value(), bytes);
  }
  EXPECT_EQ(fs::status(directory_ + "/state").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_FALSE(fs::exists(directory_ + "/state.new"));
}

TEST_F(StateFileTest, WhereverItEndsTheFileIsTheOldOrTheNewOne) {
  const std::string old(1000, 'o');
  const std::string fresh(3000, 'n');
  bool was_new = false;
  for (int calls = 0; !was_new; ++calls) {
    ASSERT_LT(calls, 100);
    ASSERT_TRUE(Open()->Write(old).ok());
    Ending ending;
    ending.left = calls;
    const absl::Status status = Open(ending.Calls())->Write(fresh);
    EXPECT_FALSE(ending.renamed_unsynced) << "its bytes were on the disk before it had the name";
    const std::string read = Open()->Read().value();
    EXPECT_TRUE(read == old || read == fresh) << calls;
    EXPECT_TRUE(!status.ok() || read == fresh);
    was_new = status.ok();
  }
}

TEST_F(StateFileTest, AFullDiskLeavesTheOldOneAndNoRemains) {
  ASSERT_TRUE(Open()->Write("old").ok());
  Ending full;
  full.left = 2;
  full.errors = ENOSPC;
  const absl::Status status = Open(full.Calls())->Write("newer");
  EXPECT_NE(status.message().find("No space left"), absl::string_view::npos) << status;
  EXPECT_EQ(Open()->Read().value(), "old");
  EXPECT_FALSE(fs::exists(directory_ + "/state.new"));
}

TEST_F(StateFileTest, HalfAFileOfAProcessThatEndedIsInNobodysWay) {
  std::ofstream(directory_ + "/state.new") << std::string(10'000, 'h');
  auto file = Open();
  EXPECT_TRUE(absl::IsNotFound(file->Read().status()));
  ASSERT_TRUE(file->Write("n").ok());
  EXPECT_EQ(file->Read().value(), "n");
}

TEST_F(StateFileTest, OneProcessAtATime) {
  auto file = Open();
  const absl::Status status = StateFile::Open(directory_).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_NE(status.message().find(directory_), absl::string_view::npos);
  file.reset();
  EXPECT_TRUE(StateFile::Open(directory_).ok());
}

TEST_F(StateFileTest, WhatIsNoFileIsNotReadAndNotFollowed) {
  EXPECT_FALSE(StateFile::Open(directory_ + "/missing").ok());
  std::ofstream(directory_ + "/elsewhere") << "secret";
  fs::create_symlink("elsewhere", directory_ + "/state");
  auto file = Open();
  EXPECT_FALSE(file->Read().ok());
  EXPECT_FALSE(absl::IsNotFound(file->Read().status()));
  ASSERT_TRUE(file->Write("n").ok()) << "it takes the name of the link";
  EXPECT_EQ(file->Read().value(), "n");
  std::ifstream elsewhere(directory_ + "/elsewhere");
  std::string kept;
  elsewhere >> kept;
  EXPECT_EQ(kept, "secret");
}

TEST_F(StateFileTest, SetsAside) {
  auto file = Open();
  ASSERT_TRUE(file->Write("bad").ok());
  const std::string path = file->SetAside(".bad").value();
  EXPECT_EQ(path, directory_ + "/state.bad");
  EXPECT_TRUE(fs::exists(path));
  EXPECT_TRUE(absl::IsNotFound(file->Read().status()));
}

}  // namespace
}  // namespace tallyd
