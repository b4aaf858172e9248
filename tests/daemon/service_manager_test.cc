// The protocols between the daemon and its service manager: descriptors handed in, messages out.

#include "daemon/service_manager.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/exit_code.h"
#include "daemon/handed_fds.h"

namespace tallyd {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A file of its own, by which it is known again after it was passed on.
UniqueFd MakeFile() {
  char name[] = "/tmp/service_manager_test.XXXXXX";
  UniqueFd fd(::mkstemp(name));
  ::unlink(name);
  return fd;
}

ino_t InodeOf(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info.st_ino;
}

// Puts files where a manager would: from a number on that is free.
class HandedFdsTest : public ::testing::Test {
 protected:
  static constexpr int kFirst = 500;

  void HandIn(int count) {
    for (int i = 0; i < count; ++i) {
      const UniqueFd file = MakeFile();
      inodes_.push_back(InodeOf(file.get()));
      ASSERT_EQ(::dup2(file.get(), kFirst + i), kFirst + i);
    }
  }
  void TearDown() override {
    for (int i = 0; i < 8; ++i) ::close(kFirst + i);
  }
  static absl::StatusOr<HandedFds> Read(const char* count, const char* names) {
    return HandedFds::Read(absl::StrCat(::getpid()).c_str(), count, names, kFirst);
  }

  std::vector<ino_t> inodes_;
};

TEST_F(HandedFdsTest, AreTakenByNameInTheirOrder) {
  HandIn(3);
  absl::StatusOr<HandedFds> handed = Read("3", "a:b:a");
  ASSERT_TRUE(handed.ok()) << handed.status();

  const std::vector<UniqueFd> taken = handed->Take("a");

  ASSERT_EQ(taken.size(), 2U);
  EXPECT_EQ(InodeOf(taken[0].get()), inodes_[0]);
  EXPECT_EQ(InodeOf(taken[1].get()), inodes_[2]);
  ASSERT_EQ(handed->left().size(), 1U);
  EXPECT_EQ(handed->left()[0].name, "b");
  EXPECT_THAT(handed->Take("a"), IsEmpty());
}

TEST_F(HandedFdsTest, StayWithThisProcess) {
  HandIn(1);
  absl::StatusOr<HandedFds> handed = Read("1", "a");
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_EQ(::fcntl(handed->left()[0].fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST_F(HandedFdsTest, WithoutNamesAreUnknown) {
  HandIn(1);
  absl::StatusOr<HandedFds> handed = Read("1", nullptr);
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_EQ(handed->left()[0].name, "unknown");
}

TEST_F(HandedFdsTest, ForAnotherProcessAreLeftAlone) {
  HandIn(1);
  absl::StatusOr<HandedFds> handed = HandedFds::Read("1", "1", "a", kFirst);
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_TRUE(handed->empty());
  EXPECT_EQ(InodeOf(kFirst), inodes_[0]);
}

TEST_F(HandedFdsTest, NothingHandedInIsNothing) {
  const absl::StatusOr<HandedFds> handed = HandedFds::Read(nullptr, nullptr, nullptr, kFirst);
  ASSERT_TRUE(handed.ok());
  EXPECT_TRUE(handed->empty());
  const absl::StatusOr<HandedFds> zero = Read("0", "");
  ASSERT_TRUE(zero.ok()) << zero.status();
  EXPECT_TRUE(zero->empty());
}

TEST_F(HandedFdsTest, ABrokenEnvironmentIsRefused) {
  struct Case {
    const char* count;
    const char* names;
    const char* because;
  };
  for (const Case& broken :
       {Case{"one", "a", "LISTEN_FDS=one"}, Case{"-1", "a", "LISTEN_FDS=-1"},
        Case{"1", "a:b", "2 names"}, Case{"2", "a:b", "descriptor 501 is not open"}}) {
    HandIn(1);
    const absl::StatusOr<HandedFds> handed = Read(broken.count, broken.names);
    EXPECT_EQ(ExitCodeFor(handed.status()), ExitCode::kUsage);
    EXPECT_THAT(std::string(handed.status().message()), HasSubstr(broken.because));
  }
  EXPECT_FALSE(HandedFds::Read("init", "1", "a", kFirst).ok());
}

// The manager's end of the notify socket.
class ServiceManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    name_ = absl::StrCat("@tallyd-service-manager-test-", ::getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  }

  ServiceManager Connect(int store_capacity) const {
    ServiceManager::Environment environment;
    environment.notify_socket = name_;
    environment.store_capacity = store_capacity;
    return ServiceManager(environment);
  }

  struct Message {
    std::string text;
    std::vector<UniqueFd> fds;
  };
  // Empty if there is none.
  Message Receive() const {
    char bytes[4096];
    iovec vector{bytes, sizeof(bytes)};
    alignas(cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))];
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    Message message;
    const ssize_t size = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (size < 0) return message;
    message.text.assign(bytes, static_cast<size_t>(size));
    const cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    if (rights == nullptr) return message;
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights) + i * sizeof(int), sizeof(fd));
      message.fds.emplace_back(fd);
    }
    return message;
  }

  UniqueFd socket_;
  std::string name_;
};

