// The admin socket, where only its hooks decide how long an answer takes.

#include "daemon/admin_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/time/clock.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// All that comes back.
std::string Ask(const std::string& path, std::string_view request) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::write(fd.get(), request.data(), request.size()),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char part[4096];
  for (ssize_t size; (size = ::read(fd.get(), part, sizeof(part))) > 0;) {
    answer.append(part, static_cast<size_t>(size));
  }
  return answer;
}

TEST(AdminServerTest, AnAnswerMayTakeLongerThanAHeader) {
  char directory[] = "/tmp/admin_server_test.XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/admin.sock";
  Loop loop;
  prometheus::Registry registry;
  AdminServer::Hooks hooks;
  hooks.explain = [](const std::string&, std::optional<Dialect>, bool) -> AdminServer::Job {
    return [] {
      absl::SleepFor(absl::Milliseconds(5'500));
      return std::string("what becomes of it");
    };
  };
  auto server = AdminServer::Listen(&loop, path, &registry, std::move(hooks));
  ASSERT_TRUE(server.ok()) << server.status();
  std::thread control([&loop] { loop.run(); });
  const std::string answer = Ask(path, "GET /explain?line=a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nwhat becomes of it"));
  boost::asio::post(loop, [&server] { (*server)->Stop(); });
  control.join();
  server->reset();
  EXPECT_EQ(::rmdir(directory), 0);
}

}  // namespace
}  // namespace tallyd
