#include "daemon/observed_gauges.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

TEST(FirstNumberTest, IsTheFirstWordThatIsOne) {
  EXPECT_EQ(FirstNumber("12\n"), 12);
  EXPECT_EQ(FirstNumber("  -0.5 items"), -0.5);
  EXPECT_EQ(FirstNumber("depth=7;age=9"), 7);
  EXPECT_EQ(FirstNumber("queue: 1e3"), 1000);
  EXPECT_EQ(FirstNumber("queue2 is 5"), 5);
  EXPECT_EQ(FirstNumber("{\"depth\":42}"), 42);
  for (const char* none : {"", "\n", "none", "nan", "inf", "1.2.3", "-", "\xff\xfe", "0x10"}) {
    EXPECT_EQ(FirstNumber(none), std::nullopt) << none;
  }
}

class ObservedGaugesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / "observed_gauges";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  // The first reading of a source.
  ObservedGauges::Reading ReadOnce(ObservedSource source) {
    std::mutex mu;
    std::condition_variable read;
    std::vector<ObservedGauges::Reading> readings;
    source.interval_ms = 3'600'000;
    const ObservedGauges gauges({std::move(source)},
                                [&](size_t, const ObservedGauges::Reading& reading) {
                                  const std::lock_guard lock(mu);
                                  readings.push_back(reading);
                                  read.notify_one();
                                });
    std::unique_lock lock(mu);
    read.wait_for(lock, std::chrono::seconds(30), [&] { return !readings.empty(); });
    return readings.empty() ? ObservedFailure::kCount : readings.front();
  }

  ObservedGauges::Reading ReadFile(const std::string& name) {
    ObservedSource source;
    source.file = Path(name);
    return ReadOnce(source);
  }

  std::filesystem::path folder_;
};

using Reading = ObservedGauges::Reading;

TEST_F(ObservedGaugesTest, ReadsFiles) {
  std::ofstream(Path("depth")) << "42\nand more\n";
  EXPECT_EQ(ReadFile("depth"), Reading(42.0));
  std::ofstream(Path("long")) << std::string(ObservedGauges::kMaxBytes, ' ') << "5";
  EXPECT_EQ(ReadFile("long"), Reading(ObservedFailure::kNoNumber)) << "the beginning is looked at";
  std::ofstream(Path("text")) << "none";
  EXPECT_EQ(ReadFile("text"), Reading(ObservedFailure::kNoNumber));
  EXPECT_EQ(ReadFile("missing"), Reading(ObservedFailure::kCannotOpen));
  EXPECT_EQ(ReadFile("."), Reading(ObservedFailure::kNoRegularFile));
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadFile("pipe"), Reading(ObservedFailure::kNoRegularFile)) << "and it does not hang";
}

// Accepts one connection, reads what is asked, and answers in pieces.
class Server {
 public:
  Server(const std::string& path, size_t query_bytes, std::vector<std::string> pieces, bool closes)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd_.get(), 1), 0);
    thread_ = std::thread([this, query_bytes, pieces = std::move(pieces), closes] {
      const UniqueFd peer(::accept(fd_.get(), nullptr, nullptr));
      std::string bytes(query_bytes, ' ');
      if (query_bytes > 0) ::recv(peer.get(), bytes.data(), query_bytes, MSG_WAITALL);
      query_ = bytes;
      for (const std::string& piece : pieces) {
        ::send(peer.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      char byte = 0;
      if (!closes) ::recv(peer.get(), &byte, 1, 0);  // until the other side goes
    });
  }
  ~Server() {
    // Should nobody have come.
    ::shutdown(fd_.get(), SHUT_RDWR);
    Join();
  }

  std::string query() {
    Join();
    return query_;
  }

 private:
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  UniqueFd fd_;
  std::string query_;
  std::thread thread_;
};

TEST_F(ObservedGaugesTest, AsksSockets) {
  ObservedSource source;
  source.socket = Path("a.sock");
  source.query = "depth\n";
  source.timeout_ms = 30'000;
  {
    Server server(source.socket, 6, {"de", "pth 4", "2", "\n"}, /*closes=*/false);
    EXPECT_EQ(ReadOnce(source), Reading(42.0)) << "a line is an answer";
    EXPECT_EQ(server.query(), "depth\n");
  }
  source.socket = Path("b.sock");
  source.query = "";
  {
    const Server server(source.socket, 0, {"4", "2"}, /*closes=*/true);
    EXPECT_EQ(ReadOnce(source), Reading(42.0)) << "and so is what comes before the end";
  }
  source.socket = Path("c.sock");
  {
    const Server server(source.socket, 0, {}, /*closes=*/true);
    EXPECT_EQ(ReadOnce(source), Reading(ObservedFailure::kNoNumber));
  }
  EXPECT_EQ(ReadOnce(source), Reading(ObservedFailure::kCannotConnect)) << "nobody listens";
}

TEST_F(ObservedGaugesTest, SocketsThatHangTimeOut) {
  ObservedSource source;
  source.socket = Path("slow.sock");
  source.timeout_ms = 50;
  const Server server(source.socket, 0, {"4"}, /*closes=*/false);
  EXPECT_EQ(ReadOnce(source), Reading(ObservedFailure::kTimeout))
      << "half a number is no number: another digit may follow";
}

TEST_F(ObservedGaugesTest, SocketsWithoutEndAreCut) {
  ObservedSource source;
  source.socket = Path("endless.sock");
  source.timeout_ms = 30'000;
  const Server server(source.socket, 0, {std::string(ObservedGauges::kMaxBytes, 'x')},
                      /*closes=*/false);
  EXPECT_EQ(ReadOnce(source), Reading(ObservedFailure::kNoNumber));
}

TEST_F(ObservedGaugesTest, ReadsAgainAtItsInterval) {
  std::ofstream(Path("depth")) << "1";
  ObservedSource source;
  source.file = Path("depth");
  source.interval_ms = 5;
  std::mutex mu;
  std::condition_variable changed;
  double last = 0;
  const ObservedGauges gauges({source}, [&](size_t, const Reading& reading) {
    const std::lock_guard lock(mu);
    if (const auto* value = std::get_if<double>(&reading)) last = *value;
    changed.notify_one();
  });
  std::unique_lock lock(mu);
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return last == 1; }));
  lock.unlock();
  std::ofstream(Path("depth")) << "2";
  lock.lock();
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return last == 2; }));
}

TEST_F(ObservedGaugesTest, EndsWhileItWaits) {
  ObservedSource source;
  source.socket = Path("hang.sock");
  source.timeout_ms = 3'600'000;
  source.interval_ms = 3'600'000;
  const auto begin = std::chrono::steady_clock::now();
  {
    const Server server(source.socket, 0, {}, /*closes=*/false);
    const ObservedGauges gauges({source}, [](size_t, const Reading&) { FAIL(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

}  // namespace
}  // namespace tallyd
