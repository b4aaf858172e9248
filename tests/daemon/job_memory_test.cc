// What is known of jobs goes on over restarts: as it was, and no longer than it was to stay.

#include "daemon/job_memory.h"

#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace tallyd {
namespace {

namespace fs = std::filesystem;

JobRecord Record(const std::string& job, JobValues values) {
  JobRecord record;
  record.labels = {{"job", job}, {"path", "a b=c \\ ü"}};
  record.ttl = absl::Hours(1);
  record.values = std::move(values);
  return record;
}

TEST(JobRecordTest, ComesBackAsItWas) {
  std::vector<JobRecord> jobs = {
      Record("one", {{kJobRunning, 0},
                     {kJobDuration, 0.1 + 0.2},
                     {kJobExitCode, kUnknownExitCode},
                     {kJobStarted, 1e9 + 0.123},
                     {kJobSuccess, std::numeric_limits<double>::infinity()}}),
      Record("two", {})};
  jobs[0].until = absl::FromUnixMillis(1'700'000'000'123);
  jobs[1].ttl = absl::ZeroDuration();
  const absl::StatusOr<std::vector<JobRecord>> read = DecodeJobs(EncodeJobs(jobs));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) {
    EXPECT_EQ((*read)[i].labels, jobs[i].labels);
    EXPECT_EQ((*read)[i].values, jobs[i].values);
    EXPECT_EQ((*read)[i].ttl, jobs[i].ttl);
    EXPECT_EQ((*read)[i].until, jobs[i].until);
  }
  EXPECT_TRUE(DecodeJobs(EncodeJobs({}))->empty());
}

TEST(JobRecordTest, WhatIsCutOrChangedDoesNotVerify) {
  const std::string good = EncodeJobs({Record("one", {{kJobRunning, 1}})});
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(DecodeJobs(good.substr(0, size)).ok()) << size;
    std::string flipped = good;
    flipped[size] = static_cast<char>(flipped[size] ^ 4);
    EXPECT_FALSE(DecodeJobs(flipped).ok()) << size;
  }
  std::string newer = good;
  newer[newer.find('\n') - 1] = '2';
  EXPECT_TRUE(absl::IsUnimplemented(DecodeJobs(newer).status()));
}

TEST(JobRecordTest, FamiliesHaveHelpAndStrangersAreLeftOut) {
  const PushedFamilies families = JobFamilies({{kJobExitCode, 3}, {"other", 1}});
  ASSERT_EQ(families.size(), 1);
  const PushedFamily& family = families.at(kJobExitCode);
  EXPECT_EQ(family.type, FamilyType::kGauge);
  EXPECT_EQ(family.metrics.at(0).value, 3);
  EXPECT_NE(family.help, "");
}

class JobMemoryTest : public testing::Test {
 protected:
  JobMemoryTest() {
    std::string name = fs::temp_directory_path() / "tallyd-jobs-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~JobMemoryTest() override {
    memory_.reset();
    fs::remove_all(directory_);
  }

  // As a process that starts.
  JobMemory& Start() {
    memory_.reset();
    registry_ = std::make_unique<prometheus::Registry>();
    auto state = StateFile::Open(directory_, calls_);
    EXPECT_TRUE(state.ok()) << state.status();
    auto file = (*state)->Beside(JobMemory::kFileName);
    EXPECT_TRUE(file.ok()) << file.status();
    memory_ = std::make_unique<JobMemory>(*std::move(file), registry_.get());
    return *memory_;
  }

  double Failures() const { return registry_->Collect().at(0).metric.at(0).counter.value; }

  std::string Path() const { return directory_ + "/" + JobMemory::kFileName; }

  const absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  StateFile::Calls calls_ = StateFile::KernelCalls();
  std::string directory_;
  std::unique_ptr<prometheus::Registry> registry_;
  std::unique_ptr<JobMemory> memory_;
};

