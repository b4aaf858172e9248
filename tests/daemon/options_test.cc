// The command line.

#include "daemon/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
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
  EXPECT_EQ(Parse({}).native_histograms, HistogramForm::kBoth);
  EXPECT_EQ(Parse({"--web.native-histograms=native"}).native_histograms, HistogramForm::kNative);
  EXPECT_EQ(Parse({"--web.native-histograms=classic"}).native_histograms, HistogramForm::kClassic);
  ExpectRefused({"--web.native-histograms=on"}, "--web.native-histograms");
  EXPECT_FALSE(Parse({}).created_timestamps);
  EXPECT_TRUE(Parse({"--web.created-timestamps"}).created_timestamps);
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
  EXPECT_EQ(Parse({"--statsd.unixsocket-group=root"}).unixsocket_group, 0u);
  EXPECT_EQ(Parse({"--statsd.unixsocket-group=1234"}).unixsocket_group, 1234u);
  EXPECT_EQ(Parse({"--statsd.unixsocket-group="}).unixsocket_group, static_cast<gid_t>(-1));
  ExpectRefused({"--statsd.unixsocket-group=no such group"}, "there is no such group");
}

TEST(OptionsTest, FlagsWithoutMeaningAreAcceptedAndNamed) {
  const Options options = Parse({"--statsd.cache-size=5000", "--statsd.cache-type", "random",
                                 "--statsd.event-queue-size=1", "--statsd.event-flush-threshold=1",
                                 "--statsd.event-flush-interval=1s", "--debug.dump-fsm=/tmp/x"});
  EXPECT_THAT(options.meaningless,
              ElementsAre("--statsd.cache-size", "--statsd.cache-type", "--statsd.event-queue-size",
                          "--statsd.event-flush-threshold", "--statsd.event-flush-interval",
                          "--debug.dump-fsm"));
}

TEST(OptionsTest, TheWebConfigurationIsAFile) {
  EXPECT_EQ(Parse({"--web.config.file=x"}).web_config_file, "x");
  EXPECT_EQ(Parse({"--web.config.file="}).web_config_file, "");
}

TEST(OptionsTest, EachTagDialectIsSwitchedByItsFlag) {
  const Options all = Parse({});
  EXPECT_TRUE(all.tags.dogstatsd && all.tags.influxdb && all.tags.librato && all.tags.signalfx);
  EXPECT_FALSE(Parse({"--no-statsd.parse-dogstatsd-tags"}).tags.dogstatsd);
  EXPECT_FALSE(Parse({"--no-statsd.parse-influxdb-tags"}).tags.influxdb);
  EXPECT_FALSE(Parse({"--no-statsd.parse-librato-tags"}).tags.librato);
  EXPECT_FALSE(Parse({"--no-statsd.parse-signalfx-tags"}).tags.signalfx);
  EXPECT_TRUE(
      Parse({"--no-statsd.parse-signalfx-tags", "--statsd.parse-signalfx-tags"}).tags.signalfx);
}

TEST(OptionsTest, AListenerMayHaveADialectOfItsOwn) {
  const Options options =
      Parse({"--statsd.listen-udp=:8125?dialect=dogstatsd", "--statsd.listen-udp=[::1]:9125",
             "--statsd.listen-unixgram=/run/a.sock?dialect=dogstatsd"});
  EXPECT_THAT(options.udp, ElementsAre(ListenAddress(":8125", Dialect::kDogstatsd),
                                       ListenAddress("[::1]:9125", Dialect::kStatsd)));
  EXPECT_THAT(options.unixgram, ElementsAre(ListenAddress("/run/a.sock", Dialect::kDogstatsd)));
  EXPECT_EQ(options.tcp.front().dialect, Dialect::kStatsd);
}

