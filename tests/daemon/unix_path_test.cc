// Socket paths: what is taken over, what is refused, what is given back.

#include "daemon/unix_path.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "daemon/exit_code.h"

namespace {

// What somebody else does at once when a socket has been bound.
std::function<void()> after_bind;  // NOLINT(cert-err58-cpp)

}  // namespace

// In place of the library's, which does no more.
extern "C" int bind(int fd, const sockaddr* address, socklen_t size) noexcept {
  const auto result = static_cast<int>(::syscall(SYS_bind, fd, address, size));
  if (result == 0 && after_bind) after_bind();
  return result;
}

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

// Whoever can read the directory can lock it, and so may we ourselves, for the saved state.
TEST_F(UnixPathTest, ALockOnTheDirectoryKeepsNobodyFromBinding) {
  const UniqueFd directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(directory.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_TRUE(UnixPath::Bind(path_, SOCK_DGRAM, 0755).ok());
}

TEST_F(UnixPathTest, WhoLooksAtThePathKeepsAnotherFromIt) {
  const std::string lock = path_ + ".lock";
  const UniqueFd held(::open(lock.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0600));
  ASSERT_EQ(::flock(held.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(
      ExitCodeFor(UnixPath::Bind(path_, SOCK_DGRAM, 0755, UnixPath::kOwnGroup, absl::ZeroDuration())
                      .status()),
      ExitCode::kInUse);
  EXPECT_FALSE(Exists());
  ASSERT_EQ(::flock(held.get(), LOCK_UN), 0);
  const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, SOCK_DGRAM, 0755);
  EXPECT_TRUE(bound.ok()) << bound.status();
  EXPECT_NE(::access(lock.c_str(), F_OK), 0);  // it went with the lock
}

TEST_F(UnixPathTest, AFileThatOthersCanLockIsDoneWithoutAndLeftAlone) {
  const std::string lock = path_ + ".lock";
  const UniqueFd theirs(::open(lock.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0644));
  ASSERT_EQ(::fchmod(theirs.get(), 0644), 0);
  ASSERT_EQ(::flock(theirs.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_TRUE(UnixPath::Bind(path_, SOCK_DGRAM, 0755).ok());
  EXPECT_EQ(::unlink(lock.c_str()), 0);
  ASSERT_EQ(::symlink("/nowhere", lock.c_str()), 0);
  EXPECT_TRUE(UnixPath::Bind(path_, SOCK_DGRAM, 0755).ok());
  EXPECT_EQ(::unlink(lock.c_str()), 0);
}

// Whoever owns the directory may rename a link over the socket as soon as that is there.
TEST_F(UnixPathTest, ALinkInThePlaceOfANewSocketGivesNoOtherFileOurMode) {
  const std::string precious = directory_ + "/precious";
  const UniqueFd file(::open(precious.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  after_bind = [&] {
    ::unlink(path_.c_str());
    ASSERT_EQ(::symlink(precious.c_str(), path_.c_str()), 0);
  };
  const mode_t umask_before = ::umask(0077);
  ExpectRefused(SOCK_DGRAM, "was replaced");
  ::umask(umask_before);
  after_bind = nullptr;
  EXPECT_TRUE(Exists());  // it is not ours to remove
  struct stat info {};
  ASSERT_EQ(::fstat(file.get(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ::unlink(precious.c_str());
}

// Somebody may have waited for the path to be there.
TEST_F(UnixPathTest, TheFirstDatagramSaysWhoSentIt) {
  after_bind = [&] {
    const UniqueFd sender(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::sendto(sender.get(), "a", 1, 0, reinterpret_cast<const sockaddr*>(&address),
                       sizeof(address)),
              1);
  };
  const absl::StatusOr<UnixPath> bound = UnixPath::Bind(
      path_, SOCK_DGRAM, 0755, UnixPath::kOwnGroup, absl::ZeroDuration(), UnixPath::Senders::kTell);
  after_bind = nullptr;
  ASSERT_TRUE(bound.ok()) << bound.status();
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ASSERT_EQ(::recvmsg(bound->fd(), &message, MSG_DONTWAIT), 1);
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  ucred sent{};
  std::memcpy(&sent, CMSG_DATA(header), sizeof(sent));
  EXPECT_EQ(sent.pid, ::getpid());
}

TEST_F(UnixPathTest, TheUmaskTakesNothingFromTheMode) {
  const mode_t umask_before = ::umask(0077);
  const absl::StatusOr<UnixPath> bound = UnixPath::Bind(path_, SOCK_STREAM, 0766);
  ::umask(umask_before);
  ASSERT_TRUE(bound.ok()) << bound.status();
  struct stat info {};
  ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0766u);
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
