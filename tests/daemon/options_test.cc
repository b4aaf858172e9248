// The command line.

#include "daemon/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "daemon/exit_code.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Arguments = std::vector<std::string>;

Options Parse(const Arguments& arguments) {
  absl::StatusOr<Options> options = ParseOptions(arguments);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : Options();
}

void ExpectRefused(const Arguments& arguments, const std::string& because) {
  const absl::StatusOr<Options> options = ParseOptions(arguments);
  ASSERT_FALSE(options.ok());
  EXPECT_EQ(ExitCodeFor(options.status()), ExitCode::kUsage);
  EXPECT_THAT(std::string(options.status().message()), HasSubstr(because));
}

TEST(OptionsTest, DefaultsAreLoopbackOnly) {
  const Options options = Parse({});
  EXPECT_THAT(options.udp, ElementsAre("127.0.0.1:8125", "127.0.0.1:9125"));
  EXPECT_THAT(options.tcp, ElementsAre("127.0.0.1:9125"));
  EXPECT_THAT(options.web, ElementsAre("127.0.0.1:9102"));
  EXPECT_THAT(options.unixgram, IsEmpty());
  EXPECT_EQ(options.unixsocket_mode, 0755u);
  EXPECT_EQ(options.series_limit, 1'000'000u);
  EXPECT_EQ(options.idle_timeout, absl::Seconds(10));
}

TEST(OptionsTest, AListenFlagReplacesTheDefaultsOfItsKindAndRepeats) {
  const Options options = Parse({"--statsd.listen-udp=:8125", "--statsd.listen-udp", "[::1]:9125"});
  EXPECT_THAT(options.udp, ElementsAre(":8125", "[::1]:9125"));
  EXPECT_THAT(options.tcp, ElementsAre("127.0.0.1:9125"));
}

TEST(OptionsTest, AnEmptyAddressSwitchesAKindOff) {
  EXPECT_THAT(Parse({"--statsd.listen-tcp="}).tcp, IsEmpty());
  EXPECT_THAT(Parse({"--statsd.listen-tcp", ""}).tcp, IsEmpty());
  EXPECT_THAT(Parse({"--web.listen-address=", "--shards=1"}).web, IsEmpty());
  ExpectRefused({"--statsd.listen-tcp=", "--statsd.listen-udp="}, "nothing to listen on");
}

TEST(OptionsTest, BooleansAreSwitchedOffByNo) {
  EXPECT_FALSE(Parse({}).enable_lifecycle);
  EXPECT_TRUE(Parse({"--web.enable-lifecycle"}).enable_lifecycle);
  EXPECT_FALSE(Parse({"--web.enable-lifecycle", "--no-web.enable-lifecycle"}).enable_lifecycle);
}

TEST(OptionsTest, ReadsDurationsAsGoWritesThem) {
  const Options options =
      Parse({"--merge.interval=200ms", "--series.ttl=1h30m", "--statsd.idle-timeout", "2s"});
  EXPECT_EQ(options.merge_interval, absl::Milliseconds(200));
  EXPECT_EQ(options.series_ttl, absl::Minutes(90));
  EXPECT_EQ(options.idle_timeout, absl::Seconds(2));
  ExpectRefused({"--merge.interval=5"}, "--merge.interval=5: not a duration");
  ExpectRefused({"--merge.interval=0s"}, "at least 1ms");
  ExpectRefused({"--series.ttl=-1s"}, "--series.ttl=-1s");
  ExpectRefused({"--series.ttl=inf"}, "--series.ttl=inf");
}

TEST(OptionsTest, TheSocketModeIsOctal) {
  EXPECT_EQ(Parse({"--statsd.unixsocket-mode=0722"}).unixsocket_mode, 0722u);
  ExpectRefused({"--statsd.unixsocket-mode=789"}, "octal");
}

TEST(OptionsTest, FlagsWithoutMeaningAreAcceptedAndNamed) {
  const Options options = Parse({"--statsd.cache-size=5000", "--statsd.cache-type", "random",
                                 "--statsd.event-queue-size=1", "--statsd.event-flush-threshold=1",
                                 "--statsd.event-flush-interval=1s"});
  EXPECT_THAT(
      options.meaningless,
      ElementsAre("--statsd.cache-size", "--statsd.cache-type", "--statsd.event-flush-interval",
                  "--statsd.event-flush-threshold", "--statsd.event-queue-size"));
}