TEST_F(ServiceManagerTest, IsToldWhatWeSay) {
  const ServiceManager manager = Connect(0);
  ASSERT_TRUE(manager.present());
  EXPECT_TRUE(manager.Notify("READY=1\nSTATUS=fine").ok());
  EXPECT_EQ(Receive().text, "READY=1\nSTATUS=fine");
}

TEST_F(ServiceManagerTest, KeepsDescriptorsUnderAName) {
  const ServiceManager manager = Connect(10);
  const UniqueFd a = MakeFile();
  const UniqueFd b = MakeFile();

  ASSERT_TRUE(manager.Store("tallyd.listener", {a.get(), b.get()}).ok());

  const Message message = Receive();
  EXPECT_EQ(message.text, "FDSTORE=1\nFDPOLL=0\nFDNAME=tallyd.listener");
  ASSERT_EQ(message.fds.size(), 2U);
  EXPECT_EQ(InodeOf(message.fds[0].get()), InodeOf(a.get()));
  EXPECT_EQ(InodeOf(message.fds[1].get()), InodeOf(b.get()));

  ASSERT_TRUE(manager.Remove("tallyd.listener").ok());
  EXPECT_EQ(Receive().text, "FDSTOREREMOVE=1\nFDNAME=tallyd.listener");
}

TEST_F(ServiceManagerTest, TakesManyDescriptorsInSeveralMessages) {
  const ServiceManager manager = Connect(1000);
  const UniqueFd file = MakeFile();
  ASSERT_TRUE(manager.Store("tallyd.connection", std::vector<int>(300, file.get())).ok());
  size_t stored = 0;
  int messages = 0;
  for (Message message = Receive(); !message.text.empty(); message = Receive()) {
    stored += message.fds.size();
    ++messages;
  }
  EXPECT_EQ(stored, 300U);
  EXPECT_EQ(messages, 3);
}

TEST_F(ServiceManagerTest, ThatKeepsNothingIsNotAskedTo) {
  const ServiceManager manager = Connect(0);
  const UniqueFd file = MakeFile();
  EXPECT_FALSE(manager.Store("tallyd.listener", file.get()).ok());
  EXPECT_TRUE(manager.Remove("tallyd.listener").ok());
  EXPECT_EQ(Receive().text, "");
}

TEST_F(ServiceManagerTest, WithAFullQueueCostsNoTime) {
  const ServiceManager manager = Connect(0);
  int taken = 0;
  while (taken < 100'000 && manager.NotifyIfRoom("WATCHDOG=1")) ++taken;
  EXPECT_LT(taken, 100'000);
  Receive();
  EXPECT_TRUE(manager.NotifyIfRoom("WATCHDOG=1"));
}

TEST(NoServiceManagerTest, NothingIsSentAndNothingFails) {
  const ServiceManager manager;
  EXPECT_FALSE(manager.present());
  EXPECT_FALSE(manager.stores_fds());
  EXPECT_TRUE(manager.Notify("READY=1").ok());
  ServiceManager::Environment environment;
  environment.notify_socket = "relative/path";
  environment.store_capacity = 5;
  EXPECT_FALSE(ServiceManager(environment).present());
  EXPECT_FALSE(ServiceManager(environment).stores_fds());
}

TEST(ServiceManagerEnvironmentTest, IsReadAndRemoved) {
  ::setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
  ::setenv("FDSTORE", "12", 1);
  ::setenv("WATCHDOG_USEC", "3000000", 1);
  ::setenv("WATCHDOG_PID", absl::StrCat(::getpid()).c_str(), 1);
  const ServiceManager manager = ServiceManager::FromEnvironment();
  EXPECT_TRUE(manager.present());
  EXPECT_EQ(manager.store_capacity(), 12);
  EXPECT_EQ(manager.watchdog(), absl::Seconds(3));
  EXPECT_FALSE(manager.Notify("READY=1").ok());  // nobody is there
  for (const char* name : {"NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_EQ(::getenv(name), nullptr) << name;
  }
}

TEST(ServiceManagerEnvironmentTest, TheWatchdogOfAnotherProcessIsNotOurs) {
  ::setenv("WATCHDOG_USEC", "3000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManager::FromEnvironment().watchdog(), absl::ZeroDuration());
}

}  // namespace
}  // namespace tallyd
