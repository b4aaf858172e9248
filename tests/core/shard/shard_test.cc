// A shard by itself: what it takes in, what it keeps, what it gives back.

#include "core/shard/shard.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/catalog_index.h"
#include "core/shard/cells.h"
#include "core/shard/violation_log.h"

namespace tallyd {
namespace {

class ShardTest : public testing::Test {
 protected:
  void Create(ShardOptions options = {}, int64_t ttl_ms = 0, size_t max_families = 1 << 18) {
    options.hash_seed = 42;
    rules_ = RuleBook::Create({.default_ttl_ms = ttl_ms, .limits = limits_, .catalog = catalog_})
                 .value();
    families_ = std::make_unique<FamilyTypes>(max_families, 42);
    budget_ = std::make_unique<SeriesBudget>(limits_of_series_, 42);
    shard_ = Shard::Create(options, rules_.get(), families_.get(), budget_.get()).value();
  }

  // One batch of one datagram.
  void Send(std::string_view datagram, Source source = {}) {
    if (shard_ == nullptr) Create();
    std::string padded(datagram);
    padded.resize(datagram.size() + kReadPadding, '|');
    shard_->BeginBatch(now_ns_ += 1000);
    shard_->Apply(source, padded.data(), datagram.size());
    shard_->EndBatch();
    EXPECT_EQ(padded[datagram.size()], '|') << "the byte after the end was not put back";
  }
  // What the merger tells a shard after a pass.
  void Merge() {
    ShardHeader& header = shard_->memory().header();
    header.merged_epoch.Publish(header.epoch.Acquire());
  }
  void Advance(int64_t ms) {
    now_ns_ += ms * 1'000'000;
    shard_->Turn(now_ns_);
  }

  const Ledger& ledger() { return shard_->ledger(); }
  uint64_t Received(size_t listener = 0) { return ledger().listeners[listener].samples.Get(); }
  uint64_t Applied() { return ledger().applied.Get(); }
  uint64_t Dropped(DropReason reason) {
    return ledger().dropped[static_cast<size_t>(reason)].Get();
  }
  uint64_t DroppedInAll() {
    uint64_t dropped = 0;
    for (const LedgerCount& count : ledger().dropped) dropped += count.Get();
    return dropped;
  }
  uint64_t Repaired(RepairReason reason) {
    return ledger().repaired[static_cast<size_t>(reason)].Get();
  }
  void ExpectBalanced() {
    uint64_t received = 0;
    for (const Ledger::Listener& listener : ledger().listeners) received += listener.samples.Get();
    EXPECT_EQ(received, Applied() + DroppedInAll());
  }
  uint64_t Series() { return ledger().live_series.Get(); }
  uint64_t Keys() { return ledger().keys.Get(); }
  uint64_t WholeOf(uint32_t slot) { return CounterCell(shard_->memory().CellOf(slot)).whole(); }

  // Declares gauges that one process alone may report.
  void DeclareSingleSender(const std::vector<std::string>& names,
                           CatalogMode mode = CatalogMode::kWarn) {
    Catalog catalog;
    catalog.mode = mode;
    for (const std::string& name : names) {
      DeclaredMetric& metric = catalog.metrics.emplace_back();
      metric.name = name;
      metric.type = DeclaredType::kGauge;
      metric.single_sender = true;
    }
    catalog_ = CatalogIndex::Create({std::move(catalog)}).value();
  }
  // "family sender" of each note.
  std::vector<std::string> TakeReporters() {
    std::vector<std::string> taken;
    for (const GaugeReporter& reporter : shard_->violations().TakeReporters()) {
      taken.push_back(reporter.family + " " + std::to_string(reporter.sender));
    }
    return taken;
  }