TEST_F(JobMemoryTest, AJobThatEndedIsRememberedForAsLongAsItIsToStay) {
  JobMemory& first = Start();
  EXPECT_TRUE(first.Remembered(now_).empty());
  first.Note(Record("nightly", {{kJobRunning, 1}, {kJobStarted, 5}}), now_);
  JobRecord end = Record("nightly", {{kJobRunning, 0}, {kJobExitCode, 0}});
  end.until = now_ + end.ttl;
  first.Note(end, now_);
  const std::vector<JobRecord> jobs = Start().Remembered(now_ + absl::Minutes(20));
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].labels, end.labels);
  EXPECT_EQ(jobs[0].values, (JobValues{{kJobRunning, 0}, {kJobStarted, 5}, {kJobExitCode, 0}}));
  EXPECT_EQ(jobs[0].until, end.until);
  EXPECT_TRUE(Start().Remembered(end.until).empty());
}

TEST_F(JobMemoryTest, AJobThatRanHasEndedNobodyKnowsHow) {
  Start().Note(Record("nightly", {{kJobRunning, 1}, {kJobSuccess, 1}, {kJobLastSuccess, 7}}), now_);
  const absl::Time later = now_ + absl::Hours(30);
  const std::vector<JobRecord> jobs = Start().Remembered(later);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].values, (JobValues{{kJobRunning, 0},
                                       {kJobSuccess, 0},
                                       {kJobLastSuccess, 7},
                                       {kJobExitCode, kUnknownExitCode}}));
  EXPECT_EQ(jobs[0].until, later + absl::Hours(1));
}

TEST_F(JobMemoryTest, AClockThatWasSetBackKeepsNothingForLonger) {
  JobRecord end = Record("nightly", {{kJobRunning, 0}});
  end.until = now_ + end.ttl;
  Start().Note(end, now_);
  const absl::Time before = now_ - absl::Hours(24 * 365);
  const std::vector<JobRecord> jobs = Start().Remembered(before);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].until, before + absl::Hours(1));
}

TEST_F(JobMemoryTest, WithoutATimeToLiveAJobStays) {
  JobRecord end = Record("nightly", {{kJobRunning, 0}});
  end.ttl = absl::ZeroDuration();
  Start().Note(end, now_);
  EXPECT_EQ(Start().Remembered(now_ + absl::Hours(100'000)).size(), 1);
}

TEST_F(JobMemoryTest, ARunAfterTheEndOfItsTimeKnowsNothingOfTheFormerOnes) {
  JobRecord end = Record("nightly", {{kJobRunning, 0}, {kJobLastSuccess, 7}});
  end.until = now_ + end.ttl;
  JobMemory& memory = Start();
  memory.Note(end, now_);
  memory.Note(Record("nightly", {{kJobRunning, 1}}), end.until);
  const std::vector<JobRecord> jobs = memory.Remembered(end.until);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].values.count(kJobLastSuccess), 0);
}

TEST_F(JobMemoryTest, WhatCannotBeReadIsSetAside) {
  Start().Note(Record("nightly", {{kJobRunning, 0}}), now_);
  memory_.reset();
  std::fstream(Path(), std::ios::in | std::ios::out) << "other";
  EXPECT_TRUE(Start().Remembered(now_).empty());
  EXPECT_TRUE(fs::exists(Path() + ".bad"));
  memory_->Note(Record("nightly", {{kJobRunning, 0}}), now_);
  EXPECT_EQ(Start().Remembered(now_).size(), 1);
}

TEST_F(JobMemoryTest, WhatCannotBeWrittenIsCountedAndTriedAgain) {
  bool full = true;
  calls_.fsync = [&full](int) {
    if (full) errno = ENOSPC;
    return full ? -1 : 0;
  };
  JobMemory& memory = Start();
  memory.Note(Record("one", {{kJobRunning, 0}}), now_);
  for (int i = 0; i < 2'000 && Failures() == 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_GE(Failures(), 1);
  EXPECT_FALSE(fs::exists(Path()));
  memory.Stop();
  full = false;
  Start().Note(Record("two", {{kJobRunning, 0}}), now_);
  EXPECT_EQ(Start().Remembered(now_).size(), 1);
}

// Many jobs, by many threads, while the file is written.
TEST_F(JobMemoryTest, NothingIsLostUnderLoad) {
  constexpr int kThreads = 4;
  constexpr int kJobs = 50;
  JobMemory& memory = Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&memory, t, now = now_] {
      for (int i = 0; i < kJobs; ++i) {
        memory.Note(Record(std::to_string(t) + "." + std::to_string(i), {{kJobRunning, 0}}), now);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Start().Remembered(now_).size(), kThreads * kJobs);
}

}  // namespace
}  // namespace tallyd
