// Socket paths: what is taken over, what is refused, what is given back.

#include "daemon/unix_path.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "daemon/exit_code.h"

namespace tallyd {
namespace {

using ::testing::HasSubstr;

class UnixPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/unix_path_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/statsd.sock";
  }
  void TearDown() override {
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }

  void ExpectRefused(int type, const std::string& because) {
    const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, type, 0755);
    ASSERT_FALSE(bound.ok());
    EXPECT_EQ(ExitCodeFor(bound.status()), ExitCode::kInUse) << bound.status();
    EXPECT_THAT(std::string(bound.status().message()), HasSubstr(because));
    EXPECT_THAT(std::string(bound.status().message()), HasSubstr(path_));
  }
  bool Exists() const {
    struct stat info {};
    return ::lstat(path_.c_str(), &info) == 0;
  }
  // A socket file that nobody listens on any more.
  void LeaveDeadSocket(int type) {
    const UniqueFd fd(::socket(AF_UNIX, type, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(UnixPathTest, BindsWithTheModeAskedAndGivesThePathBack) {
  {
    const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, SOCK_DGRAM, 0722);
    ASSERT_TRUE(bound.ok()) << bound.status();
    struct stat info {};
    ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0722u);
  }
  EXPECT_FALSE(Exists());
}

TEST_F(UnixPathTest, TakesOverADeadSocketOfAnyType) {
  for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
    LeaveDeadSocket(type);
    const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, type, 0755);
    EXPECT_TRUE(bound.ok()) << bound.status();
  }
}

TEST_F(UnixPathTest, RefusesASocketThatAnswers) {
  for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
    const absl::StatusOr<UnixPath> first = UnixPath::Bind(path_, type, 0755);
    ASSERT_TRUE(first.ok()) << first.status();
    if (type != SOCK_DGRAM) {
      ASSERT_EQ(::listen(first->fd(), 1), 0);
    }
    ExpectRefused(type, "in use");
    EXPECT_TRUE(Exists());
  }
}

TEST_F(UnixPathTest, RefusesALiveSocketOfAnotherType) {
  const absl::StatusOr<UnixPath> first = UnixPath::Bind(path_, SOCK_DGRAM, 0755);
  ASSERT_TRUE(first.ok());
  ExpectRefused(SOCK_STREAM, "in use");
}

TEST_F(UnixPathTest, LeavesAFileAlone) {
  UniqueFd file(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ExpectRefused(SOCK_DGRAM, "is a file");
  EXPECT_TRUE(Exists());
}

TEST_F(UnixPathTest, LeavesADirectoryAlone) {
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  ExpectRefused(SOCK_DGRAM, "is a directory");
  EXPECT_TRUE(Exists());
  ::rmdir(path_.c_str());
}

TEST_F(UnixPathTest, LeavesASymbolicLinkAloneWhereverItLeads) {
  ASSERT_EQ(::symlink("/nowhere", path_.c_str()), 0);
  ExpectRefused(SOCK_DGRAM, "is a symbolic link");
  EXPECT_TRUE(Exists());
}

TEST_F(UnixPathTest, RefusesADirectoryInWhichAnyoneMayReplaceIt) {
  ASSERT_EQ(::chmod(directory_.c_str(), 0777), 0);
  ExpectRefused(SOCK_DGRAM, "sticky");
  ASSERT_EQ(::chmod(directory_.c_str(), 01777), 0);
  EXPECT_TRUE(UnixPath::Bind(path_, SOCK_DGRAM, 0755).ok());
}

TEST_F(UnixPathTest, RefusesAMissingDirectory) {
  path_ = directory_ + "/missing/statsd.sock";
  ExpectRefused(SOCK_DGRAM, "No such file");
}

TEST_F(UnixPathTest, DoesNotUnlinkWhatIsNotItsOwnAnyMore) {
  {
    const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, SOCK_DGRAM, 0755);
    ASSERT_TRUE(bound.ok());
    // The old file stays until the new one is there, so that they cannot have the same inode.
    ASSERT_EQ(::rename(path_.c_str(), (path_ + ".old").c_str()), 0);
    UniqueFd file(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  EXPECT_TRUE(Exists());
  ::unlink((path_ + ".old").c_str());
}

TEST_F(UnixPathTest, APathThatCannotBeASocketsIsAUsageError) {
  for (const std::string& path : {std::string(), std::string(108, 'x'), std::string("@abstract")}) {
    const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path, SOCK_DGRAM, 0755);
    ASSERT_FALSE(bound.ok());
    EXPECT_EQ(ExitCodeFor(bound.status()), ExitCode::kUsage);
  }
}

}  // namespace
}  // namespace tallyd
