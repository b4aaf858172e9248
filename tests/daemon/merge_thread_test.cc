#include "daemon/merge_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/daemon/aggregation.h"

namespace tallyd {
namespace {

using testing::HasSubstr;
using testing::Not;

using SnapshotPtr = std::shared_ptr<const Snapshot>;

// Asks and waits for the answer.
SnapshotPtr Ask(MergeThread& thread, absl::Duration max_age,
                ScrapeFormat format = ScrapeFormat::kPrometheus004,
                ContentCoding coding = ContentCoding::kIdentity) {
  std::promise<SnapshotPtr> promise;
  thread.Request(format, coding, max_age,
                 [&promise](SnapshotPtr snapshot) { promise.set_value(std::move(snapshot)); });
  return promise.get_future().get();
}

TEST(MergeThreadTest, MergeNowShowsWhatWasSentBefore) {
  Aggregation aggregation;
  aggregation.Send("a:1|c", 0);
  aggregation.Send("a:2|c", 1);
  aggregation.merge_thread().MergeNow();
  const SnapshotPtr snapshot = Ask(aggregation.merge_thread(), absl::InfiniteDuration());
  EXPECT_THAT(TextOf(*snapshot), HasSubstr("\na 3\n"));
  EXPECT_EQ(aggregation.merge_thread().status().series, 1u);
  EXPECT_EQ(aggregation.merge_thread().status().families, 1u);
}

TEST(MergeThreadTest, AnOldEnoughSnapshotIsNotMergedAgain) {
  Aggregation aggregation;
  const uint64_t merges = aggregation.merge_thread().status().merges;
  aggregation.Send("a:1|c");
  EXPECT_THAT(TextOf(*Ask(aggregation.merge_thread(), absl::Hours(1))), Not(HasSubstr("a 1")));
  EXPECT_EQ(aggregation.merge_thread().status().merges, merges);
}

TEST(MergeThreadTest, AStaleSnapshotIs) {
  Aggregation aggregation;
  for (int value = 1; value <= 20; ++value) {
    aggregation.Send("a:1|c");
    const SnapshotPtr snapshot = Ask(aggregation.merge_thread(), absl::ZeroDuration());
    EXPECT_THAT(TextOf(*snapshot), HasSubstr("\na " + std::to_string(value) + "\n"));
  }
}

TEST(MergeThreadTest, EachFormatAndCodingIsItsOwn) {
  Aggregation aggregation;
  aggregation.Send("a_total:1|c");
  aggregation.merge_thread().MergeNow();
  MergeThread& thread = aggregation.merge_thread();
  const absl::Duration any = absl::InfiniteDuration();
  EXPECT_THAT(TextOf(*Ask(thread, any)), HasSubstr("# TYPE a_total counter"));
  EXPECT_THAT(TextOf(*Ask(thread, any, ScrapeFormat::kOpenMetrics100)),
              HasSubstr("# TYPE a counter"));
  EXPECT_EQ(
      TextOf(*Ask(thread, any, ScrapeFormat::kPrometheus004, ContentCoding::kGzip)).substr(0, 2),
      "\x1f\x8b");
}

TEST(MergeThreadTest, RequestsBetweenTwoMergesShareOneRendering) {
  Aggregation aggregation;
  const SnapshotPtr first = Ask(aggregation.merge_thread(), absl::InfiniteDuration());
  EXPECT_EQ(Ask(aggregation.merge_thread(), absl::InfiniteDuration()), first);
}

// Holds the merger's thread in a merge until it is let go.
class Hold {
 public:
  explicit Hold(MergeThread* thread) : thread_(thread) {
    thread_->SetObserver([this, let_go = let_go_.get_future().share()](auto, const auto&) {
      if (!held_.exchange(true)) entered_.set_value();
      let_go.wait();
    });
    asker_ = std::thread([this] { thread_->MergeNow(); });
    entered_.get_future().wait();
  }
  void LetGo() { let_go_.set_value(); }
  ~Hold() {
    asker_.join();
    thread_->SetObserver(nullptr);
  }