  std::shared_ptr<const CatalogIndex> catalog_;
  KeyLimits limits_;
  SeriesBudget::Limits limits_of_series_;
  std::unique_ptr<RuleBook> rules_;
  std::unique_ptr<FamilyTypes> families_;
  std::unique_ptr<SeriesBudget> budget_;
  std::unique_ptr<Shard> shard_;
  int64_t now_ns_ = int64_t{3'600'000'000'000};
};

TEST_F(ShardTest, TakesEveryLineOfADatagram) {
  Send("a:1|c\n\nb:2|c\r\n\r\nc:3|c\nd:4|c");
  EXPECT_EQ(Received(), 4u);
  EXPECT_EQ(Applied(), 4u);
  EXPECT_EQ(Series(), 4u);
  EXPECT_EQ(ledger().listeners[0].datagrams.Get(), 1u);
  EXPECT_EQ(ledger().listeners[0].bytes.Get(), 27u);
  ExpectBalanced();
}

TEST_F(ShardTest, AnEmptyDatagramIsADatagram) {
  Send("");
  Send("\n\n");
  EXPECT_EQ(ledger().listeners[0].datagrams.Get(), 2u);
  EXPECT_EQ(Received(), 0u);
  ExpectBalanced();
}

TEST_F(ShardTest, ListenersAreCountedApart) {
  Send("a:1|c", {.listener = 3});
  Send("a:1|c\na:1|c", {.listener = 63});
  EXPECT_EQ(Received(0), 0u);
  EXPECT_EQ(Received(3), 1u);
  EXPECT_EQ(Received(63), 2u);
  ExpectBalanced();
}

TEST_F(ShardTest, ABadLineCostsOnlyItself) {
  Send("a:1|c\nnonsense\na:1|c\na:x|c\na:1|q\na:1|c|\na:\xff|c\na:-1|c\na:1|c|c:\na:1:2|q\na:1|c");
  EXPECT_EQ(Applied(), 3u);
  EXPECT_EQ(WholeOf(0), 3u);
  EXPECT_EQ(Dropped(DropReason::kMalformedLine), 2u);
  for (const DropReason reason :
       {DropReason::kBadValue, DropReason::kBadType, DropReason::kMalformedSample,
        DropReason::kNegativeCounter, DropReason::kBadContainerId, DropReason::kBadPacking}) {
    EXPECT_EQ(Dropped(reason), 1u) << Name(reason);
  }
  ExpectBalanced();
}

TEST_F(ShardTest, EventsAreNoSamples) {
  Send("_e{1,1}:5|c\n_sc|db|0\na:1|c\n_sc|db|0|m:x\n_e{9,9}:5|c\n_sc|:1|c");
  EXPECT_EQ(ledger().events[static_cast<size_t>(EventKind::kEvent)].Get(), 1u);
  EXPECT_EQ(ledger().events[static_cast<size_t>(EventKind::kServiceCheck)].Get(), 2u);
  EXPECT_EQ(Received(), 3u);
  EXPECT_EQ(Applied(), 1u);
  EXPECT_EQ(Dropped(DropReason::kBadEvent), 2u);
  ExpectBalanced();
}

TEST_F(ShardTest, EachValueOfALineIsASample) {
  Send("a:1:2:x:4|c\nb:1|c:2|c:3|q");
  EXPECT_EQ(Received(), 7u);
  EXPECT_EQ(Applied(), 5u);
  EXPECT_EQ(WholeOf(0), 7u);
  ExpectBalanced();
}

TEST_F(ShardTest, RepairsAreCountedForEachSampleThatCounts) {
  Send("a:1|c|#k:v,,bad,k:w|@x|T1\na:1|c|#k:v,,bad,k:w|@x|T1\na:-1|c|#k:v,,bad,k:w|@x|T1");
  EXPECT_EQ(Applied(), 2u);
  EXPECT_EQ(Repaired(RepairReason::kBadTag), 4u);
  EXPECT_EQ(Repaired(RepairReason::kOverriddenLabel), 2u);
  EXPECT_EQ(Repaired(RepairReason::kBadSampleRate), 2u);
  EXPECT_EQ(Repaired(RepairReason::kUnknownSection), 2u);
}

TEST_F(ShardTest, SeveralSectionsOfLabelsMakeOneKey) {
  Send("a:1|c|#k:v|c:id\na:1|c|#k:v|c:id\na:1|c|c:id|#k:v\na:1|c|#k:v,container_id:id");
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Keys(), 3u) << "three spellings";
  EXPECT_EQ(WholeOf(0), 4u);
}

TEST_F(ShardTest, LabelsJoinedFromManyLinesOfADatagramAreEachLines) {
  std::string datagram;
  for (int i = 0; i < 500; ++i) {
    datagram += "a:1|c|#k:" + std::to_string(i) + "|c:" + std::to_string(i) + "\n";
  }
  Send(datagram);
  Send(datagram);
  EXPECT_EQ(Series(), 500u);
  for (uint32_t slot = 0; slot < 500; ++slot) ASSERT_EQ(WholeOf(slot), 2u);
}

TEST_F(ShardTest, SpellingsOfASeriesShareItsCell) {
  Send("a.b:1|c|#x:1,y:2\na_b:2|c|#y:2,x:1\na-b:4|c|#y:2,x:0,x:1\na/b:8|c|#x:1,y:2,");
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Keys(), 4u);
  EXPECT_EQ(WholeOf(0), 15u);
}

