// Which socket that was handed in serves which listener, and which is refused.

#include "daemon/handed_sockets.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/address.h"
#include "daemon/drop_marks.h"
#include "daemon/exit_code.h"
#include "daemon/socket_cookie.h"

namespace tallyd {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

UniqueFd Bind(int type, const std::string& address, bool shared = false) {
  const auto parsed = SocketAddress::Parse(address);
  auto fd = OpenSocket(*parsed, type);
  const int on = 1;
  if (shared) ::setsockopt(fd->get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  EXPECT_TRUE(BindSocket(fd->get(), *parsed, "test").ok());
  if (type == SOCK_STREAM) ::listen(fd->get(), 1);
  return *std::move(fd);
}

std::string AddressOf(const UniqueFd& fd) { return SocketAddress::OfSocket(fd.get())->ToString(); }

class HandedSocketsTest : public ::testing::Test {
 protected:
  static constexpr int kFirst = 600;

  void SetUp() override {
    char name[] = "/tmp/handed_sockets_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    for (const std::string& path : paths_) ::unlink(path.c_str());
    ::rmdir(directory_.c_str());
  }

  UniqueFd BindPath(int type, const std::string& name) {
    paths_.push_back(absl::StrCat(directory_, "/", name));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, paths_.back().data(), paths_.back().size());
    UniqueFd fd(::socket(AF_UNIX, type, 0));
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }

  void HandIn(const std::string& name, const UniqueFd& fd) {
    ASSERT_EQ(::dup2(fd.get(), kFirst + static_cast<int>(names_.size())),
              kFirst + static_cast<int>(names_.size()));
    names_.push_back(name);
  }
  absl::StatusOr<HandedSockets> Match(const Options& options) {
    auto fds =
        HandedFds::Read(absl::StrCat(::getpid()).c_str(), absl::StrCat(names_.size()).c_str(),
                        absl::StrJoin(names_, ":").c_str(), kFirst);
    EXPECT_TRUE(fds.ok()) << fds.status();
    fds_ = *std::move(fds);
    return HandedSockets::Match(&fds_, WantedSockets(options), nullptr);
  }
  // All listeners off, so that each test says what there is.
  static Options Nothing() {
    Options options;
    options.udp.clear();
    options.tcp.clear();
    options.web.clear();
    options.push.clear();
    return options;
  }

  HandedFds fds_;
  std::string directory_;
  std::vector<std::string> paths_;
  std::vector<std::string> names_;
};

TEST_F(HandedSocketsTest, EachKindFindsItsListenerByTypeAndAddress) {
  const UniqueFd udp = Bind(SOCK_DGRAM, "127.0.0.1:0");
  const UniqueFd tcp = Bind(SOCK_STREAM, "127.0.0.1:0");
  const UniqueFd web = Bind(SOCK_STREAM, "[::1]:0");
  const UniqueFd gram = BindPath(SOCK_DGRAM, "gram");
  const UniqueFd stream = BindPath(SOCK_STREAM, "stream");
  const UniqueFd packets = BindPath(SOCK_SEQPACKET, "packets");
  Options options = Nothing();
  options.udp = {AddressOf(udp)};
  options.tcp = {AddressOf(tcp)};
  options.web = {AddressOf(web)};
  options.unixgram = {paths_[0]};
  options.unixstream = {paths_[1]};
  options.unixseqpacket = {paths_[2]};
  for (const UniqueFd* fd : {&packets, &stream, &gram, &web, &tcp, &udp})
    HandIn("tallyd.socket", *fd);

  auto sockets = Match(options);

  ASSERT_TRUE(sockets.ok()) << sockets.status();
  const auto is = [&](const char* kind, const std::string& address, const UniqueFd& expected) {
    const std::vector<UniqueFd> taken = sockets->Take(kind, address);
    ASSERT_EQ(taken.size(), 1U) << kind;
    EXPECT_EQ(CookieOf(taken[0].get()), CookieOf(expected.get())) << kind;
    EXPECT_NE(::fcntl(taken[0].get(), F_GETFL) & O_NONBLOCK, 0) << kind;
    EXPECT_THAT(sockets->Take(kind, address), IsEmpty()) << kind;
  };
  is("udp", AddressOf(udp), udp);
  is("tcp", AddressOf(tcp), tcp);
  is("http", AddressOf(web), web);
  is("unixgram", paths_[0], gram);
  is("unixstream", paths_[1], stream);
  is("unixseqpacket", paths_[2], packets);
}

TEST_F(HandedSocketsTest, SocketsOfOneAddressAreAllTaken) {
  const UniqueFd first = Bind(SOCK_DGRAM, "127.0.0.1:0", true);
  const UniqueFd second = Bind(SOCK_DGRAM, AddressOf(first), true);
  Options options = Nothing();
  options.udp = {AddressOf(first)};
  HandIn("a", first);
  HandIn("b", second);
  auto sockets = Match(options);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(sockets->Take("udp", AddressOf(first)).size(), 2U);
}

TEST_F(HandedSocketsTest, AllInterfacesAreThoseOfEitherFamily) {
  const UniqueFd udp = Bind(SOCK_DGRAM, "0.0.0.0:0");
  const std::string port = absl::StrCat(":", SocketAddress::OfSocket(udp.get())->port());
  Options options = Nothing();
  options.udp = {port};
  HandIn("a", udp);
  auto sockets = Match(options);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(sockets->Take("udp", port).size(), 1U);
}

TEST_F(HandedSocketsTest, WhatNoListenerTakesIsNamed) {
  const UniqueFd udp = Bind(SOCK_DGRAM, "127.0.0.1:0");
  const UniqueFd gram = BindPath(SOCK_DGRAM, "gram");
  const UniqueFd file(::open("/dev/null", O_RDONLY));
  Options options = Nothing();
  options.tcp = {AddressOf(udp)};  // the right address of the wrong type
  options.unixstream = {directory_ + "/gram"};
  HandIn("first.socket", udp);
  HandIn("second.socket", gram);
  HandIn("third.socket", file);

  const auto sockets = Match(options);

  EXPECT_EQ(ExitCodeFor(sockets.status()), ExitCode::kUsage);
  const std::string message(sockets.status().message());
  EXPECT_THAT(message, HasSubstr(absl::StrCat("\"first.socket\" (udp ", AddressOf(udp), ")")));
  EXPECT_THAT(message, HasSubstr(absl::StrCat("\"second.socket\" (unixgram ", paths_[0], ")")));
  EXPECT_THAT(message, HasSubstr("\"third.socket\" (no socket)"));
}

TEST_F(HandedSocketsTest, ANameThatIsAKindIsHeldTo) {
  const UniqueFd tcp = Bind(SOCK_STREAM, "127.0.0.1:0");
  Options options = Nothing();
  options.tcp = {AddressOf(tcp)};
  HandIn("http", tcp);
  EXPECT_FALSE(Match(options).ok());
}

TEST_F(HandedSocketsTest, PortZeroTakesWhatIsNamedForIt) {
  const UniqueFd tcp = Bind(SOCK_STREAM, "127.0.0.1:0");
  const UniqueFd web = Bind(SOCK_STREAM, "127.0.0.1:0");
  Options options = Nothing();
  options.tcp = {"127.0.0.1:0"};
  options.web = {"127.0.0.1:0"};
  HandIn("http", web);
  HandIn("tallyd.listener.tcp.127.0.0.1-1234", tcp);
  auto sockets = Match(options);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(CookieOf(sockets->Take("http", "127.0.0.1:0").at(0).get()), CookieOf(web.get()));
  EXPECT_EQ(CookieOf(sockets->Take("tcp", "127.0.0.1:0").at(0).get()), CookieOf(tcp.get()));
}

TEST_F(HandedSocketsTest, OneHttpListenerTakesOneSocket) {
  const UniqueFd first = Bind(SOCK_STREAM, "127.0.0.1:0", true);
  const UniqueFd second = Bind(SOCK_STREAM, AddressOf(first), true);
  Options options = Nothing();
  options.web = {AddressOf(first)};
  HandIn("a", first);
  HandIn("b", second);
  const auto sockets = Match(options);
  EXPECT_THAT(std::string(sockets.status().message()), HasSubstr("\"b\""));
}

TEST_F(HandedSocketsTest, WhatWasLeftByUsAndIsNotWantedIsGivenUp) {
  const UniqueFd udp = Bind(SOCK_DGRAM, "127.0.0.1:0");
  HandIn("tallyd.listener.udp.127.0.0.1-1", udp);
  const auto sockets = Match(Nothing());
  EXPECT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_TRUE(fds_.empty());
}

TEST_F(HandedSocketsTest, OtherDescriptorsOfOursAreLeftToOthers) {
  const UniqueFd file(::open("/dev/null", O_RDONLY));
  HandIn("tallyd.drops", file);
  const auto sockets = Match(Nothing());
  EXPECT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(fds_.left().size(), 1U);
}

// A manager that keeps what it is sent.
class KeepingManager {
 public:
  KeepingManager() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    name_ = absl::StrCat("@tallyd-handed-sockets-test-", ::getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  }
  ServiceManager Connect() const {
    ServiceManager::Environment environment;
    environment.notify_socket = name_;
    environment.store_capacity = 10;
    return ServiceManager(environment);
  }
  // What the last message stored.
  UniqueFd Kept() const {
    char bytes[256];
    iovec vector{bytes, sizeof(bytes)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    EXPECT_GT(::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), 0);
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(fd));
    return UniqueFd(fd);
  }

