// The saved state: nothing is lost from one process to the next, and nothing is believed.

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "core/merge/state_codec.h"
#include "core/merge/state_restorer.h"
#include "core/rules/mapping.h"
#include "core/shard/key_table.h"
#include "core/shard/set_cell.h"
#include "tests/core/merge/shard_feeder.h"

namespace tallyd {
namespace {

using Values = std::map<std::string, std::string>;

std::string Save(ShardFeeder* feeder, bool is_final = true) {
  SavedHead head;
  head.session = 7;
  head.sequence = 1;
  head.is_final = is_final;
  head.boot_id = "boot";
  head.unix_s = 1'000'000;
  return feeder->merger().SaveState(std::move(head));
}

StateRestorer::Counts Restore(std::string_view state, ShardFeeder* feeder, bool same_clock = true) {
  std::vector<Shard*> shards;
  for (int i = 0; i < feeder->shards(); ++i) shards.push_back(&feeder->shard(i));
  StateRestorer restorer({.now_ns = feeder->now_ns(), .same_clock = same_clock}, shards,
                         &feeder->merger(), &feeder->rules(), &feeder->budget());
  EXPECT_TRUE(DecodeState(state, &restorer).ok());
  restorer.Finish();
  return restorer.counts();
}

class Recorder : public StateVisitor {
 public:
  void OnHead(SavedHead head) override { head_ = std::move(head); }
  void OnSeries(SavedSeries*) override { ++records_; }
  void OnExpired(SavedExpired*) override { ++records_; }
  const SavedHead& head() const { return head_; }
  int records() const { return records_; }

 private:
  SavedHead head_;
  int records_ = 0;
};

// A few series of every kind, over two shards.
void SendSome(ShardFeeder* feeder) {
  feeder->Send("c:3|c|#a:b\nc:1.5|c|#a:c\nbig:9007199254740993|c\nonly:1|c");
  feeder->Send("c:4|c|#a:b", 1);
  feeder->Send("g:12.5|g\nrel:+5|g");
  feeder->Send("t:100|ms|@0.6\nt:250|ms\nh:0.25|h\nh:-1|h\nh:0|h");
  feeder->Send("t:7000|ms", 1);
  feeder->Send("s:x|s\ns:y|s");
  feeder->Send("s:y|s\ns:z|s", 1);
}

TEST(StateTest, EveryKindOfSeriesGoesOn) {
  ShardFeeder before({.shards = 2});
  before.Merge(1000);
  SendSome(&before);
  const Values values = before.MergeAndParse();
  const std::string state = Save(&before);

  ShardFeeder after({.shards = 2});
  const StateRestorer::Counts counts = Restore(state, &after);
  EXPECT_EQ(counts.waiting, 0u);
  EXPECT_EQ(after.MergeAndParse(), values) << "from the first merge on, without a sample";

  for (ShardFeeder* feeder : {&before, &after}) SendSome(feeder);
  EXPECT_EQ(after.MergeAndParse(), before.MergeAndParse());
}

TEST(StateTest, ItGoesOnThroughManyProcessesAndOtherShardCounts) {
  auto process = std::make_unique<ShardFeeder>(ShardFeeder::Options{.shards = 2});
  uint64_t sent = 0;
  for (int shards : {1, 4, 3, 1, 2, 2, 5, 2}) {
    for (int i = 0; i < 20; ++i, ++sent) {
      process->Send("n:1|c\nh:2|h", i % process->shards());
    }
    process->Merge();
    const std::string state = Save(process.get());
    process = std::make_unique<ShardFeeder>(ShardFeeder::Options{.shards = shards});
    Restore(state, process.get());
    Values values = process->MergeAndParse();
    EXPECT_EQ(values["n"], std::to_string(sent));
    EXPECT_EQ(values["h_count"], std::to_string(sent));
    EXPECT_EQ(values["h_sum"], std::to_string(2 * sent));
  }
}

// Sums of fractions depend on the order in which they are added. Nothing goes down nonetheless, not
// by a bit: whoever scrapes would take it for a counter that began anew.
TEST(StateTest, NoSumEverGoesDown) {
  std::mt19937_64 random(5);
  const auto some = [&random](ShardFeeder* feeder) {
    for (uint64_t n = random() % 6; n > 0; --n) {
      const std::string value = "0." + std::to_string(random() % 1000) + "1";
      const int shard = static_cast<int>(random() % static_cast<uint64_t>(feeder->shards()));
      feeder->Send("c:" + value + "|c\nh:" + value + "|h", shard);
      if (random() % 3 == 0) feeder->Advance(70'000'000);
    }
  };
  double counter = 0;
  double sum = 0;
  const auto check = [&](ShardFeeder* feeder, const std::string& when) {
    Values values = feeder->MergeAndParse();
    if (values.count("c") == 0 || values.count("h_sum") == 0) return;
    const double counter_now = std::stod(values["c"]);
    const double sum_now = std::stod(values["h_sum"]);
    ASSERT_GE(counter_now, counter) << when;
    ASSERT_GE(sum_now, sum) << when;
    counter = counter_now;
    sum = sum_now;
  };
  const ShardFeeder::Options options = {.shards = 4, .ttl_ms = 100};
  auto process = std::make_unique<ShardFeeder>(options);
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i < 4; ++i) {
      some(process.get());
      check(process.get(), "sending");
      process->Advance(40'000'000);
      process->Turn();
      check(process.get(), "expiring");
    }
    const std::string state = Save(process.get());
    process = std::make_unique<ShardFeeder>(options);
    Restore(state, process.get());
    check(process.get(), "restarting " + std::to_string(round));
  }
  EXPECT_GT(sum, 100);
}

