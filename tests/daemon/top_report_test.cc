// What `tallyctl top` is told: as JSON and back, and its rates.

#include "daemon/top_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tallyd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TopReport::Sender Process(int32_t pid, uint64_t samples) {
  TopReport::Sender sender;
  sender.kind = "process";
  sender.pid = pid;
  sender.uid = 1000;
  sender.gid = 100;
  sender.start_ticks = 5;
  sender.samples = samples;
  return sender;
}

TopReport Report(double at_seconds) {
  TopReport report;
  report.at_seconds = at_seconds;
  report.up_seconds = at_seconds - 1;
  report.pid = 77;
  return report;
}

TEST(TopJsonTest, ComesBackAsItWas) {
  TopReport report = Report(26302.325678);
  report.received = UINT64_MAX;
  report.applied = (uint64_t{1} << 53) + 1;
  TopReport::Family& family = report.families.emplace_back();
  family.name = "a\"b\\c\n\x1b[2J\xe2\x80\xae\xf0\x9f\x98\x80\x7f: #{}[]&*!|>'%@`";
  family.series = 3;
  family.limit = 4;
  report.families.emplace_back().name = "null";
  TopReport::Sender sender = Process(12, 99);
  sender.command = "- x: y";
  sender.unit = "~";
  sender.ended = true;
  sender.seen_seconds_ago = 0.25;
  report.senders.push_back(sender);
  report.senders.emplace_back().kind = "unknown";
  report.listeners.emplace_back().connections = -1;
  report.budgets.emplace().over.emplace_back().label = "conversation_id";

  const std::string json = TopJson(report);
  EXPECT_EQ(json.back(), '\n');
  const absl::StatusOr<TopReport> back = ParseTop(json);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(TopJson(*back), json);
  EXPECT_EQ(back->received, UINT64_MAX);
  EXPECT_EQ(back->applied, (uint64_t{1} << 53) + 1);
  EXPECT_EQ(back->families[0].name, report.families[0].name);
  EXPECT_EQ(back->families[0].limit, 4u);
  EXPECT_EQ(back->families[1].name, "null");
  EXPECT_FALSE(back->families[1].limit.has_value());
  EXPECT_EQ(back->senders[0].command, "- x: y");
  EXPECT_EQ(back->senders[0].unit, "~");
  EXPECT_TRUE(back->senders[0].ended);
  EXPECT_EQ(back->senders[0].uid, 1000u);
  EXPECT_FALSE(back->senders[1].uid.has_value());
  EXPECT_EQ(back->listeners[0].connections, -1);
  EXPECT_EQ(back->budgets->over[0].label, "conversation_id");
  EXPECT_NEAR(back->at_seconds, report.at_seconds, 1e-6);
}

TEST(TopJsonTest, WhatIsNotKnownIsLeftOut) {
  const std::string json = TopJson(TopReport{});
  EXPECT_THAT(json, Not(HasSubstr("per_second")));
  EXPECT_THAT(json, Not(HasSubstr("budgets")));
  EXPECT_THAT(json, HasSubstr("\"senders\":[]"));
}

TEST(TopJsonTest, AnotherVersionsAnswerIsReadAsFarAsItGoes) {
  EXPECT_EQ(ParseTop("{}")->received, 0u);
  EXPECT_EQ(ParseTop(R"({"received":5,"new":{"a":[1]},"families":[{"name":"x","y":1},3]})")
                ->families.size(),
            1u);
  // What is of another kind or size is not taken for a number.
  EXPECT_EQ(ParseTop(R"({"received":-1,"pid":[],"applied":"x","listeners":{}})")->received, 0u);
  EXPECT_FALSE(ParseTop("").ok());
  EXPECT_FALSE(ParseTop("[]").ok());
  EXPECT_FALSE(ParseTop("{").ok());
  EXPECT_FALSE(ParseTop(std::string(100'000, '[')).ok());
}

TEST(TopRatesTest, AreOfTheTimeBetweenTheReports) {
  TopReport before = Report(100);
  before.received = 10;
  before.dropped = 1;
  before.cpu_seconds = 3;
  before.listeners.emplace_back().name = "udp:x";
  before.drops.push_back({.reason = "too_long", .count = 4, .rate = {}});
  before.families.emplace_back().name = "a";
  before.senders.push_back(Process(1, 7));
  before.sender_count = 1;
  TopReport now = before;
  now.at_seconds = 102;
  now.up_seconds += 2;
  now.received = 30;
  now.cpu_seconds = 3.5;
  now.listeners[0].samples = 20;
  now.listeners.emplace_back().name = "udp:new";
  now.drops[0].count = 5;
  now.families[0].changes = 8;
  now.senders[0].samples = 17;

  AddRates(before, &now);
  EXPECT_EQ(now.interval_seconds, 2.0);
  EXPECT_EQ(now.received_rate, 10.0);
  EXPECT_EQ(now.dropped_rate, 0.0);
  EXPECT_EQ(now.cpu_share, 0.25);
  EXPECT_EQ(now.listeners[0].samples_rate, 10.0);
  EXPECT_FALSE(now.listeners[1].samples_rate.has_value());
  EXPECT_EQ(now.drops[0].rate, 0.5);
  EXPECT_EQ(now.families[0].changes_rate, 4.0);
  EXPECT_EQ(now.senders[0].samples_rate, 5.0);
}

TEST(TopRatesTest, ANewSendersSamplesAreAllNewUnlessTheListWasCut) {
  TopReport before = Report(100);
  before.senders.push_back(Process(1, 7));
  before.sender_count = 1;
  TopReport now = Report(101);
  now.senders.push_back(Process(2, 30));
  TopReport cut = now;
  AddRates(before, &now);
  EXPECT_EQ(now.senders[0].samples_rate, 30.0);
  before.sender_count = 2;
  AddRates(before, &cut);
  EXPECT_FALSE(cut.senders[0].samples_rate.has_value());
}

TEST(TopRatesTest, ASenderWhoseStartWasNotKnownYetIsTheSame) {
  TopReport before = Report(100);
  before.senders.push_back(Process(1, 7));
  before.senders[0].start_ticks = 0;
  before.sender_count = 5;
  TopReport now = Report(101);
  now.senders.push_back(Process(1, 9));
  now.senders.push_back(Process(1, 9));
  now.senders[1].uid = 1001;
  AddRates(before, &now);
  EXPECT_EQ(now.senders[0].samples_rate, 2.0);
  EXPECT_FALSE(now.senders[1].samples_rate.has_value()) << "another user with the pid";
}

TEST(TopRatesTest, AnotherDaemonGivesNone) {
  TopReport before = Report(100);
  TopReport restarted = Report(101);
  restarted.up_seconds = 0.5;
  AddRates(before, &restarted);
  EXPECT_FALSE(restarted.received_rate.has_value());
  TopReport other = Report(101);
  other.pid = 78;
  AddRates(before, &other);
  EXPECT_FALSE(other.received_rate.has_value());
  TopReport same_time = Report(100);
  AddRates(before, &same_time);
  EXPECT_FALSE(same_time.received_rate.has_value());
}

}  // namespace
}  // namespace tallyd