 private:
  UniqueFd socket_;
  std::string name_;
};

TEST(DropMarksTest, OutliveTheirProcessWithTheSocket) {
  const KeepingManager keeping;
  const ServiceManager manager = keeping.Connect();
  const UniqueFd socket = Bind(SOCK_DGRAM, "127.0.0.1:0");
  const UniqueFd gone = Bind(SOCK_DGRAM, "127.0.0.1:0");
  {
    const auto marks = DropMarks::Open({}, &manager);
    ASSERT_TRUE(marks.ok()) << marks.status();
    (*marks)->For(socket.get())->store(41);
    (*marks)->For(gone.get())->store(7);
    EXPECT_EQ((*marks)->For(socket.get())->load(), 41U);
  }
  std::vector<UniqueFd> kept;
  kept.push_back(keeping.Kept());
  const UniqueFd again(::dup(kept.front().get()));
  {
    const auto marks = DropMarks::Open(std::move(kept), &manager);
    EXPECT_EQ((*marks)->For(socket.get())->load(), 41U);
    (*marks)->ForgetOthers();
  }
  std::vector<UniqueFd> third;
  third.emplace_back(::dup(again.get()));
  const auto marks = DropMarks::Open(std::move(third), &manager);
  EXPECT_EQ((*marks)->For(gone.get())->load(), 0U);
}

TEST(DropMarksTest, WithoutRoomOrMemoryOfOthersBeginAtZero) {
  std::vector<UniqueFd> strange;
  strange.emplace_back(::open("/dev/null", O_RDWR));
  const auto marks = DropMarks::Open(std::move(strange), nullptr);
  ASSERT_TRUE(marks.ok()) << marks.status();
  std::vector<UniqueFd> sockets;
  for (size_t i = 0; i < DropMarks::kMarks + 2; ++i) {
    sockets.emplace_back(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    DropMarks::Mark* const mark = (*marks)->For(sockets.back().get());
    ASSERT_EQ(mark->load(), 0U);
    mark->store(static_cast<uint32_t>(i) + 1);
  }
  EXPECT_EQ((*marks)->For(sockets.front().get())->load(), 1U);
}

}  // namespace
}  // namespace tallyd