 private:
  MergeThread* const thread_;
  std::promise<void> let_go_;
  std::promise<void> entered_;
  std::atomic<bool> held_{false};
  std::thread asker_;
};

TEST(MergeThreadTest, RequestsThatWaitTogetherShareOneMerge) {
  Aggregation aggregation;
  MergeThread& thread = aggregation.merge_thread();
  constexpr int kRequests = 50;
  std::vector<std::promise<SnapshotPtr>> promises(kRequests);
  uint64_t merges = 0;
  {
    Hold hold(&thread);
    merges = thread.status().merges;
    aggregation.Send("a:1|c");
    for (auto& promise : promises) {
      thread.Request(ScrapeFormat::kPrometheus004, ContentCoding::kIdentity, absl::ZeroDuration(),
                     [&promise](SnapshotPtr snapshot) { promise.set_value(std::move(snapshot)); });
    }
    hold.LetGo();
  }
  const SnapshotPtr first = promises[0].get_future().get();
  EXPECT_THAT(TextOf(*first), HasSubstr("\na 1\n"));
  for (int i = 1; i < kRequests; ++i) EXPECT_EQ(promises[i].get_future().get(), first);
  EXPECT_EQ(thread.status().merges, merges + 1);
}

TEST(MergeThreadTest, MergesByItselfEveryInterval) {
  Aggregation aggregation(absl::Milliseconds(1));
  aggregation.Send("a:1|c");
  MergeThread& thread = aggregation.merge_thread();
  EXPECT_TRUE(Eventually([&] { return thread.status().merges > 20; }));
  EXPECT_EQ(thread.status().series, 1u);
}

TEST(MergeThreadTest, BeatsThatWereMissedAreNotMadeUpFor) {
  Aggregation aggregation(absl::Milliseconds(5));
  MergeThread& thread = aggregation.merge_thread();
  uint64_t during = 0;
  int64_t let_go_ns = 0;
  {
    Hold hold(&thread);
    during = thread.status().merges;
    const int64_t until_ns = MonotonicNs() + 200'000'000;  // forty beats
    EXPECT_TRUE(Eventually([until_ns] { return MonotonicNs() > until_ns; }));
    let_go_ns = MonotonicNs();
    hold.LetGo();
  }
  const uint64_t merges = thread.status().merges;
  // Made up for, they would all be there at once, beside those whose time has come since.
  const int64_t beats_since = (MonotonicNs() - let_go_ns) / 5'000'000;
  EXPECT_LT(merges, during + 35 + beats_since);
}

TEST(MergeThreadTest, TheEndLeavesNoRequestWithoutAnAnswer) {
  for (int round = 0; round < 20; ++round) {
    Aggregation aggregation;
    std::atomic<int> answers{0};
    constexpr int kRequests = 10;
    for (int i = 0; i < kRequests; ++i) {
      aggregation.merge_thread().Request(ScrapeFormat::kOpenMetrics100, ContentCoding::kIdentity,
                                         absl::ZeroDuration(),
                                         [&answers](const SnapshotPtr&) { ++answers; });
    }
    aggregation.DestroyMergeThread();
    EXPECT_EQ(answers.load(), kRequests);
  }
}

std::vector<FamilyStats> Largest(MergeThread& thread, size_t count) {
  std::promise<std::vector<FamilyStats>> promise;
  thread.Ask([&](const Merger* merger) { promise.set_value(merger->LargestFamilies(count)); });
  return promise.get_future().get();
}

TEST(MergeThreadTest, JobsSeeTheFamiliesOfTheLastMerge) {
  Aggregation aggregation;
  MergeThread& thread = aggregation.merge_thread();
  EXPECT_TRUE(Largest(thread, 10).empty());
  for (const char* line :
       {"b:1|c|#k:1", "b:1|c|#k:2", "b:1|c|#k:3", "d:1|ms", "c:1|g|#k:1", "c:1|g|#k:2", "a:1|c"}) {
    aggregation.Send(line, 0);
    aggregation.Send(line, 1);
  }
  thread.MergeNow();
  const std::vector<FamilyStats> all = Largest(thread, 10);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].name, "b");
  EXPECT_EQ(all[0].type, FamilyType::kCounter);
  EXPECT_EQ(all[0].series, 3u) << "a series of two shards is one";
  EXPECT_EQ(all[1].name, "c");
  EXPECT_EQ(all[2].name, "a") << "those of one size by name";
  EXPECT_EQ(all[3].name, "d");
  EXPECT_EQ(all[3].type, FamilyType::kHistogram);
  EXPECT_EQ(Largest(thread, 2).size(), 2u);
  EXPECT_EQ(Largest(thread, 2)[1].name, "c");
  EXPECT_TRUE(Largest(thread, 0).empty());

  const uint64_t changes = all[2].changes;
  aggregation.Send("a:1|c", 0);
  thread.MergeNow();
  EXPECT_EQ(Largest(thread, 10)[2].changes, changes + 1);
  thread.MergeNow();
  EXPECT_EQ(Largest(thread, 10)[2].changes, changes + 1) << "nothing came";
}

TEST(MergeThreadTest, TheEndCallsJobsThatWait) {
  int called = 0;
  {
    Aggregation aggregation;
    for (int i = 0; i < 100; ++i) {
      aggregation.merge_thread().Ask([&called](const Merger*) { ++called; });
    }
  }
  EXPECT_EQ(called, 100);
}

TEST(MergeThreadTest, ManyThreadsMayAskWhileAShardCounts) {
  Aggregation aggregation(absl::Milliseconds(1));
  std::vector<std::thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&aggregation, i] {
      uint64_t last = 0;
      for (int n = 0; n < 100; ++n) {
        const SnapshotPtr snapshot = Ask(
            aggregation.merge_thread(), i % 2 == 0 ? absl::ZeroDuration() : absl::Milliseconds(5),
            i < 2 ? ScrapeFormat::kPrometheus004 : ScrapeFormat::kOpenMetrics100);
        const std::string text = TextOf(*snapshot);
        const size_t at = text.find("\na 1");
        const uint64_t value = at == std::string::npos ? 0 : std::stoull(text.substr(at + 3));
        EXPECT_GE(value, last) << "a counter never goes backwards";
        last = value;
        aggregation.merge_thread().status();
      }
    });
  }
  aggregation.Send("a:10000|c");
  for (int n = 0; n < 1000; ++n) aggregation.Send("a:1|c");
  for (std::thread& asker : askers) asker.join();
  aggregation.merge_thread().MergeNow();
  EXPECT_THAT(TextOf(*Ask(aggregation.merge_thread(), absl::InfiniteDuration())),
              HasSubstr("\na 11000\n"));
}

}  // namespace
}  // namespace tallyd