TEST(StateTest, WhatIsInfiniteStaysSo) {
  const ShardFeeder::Options options = {.shards = 2, .ttl_ms = 100};
  auto process = std::make_unique<ShardFeeder>(options);
  const auto check = [&](const char* when) {
    Values values = process->MergeAndParse();
    EXPECT_EQ(values["c"], "+Inf") << when;
    EXPECT_EQ(values["h_sum"], "+Inf") << when;
  };
  for (int round = 0; round < 2; ++round) {
    for (const int shard : {0, 1}) process->Send("c:inf|c\nh:inf|h", shard);
    check("sent");
    process->Advance(70'000'000);
    process->Send("c:1.5|c\nh:1.5|h", 0);
    process->Advance(70'000'000);
    process->Turn();
    check("one cell expired");
    const std::string state = Save(process.get());
    process = std::make_unique<ShardFeeder>(options);
    Restore(state, process.get());
    check("restarted");
  }
}

TEST(StateTest, CreatedTimestampsAreKept) {
  ShardFeeder before;
  before.Merge(1000);
  before.Send("c:1|c");
  before.Merge(1001);
  ShardFeeder after;
  Restore(Save(&before), &after);
  after.Merge(5000);
  const std::string again = Save(&after);
  struct Reader : Recorder {
    void OnSeries(SavedSeries* series) override { created_s = series->created_s; }
    uint32_t created_s = 0;
  } reader;
  ASSERT_TRUE(DecodeState(again, &reader).ok());
  EXPECT_EQ(reader.created_s, 1000u);
}

// Half an observation that was not counted yet is not forgotten.
TEST(StateTest, FractionsOfSampledObservationsAreKept) {
  auto process = std::make_unique<ShardFeeder>();
  for (int i = 0; i < 9; ++i) {
    process->Send("h:1|h|@0.6");
    process->Merge();
    const std::string state = Save(process.get());
    process = std::make_unique<ShardFeeder>();
    Restore(state, process.get());
  }
  EXPECT_EQ(process->MergeAndParse()["h_count"], "15") << "nine, of which each stands for 5/3";
}

TEST(StateTest, ASetOfAnotherWindowOrClockIsEmpty) {
  ShardFeeder before;
  before.Send("s:x|s");
  before.Merge();
  const std::string state = Save(&before);
  ShardFeeder same;
  Restore(state, &same);
  EXPECT_EQ(same.MergeAndParse()["s"], "1");
  ShardFeeder other_clock;
  Restore(state, &other_clock, false);
  EXPECT_EQ(other_clock.MergeAndParse()["s"], "0");
  ShardFeeder later;
  later.Advance(SetCell::kWindowNs);
  Restore(state, &later);
  EXPECT_EQ(later.MergeAndParse()["s"], "0");
}

TEST(StateTest, ASketchGoesOn) {
  ShardFeeder before;
  for (int i = 0; i < 2000; ++i) before.Send("s:" + std::to_string(i) + "|s");
  const std::string size = before.MergeAndParse()["s"];
  ShardFeeder after;
  Restore(Save(&before), &after);
  EXPECT_EQ(after.MergeAndParse()["s"], size);
  for (int i = 0; i < 2000; ++i) after.Send("s:" + std::to_string(i) + "|s");
  EXPECT_EQ(after.MergeAndParse()["s"], size) << "the same members";
}

