// A watchdog is fed by a merger that lives, however busy, and by no other.

#include "daemon/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/loop.h"
#include "tests/daemon/aggregation.h"

namespace tallyd {
namespace {

constexpr absl::Duration kWatched = absl::Milliseconds(400);

// A manager that watches, and the control loop beside it.
class WatchdogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const std::string name = absl::StrCat("@tallyd-watchdog-test-", ::getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ServiceManager::Environment environment;
    environment.notify_socket = name;
    environment.watchdog = kWatched;
    manager_ = ServiceManager(environment);
  }

  // Lets the control loop run so long, by its own timers, so that the watchdog has looked at least
  // once even if the machine is busy; returns how often it was fed meanwhile.
  int FedDuring(absl::Duration time) {
    bool over = false;
    LoopTimer end(control_, absl::ToChronoNanoseconds(time));
    end.async_wait([&over](const boost::system::error_code&) { over = true; });
    while (!over) {
      control_.restart();
      control_.run_one();
    }
    return Fed();
  }
  // Whether it is fed so often, sooner or later.
  bool IsFed(int times) {
    int fed = 0;
    return Eventually([&] {
      control_.restart();
      control_.run_one_for(std::chrono::milliseconds(20));
      fed += Fed();
      return fed >= times;
    });
  }
  int Fed() {
    int fed = 0;
    char bytes[64];
    while (::recv(socket_.get(), bytes, sizeof(bytes), 0) > 0) ++fed;
    return fed;
  }

  UniqueFd socket_;
  ServiceManager manager_;
  Aggregation aggregation_;
  Loop control_{1};
};

TEST_F(WatchdogTest, IsFedByAMergerThatAnswers) {
  Watchdog watchdog(&control_, &aggregation_.merge_thread(), &manager_);
  watchdog.Start();
  EXPECT_TRUE(IsFed(2));
}

TEST_F(WatchdogTest, IsFedByABusyMerger) {
  Watchdog watchdog(&control_, &aggregation_.merge_thread(), &manager_);
  watchdog.Start();
  EXPECT_TRUE(IsFed(1));
  std::atomic<bool> enough{false};
  std::promise<void> ended;
  aggregation_.merge_thread().Ask([&](Merger*) {
    while (!enough) {
    }
    ended.set_value();
  });
  FedDuring(kWatched);  // by an answer that came before
  EXPECT_TRUE(IsFed(3));
  enough = true;
  ended.get_future().wait();
}

TEST_F(WatchdogTest, IsNotFedByAMergerThatWaits) {
  Watchdog watchdog(&control_, &aggregation_.merge_thread(), &manager_);
  watchdog.Start();
  EXPECT_TRUE(IsFed(1));
  std::promise<void> begun;
  std::promise<void> go_on;
  aggregation_.merge_thread().Ask([&](Merger*) {
    begun.set_value();
    go_on.get_future().wait();
  });
  begun.get_future().wait();
  FedDuring(kWatched);  // by an answer that came before
  FedDuring(kWatched);  // for the CPU time it took to begin
  EXPECT_EQ(FedDuring(3 * kWatched), 0);
  go_on.set_value();
  EXPECT_TRUE(IsFed(1));
}

TEST_F(WatchdogTest, IsNotFedIfNobodyWatches) {
  const ServiceManager nobody;
  Watchdog watchdog(&control_, &aggregation_.merge_thread(), &nobody);
  watchdog.Start();
  EXPECT_EQ(FedDuring(kWatched), 0);
}

}  // namespace
}  // namespace tallyd
