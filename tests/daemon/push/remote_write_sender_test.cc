#include "daemon/push/remote_write_sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <snappy.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "write1.pb.h"
#include "write2.pb.h"

namespace tallyd {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;
using testing::Not;
using testing::SizeIs;

constexpr int64_t kStartMs = 1'790'000'000'000;
constexpr int64_t kSecond = 1'000'000'000;

// A request as a target reads it.
struct Request {
  int connection = 0;
  int64_t at_ns = 0;
  WriteProtocol protocol = WriteProtocol::k1;
  std::string body;
  std::vector<std::string> series;  // name{i}
  std::map<std::string, double> values;
  std::set<std::string> ended;
  std::set<std::string> native;
  int64_t timestamp_ms = 0;
};

Request Decode(int connection, int64_t at_ns, const WriteMessage& message) {
  Request request;
  request.connection = connection;
  request.at_ns = at_ns;
  request.protocol = message.protocol;
  request.body = *message.body;
  if (message.protocol != WriteProtocol::k1) return request;
  std::string bytes;
  EXPECT_TRUE(snappy::Uncompress(request.body.data(), request.body.size(), &bytes));
  prometheus::WriteRequest decoded;
  EXPECT_TRUE(decoded.ParseFromString(bytes));
  for (const prometheus::TimeSeries& series : decoded.timeseries()) {
    std::string name;
    for (const prometheus::Label& label : series.labels()) {
      name += (name.empty() ? "" : ",") + label.value();
    }
    request.series.push_back(name);
    if (series.histograms_size() > 0) {
      request.native.insert(name);
      request.timestamp_ms = series.histograms(0).timestamp();
      continue;
    }
    request.timestamp_ms = series.samples(0).timestamp();
    const double value = series.samples(0).value();
    if (std::bit_cast<uint64_t>(value) == kStaleMarkerBits) request.ended.insert(name);
    request.values[name] = value;
  }
  return request;
}

// The world as a test has it: a clock that jumps to what happens next, and a target that answers
// what the test says after a millisecond.
class World : public RemoteWriteHost {
 public:
  using Target = std::function<WriteAnswer(const Request&)>;

  int64_t MonotonicNs() override { return now_ns; }
  int64_t WallMs() override { return kStartMs + now_ns / 1'000'000 + wall_offset_ms; }
  double Random() override { return random; }
  void Render(RemoteWriteEncoder::Options options) override {
    ++renderings;
    last_options = options;
    ASSERT_FALSE(rendering.has_value());
    rendering = std::move(options);
  }
  void Send(int connection, WriteMessage message) override {
    ASSERT_EQ(under_way.count(connection), 0u) << "one at a time";
    Request request = Decode(connection, now_ns, message);
    requests.push_back(request);
    under_way[connection] = {now_ns + latency_ns, std::move(request)};
  }
  void CountStored(uint64_t series) override { stored += series; }
  void CountDropped(WriteDrop reason, uint64_t series) override {
    dropped[static_cast<size_t>(reason)] += series;
  }
  void Warn(const std::string& what, const std::string& detail) override {
    log.push_back(what + ": " + detail);
  }
  void Inform(const std::string& what, const std::string& detail) override {
    log.push_back(what + ": " + detail);
  }