TEST(StateTest, SeriesThatExpiredComeBackWhereTheyWere) {
  ShardFeeder::Options options;
  options.ttl_ms = 1000;
  ShardFeeder before(options);
  before.Send("c:5|c\nh:1|h");
  before.Merge();
  before.Advance(2'000'000'000);
  before.Turn();
  before.Merge();
  EXPECT_TRUE(before.MergeAndParse().empty());
  ShardFeeder after(options);
  const StateRestorer::Counts counts = Restore(Save(&before), &after);
  EXPECT_EQ(counts.expired, 2u);
  EXPECT_TRUE(after.MergeAndParse().empty());
  after.Send("c:2|c\nh:1|h");
  Values values = after.MergeAndParse();
  EXPECT_EQ(values["c"], "7");
  EXPECT_EQ(values["h_count"], "2");
}

TEST(StateTest, SeriesExpireAfterARestartAsWell) {
  ShardFeeder::Options options;
  options.ttl_ms = 1000;
  ShardFeeder before(options);
  before.Send("c:5|c\ng:1|g\ns:a|s\nh:1|h");
  before.Merge();
  ShardFeeder after(options);
  Restore(Save(&before), &after);
  EXPECT_EQ(after.MergeAndParse()["c"], "5");
  after.Advance(500'000'000);
  after.Turn();
  EXPECT_EQ(after.MergeAndParse()["g"], "1") << "its time begins anew";
  after.Advance(600'000'000);
  after.Turn();
  EXPECT_TRUE(after.MergeAndParse().empty());
}

TEST(StateTest, FoldedSeriesGoOn) {
  ShardFeeder::Options options;
  options.limits.series = 40;
  options.limits.family_series = 10;
  ShardFeeder before(options);
  for (int i = 0; i < 30; ++i) before.Send("c:1|c|#id:" + std::to_string(i));
  const Values values = before.MergeAndParse();
  ASSERT_TRUE(values.contains("c{id=\"__overflow__\"}"));
  ShardFeeder after(options);
  Restore(Save(&before), &after);
  EXPECT_EQ(after.MergeAndParse(), values);
  for (ShardFeeder* feeder : {&before, &after}) {
    for (int i = 0; i < 30; ++i) feeder->Send("c:1|c|#id:" + std::to_string(i));
  }
  EXPECT_EQ(after.MergeAndParse(), before.MergeAndParse());
}

// What the rules say now holds; what was counted under other names or buckets is not taken for it.
TEST(StateTest, OtherRulesMakeOtherSeries) {
  ShardFeeder before;
  before.Send("a.b:5|c\nh:1|h\nkeep:2|c");
  before.Merge();
  const std::string state = Save(&before);

  MappingRule rename;
  rename.match = "a.*";
  rename.name = "renamed";
  MappingRule buckets;
  buckets.match = "h";
  buckets.name = "h";
  buckets.histogram.buckets = {1, 2};
  MappingConfig config;
  config.rules = {rename, buckets};
  ShardFeeder::Options options;
  options.mapping = Mapping::Compile(std::move(config)).value();
  ShardFeeder after(options);
  const StateRestorer::Counts counts = Restore(state, &after);
  EXPECT_EQ(counts.series, 1u);
  EXPECT_EQ(counts.waiting, 2u);
  EXPECT_EQ(after.MergeAndParse(), (Values{{"keep", "2"}}));
  after.Send("a.b:1|c\nh:1|h");
  Values values = after.MergeAndParse();
  EXPECT_EQ(values["renamed"], "1");
  EXPECT_EQ(values["h_count"], "1");
}

// A series that had other buckets before it expired.
TEST(StateTest, AnExpiredValueOfAnotherShapeLeavesTheLiveOneAlone) {
  ShardFeeder::Options first;
  first.ttl_ms = 1000;
  ShardFeeder before(first);
  before.Send("x:1|h\nx:1|h");
  before.Merge();
  before.Advance(2'000'000'000);
  before.Turn();
  ASSERT_TRUE(before.MergeAndParse().empty());

  MappingRule buckets;
  buckets.match = "x";
  buckets.name = "x";
  buckets.histogram.buckets = {1, 2};
  MappingConfig config;
  config.rules = {buckets};
  ShardFeeder::Options second = first;
  second.mapping = Mapping::Compile(config).value();
  before.UseRules({.default_ttl_ms = 1000, .mapping = second.mapping});
  before.Send("x:1|h");
  Values values = before.MergeAndParse();
  ASSERT_EQ(values["x_count"], "1");

  ShardFeeder after(second);
  Restore(Save(&before), &after);
  EXPECT_EQ(after.MergeAndParse(), values);
  // The other value waits for rules that make it again.
  ShardFeeder back(first);
  Restore(Save(&after), &back);
  back.Send("x:1|h");
  EXPECT_EQ(back.MergeAndParse()["x_count"], "3");
}

// A clock that runs wild costs its own reading, not the state.
TEST(StateTest, AClockBeyondAllBoundsIsNoReasonToRefuse) {
  for (const int64_t unix_s : {int64_t{-1}, int64_t{UINT32_MAX} + 1, INT64_MAX, INT64_MIN}) {
    SavedHead head;
    head.unix_s = unix_s;
    Recorder recorder;
    const absl::Status status = DecodeState(StateEncoder(head).Finish(), &recorder);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(recorder.head().unix_s, unix_s < 0 ? 0 : int64_t{UINT32_MAX});
  }
}

TEST(StateTest, AHeadSaysWhatItWasTold) {
  SavedHead head;
  head.session = 1;
  head.sequence = 2;
  head.hash_seed = 3;
  head.boot_id = "id";
  head.unix_s = 4;
  head.now_ns = 5;
  head.layouts = {HistogramLayout::Default()};
  head.folded = {{1, 2, 3}, {4, 5, 6}};
  head.ledger.listeners = {{"udp", {{"samples", 7}}}};
  head.ledger.numbers = {{"applied", 8}};
  Recorder recorder;
  ASSERT_TRUE(DecodeState(StateEncoder(head).Finish(), &recorder).ok());
  EXPECT_EQ(recorder.head().session, 1u);
  EXPECT_EQ(recorder.head().sequence, 2u);
  EXPECT_EQ(recorder.head().hash_seed, 3u);
  EXPECT_EQ(recorder.head().boot_id, "id");
  EXPECT_EQ(recorder.head().unix_s, 4);
  EXPECT_EQ(recorder.head().now_ns, 5);
  ASSERT_EQ(recorder.head().layouts.size(), 1u);
  EXPECT_TRUE(recorder.head().layouts[0].KeepsTheSameAs(HistogramLayout::Default()));
  EXPECT_EQ(recorder.head().folded, head.folded);
  EXPECT_EQ(recorder.head().ledger, head.ledger);
}

std::string SmallState() {
  ShardFeeder feeder({.shards = 2});
  SendSome(&feeder);
  feeder.Merge();
  return Save(&feeder);
}

// None of the damaged ones is read, not even in part.
void ExpectRefused(const std::string& bytes, const std::string& how) {
  Recorder recorder;
  const absl::Status status = DecodeState(bytes, &recorder);
  ASSERT_TRUE(absl::IsDataLoss(status)) << how << ": " << status;
  ASSERT_EQ(recorder.records(), 0) << how;
}

TEST(StateDamageTest, CutAtEveryLength) {
  const std::string state = SmallState();
  for (size_t size = 0; size < state.size(); ++size) {
    ExpectRefused(state.substr(0, size), "cut to " + std::to_string(size));
  }
  ExpectRefused(state + "x", "longer");
  ExpectRefused(state + state, "twice");
}

TEST(StateDamageTest, EveryBitFlipped) {
  std::string state = SmallState();
  for (size_t bit = 0; bit < state.size() * 8; ++bit) {
    const auto flip = static_cast<char>(1 << bit % 8);
    state[bit / 8] = static_cast<char>(state[bit / 8] ^ flip);
    ExpectRefused(state, "bit " + std::to_string(bit));
    state[bit / 8] = static_cast<char>(state[bit / 8] ^ flip);
  }
}

TEST(StateDamageTest, TenThousandRandomBlobs) {
  std::mt19937_64 random(42);
  const std::string state = SmallState();
  for (int i = 0; i < 10'000; ++i) {
    std::string blob(random() % 2000, 0);
    for (char& byte : blob) byte = static_cast<char>(random());
    // Half of them begin as a state does.
    if (i % 2 == 0) blob = state.substr(0, 24) + blob;
    ExpectRefused(blob, "blob " + std::to_string(i));
  }
}

TEST(StateDamageTest, AnotherVersionIsNamed) {
  std::string state = SmallState();
  state[8] = 2;  // the version
  ExpectRefused(state, "its checksum is the old one");
  const uint64_t sum = XXH3_64bits(state.data(), 16);
  std::memcpy(state.data() + 16, &sum, sizeof(sum));
  Recorder recorder;
  const absl::Status status = DecodeState(state, &recorder);
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_NE(status.message().find("version 2"), absl::string_view::npos) << status;
  EXPECT_EQ(recorder.records(), 0);
}

}  // namespace
}  // namespace tallyd