TEST(OptionsTest, WhatIsNotBuiltIsRefusedRatherThanIgnored) {
  ExpectRefused({"--statsd.mapping-config=map.yml"}, "--statsd.mapping-config is not supported");
  ExpectRefused({"--statsd.relay.address=127.0.0.1:1"}, "--statsd.relay.address");
  ExpectRefused({"--config.file=x"}, "--config.file");
  ExpectRefused({"--web.config.file=x"}, "--web.config.file");
  ExpectRefused({"--statsd.parse-influxdb-tags"}, "--statsd.parse-influxdb-tags");
  ExpectRefused({"--no-statsd.parse-dogstatsd-tags"}, "--no-statsd.parse-dogstatsd-tags");
}

TEST(OptionsTest, WhatChangesNothingIsNotRefused) {
  Parse({"--no-statsd.parse-influxdb-tags", "--no-statsd.parse-librato-tags",
         "--no-statsd.parse-signalfx-tags", "--statsd.parse-dogstatsd-tags",
         "--statsd.mapping-config=", "--statsd.relay.address="});
}

TEST(OptionsTest, RefusesWhatItCannotRead) {
  ExpectRefused({"--bogus"}, "--bogus");
  ExpectRefused({"--shards=x"}, "--shards");
  ExpectRefused({"--shards=1025"}, "not in 0 to 1024");
  ExpectRefused({"--shards=-1"}, "not in 0 to 1024");
  ExpectRefused({"--series.limit=0"}, "--series.limit");
  ExpectRefused({"--log.level=loud"}, "--log.level=loud");
  ExpectRefused({"--log.format=xml"}, "--log.format=xml");
  ExpectRefused({"--web.telemetry-path=metrics"}, "slash");
  ExpectRefused({"stray"}, "stray");
}

TEST(OptionsTest, AddressesAreCheckedBeforeAnythingIsBound) {
  ExpectRefused({"--statsd.listen-udp=127.0.0.1"}, "no port");
  ExpectRefused({"--statsd.listen-udp=127.0.0.1:65536"}, "65535");
  ExpectRefused({"--statsd.listen-tcp=::1:80"}, "[address]:port");
  ExpectRefused({"--statsd.listen-udp=127.0.0.1:http"}, "not a number");
}

TEST(OptionsTest, ManyListenersAreRefusedPastTheLedgersRoom) {
  Arguments arguments;
  for (int i = 0; i < 64; ++i) arguments.push_back("--statsd.listen-udp=127.0.0.1:0");
  ExpectRefused(arguments, "at most 64");  // with the default TCP address it is one too many
}

TEST(OptionsTest, HelpNamesEveryFlag) {
  const std::string help = HelpText();
  for (const char* flag :
       {"--statsd.listen-udp", "--statsd.listen-unixseqpacket", "--web.max-requests", "--shards",
        "--series.ttl", "--log.format", "--check-config", "--statsd.cache-size", "Exit codes"}) {
    EXPECT_THAT(help, HasSubstr(flag));
  }
}

TEST(OptionsTest, ZeroShardsMeansOneForEachUsableCpu) {
  EXPECT_GE(Parse({}).ShardCount(), 1);
  EXPECT_EQ(Parse({"--shards=100"}).ShardCount(), 100);
}

TEST(LogLineTest, LogfmtQuotesWhatNeedsIt) {
  EXPECT_EQ(FormatLogLine(LogFormat::kLogfmt, LogLevel::kWarn, "T", "a b",
                          {{"x", "1"}, {"y", "a \"b\"\n"}, {"z", ""}}),
            R"(ts=T level=warn msg="a b" x=1 y="a \"b\"\u000a" z="")");
}

TEST(LogLineTest, JsonIsJson) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kInfo, "T", "ready", {{"udp", "a:1"}}),
            R"({"ts":"T","level":"info","msg":"ready","udp":"a:1"})");
}

}  // namespace
}  // namespace tallyd