  // Lets time pass.
  void Run(RemoteWriteSender* sender, absl::Duration duration) {
    const int64_t end = now_ns + absl::ToInt64Nanoseconds(duration);
    sender->Advance();
    for (int steps = 0; now_ns < end; ++steps) {
      ASSERT_LT(steps, 200'000) << "it spins";
      if (rendering.has_value()) {
        Rendered(sender);
        continue;
      }
      int64_t next = std::min(end, sender->NextWakeNs());
      auto answered = under_way.end();
      for (auto it = under_way.begin(); it != under_way.end(); ++it) {
        if (it->second.first > next) continue;
        next = it->second.first;
        answered = it;
      }
      now_ns = std::max(now_ns, next);
      if (answered == under_way.end()) {
        sender->Advance();
        continue;
      }
      const int connection = answered->first;
      const Request request = std::move(answered->second.second);
      under_way.erase(answered);
      WriteAnswer answer = target(request);
      if (answer.status / 100 == 2) {
        for (const auto& [name, number] : request.values) {
          EXPECT_LT(last_time[name], request.timestamp_ms) << name;
          last_time[name] = request.timestamp_ms;
          values[name] = number;
        }
        for (const std::string& name : request.native) values[name] = -1;
      }
      if (sends_date) answer.date_ms = kStartMs + now_ns / 1'000'000;
      sender->OnAnswer(connection, answer);
    }
  }

  void Rendered(RemoteWriteSender* sender) {
    const RemoteWriteEncoder encoder(*std::exchange(rendering, std::nullopt));
    auto pages = std::make_shared<WritePages>();
    std::string page;
    for (const int i : shown) {
      encoder.Gauge({.name = "g", .help = "", .type = FamilyType::kGauge},
                    "i=\"" + std::to_string(i) + "\"", value, &page);
    }
    for (const int i : histograms) {
      const NativeHistogram native = {.count = 1, .positive = {{{0, 1}}, {1}}, .negative = {}};
      const std::vector<uint64_t> buckets = {1};
      const HistogramValue histogram = {
          .bounds = {}, .les = {}, .buckets = buckets, .sum = 1, .native = &native};
      encoder.Histogram({.name = "h", .help = "", .type = FamilyType::kHistogram},
                        "i=\"" + std::to_string(i) + "\"", histogram, &page);
    }
    pages->push_back(std::make_shared<const std::string>(std::move(page)));
    sender->OnRendered(std::move(pages));
  }

  uint64_t dropped_for(WriteDrop reason) const { return dropped[static_cast<size_t>(reason)]; }
  // Requests with series in them.
  std::vector<Request> Batches() const {
    std::vector<Request> batches;
    for (const Request& request : requests) {
      if (!request.series.empty() || request.protocol == WriteProtocol::k2) {
        batches.push_back(request);
      }
    }
    return batches;
  }

  int64_t now_ns = 7 * kSecond;
  int64_t wall_offset_ms = 0;
  double random = 0.5;
  int64_t latency_ns = 1'000'000;
  bool sends_date = true;
  Target target = [](const Request&) { return WriteAnswer{.status = 204}; };
  std::set<int> shown;  // gauges
  std::set<int> histograms;
  double value = 1;

  int renderings = 0;
  std::optional<RemoteWriteEncoder::Options> rendering;
  RemoteWriteEncoder::Options last_options;
  std::map<int, std::pair<int64_t, Request>> under_way;
  std::vector<Request> requests;
  std::map<std::string, double> values;  // what the target stored last
  std::map<std::string, int64_t> last_time;
  uint64_t stored = 0;
  uint64_t dropped[kWriteDrops] = {};
  std::vector<std::string> log;
};

std::string Name(int i) { return "g," + std::to_string(i); }

WriteAnswer Status(int status, std::string detail = "") {
  return {.status = status, .detail = std::move(detail)};
}

class RemoteWriteSenderTest : public testing::Test {
 protected:
  RemoteWriteSenderTest() {
    options_.interval = absl::Seconds(10);
    Show(100);
  }
  void Show(int series) {
    world_.shown.clear();
    for (int i = 0; i < series; ++i) world_.shown.insert(i);
  }
  RemoteWriteSender& sender() {
    if (sender_ == nullptr) sender_ = std::make_unique<RemoteWriteSender>(options_, &world_);
    return *sender_;
  }
  void Run(absl::Duration duration) { world_.Run(&sender(), duration); }
  // That the target has the newest value of all that is shown.
  void ExpectAllStored() {
    for (const int i : world_.shown) {
      ASSERT_EQ(world_.values.count(Name(i)), 1u) << i;
      ASSERT_EQ(world_.values[Name(i)], world_.value) << i;
    }
  }
  void TargetIsDown(int status = 0) {
    world_.target = [status](const Request&) { return Status(status, "down"); };
  }
  void TargetIsUp() {
    world_.target = [](const Request&) { return Status(204); };
  }
  // A target that answers `status` to all that holds a culprit.
  void Poison(std::set<std::string> culprits, int status) {
    world_.target = [culprits = std::move(culprits), status](const Request& request) {
      const bool bad =
          std::any_of(request.series.begin(), request.series.end(),
                      [&](const std::string& name) { return culprits.count(name) > 0; });
      return bad ? Status(status, "poison") : Status(204);
    };
  }