TEST(OptionsTest, TheDialectOfAllListenersIsTheDefaultOfEach) {
  const Options options =
      Parse({"--statsd.dialect=dogstatsd", "--statsd.listen-udp=:1",
             "--statsd.listen-udp=:2?dialect=statsd", "--statsd.listen-unixstream=/s"});
  EXPECT_THAT(options.udp, ElementsAre(ListenAddress(":1", Dialect::kDogstatsd),
                                       ListenAddress(":2", Dialect::kStatsd)));
  EXPECT_EQ(options.tcp.front(), ListenAddress("127.0.0.1:9125", Dialect::kDogstatsd));
  EXPECT_EQ(options.unixstream.front().dialect, Dialect::kDogstatsd);
}

TEST(OptionsTest, WhatFollowsAQuestionMarkIsADialectOrAnError) {
  ExpectRefused({"--statsd.dialect=etsy"}, "--statsd.dialect=etsy: not statsd or dogstatsd");
  ExpectRefused({"--statsd.listen-udp=:1?dialect=etsy"}, "only ?dialect=statsd or");
  ExpectRefused({"--statsd.listen-unixgram=/a?dialekt=statsd"}, "only ?dialect=statsd or");
  ExpectRefused({"--statsd.listen-unixgram=?dialect=statsd"}, "after an address or path");
  ExpectRefused({"--web.listen-address=:1?dialect=statsd"}, "not a number");
}

TEST(OptionsTest, AUnixSocketMayBeForSomeUsersAlone) {
  const Options options = Parse({"--statsd.listen-unixgram=/a?allow_uids=1000,root",
                                 "--statsd.listen-unixstream=/b?dialect=dogstatsd&allow_uids=7"});
  EXPECT_THAT(options.unixgram.front().allow_uids, ElementsAre(1000, 0));
  EXPECT_EQ(options.unixgram.front().address, "/a");
  EXPECT_THAT(options.unixstream.front().allow_uids, ElementsAre(7));
  EXPECT_EQ(options.unixstream.front().dialect, Dialect::kDogstatsd);
  EXPECT_THAT(options.udp.front().allow_uids, IsEmpty());
}

TEST(OptionsTest, UsersThatCannotBeToldApartAreRefused) {
  ExpectRefused({"--statsd.listen-udp=:1?allow_uids=1000"}, "after an address or path, only");
  ExpectRefused({"--statsd.listen-unixgram=/a?allow_uids="}, "there is no user \"\"");
  ExpectRefused({"--statsd.listen-unixgram=/a?allow_uids=1,no-such-user"}, "\"no-such-user\"");
  ExpectRefused({"--statsd.listen-unixgram=/a?allow_uids=65534"}, "cannot name");
  ExpectRefused({"--statsd.listen-unixgram=/a?allow_uids=4294967295"}, "cannot name");
  ExpectRefused({"--statsd.listen-unixgram=/a?allow_uids=1", "--no-statsd.sender-identity"},
                "/a: allow_uids needs --statsd.sender-identity");
}

