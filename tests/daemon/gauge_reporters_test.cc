// Which process reports a gauge that one alone may report.

#include "daemon/gauge_reporters.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>

namespace tallyd {
namespace {

class GaugeReportersTest : public testing::Test {
 protected:
  // What is said when a process reports "depth", or `family`: who did before.
  std::optional<std::string> Note(int32_t pid, uint64_t ticks = 7,
                                  const std::string& family = "depth") {
    SenderInfo sender;
    sender.who.pid = pid;
    sender.names.start_ticks = ticks;
    return reporters_.Note(family, sender, "pid " + std::to_string(pid));
  }

  std::set<int32_t> ended_;
  GaugeReporters reporters_{[this](int32_t pid, uint64_t) { return ended_.contains(pid); }};
};

TEST_F(GaugeReportersTest, ASecondProcessIsSaidOnce) {
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(2), "pid 1");
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Note(1), std::nullopt);
    EXPECT_EQ(Note(2), std::nullopt);
  }
  EXPECT_EQ(Note(3), "pid 1");
}

TEST_F(GaugeReportersTest, FamiliesAreApart) {
  EXPECT_EQ(Note(1, 7, "depth"), std::nullopt);
  EXPECT_EQ(Note(2, 7, "jobs"), std::nullopt);
  EXPECT_EQ(Note(1, 7, "jobs"), "pid 2");
}

TEST_F(GaugeReportersTest, ASuccessorIsNoSecondSender) {
  EXPECT_EQ(Note(1), std::nullopt);
  ended_.insert(1);
  EXPECT_EQ(Note(2), std::nullopt);
  EXPECT_EQ(Note(1), std::nullopt) << "what it had sent comes late";
  EXPECT_EQ(Note(3), "pid 2");
}

// A shard tells of a process that goes on reporting once only.
TEST_F(GaugeReportersTest, WhoWasSecondHasTheFamilyWhenTheFirstEnds) {
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(2), "pid 1");
  ended_.insert(1);
  EXPECT_EQ(Note(3), "pid 2");
}

TEST_F(GaugeReportersTest, APidThatComesBackIsAnotherProcess) {
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(2, 7), "pid 1");
  EXPECT_EQ(Note(2, 8), "pid 1");
}

TEST_F(GaugeReportersTest, NamesMayComeAfterTheFirstSample) {
  EXPECT_EQ(Note(1, 0), std::nullopt);
  EXPECT_EQ(Note(1, 7), std::nullopt);
  EXPECT_EQ(Note(1, 0), std::nullopt);
  EXPECT_EQ(Note(2, 7), "pid 1");
}

TEST_F(GaugeReportersTest, WhoIsNotKnownIsNotSaid) {
  EXPECT_EQ(Note(1), std::nullopt);
  for (const auto kind : {SenderInfo::Kind::kUnknown, SenderInfo::Kind::kOthers}) {
    SenderInfo sender;
    sender.kind = kind;
    EXPECT_EQ(reporters_.Note("depth", sender, "unknown"), std::nullopt);
  }
  EXPECT_EQ(Note(0), std::nullopt) << "of another PID namespace";
}

TEST_F(GaugeReportersTest, IsBounded) {
  EXPECT_EQ(Note(1), std::nullopt);
  constexpr int32_t kEnd = 1 + static_cast<int32_t>(GaugeReporters::kMaxProcesses);
  for (int32_t pid = 2; pid < kEnd; ++pid) EXPECT_EQ(Note(pid), "pid 1");
  EXPECT_EQ(Note(kEnd), std::nullopt);
  ended_.insert(5);
  EXPECT_EQ(Note(kEnd), "pid 1") << "who has ended makes room";
}

TEST_F(GaugeReportersTest, SaysAgainAfterForgetting) {
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(2), "pid 1");
  reporters_.Forget();
  EXPECT_EQ(Note(1), std::nullopt);
  EXPECT_EQ(Note(2), "pid 1");
  EXPECT_EQ(Note(2), std::nullopt);
}

TEST(HasEnded, TellsByPidAndStart) {
  const uint64_t ticks = NamesOf(::getpid(), INT64_MAX).start_ticks;
  ASSERT_NE(ticks, 0u);
  EXPECT_FALSE(HasEnded(::getpid(), ticks));
  EXPECT_FALSE(HasEnded(::getpid(), 0));
  EXPECT_TRUE(HasEnded(::getpid(), ticks + 1));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ASSERT_GT(child, 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(HasEnded(child, 0));
}

}  // namespace
}  // namespace tallyd