  RemoteWriteSenderOptions options_;
  World world_;
  std::unique_ptr<RemoteWriteSender> sender_;
};

TEST_F(RemoteWriteSenderTest, SendsAllSeriesEachInterval) {
  Show(10'000);
  Run(absl::Seconds(5));
  ExpectAllStored();
  EXPECT_EQ(world_.renderings, 1);
  world_.value = 2;
  Run(absl::Seconds(10));
  ExpectAllStored();
  EXPECT_EQ(world_.renderings, 2);
  EXPECT_EQ(world_.stored, 20'000u);
  EXPECT_EQ(sender().pending(), 0u);
  EXPECT_EQ(sender().Trouble(), "");
}

TEST_F(RemoteWriteSenderTest, FirstComparesTheClocksByAnEmptyRequest) {
  Run(absl::Seconds(1));
  ASSERT_THAT(world_.requests, SizeIs(Ge(2u)));
  EXPECT_THAT(world_.requests[0].series, IsEmpty());
  EXPECT_THAT(world_.requests[1].series, Not(IsEmpty()));
}

TEST_F(RemoteWriteSenderTest, CutsBatchesAndKeepsASeriesOnItsConnection) {
  Show(20'000);
  Run(absl::Seconds(15));
  std::map<std::string, int> connection;
  std::set<int> used;
  for (const Request& request : world_.Batches()) {
    EXPECT_LE(request.series.size(), 2'000u);
    used.insert(request.connection);
    for (const std::string& name : request.series) {
      const auto [found, is_new] = connection.try_emplace(name, request.connection);
      EXPECT_EQ(found->second, request.connection);
    }
  }
  EXPECT_THAT(connection, SizeIs(20'000));
  EXPECT_THAT(used, SizeIs(4));
}

TEST_F(RemoteWriteSenderTest, KeepsTheBeatWhateverWasMissed) {
  Run(absl::Seconds(1));
  world_.now_ns += 95 * kSecond;  // stopped for a while
  const int before = world_.renderings;
  Run(absl::Seconds(1));
  EXPECT_EQ(world_.renderings, before + 1);
  EXPECT_EQ((sender().NextWakeNs() - 7 * kSecond) % (10 * kSecond), 0);
}

TEST_F(RemoteWriteSenderTest, RepeatsTheSameBytesAfterATimeout) {
  int failures = 3;
  world_.target = [&](const Request& request) {
    if (request.series.empty() || failures == 0) return Status(204);
    --failures;
    return Status(0, "timeout");
  };
  options_.connections = 1;
  Run(absl::Seconds(5));
  const std::vector<Request> batches = world_.Batches();
  ASSERT_THAT(batches, SizeIs(4));
  for (const Request& request : batches) EXPECT_EQ(request.body, batches[0].body);
  ExpectAllStored();
  EXPECT_EQ(world_.stored, 100u);
}

TEST_F(RemoteWriteSenderTest, BacksOffWithFullJitterUpToFiveSeconds) {
  options_.connections = 1;
  options_.interval = absl::Minutes(10);
  options_.max_age = absl::Hours(1);
  Run(absl::Milliseconds(1));
  TargetIsDown();
  world_.random = 1;
  Run(absl::Minutes(1));
  std::vector<int64_t> waits;
  const std::vector<Request> batches = world_.Batches();
  for (size_t i = 1; i < batches.size(); ++i) {
    waits.push_back((batches[i].at_ns - batches[i - 1].at_ns - world_.latency_ns) / 1'000'000);
  }
  ASSERT_THAT(waits, SizeIs(Ge(10u)));
  EXPECT_EQ(waits[0], 30);
  EXPECT_EQ(waits[1], 60);
  EXPECT_EQ(waits[2], 120);
  EXPECT_EQ(waits.back(), 5'000);
  world_.random = 0.1;
  world_.requests.clear();
  Run(absl::Seconds(20));
  ASSERT_THAT(world_.Batches(), SizeIs(Ge(30u)));
}

TEST_F(RemoteWriteSenderTest, QueuesNothingWhileTheTargetIsAway) {
  Run(absl::Seconds(5));
  TargetIsDown();
  const int before = world_.renderings;
  Run(absl::Minutes(4));
  EXPECT_LE(world_.renderings, before + 2);
  EXPECT_EQ(sender().Trouble(), "does not take data");
  EXPECT_LE(sender().pending(), 100u);
  world_.value = 42;
  TargetIsUp();
  Run(absl::Seconds(16));
  ExpectAllStored();
  EXPECT_EQ(world_.dropped_for(WriteDrop::kTooOld), 0u);
  EXPECT_EQ(sender().Trouble(), "");
}

// Whatever was waiting arrives first, so that a series' timestamps never go down (the world checks
// that), and then the newest state without waiting for the next beat.
TEST_F(RemoteWriteSenderTest, RendersTheNewestStateAtOnceOnRecovery) {
  options_.interval = absl::Seconds(60);
  Run(absl::Seconds(1));
  TargetIsDown();
  Run(absl::Seconds(125));
  world_.value = 7;
  TargetIsUp();
  Run(absl::Seconds(6));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, GivesUpWhatIsTooOld) {
  options_.max_age = absl::Seconds(30);
  options_.connections = 1;
  Run(absl::Seconds(5));
  TargetIsDown(503);
  Run(absl::Seconds(46));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kTooOld), 100u);
  world_.value = 9;
  TargetIsUp();
  Run(absl::Seconds(16));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, ASlowTargetGetsWholeRounds) {
  Show(30'000);
  world_.latency_ns = 4 * kSecond;  // four batches a connection: 16 s a round of 10 s
  Run(absl::Minutes(3));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kSuperseded), 0u);
  EXPECT_GT(world_.renderings, 5);
  EXPECT_EQ(world_.values.size(), 30'000u);
}

class RejectedTest : public RemoteWriteSenderTest, public testing::WithParamInterface<int> {};

TEST_P(RejectedTest, FindsTheCulpritByHalving) {
  options_.connections = 1;
  Show(2'000);
  Poison({Name(1'234)}, GetParam());
  Run(absl::Seconds(5));
  EXPECT_EQ(world_.stored, 1'999u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 1u);
  EXPECT_THAT(world_.Batches(), SizeIs(Le(1u + 2 * 11)));
  EXPECT_THAT(world_.log, Contains(AllOf(HasSubstr("rejects a series"), HasSubstr("g{i=\"1234\"}"),
                                         HasSubstr("poison"))));
}

INSTANTIATE_TEST_SUITE_P(Statuses, RejectedTest, testing::Values(400, 413, 422));

TEST_F(RemoteWriteSenderTest, LeavesACulpritOutForAWhile) {
  options_.connections = 1;
  Poison({Name(5)}, 400);
  Run(absl::Seconds(5));
  const size_t first = world_.Batches().size();
  Run(absl::Minutes(4));
  EXPECT_THAT(world_.Batches(), SizeIs(first + 24));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 25u);
  TargetIsUp();
  Run(absl::Minutes(2));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, BoundsTheSearchWhereEverythingIsRejected) {
  Show(100'000);
  world_.target = [](const Request& request) {
    return request.series.empty() ? Status(204) : Status(400, "out of bounds");
  };
  Run(absl::Seconds(9));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 100'000u);
  EXPECT_THAT(world_.Batches(), SizeIs(Le(1'500u)));
  EXPECT_THAT(world_.log, SizeIs(Le(3u)));
}

TEST_F(RemoteWriteSenderTest, FindsACulpritThatIsAnswered500WhileOthersAreTaken) {
  Show(20'000);
  Poison({Name(77)}, 500);
  Run(absl::Seconds(20));
  EXPECT_EQ(world_.stored, 2 * 20'000u - 2);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 2u);
}

// With one batch there is nothing else that the target might take: an empty request tells.
TEST_F(RemoteWriteSenderTest, FindsACulpritThatIsAnswered500InTheOnlyBatch) {
  options_.connections = 1;
  Poison({Name(77)}, 500);
  Run(absl::Seconds(9));
  EXPECT_EQ(world_.stored, 99u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 1u);
}

TEST_F(RemoteWriteSenderTest, ATargetThatAnswers500ToAllIsDownAndNothingIsACulprit) {
  TargetIsDown(500);
  Run(absl::Minutes(4));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 0u);
  TargetIsUp();
  Run(absl::Seconds(16));
  ExpectAllStored();
}

// It goes down in the midst of the search: what is not known to be bad is not given up.
TEST_F(RemoteWriteSenderTest, ATargetThatGoesDownDuringTheSearchCostsNothing) {
  options_.connections = 1;
  Poison({Name(77)}, 500);
  Run(absl::Milliseconds(150));
  ASSERT_LT(sender().pending(), 100u) << "the search has begun";
  TargetIsDown(500);
  Run(absl::Minutes(2));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 0u);
  TargetIsUp();
  Run(absl::Seconds(16));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, FindsCulpritsWhereverTheyAreInTheOnlyBatch) {
  options_.connections = 1;
  Poison({Name(0), Name(1), Name(60), Name(99)}, 500);
  Run(absl::Seconds(9));
  EXPECT_EQ(world_.stored, 96u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 4u);
}

TEST_F(RemoteWriteSenderTest, FindsTheCulpritAmongTwo) {
  options_.connections = 1;
  Show(2);
  Poison({Name(0)}, 500);
  Run(absl::Seconds(9));
  EXPECT_EQ(world_.stored, 1u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 1u);
}

// Its storage is down, but what stands before it takes what is empty: that is no batch's fault.
class TakesEmptyRequestsTest : public RemoteWriteSenderTest {
 protected:
  void StorageIsDown() {
    world_.target = [](const Request& request) {
      return request.series.empty() ? Status(204) : Status(500, "disk is full");
    };
  }
};

TEST_F(TakesEmptyRequestsTest, NothingIsACulprit) {
  Run(absl::Seconds(5));
  world_.shown.erase(7);
  StorageIsDown();
  world_.requests.clear();
  Run(absl::Minutes(4));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 0u);
  EXPECT_THAT(world_.log, Not(Contains(HasSubstr("takes data again"))));
  EXPECT_EQ(sender().Trouble(), "does not take data");
  // Four connections, 2.5 s each time.
  EXPECT_THAT(world_.Batches(), SizeIs(Le(4u * 115)));
  TargetIsUp();
  world_.value = 5;
  Run(absl::Seconds(16));
  ExpectAllStored();
  EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(7)]), kStaleMarkerBits);
  EXPECT_EQ(sender().Trouble(), "");
}

TEST_F(TakesEmptyRequestsTest, WhatItDoesNotTakeInTimeIsTooOld) {
  options_.max_age = absl::Seconds(30);
  options_.connections = 1;
  Run(absl::Seconds(5));
  StorageIsDown();
  Run(absl::Seconds(46));
  EXPECT_EQ(world_.dropped_for(WriteDrop::kTooOld), 100u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 0u);
}

TEST_F(TakesEmptyRequestsTest, NativeHistogramsStayWhereTheyWereTaken) {
  options_.histograms = WriteHistograms::kNative;
  for (int i = 0; i < 20; ++i) world_.histograms.insert(i);
  Run(absl::Seconds(5));
  StorageIsDown();
  Run(absl::Minutes(4));
  TargetIsUp();
  Run(absl::Seconds(16));
  EXPECT_TRUE(world_.last_options.native_histograms);
}

class RefusedTest : public RemoteWriteSenderTest, public testing::WithParamInterface<int> {};

TEST_P(RefusedTest, StopsAndProbesEachThirtySeconds) {
  Run(absl::Seconds(5));
  TargetIsDown(GetParam());
  Run(absl::Seconds(10));
  EXPECT_THAT(sender().Trouble(), AllOf(HasSubstr("refused"), HasSubstr("down")));
  world_.requests.clear();
  Run(absl::Minutes(5));
  EXPECT_THAT(world_.requests, SizeIs(AllOf(Ge(9u), Le(11u))));
  for (const Request& request : world_.requests) EXPECT_THAT(request.series, IsEmpty());
  world_.value = 3;
  TargetIsUp();
  Run(absl::Seconds(31));
  ExpectAllStored();
  EXPECT_EQ(sender().Trouble(), "");
}

INSTANTIATE_TEST_SUITE_P(Statuses, RefusedTest, testing::Values(301, 307, 401, 403, 404, 405, 415));

TEST_F(RemoteWriteSenderTest, WaitsAsLongAsRetryAfterSays) {
  Run(absl::Seconds(5));
  world_.target = [](const Request&) {
    return WriteAnswer{.status = 429, .detail = "", .retry_after = absl::Seconds(30)};
  };
  Run(absl::Seconds(6));
  world_.requests.clear();
  Run(absl::Seconds(25));
  EXPECT_THAT(world_.requests, IsEmpty());
  TargetIsUp();
  world_.value = 5;
  Run(absl::Seconds(15));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, ALaterAnswerDoesNotShortenRetryAfter) {
  Run(absl::Seconds(5));
  world_.target = [](const Request& request) {
    WriteAnswer answer = Status(429);
    if (request.connection == 3) answer.retry_after = absl::Seconds(60);
    return answer;
  };
  Run(absl::Seconds(6));
  ASSERT_FALSE(world_.requests.empty());
  world_.requests.clear();
  Run(absl::Seconds(55));
  EXPECT_THAT(world_.requests, IsEmpty());
}

TEST_F(RemoteWriteSenderTest, BoundsRetryAfter) {
  Run(absl::Seconds(5));
  world_.target = [](const Request&) {
    return WriteAnswer{.status = 429, .detail = "", .retry_after = absl::Hours(24)};
  };
  Run(absl::Seconds(6));
  TargetIsUp();
  world_.value = 5;
  Run(absl::Minutes(6));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, EndsSeriesThatLeave) {
  Run(absl::Seconds(5));
  world_.shown.erase(7);
  Run(absl::Seconds(10));
  EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(7)]), kStaleMarkerBits);
  const size_t before = world_.requests.size();
  Run(absl::Seconds(10));
  for (size_t i = before; i < world_.requests.size(); ++i) {
    EXPECT_THAT(world_.requests[i].ended, IsEmpty()) << "once is enough";
  }
  EXPECT_EQ(sender().remembered_series(), 99u);
}

TEST_F(RemoteWriteSenderTest, EndsNothingIfNotAsked) {
  options_.stale_markers = false;
  Run(absl::Seconds(5));
  world_.shown.erase(7);
  Run(absl::Seconds(10));
  EXPECT_EQ(world_.values[Name(7)], 1);
}

TEST_F(RemoteWriteSenderTest, EndsWhatLeftWhileTheTargetWasAway) {
  Run(absl::Seconds(5));
  TargetIsDown();
  Run(absl::Seconds(20));
  world_.shown.erase(7);
  Run(absl::Seconds(60));
  TargetIsUp();
  Run(absl::Seconds(20));
  EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(7)]), kStaleMarkerBits);
  ExpectAllStored();
}

// The round that tells the end is itself lost.
TEST_F(RemoteWriteSenderTest, TellsAnEndAgainIfItWasNotHeard) {
  options_.interval = absl::Seconds(5);
  Run(absl::Seconds(4));
  world_.shown.erase(7);
  TargetIsDown();
  Run(absl::Seconds(30));
  TargetIsUp();
  Run(absl::Seconds(15));
  EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(7)]), kStaleMarkerBits);
}

TEST_F(RemoteWriteSenderTest, FinishesWithTheLastValuesAndTheEnds) {
  Run(absl::Seconds(5));
  world_.value = 8;
  sender().Finish();
  bool last_values = false;
  world_.target = [&](const Request& request) {
    for (const auto& [name, value] : request.values) last_values |= value == 8;
    return Status(204);
  };
  Run(absl::Seconds(1));
  EXPECT_TRUE(sender().finished());
  EXPECT_TRUE(last_values);
  for (const int i : world_.shown) {
    EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(i)]), kStaleMarkerBits);
  }
}