TEST_F(ShardTest, TypesOfOneSpellingAreKeysOfTheirOwn) {
  Send("t:1000|ms\nt:1|h\nt:1|d");
  EXPECT_EQ(Series(), 1u) << "all one histogram";
  EXPECT_EQ(Keys(), 2u) << "in milliseconds and in seconds";
}

TEST_F(ShardTest, NameAndTagsDoNotTradeBytes) {
  Send("ab:1|c|#c:d\nab:1|c\nab:1|c|#c\nabc:1|c|#d:e\na:1|c|#bc:d");
  Send("ab:1|c|#c:d\nab:1|c\nab:1|c|#c\nabc:1|c|#d:e\na:1|c|#bc:d");
  EXPECT_EQ(Keys(), 5u);
  EXPECT_EQ(Series(), 4u) << "the tag without a value is left out";
}

TEST_F(ShardTest, RefusalsAreRemembered) {
  Send("x:1|c\nx:1|g\ny:1|c|#__z:1\ntallyd_x:1|c");
  const uint64_t keys = Keys();
  EXPECT_EQ(keys, 4u);
  for (int i = 0; i < 10; ++i) Send("x:1|g\ny:1|c|#__z:1\ntallyd_x:1|c");
  EXPECT_EQ(Keys(), keys);
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Dropped(DropReason::kTypeConflict), 22u);
  EXPECT_EQ(Dropped(DropReason::kBadLabel), 11u);
  EXPECT_EQ(Repaired(RepairReason::kBadTag), 0u);
  ExpectBalanced();
}

TEST_F(ShardTest, ADecrementForNobodyIsForgotten) {
  for (int i = 0; i < 100; ++i) Send("x" + std::to_string(i) + ":-1|c");
  EXPECT_EQ(Keys(), 0u);
  EXPECT_EQ(Series(), 0u);
  EXPECT_EQ(Dropped(DropReason::kNegativeCounter), 100u);
}

TEST_F(ShardTest, ADatagramThatWasCutGivesItsWholeLines) {
  Create();
  const auto send_cut = [&](std::string_view datagram) {
    std::string padded(datagram);
    padded.resize(datagram.size() + kReadPadding);
    shard_->BeginBatch(now_ns_ += 1000);
    shard_->ApplyTruncated({}, padded.data(), datagram.size());
    shard_->EndBatch();
    EXPECT_EQ(padded.substr(0, datagram.size()), datagram);
  };
  send_cut("a:1|c\nb:1|c\nc:100|");
  EXPECT_EQ(Applied(), 2u);
  EXPECT_EQ(Dropped(DropReason::kTruncated), 1u);
  send_cut("d:1|c");
  EXPECT_EQ(Applied(), 2u) << "whole to the eye, but who knows";
  EXPECT_EQ(Dropped(DropReason::kTruncated), 2u);
  send_cut("e:1|c\n");
  EXPECT_EQ(Applied(), 3u);
  EXPECT_EQ(Dropped(DropReason::kTruncated), 3u) << "there was more of it";
  EXPECT_EQ(ledger().listeners[0].truncated.Get(), 3u);
  EXPECT_EQ(ledger().listeners[0].datagrams.Get(), 3u);
  EXPECT_EQ(ledger().listeners[0].bytes.Get(), 18u + 5u + 6u);
  ExpectBalanced();
}