TEST(OptionsTest, LimitsOfTheWireAreSettable) {
  const Options standard = Parse({});
  EXPECT_EQ(standard.max_line_bytes, 65'535u);
  EXPECT_EQ(standard.key_limits.name_bytes, 8'192u);
  EXPECT_EQ(standard.key_limits.tags, 1'024u);
  EXPECT_EQ(standard.key_limits.label_bytes, 32'768u);

  const Options options = Parse({"--limit.line-bytes=100", "--limit.name-bytes=50",
                                 "--limit.tags=0", "--limit.label-bytes=30"});
  EXPECT_EQ(options.max_line_bytes, 100u);
  EXPECT_EQ(options.key_limits.name_bytes, 50u);
  EXPECT_EQ(options.key_limits.tags, 0u);
  EXPECT_EQ(options.key_limits.label_bytes, 30u);
  ExpectRefused({"--limit.line-bytes=65536"}, "not in 1 to 65535");
  ExpectRefused({"--limit.tags=-1"}, "not in 0 to 65535");
  ExpectRefused({"--limit.name-bytes=8k"}, "--limit.name-bytes=8k: not a number");
}

TEST(OptionsTest, ARelayHasAnAddressAndAPacketLength) {
  EXPECT_EQ(Parse({}).relay_address, "");
  EXPECT_EQ(Parse({}).relay_packet_bytes, 1'400u);
  const Options options =
      Parse({"--statsd.relay.address=127.0.0.1:8126", "--statsd.relay.packet-length=9000"});
  EXPECT_EQ(options.relay_address, "127.0.0.1:8126");
  EXPECT_EQ(options.relay_packet_bytes, 9'000u);
  ExpectRefused({"--statsd.relay.address=127.0.0.1"}, "has no port");
  ExpectRefused({"--statsd.relay.address=127.0.0.1:0"}, "no port 0");
  EXPECT_EQ(Parse({"--statsd.relay.address=no-such-host.invalid:1"}).relay_address,
            "no-such-host.invalid:1");  // it may be there later
  ExpectRefused({"--statsd.relay.packet-length=0"}, "not in 1 to 65507");
  ExpectRefused({"--statsd.relay.packet-length=65508"}, "not in 1 to 65507");
}

TEST(OptionsTest, FilesAreTakenAsTheyAreNamed) {
  const Options options = Parse({"--statsd.mapping-config=map.yml", "--admin.socket=/run/a.sock"});
  EXPECT_EQ(options.mapping_config, "map.yml");
  EXPECT_EQ(options.admin_socket, "/run/a.sock");
  EXPECT_TRUE(options.container_id_label);
  EXPECT_FALSE(Parse({"--statsd.container-id=ignore"}).container_id_label);
  ExpectRefused({"--statsd.container-id=drop"}, "not label or ignore");
}

TEST(OptionsTest, SystemdSaysWhereTheAdminSocketBelongs) {
  EXPECT_EQ(Parse({}).admin_socket, "");
  ASSERT_EQ(::setenv("RUNTIME_DIRECTORY", "/run/tallyd:/run/more", 1), 0);
  EXPECT_EQ(Parse({}).admin_socket, "/run/tallyd/admin.sock");
  EXPECT_EQ(Parse({"--admin.socket=/run/a.sock"}).admin_socket, "/run/a.sock");
  EXPECT_EQ(Parse({"--admin.socket="}).admin_socket, "");
  ::unsetenv("RUNTIME_DIRECTORY");
}

TEST(OptionsTest, AnEmptyValueOfStatsdExportersFlagsMeansNone) {
  const Options options = Parse({"--statsd.mapping-config=", "--statsd.relay.address="});
  EXPECT_EQ(options.mapping_config, "");
  EXPECT_EQ(options.relay_address, "");
}

TEST(OptionsTest, AllThatIsWrongIsSaidAtOnce) {
  const absl::StatusOr<Options> options = ParseOptions({"--shards=x", "--series.ttl=y"});
  EXPECT_EQ(options.status().message(),
            "--shards=x: not a number\n"
            "--series.ttl=y: not a duration of at least 0 (write 10s, 200ms, 1h30m)");
}

TEST(OptionsTest, RefusesWhatItCannotRead) {
  ExpectRefused({"--bogus"}, "unknown flag --bogus (tallyd --help");
  ExpectRefused({"--statsd.lisen-udp=:1"}, "did you mean --statsd.listen-udp?");
  ExpectRefused({"--shards=1", "--shards=2"}, "--shards is given more than once");
  ExpectRefused({"--shards=x"}, "--shards");
  ExpectRefused({"--shards=1025"}, "not in 0 to 1024");
  ExpectRefused({"--shards=-1"}, "not in 0 to 1024");
  ExpectRefused({"--series.limit=0"}, "--series.limit=0: not in 1 to 4294967295");
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
  for (const FlagSpec& flag : AllFlags()) EXPECT_THAT(help, HasSubstr(flag.name));
  EXPECT_THAT(help, HasSubstr("Exit codes"));
  EXPECT_THAT(help, HasSubstr("--[no-]statsd.parse-influxdb-tags\n"));
  EXPECT_THAT(help, HasSubstr("--version\n"));
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