TEST_F(RemoteWriteSenderTest, FinishesWithTheLastValuesAlone) {
  options_.end_on_exit = false;
  Run(absl::Seconds(5));
  world_.value = 8;
  sender().Finish();
  Run(absl::Seconds(1));
  EXPECT_TRUE(sender().finished());
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, FinishesBeforeItHasEverSent) {
  sender().Finish();
  Run(absl::Seconds(1));
  EXPECT_TRUE(sender().finished());
  EXPECT_GT(world_.stored, 0u);
}

TEST_F(RemoteWriteSenderTest, FinishesAtOnceWhereItIsRefused) {
  TargetIsDown(404);
  Run(absl::Seconds(5));
  sender().Finish();
  EXPECT_TRUE(sender().finished());
}

TEST_F(RemoteWriteSenderTest, FinishesInTheMidstOfARound) {
  Show(30'000);
  world_.latency_ns = kSecond / 10;
  Run(absl::Milliseconds(250));
  ASSERT_GT(sender().pending(), 0u);
  world_.value = 8;
  sender().Finish();
  Run(absl::Seconds(5));
  EXPECT_TRUE(sender().finished());
  EXPECT_EQ(std::bit_cast<uint64_t>(world_.values[Name(0)]), kStaleMarkerBits);
}

TEST_F(RemoteWriteSenderTest, SuspendsWhenTheWallClockSteps) {
  Run(absl::Seconds(15));
  world_.wall_offset_ms = 10LL * 24 * 3'600'000;
  Run(absl::Seconds(10));
  EXPECT_TRUE(sender().clock_suspended());
  EXPECT_THAT(sender().Trouble(), HasSubstr("stepped"));
  Run(absl::Minutes(10));
  EXPECT_TRUE(sender().clock_suspended()) << "the target says that it is another time";
  for (const Request& request : world_.Batches()) {
    EXPECT_LE(request.timestamp_ms, kStartMs + world_.now_ns / 1'000'000);
  }
  world_.wall_offset_ms = 0;
  world_.value = 6;
  Run(absl::Seconds(31));
  EXPECT_FALSE(sender().clock_suspended());
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, NeverBeginsAheadOfTheTarget) {
  world_.wall_offset_ms = 10LL * 24 * 3'600'000;
  Run(absl::Minutes(2));
  EXPECT_THAT(world_.Batches(), IsEmpty());
  EXPECT_THAT(sender().Trouble(), HasSubstr("ahead"));
  world_.wall_offset_ms = 0;
  Run(absl::Minutes(2));
  ExpectAllStored();
}

TEST_F(RemoteWriteSenderTest, ResumesAfterTwoIntervalsWhereTheTargetSaysNoTime) {
  world_.sends_date = false;
  Run(absl::Seconds(15));
  world_.wall_offset_ms = 3'600'000;
  Run(absl::Seconds(10));
  EXPECT_TRUE(sender().clock_suspended());
  const size_t before = world_.Batches().size();
  Run(absl::Seconds(9));
  EXPECT_THAT(world_.Batches(), SizeIs(before));
  Run(absl::Seconds(21));
  EXPECT_FALSE(sender().clock_suspended());
  EXPECT_GT(world_.Batches().size(), before);
}

TEST_F(RemoteWriteSenderTest, HoldsBackWhileTheClockIsBehindWhatWasSent) {
  Run(absl::Seconds(15));
  world_.wall_offset_ms = -30'000;  // too little for a step
  const size_t before = world_.Batches().size();
  Run(absl::Seconds(20));
  EXPECT_THAT(world_.Batches(), SizeIs(before));
  EXPECT_TRUE(sender().clock_suspended());
  Run(absl::Seconds(20));
  EXPECT_GT(world_.Batches().size(), before);
  EXPECT_FALSE(sender().clock_suspended());
}

class NativeTest : public RemoteWriteSenderTest {
 protected:
  NativeTest() {
    options_.histograms = WriteHistograms::kNative;
    for (int i = 0; i < 20; ++i) world_.histograms.insert(i);
  }
  void RefuseNative(int status) {
    world_.target = [status](const Request& request) {
      return request.native.empty() ? Status(204)
                                    : Status(status, "native histograms are disabled");
    };
  }
};

TEST_F(NativeTest, SendsNativeHistogramsAlone) {
  Run(absl::Seconds(5));
  EXPECT_TRUE(world_.last_options.native_histograms);
  EXPECT_FALSE(world_.last_options.classic_histograms);
  EXPECT_EQ(world_.values.count("h,3"), 1u);
  EXPECT_EQ(world_.values.count("h_count,3"), 0u);
}

TEST_F(NativeTest, SendsBothForms) {
  options_.histograms = WriteHistograms::kBoth;
  Run(absl::Seconds(5));
  EXPECT_EQ(world_.values.count("h,3"), 1u);
  EXPECT_EQ(world_.values.count("h_count,3"), 1u);
}

TEST_F(NativeTest, FallsBackToClassicWhereNativeIs500ForEver) {
  RefuseNative(500);
  Run(absl::Seconds(9));
  ExpectAllStored();
  for (const int i : world_.histograms) {
    EXPECT_EQ(world_.values.count("h_count," + std::to_string(i)), 1u);
  }
  EXPECT_THAT(world_.log, Contains(HasSubstr("no native histograms")));
  for (const auto& [name, value] : world_.values) {
    EXPECT_NE(std::bit_cast<uint64_t>(value), kStaleMarkerBits) << name;
  }
}

// No classic sample is taken that would show whose fault it is.
TEST_F(NativeTest, FallsBackToClassicWhereThereIsNothingElse) {
  options_.connections = 1;
  world_.shown.clear();
  RefuseNative(500);
  Run(absl::Seconds(9));
  for (const int i : world_.histograms) {
    EXPECT_EQ(world_.values.count("h_count," + std::to_string(i)), 1u);
  }
}

class Version2Test : public RemoteWriteSenderTest {
 protected:
  Version2Test() { options_.protocol = WriteProtocol::k2; }
};

TEST_F(Version2Test, StaysWhereTheTargetSaysWhatItWrote) {
  world_.target = [](const Request& request) {
    WriteAnswer answer = Status(204);
    if (request.protocol == WriteProtocol::k2) answer.written = WrittenCounts{.samples = 2'000};
    return answer;
  };
  Run(absl::Seconds(5));
  for (const Request& request : world_.Batches()) EXPECT_EQ(request.protocol, WriteProtocol::k2);
  EXPECT_EQ(world_.stored, 100u);
}

TEST_F(Version2Test, CountsWhatTheTargetDidNotWrite) {
  options_.connections = 1;
  world_.target = [](const Request&) {
    return WriteAnswer{.status = 204, .detail = "", .written = WrittenCounts{.samples = 90}};
  };
  Run(absl::Seconds(5));
  EXPECT_EQ(world_.stored, 90u);
  EXPECT_EQ(world_.dropped_for(WriteDrop::kRejected), 10u);
}

// A receiver of 1.0 answers 204 and has stored nothing.
TEST_F(Version2Test, FallsBackWhereNothingIsSaidOfWhatWasWritten) {
  Run(absl::Seconds(5));
  ExpectAllStored();
  EXPECT_EQ(world_.stored, 100u);
  EXPECT_THAT(world_.log, Contains(HasSubstr("does not know remote write 2.0")));
}

TEST_F(Version2Test, FallsBackOn415) {
  world_.target = [](const Request& request) {
    return Status(request.protocol == WriteProtocol::k2 ? 415 : 204);
  };
  Run(absl::Seconds(5));
  ExpectAllStored();
  EXPECT_EQ(world_.stored, 100u);
  EXPECT_EQ(sender().Trouble(), "");
}

TEST_F(Version2Test, SendsNothingElseToAReceiverOf2Alone) {
  world_.target = [](const Request& request) {
    WriteAnswer answer = Status(request.protocol == WriteProtocol::k2 ? 204 : 415);
    answer.written = WrittenCounts{.samples = 2'000};
    return answer;
  };
  Run(absl::Seconds(5));
  EXPECT_EQ(world_.stored, 100u);
  EXPECT_EQ(sender().Trouble(), "");
  for (const Request& request : world_.requests) EXPECT_EQ(request.protocol, WriteProtocol::k2);
}

TEST_F(Version2Test, FallsBackOn415AfterARefusal) {
  TargetIsDown(404);
  Run(absl::Seconds(5));
  ASSERT_THAT(sender().Trouble(), HasSubstr("refused"));
  world_.target = [](const Request& request) {
    return Status(request.protocol == WriteProtocol::k2 ? 415 : 204);
  };
  Run(absl::Seconds(31));
  ExpectAllStored();
  EXPECT_EQ(sender().Trouble(), "");
}

TEST_F(RemoteWriteSenderTest, BearsARenderingThatDoesNotCome) {
  sender().Advance();
  Run(absl::Milliseconds(1));
  sender().OnRendered(nullptr);
  world_.rendering.reset();
  Run(absl::Seconds(15));
  ExpectAllStored();
}

// Any answers in any order: it neither spins nor stops, and in the end all is there.
TEST_F(RemoteWriteSenderTest, RecoversFromAnyAnswers) {
  constexpr int kStatuses[] = {0,   200, 204, 204, 301, 400, 401, 404,
                               408, 413, 415, 422, 429, 500, 503};
  uint32_t state = 1;
  const auto random = [&state](uint32_t below) {
    state = state * 1'664'525 + 1'013'904'223;
    return (state >> 8) % below;
  };
  Show(3'000);
  options_.interval = absl::Seconds(2);
  options_.batch_series = 100;
  world_.target = [&](const Request&) { return Status(kStatuses[random(std::size(kStatuses))]); };
  for (int i = 0; i < 40; ++i) {
    world_.shown.erase(static_cast<int>(random(3'000)));
    world_.random = random(1'000) / 1'000.0;
    Run(absl::Seconds(30));
  }
  TargetIsUp();
  world_.value = 11;
  Run(absl::Minutes(12));
  ExpectAllStored();
  EXPECT_EQ(sender().pending(), 0u);
}

}  // namespace
}  // namespace tallyd