TEST_F(ShardTest, ASessionIsPartOfEachKey) {
  Create();
  const auto send = [this](std::string_view session, std::string_view datagram) {
    std::string padded(datagram);
    padded.resize(datagram.size() + kReadPadding, '|');
    shard_->BeginBatch(now_ns_ += 1000);
    shard_->ApplyInSession({.listener = 3}, session, padded.data(), datagram.size());
    shard_->EndBatch();
  };
  send("0,job:a", "x:1|c\nx:2|c\n\n_e{1,1}:a|b\nx,t=u:1|c\ny:1|c:2|c|@0.5\nbad");
  EXPECT_EQ(Received(3), 6u);
  EXPECT_EQ(ledger().listeners[3].datagrams.Get(), 1u);
  EXPECT_EQ(Applied(), 5u);
  EXPECT_EQ(Dropped(DropReason::kMalformedLine), 1u);
  EXPECT_EQ(Series(), 3u) << "x, x with t, y";
  EXPECT_EQ(WholeOf(0), 3u);
  send("0,job:b", "x:5|c|#job:forged\nx:5|c|#job:forged\nx:5|c|#job:other");
  EXPECT_EQ(Series(), 4u);
  EXPECT_EQ(WholeOf(3), 15u);
  EXPECT_EQ(Repaired(RepairReason::kOverriddenLabel), 3u);
  Send("x:1|c|=0,job:b\nx:1|c|=0,job:b|#job:c");
  EXPECT_EQ(Series(), 6u) << "a line cannot pass for a session's";
  EXPECT_EQ(Repaired(RepairReason::kUnknownSection), 2u);
  // A key has no more bytes than a line.
  send("0,job:b", "x:1|c|#t:" + std::string(65'535 - 9, 'v'));
  EXPECT_EQ(Dropped(DropReason::kTooLong), 1u);
  ExpectBalanced();
}

TEST_F(ShardTest, WhatNeverReachedTheParserIsCounted) {
  Create();
  shard_->BeginBatch(now_ns_ += 1000);
  shard_->Drop({.listener = 2}, DropReason::kTooLong);
  shard_->EndBatch();
  EXPECT_EQ(Received(2), 1u);
  EXPECT_EQ(Dropped(DropReason::kTooLong), 1u);
  ExpectBalanced();
}

TEST_F(ShardTest, LinesOverTheLimitAreOneSample) {
  Create({.max_line_bytes = 20});
  Send(
      "a23456789012345:1|c\na234567890123456:1|c\na2345678901234567:1|c\n"
      "a234567890123456:2|c\r\na2345678901234567:1:2:3|c|#k:v\n");
  EXPECT_EQ(Applied(), 3u) << "the limit itself passes, its CR not counted";
  EXPECT_EQ(Dropped(DropReason::kTooLong), 2u);
  ExpectBalanced();
}

// As in statsd_exporter, which shows nothing then.
TEST_F(ShardTest, ASampleWithoutEffectMakesNoSeries) {
  Send("t:1|ms|@2\nt:1|h|@-1\nt:1|d|@inf");
  EXPECT_EQ(Applied(), 3u);
  EXPECT_EQ(Series(), 0u);
  Send("t:1|c\nt:1|ms|@2");
  EXPECT_EQ(Applied(), 5u) << "nor does it ask for the family's type";
  Send("u:1|ms\nu:1|ms|@2\nu:1|ms|@2");
  EXPECT_EQ(Series(), 2u);
  ExpectBalanced();
}

TEST_F(ShardTest, TheValueIsLookedAtBeforeTheType) {
  Send("t:1|ms");
  for (int i = 0; i < 2; ++i) Send("t:-1|c\nt:1|c\nt:Inf|c|@inf");
  EXPECT_EQ(Dropped(DropReason::kNegativeCounter), 2u);
  EXPECT_EQ(Dropped(DropReason::kTypeConflict), 2u);
  EXPECT_EQ(Dropped(DropReason::kBadValue), 2u);
  Send("c:1|c");
  for (int i = 0; i < 2; ++i) Send("c:1|ms|@2\nc:1|ms");
  EXPECT_EQ(Dropped(DropReason::kTypeConflict), 4u);
  EXPECT_EQ(Applied(), 4u);
  ExpectBalanced();
}

TEST_F(ShardTest, TheLongestLineIsAKey) {
  limits_ = {.name_bytes = kMaxLineBytes, .tags = kMaxLineBytes, .label_bytes = kMaxLineBytes};
  const std::string value = ":1|c";
  const std::string longest(65'535 - value.size(), 'n');
  Send(longest + value);
  Send(longest + value + "\n" + longest + "n" + value);
  EXPECT_EQ(Applied(), 2u);
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Dropped(DropReason::kTooLong), 1u);
  const std::string tags = "t:1|c|#k:" + std::string(65'535 - 9, 'v');
  Send(tags);
  Send(tags);
  EXPECT_EQ(Applied(), 4u);
  EXPECT_EQ(Series(), 2u);
  ExpectBalanced();
}

// Keys that are always refused and always new must not fill the table for everybody else.
TEST_F(ShardTest, RefusalsMakeRoomForEachOther) {
  Create();
  Send("x:1|c\nx:1|g");
  for (int i = 0; i < 1000; ++i) {
    std::string datagram;
    for (int j = 0; j < 100; ++j) {
      datagram += "x:1|c|#__request:" + std::to_string(i * 100 + j) + "\n";
    }
    Send(datagram);
  }
  EXPECT_EQ(Dropped(DropReason::kBadLabel), 100'000u);
  constexpr uint64_t kMost = 1 + 65'536 + 64;  // forgotten before the next group
  EXPECT_LE(Keys(), kMost);
  EXPECT_LE(ledger().key_bytes.Get(), kMost * 32);
  Send("fresh:1|c\nx:1|g");
  EXPECT_EQ(Applied(), 2u);
  EXPECT_EQ(Dropped(DropReason::kTypeConflict), 2u) << "forgotten, and found again";
  ExpectBalanced();
}

TEST_F(ShardTest, LongKeysOfNoSeriesAreForgottenByTheirBytes) {
  Create();
  for (int i = 0; i < 2000; ++i) {
    Send("x:1|c|#__y:" + std::to_string(i) + std::string(50'000, 'z'));
  }
  EXPECT_EQ(Dropped(DropReason::kBadLabel), 2000u);
  EXPECT_GT(Keys(), 100u);
  EXPECT_LE(ledger().key_bytes.Get(), uint64_t{80} << 20);
}

TEST_F(ShardTest, KeysPastTheirBoundStillLeadToTheirSeries) {
  Create({.max_keys = 10});
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 100; ++i) Send("a:1|c|#x:1,bad" + std::to_string(i));
  }
  EXPECT_EQ(Applied(), 200u);
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(WholeOf(0), 200u);
  EXPECT_EQ(Repaired(RepairReason::kBadTag), 200u);
  Send("a:1|c|#x:2,bad");
  EXPECT_EQ(Series(), 2u) << "there is room for series";
}

// What a catalog folds is a series like others, and its further keys lead nowhere once it is gone.
TEST_F(ShardTest, KeysPastTheirBoundAreForgottenWithTheSeriesThatACatalogFolds) {
  Catalog catalog;
  catalog.mode = CatalogMode::kEnforce;
  DeclaredMetric& metric = catalog.metrics.emplace_back();
  metric.name = "depth";
  metric.type = DeclaredType::kGauge;
  DeclaredLabel& label = metric.labels.emplace_back();
  label.name = "queue";
  label.values = {"a", "b"};
  metric.ttl_ms = 1000;
  catalog_ = CatalogIndex::Create({std::move(catalog)}).value();
  Create({.max_keys = 1});
  Send("depth:1|g|#queue:x\ndepth:2|g|#queue:y");
  EXPECT_EQ(Series(), 1u);
  Advance(3000);
  EXPECT_EQ(Series(), 0u);
  EXPECT_EQ(Keys(), 0u);
  Send("depth:3|g|#queue:y");
  EXPECT_EQ(Series(), 1u) << "it wrote to the cell of the series that is gone";
  EXPECT_EQ(Applied(), 3u);
}

TEST_F(ShardTest, NamesForWhichThereIsNoRoomAreCounted) {
  Create({}, 0, 4);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 10; ++i) Send("f" + std::to_string(i) + ":1|c");
  }
  EXPECT_EQ(Applied(), 20u);
  EXPECT_EQ(ledger().folded.Get(), 12u);
  EXPECT_EQ(budget_->refusals(SeriesBudget::Answer::kNames), 6u);
}

TEST_F(ShardTest, PastTheKeyMemoryNewSeriesFold) {
  Create({.max_key_bytes = 4096});
  for (int round = 0; round < 2; ++round) {
    for (int i = 100; i < 200; ++i) Send("m" + std::string(100, 'x') + std::to_string(i) + ":1|c");
  }
  EXPECT_GT(Series(), 20u);
  EXPECT_LT(Series(), 40u);
  EXPECT_LE(ledger().key_bytes.Get(), 4096u);
  EXPECT_EQ(Applied(), 200u);
  EXPECT_EQ(ledger().folded.Get(), 200 - 2 * (Series() - 1))
      << "all but those that are not overflow";
  ExpectBalanced();
}

// Of a series that is known there may be any number of spellings.
TEST_F(ShardTest, SpellingsLeaveKeyMemoryToNewSeries) {
  Create({.max_key_bytes = 1 << 16});
  const std::string junk(100, 'x');
  for (int i = 0; i < 2000; ++i) Send("a:1|c|#" + junk + std::to_string(i));
  EXPECT_EQ(Applied(), 2000u);
  EXPECT_EQ(Series(), 1u);
  EXPECT_LE(ledger().key_bytes.Get(), 3 * (1 << 16) / 4);
  for (int i = 0; i < 20; ++i) Send("b" + std::to_string(i) + ":1|c");
  EXPECT_EQ(Series(), 21u);
  EXPECT_EQ(ledger().folded.Get(), 0u);
  ExpectBalanced();
}

// Whatever became of the value before: some of them make no series and leave no entry.
TEST_F(ShardTest, PackedValuesAreEachJudgedAsIfAlone) {
  Create();
  std::string packed = "a";
  for (int i = 0; i < 100; ++i) packed += ":-1";
  for (int i = 0; i < 100; ++i) packed += ":2:-1";
  Send("known:1|c\n" + packed + "|c|#k:v\n" + "b:1:2:3|ms|@2|#k:v\nknown:1:1|c\n" + packed + "|c");
  EXPECT_EQ(Dropped(DropReason::kNegativeCounter), 400u);
  EXPECT_EQ(Applied(), 1 + 100 + 3 + 2 + 100u);
  EXPECT_EQ(Series(), 3u);
  EXPECT_EQ(WholeOf(0), 3u);
  EXPECT_EQ(WholeOf(1), 200u);
  EXPECT_EQ(WholeOf(2), 200u);
  ExpectBalanced();
}

// The keys of a line that is refused for one value, and that of the next, stand at the same place.
TEST_F(ShardTest, AKeyIsNotTakenForTheOneThatStoodInItsPlace) {
  Create();
  for (const std::string_view name : {"aaa", "bbb", "ccc"}) {
    Send(std::string(name) + ":-1:-1|c");
    Send(std::string(name) + ":-1:3:-1|c");
  }
  EXPECT_EQ(Series(), 3u);
  for (uint32_t slot = 0; slot < 3; ++slot) EXPECT_EQ(WholeOf(slot), 3u);
}

TEST_F(ShardTest, IdleSeriesExpireAndBusyOnesStay) {
  Create({}, 1000);
  Send("busy:1|c\nidle:1|c\nidle.g:1|g\nidle.t:1|ms\nidle.s:1|s");
  for (int i = 0; i < 4; ++i) {
    Advance(400);
    Send("busy:1|c");
  }
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Keys(), 1u);
  EXPECT_EQ(ledger().retired_slots.Get(), 4u) << "until the merger has passed";
  Merge();
  Advance(1);
  EXPECT_EQ(ledger().retired_slots.Get(), 0u);
  EXPECT_EQ(WholeOf(0), 5u);
}

TEST_F(ShardTest, WithoutATimeToLiveNothingExpires) {
  Create({}, 0);
  Send("a:1|c");
  Advance(int64_t{365} * 86'400'000);
  EXPECT_EQ(Series(), 1u);
}

TEST_F(ShardTest, ARetiredSlotIsNotReusedBeforeTheMergerHasPassed) {
  Create({}, 1000);
  Send("a:7|c");
  Advance(2000);
  ASSERT_EQ(ledger().retired_slots.Get(), 1u);
  Send("a:1|c");
  EXPECT_EQ(WholeOf(0), 7u) << "the merger has not read it yet";
  EXPECT_EQ(WholeOf(1), 1u);
  Merge();
  Send("b:2|c");
  EXPECT_EQ(WholeOf(0), 2u) << "cleared and in use again";
  EXPECT_EQ(shard_->memory().states()[0].Own().generation(), 2u);
}

TEST_F(ShardTest, SpellingsLeaveWithTheirSeries) {
  Create({}, 1000);
  Send("a.b:1|c\na-b:1|c\na_b:1|c|#x");
  EXPECT_EQ(Keys(), 3u);
  Advance(2000);
  EXPECT_EQ(Keys(), 0u);
  Merge();
  Advance(1);
  EXPECT_EQ(ledger().key_bytes.Get(), 0u);
  Send("a-b:5|c");
  EXPECT_EQ(Applied(), 4u);
  EXPECT_EQ(Series(), 1u);
  EXPECT_EQ(Repaired(RepairReason::kBadTag), 1u) << "the repairs of a key left with it";
}

// Series that come and go for ever fit into the memory of those that live at one time.
TEST_F(ShardTest, ChurnDoesNotGrowTheMemory) {
  Create({}, 100);
  std::mt19937 random(5);
  uint64_t bytes = 0;
  uint32_t chunks = 0;
  for (int round = 0; round < 200; ++round) {
    std::string datagram;
    for (int i = 0; i < 200; ++i) {
      const std::string name = "n" + std::to_string(round) + "." + std::to_string(i);
      static constexpr const char* kKinds[] = {"1|c", "1|g", "1|ms"};
      datagram += name + ":" + kKinds[random() % 3] + "|#tag:" + std::string(i % 40, 'x') + "\n";
    }
    Send(datagram);
    Advance(60);
    Merge();
    bytes = std::max(bytes, ledger().key_bytes.Get());
    if (round == 20) chunks = shard_->memory().header().chunk_count.Own();
  }
  EXPECT_EQ(shard_->memory().header().chunk_count.Own(), chunks);
  EXPECT_LT(bytes, 200'000u);
  EXPECT_LT(Series(), 1000u);
  EXPECT_EQ(Applied(), 200u * 200);
  ExpectBalanced();
}

TEST_F(ShardTest, TimesOfBatchesDiffer) {
  Create({}, 1000);
  for (int i = 0; i < 3; ++i) {  // a clock that stands still
    std::string line = "t:1|ms" + std::string(kReadPadding, '\0');
    shard_->BeginBatch(now_ns_);
    shard_->Apply({}, line.data(), 6);
    shard_->EndBatch();
  }
  const HistogramCell cell(shard_->memory().CellOf(0), rules_->layout(0));
  EXPECT_EQ(cell.touch(), static_cast<uint64_t>(now_ns_) + 2);
}

// Every sample is applied or dropped under one reason, whatever comes.
TEST_F(ShardTest, NothingIsUnaccountedFor) {
  limits_of_series_ = {.series = 2000, .family_series = 100};
  Create({.max_keys = 3000, .max_key_bytes = 1 << 19}, 50);
  std::mt19937 random(6);
  static constexpr std::string_view kPieces[] = {
      "a",  "b.c", ":",   ":1",    ":2.5", "|c",    "|g",   "|ms", "|s", "|h",     "|",
      "|#", "k:v", ",",   "|@0.5", "|@",   "|c:id", "|T12", "\n",  "\n", "\xff",   "é",
      "-",  "+3",  "nan", "1e999", "__x:", "le:",   "\r\n", "#",   "7",  "tallyd_"};
  for (int i = 0; i < 20'000; ++i) {
    std::string datagram;
    for (auto pieces = random() % 40; pieces > 0; --pieces) {
      if (random() % 4 == 0) {
        datagram += "n" + std::to_string(random() % 5000) + ":1|" + "cghs"[random() % 4] + "\n";
      } else {
        datagram += kPieces[random() % std::size(kPieces)];
      }
    }
    Send(datagram);
    if (i % 10 == 0) Advance(1);
    if (i % 100 == 0) Merge();
    ExpectBalanced();
    if (HasFailure()) FAIL() << datagram;
  }
  EXPECT_GT(Applied(), 40'000u);
  EXPECT_GT(DroppedInAll(), 40'000u);
}

TEST_F(ShardTest, ASenderPastItsBudgetFoldsAndOthersDoNot) {
  limits_of_series_ = {.series = 1000, .sender_series = 3};
  Create();
  const Source greedy = {.sender = 5};
  const Source modest = {.sender = 6};
  for (int i = 0; i < 10; ++i) Send("f:1|c|#i:" + std::to_string(i), greedy);
  EXPECT_EQ(shard_->sender_counts(5).series.Get(), 3u);
  EXPECT_EQ(shard_->sender_counts(5).folded.Get(), 7u);
  EXPECT_EQ(ledger().folded.Get(), 7u);
  Send("f:1|c|#i:9\nf:1|c|#i:10\ng:1|c", modest);
  EXPECT_EQ(shard_->sender_counts(6).series.Get(), 2u) << "a key that is folded stays so for now";
  for (int i = 20; i < 30; ++i) Send("f:1|c|#i:" + std::to_string(i));
  EXPECT_EQ(ledger().folded.Get(), 8u) << "the unknown have no bound of their own";

  shard_->ForgetSender(5);
  EXPECT_EQ(shard_->sender_counts(5).series.Get(), 0u);
  Send("h:1|c", greedy);
  EXPECT_EQ(shard_->sender_counts(5).series.Get(), 1u);
  ExpectBalanced();
}

using Notes = std::vector<std::string>;

TEST_F(ShardTest, NotesWhoReportsAGaugeOfASingleSender) {
  DeclareSingleSender({"depth", "jobs"});
  Create();
  Send("depth:1|g\nother:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes({"depth 5"}));
  Send("depth:2|g\ndepth:+1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes()) << "it is known";
  Send("depth:3|g\njobs:1|g", {.sender = 6});
  EXPECT_EQ(TakeReporters(), Notes({"depth 6", "jobs 6"}));
  Send("depth:4|g|#actor:a", {.sender = 6});
  EXPECT_EQ(TakeReporters(), Notes({"depth 6"})) << "each key by itself";
  EXPECT_EQ(shard_->violations().Count(Violation::kSecondSender), 0u);
  ExpectBalanced();
}

TEST_F(ShardTest, UnknownSendersOfAGaugeAreNotNoted) {
  DeclareSingleSender({"depth"});
  Create();
  Send("depth:1|g");
  Send("depth:1|g", {.sender = 5});
  Send("depth:1|g");
  Send("depth:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes({"depth 5"}));
}

TEST_F(ShardTest, AnOpenCatalogNotesNobody) {
  DeclareSingleSender({"depth"}, CatalogMode::kOpen);
  Create();
  Send("depth:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes());
}

TEST_F(ShardTest, NotesOfSendersInTurnAreBounded) {
  DeclareSingleSender({"depth"});
  Create();
  for (int i = 0; i < 1000; ++i) {
    Send("depth:1|g", {.sender = static_cast<uint16_t>(5 + i % 2)});
  }
  EXPECT_EQ(TakeReporters(), Notes({"depth 5", "depth 6"}));
  for (uint16_t i = 0; i < 1000; ++i) Send("depth:1|g", {.sender = i});
  EXPECT_EQ(TakeReporters().size(), ViolationLog::kMaxReporters);
  Send("depth:1|g", {.sender = 999});
  EXPECT_EQ(TakeReporters(), Notes({"depth 999"})) << "who found no room is noted later";
  ExpectBalanced();
}

TEST_F(ShardTest, AReporterIsNotedAgainAfterAReloadAndUnderANewNumber) {
  DeclareSingleSender({"depth"});
  Create();
  Send("depth:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes({"depth 5"}));
  shard_->ForgetSender(5);
  Send("depth:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes({"depth 5"}));
  const uint16_t generation = rules_->Publish({.catalog = catalog_}).value();
  rules_->Hold(generation);
  shard_->UseRules(generation);
  Send("depth:1|g", {.sender = 5});
  EXPECT_EQ(TakeReporters(), Notes({"depth 5"}));
}

// The groups of the pipeline hold samples of many senders at a time.
TEST_F(ShardTest, AccountsForEachSender) {
  constexpr uint16_t kSenders = 300;
  Create();
  std::vector<std::string> datagrams;
  for (uint16_t sender = 0; sender < kSenders; ++sender) {
    std::string datagram = "shared:1|c\nown" + std::to_string(sender) + ":1|g\n";
    for (uint16_t i = 0; i < sender % 7; ++i) datagram += "shared:-1|c\n";
    for (uint16_t i = 0; i < sender % 5; ++i) datagram += "no line\n";
    datagram.resize(datagram.size() + kReadPadding, '|');
    datagrams.push_back(datagram);
  }
  shard_->BeginBatch(now_ns_ += 1000);
  for (uint16_t sender = 0; sender < kSenders; ++sender) {
    std::string& datagram = datagrams[sender];
    shard_->Apply({.sender = sender}, datagram.data(), datagram.size() - kReadPadding);
  }
  shard_->EndBatch();

  ExpectBalanced();
  for (uint16_t sender = 0; sender < kSenders; ++sender) {
    const SenderCounts& counts = shard_->sender_counts(sender);
    const uint64_t dropped = sender % 7 + sender % 5;
    EXPECT_EQ(counts.datagrams.Get(), 1u);
    EXPECT_EQ(counts.samples.Get(), 2 + dropped) << sender;
    EXPECT_EQ(counts.dropped.Get(), dropped) << sender;
    // The first one made what they share.
    EXPECT_EQ(counts.series_made.Get(), sender == 0 ? 2u : 1u) << sender;
  }
  EXPECT_EQ(shard_->sender_counts(kSenders).datagrams.Get(), 0u);
}

TEST_F(ShardTest, AccountsForASendersCutAndLostSamples) {
  Create();
  std::string datagram = "a:1|c\nb:1|";
  datagram.resize(datagram.size() + kReadPadding, '|');
  const Source source = {.listener = 1, .sender = Source::kMaxSenders - 1};
  shard_->BeginBatch(now_ns_ += 1000);
  shard_->ApplyTruncated(source, datagram.data(), datagram.size() - kReadPadding);
  shard_->Drop(source, DropReason::kTooLong);
  shard_->EndBatch();
  const SenderCounts& counts = shard_->sender_counts(source.sender);
  EXPECT_EQ(counts.datagrams.Get(), 1u);
  EXPECT_EQ(counts.samples.Get(), 3u);
  EXPECT_EQ(counts.dropped.Get(), 2u);
  ExpectBalanced();
}

}  // namespace
}  // namespace tallyd
