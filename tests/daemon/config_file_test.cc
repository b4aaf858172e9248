// The configuration file: what it gives to the flags, and what it is refused for.

#include "daemon/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/exit_code.h"
#include "daemon/options.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FlagValues Parse(const std::string& yaml) {
  absl::StatusOr<FlagValues> values = ParseConfig(yaml, "/etc/tallyd/t.yaml");
  EXPECT_TRUE(values.ok()) << values.status();
  return values.ok() ? *values : FlagValues();
}

std::string Refusal(const std::string& yaml) {
  const absl::StatusOr<FlagValues> values = ParseConfig(yaml, "t.yaml");
  EXPECT_FALSE(values.ok());
  EXPECT_EQ(ExitCodeFor(values.status()), ExitCode::kUsage);
  return std::string(values.status().message());
}

std::vector<std::string> Texts(const FlagValues& values, const std::string& name) {
  std::vector<std::string> texts;
  const auto found = values.find(name);
  if (found == values.end()) return {"(not given)"};
  for (const FlagValue& value : found->second) texts.push_back(value.text);
  return texts;
}

// A folder with a configuration file in it.
class ConfigFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/config_file_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    file_ = folder_ + "/t.yaml";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<Options> ParseWith(const std::string& yaml, std::vector<std::string> arguments) {
    std::ofstream(file_, std::ios::binary) << yaml;
    arguments.push_back("--config.file=" + file_);
    return ParseOptions(arguments);
  }
  std::string RefusalWith(const std::string& yaml, const std::vector<std::string>& arguments = {}) {
    const absl::StatusOr<Options> options = ParseWith(yaml, arguments);
    EXPECT_FALSE(options.ok());
    return std::string(options.status().message());
  }

  std::string folder_;
  std::string file_;
};

TEST(ParseConfigTest, KeysAreTheNamesOfFlagsSplitAtDots) {
  const FlagValues values = Parse(
      "statsd:\n"
      "  relay: {address: 'a:1'}\n"
      "  read-buffer: 4096\n"
      "  unixsocket-mode: 0755\n"
      "series: {limit: 1000, ttl: 1h}\n"
      "log.level: debug\n");
  EXPECT_THAT(Texts(values, "statsd.relay.address"), ElementsAre("a:1"));
  EXPECT_THAT(Texts(values, "statsd.read-buffer"), ElementsAre("4096"));
  EXPECT_THAT(Texts(values, "statsd.unixsocket-mode"), ElementsAre("0755"));
  EXPECT_THAT(Texts(values, "series.limit"), ElementsAre("1000"));
  EXPECT_THAT(Texts(values, "log.level"), ElementsAre("debug"));
  EXPECT_EQ(values.size(), 6u);
}

TEST(ParseConfigTest, AFlagMayAlsoBeASection) {
  EXPECT_EQ(Parse("shards: {pin: true}").size(), 1u);
  const FlagValues both = Parse("shards: 4\nshards.pin: true\n");
  EXPECT_THAT(Texts(both, "shards"), ElementsAre("4"));
  EXPECT_THAT(Texts(both, "shards.pin"), ElementsAre("true"));
}

TEST(ParseConfigTest, ListsAreOfTextsOrOfAddressesWithDialects) {
  const FlagValues values = Parse(
      "statsd:\n"
      "  listen-udp: [':1', {address: '127.0.0.1:2', dialect: dogstatsd}]\n"
      "  listen-tcp: []\n"
      "  listen-unixgram:\n"
      "    - address: /run/a.sock\n"
      "      dialect: dogstatsd\n"
      "web: {listen-address: '127.0.0.1:9102'}\n");
  EXPECT_THAT(Texts(values, "statsd.listen-udp"),
              ElementsAre(":1", "127.0.0.1:2?dialect=dogstatsd"));
  EXPECT_THAT(Texts(values, "statsd.listen-tcp"), IsEmpty());
  EXPECT_THAT(Texts(values, "statsd.listen-unixgram"),
              ElementsAre("/run/a.sock?dialect=dogstatsd"));
  EXPECT_THAT(Texts(values, "web.listen-address"), ElementsAre("127.0.0.1:9102"));
}

TEST(ParseConfigTest, APathMayBeForSomeUsersAlone) {
  const FlagValues values = Parse(
      "statsd:\n"
      "  listen-unixgram: [{address: /a, allow_uids: [1000, app]}, {address: /b, allow_uids: 7}]\n"
      "  listen-unixstream: {address: /c, dialect: dogstatsd, allow_uids: [1]}\n");
  EXPECT_THAT(Texts(values, "statsd.listen-unixgram"),
              ElementsAre("/a?allow_uids=1000,app", "/b?allow_uids=7"));
  EXPECT_THAT(Texts(values, "statsd.listen-unixstream"),
              ElementsAre("/c?dialect=dogstatsd&allow_uids=1"));
  EXPECT_EQ(Refusal("statsd.listen-unixgram:\n- {address: /a, allow_uids: []}\n"),
            "t.yaml:2: statsd.listen-unixgram: allow_uids: not a text or list of texts");
  EXPECT_EQ(Refusal("statsd.listen-unixgram: [{address: /a, allow_uids: [[1]]}]"),
            "t.yaml:1: statsd.listen-unixgram: allow_uids: not a text or list of texts");
  EXPECT_THAT(Refusal("statsd.listen-udp: [{address: ':1', allow_uids: [1]}]"),
              HasSubstr("unknown key allow_uids"));
}

TEST(ParseConfigTest, RelativePathsAreRelativeToTheFolderOfTheFile) {
  const FlagValues values = Parse(
      "statsd:\n"
      "  mapping-config: rules/m.yml\n"
      "  listen-unixstream: [a.sock, {address: b.sock, dialect: statsd}, /run/c.sock]\n"
      "admin.socket: ''\n"
      "web.telemetry-path: metrics\n");
  EXPECT_THAT(Texts(values, "statsd.mapping-config"), ElementsAre("/etc/tallyd/rules/m.yml"));
  EXPECT_THAT(
      Texts(values, "statsd.listen-unixstream"),
      ElementsAre("/etc/tallyd/a.sock", "/etc/tallyd/b.sock?dialect=statsd", "/run/c.sock"));
  EXPECT_THAT(Texts(values, "admin.socket"), ElementsAre(""));
  EXPECT_THAT(Texts(values, "web.telemetry-path"), ElementsAre("metrics"));  // no file
  EXPECT_THAT(Texts(*ParseConfig("admin.socket: s", "t.yaml"), "admin.socket"), ElementsAre("s"));
}

TEST(ParseConfigTest, BooleansAreReadAsYamlWritesThem) {
  for (const char* on : {"true", "yes", "on"}) {
    const FlagValues values = Parse(absl::StrCat("web.enable-lifecycle: ", on));
    EXPECT_THAT(Texts(values, "web.enable-lifecycle"), ElementsAre("true"));
  }
  EXPECT_THAT(Texts(Parse("statsd.parse-librato-tags: no"), "statsd.parse-librato-tags"),
              ElementsAre("false"));
  EXPECT_EQ(Refusal("web.enable-lifecycle: 1"),
            "t.yaml:1: web.enable-lifecycle=1: not true or false");
}

TEST(ParseConfigTest, AnEmptyFileSaysNothing) {
  EXPECT_EQ(Parse("").size(), 0u);
  EXPECT_EQ(Parse("# nothing\n---\n").size(), 0u);
  EXPECT_EQ(Parse("{}").size(), 0u);
}

TEST(ParseConfigTest, UnknownKeysAreRefusedWithTheNearestName) {
  EXPECT_EQ(Refusal("\nstatsd:\n  lisen-udp: ':1'\n"),
            "t.yaml:3: unknown key statsd.lisen-udp; did you mean statsd.listen-udp?");
  EXPECT_EQ(Refusal("statd: {}"), "t.yaml:1: unknown key statd; did you mean statsd?");
  EXPECT_EQ(Refusal("nothing-like-it: 1"), "t.yaml:1: unknown key nothing-like-it");
  EXPECT_EQ(Refusal("statsd:\n  listen-udp: [{adress: ':1'}]"),
            "t.yaml:2: statsd.listen-udp: unknown key adress; an entry has an address and may have "
            "a dialect");
  EXPECT_THAT(Refusal("<<: {shards: 1}"), HasSubstr("unknown key <<"));
}

TEST(ParseConfigTest, RepeatedKeysAreRefused) {
  EXPECT_EQ(Refusal("shards: 1\nshards: 2\n"), "t.yaml:2: shards is given twice");
  EXPECT_EQ(Refusal("series: {limit: 1}\nseries.limit: 2\n"),
            "t.yaml:2: series.limit is given twice");
  EXPECT_EQ(Refusal("statsd.listen-udp: [{address: ':1', address: ':2'}]"),
            "t.yaml:1: address is given twice");
}

TEST(ParseConfigTest, ValuesOfTheWrongShapeAreRefused) {
  EXPECT_EQ(Refusal("[1]"), "t.yaml:1: not a map of flags");
  EXPECT_EQ(Refusal("statsd: 5"), "t.yaml:1: statsd: not a map of flags");
  EXPECT_EQ(Refusal("shards: [1, 2]"), "t.yaml:1: shards: not one value");
  EXPECT_EQ(Refusal("series:\n  limit: {a: 1}"), "t.yaml:2: series.limit: not one value");
  EXPECT_EQ(Refusal("statsd.listen-udp: [[':1']]"),
            "t.yaml:1: statsd.listen-udp: not a list of texts");
  EXPECT_EQ(Refusal("statsd.listen-udp: [{dialect: statsd}]"),
            "t.yaml:1: statsd.listen-udp: an entry has no address");
  EXPECT_EQ(Refusal("web.listen-address: [{address: ':1'}]"),
            "t.yaml:1: web.listen-address: not one value");
  EXPECT_THAT(Refusal("shards:"), HasSubstr("t.yaml:1: shards: has no value"));
  EXPECT_THAT(Refusal("statsd.listen-tcp: ~"), HasSubstr("has no value; write \"\""));
  EXPECT_THAT(Refusal("? [1]\n: 2\n"), HasSubstr("a key that is no text"));
}

TEST(ParseConfigTest, SomeThingsOnlyTheCommandLineCanSay) {
  for (const char* name : {"config.file", "check-config", "version", "help"}) {
    EXPECT_EQ(Refusal(absl::StrCat(name, ": true")),
              absl::StrCat("t.yaml:1: ", name, ": only the command line can say this"));
  }
}

TEST(ParseConfigTest, AllThatIsWrongIsSaidAtOnceUpToABound) {
  EXPECT_EQ(Refusal("a: 1\nshards: [1]\n"),
            "t.yaml:1: unknown key a\nt.yaml:2: shards: not one value");
  std::string many;
  for (int i = 0; i < 1'000; ++i) absl::StrAppend(&many, "unknown", i, ": 1\n");
  const std::string message = Refusal(many);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 19);
}

TEST(ParseConfigTest, WhatIsNotYamlIsRefusedWithItsLine) {
  EXPECT_THAT(Refusal("shards: 1\nstatsd: [\n"), HasSubstr("t.yaml:3: "));
  EXPECT_THAT(Refusal("shards: *x"), HasSubstr("t.yaml:1: "));
  EXPECT_THAT(Refusal("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  // yaml-cpp finds documents without end in this.
  EXPECT_THAT(Refusal("!a ,"), HasSubstr("more than one document"));
}

TEST(ParseConfigTest, DeepAndEndlessDocumentsAreRefused) {
  EXPECT_THAT(Refusal(std::string(100'000, '[')), HasSubstr("t.yaml:"));
  EXPECT_THAT(Refusal(std::string(100'000, '{')), HasSubstr("t.yaml:"));
  EXPECT_THAT(Refusal("&x statsd: &y {statsd: *y}"), HasSubstr("unknown key statsd.statsd"));
  EXPECT_THAT(Refusal("statsd.listen-udp: &x [*x]"), HasSubstr("not a list of texts"));
}

TEST(ExampleTest, TheExampleHasEveryKeyAndSaysTheDefaults) {
  const std::string file = absl::StrCat(TALLYD_SOURCE_DIR, "/docs/examples/tallyd.yaml");
  const absl::StatusOr<FlagValues> values = LoadConfig(file);
  ASSERT_TRUE(values.ok()) << values.status();
  for (const FlagSpec& flag : AllFlags()) {
    EXPECT_EQ(values->count(flag.name), flag.in_file ? 1u : 0u) << flag.name;
  }

  const absl::StatusOr<Options> example = ParseOptions({"--config.file=" + file});
  ASSERT_TRUE(example.ok()) << example.status();
  const Options standard;
  EXPECT_EQ(example->udp, standard.udp);
  EXPECT_EQ(example->tcp, standard.tcp);
  EXPECT_EQ(example->ListenerCount(), standard.ListenerCount());
  EXPECT_EQ(example->unixsocket_mode, standard.unixsocket_mode);
  EXPECT_EQ(example->sender_identity, standard.sender_identity);
  EXPECT_EQ(example->read_buffer_bytes, standard.read_buffer_bytes);
  EXPECT_EQ(example->idle_timeout, standard.idle_timeout);
  EXPECT_EQ(example->mapping_config, standard.mapping_config);
  EXPECT_EQ(example->container_id_label, standard.container_id_label);
  EXPECT_TRUE(example->tags.dogstatsd && example->tags.influxdb && example->tags.librato &&
              example->tags.signalfx);
  EXPECT_EQ(example->max_line_bytes, standard.max_line_bytes);
  EXPECT_EQ(example->key_limits.name_bytes, standard.key_limits.name_bytes);
  EXPECT_EQ(example->key_limits.tags, standard.key_limits.tags);
  EXPECT_EQ(example->key_limits.label_bytes, standard.key_limits.label_bytes);
  EXPECT_EQ(example->relay_address, standard.relay_address);
  EXPECT_EQ(example->relay_packet_bytes, standard.relay_packet_bytes);
  EXPECT_EQ(example->web, standard.web);
  EXPECT_EQ(example->telemetry_path, standard.telemetry_path);
  EXPECT_EQ(example->web_max_requests, standard.web_max_requests);
  EXPECT_EQ(example->enable_lifecycle, standard.enable_lifecycle);
  EXPECT_EQ(example->shards, standard.shards);
  EXPECT_EQ(example->pin_shards, standard.pin_shards);
  EXPECT_EQ(example->merge_interval, standard.merge_interval);
  EXPECT_EQ(example->series_limit, standard.series_limit);
  EXPECT_EQ(example->series_ttl, standard.series_ttl);
  EXPECT_EQ(example->family_series_limit, standard.family_series_limit);
  EXPECT_EQ(example->sender_series_limit, standard.sender_series_limit);
  EXPECT_EQ(example->key_limit, standard.key_limit);
  EXPECT_EQ(example->label_bytes, standard.label_bytes);
  EXPECT_EQ(example->expired_bytes, standard.expired_bytes);
  EXPECT_EQ(example->evict_after, standard.evict_after);
  EXPECT_EQ(example->admin_socket, standard.admin_socket);
  EXPECT_EQ(example->log_level, standard.log_level);
  EXPECT_EQ(example->log_format, standard.log_format);
}

// The defaults that help and documentation name are those of the example, which are the real ones.
TEST(ExampleTest, HelpAndDocumentationNameTheSameDefaults) {
  const std::string folder = absl::StrCat(TALLYD_SOURCE_DIR, "/docs/");
  const FlagValues values = LoadConfig(folder + "examples/tallyd.yaml").value();
  std::ifstream stream(folder + "configuration.md");
  const std::string document{std::istreambuf_iterator<char>(stream), {}};
  for (const FlagSpec& flag : AllFlags()) {
    EXPECT_THAT(document, HasSubstr(absl::StrCat("`--", flag.name))) << flag.name;
    if (!flag.in_file || flag.group == FlagGroup::kForeign) continue;
    for (const FlagValue& value : values.at(flag.name)) {
      std::string shown = value.text.substr(0, value.text.find('?'));
      if (flag.kind == FlagKind::kBool) shown = shown == "true" ? "on" : "off";
      if (shown == "0755") shown = "755";
      if (shown == "0s") shown = "0";
      if (shown.empty() || std::string_view(flag.help).find("0: ") != std::string::npos) continue;
      EXPECT_THAT(flag.help, HasSubstr("Default ")) << flag.name;
      EXPECT_THAT(flag.help, HasSubstr(shown)) << flag.name;
    }
  }
}

TEST_F(ConfigFileTest, TheCommandLineWins) {
  const auto options = ParseWith(
      "statsd: {listen-udp: [':1', ':2']}\nseries: {limit: 7}\nweb.enable-lifecycle: true\n",
      {"--statsd.listen-udp=:3", "--no-web.enable-lifecycle"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->udp, ElementsAre(ListenAddress(":3")));
  EXPECT_EQ(options->series_limit, 7u);
  EXPECT_FALSE(options->enable_lifecycle);
  EXPECT_EQ(options->config_file, file_);
}

TEST_F(ConfigFileTest, AnEmptyListSwitchesOffAndADialectIsTheListeners) {
  const auto options = ParseWith(
      "statsd:\n  dialect: dogstatsd\n  listen-tcp: []\n"
      "  listen-udp: [':1', {address: ':2', dialect: statsd}]\n",
      {});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->tcp, IsEmpty());
  EXPECT_THAT(options->udp,
              ElementsAre(ListenAddress(":1", Dialect::kDogstatsd), ListenAddress(":2")));
}

TEST_F(ConfigFileTest, ValuesThatCannotBeReadAreNamedWithTheirLine) {
  EXPECT_EQ(RefusalWith("merge:\n  interval: 5\n"),
            absl::StrCat(file_,
                         ":2: merge.interval=5: not a duration of at least 1ms (write 10s, "
                         "200ms, 1h30m)"));
  EXPECT_EQ(RefusalWith("statsd:\n  listen-udp:\n    - ':1'\n    - '9125'\n"),
            absl::StrCat(file_,
                         ":4: statsd.listen-udp=9125: address \"9125\" has no port (write "
                         "host:port)"));
  EXPECT_THAT(RefusalWith("statsd.listen-udp: {address: ':1', dialect: etsy}"),
              HasSubstr("t.yaml:1: statsd.listen-udp=:1?dialect=etsy: "));
  EXPECT_EQ(
      RefusalWith("shards: 4000\n", {"--series.limit=x"}),
      absl::StrCat(file_, ":1: shards=4000: not in 0 to 1024\n", "--series.limit=x: not a number"));
}

TEST_F(ConfigFileTest, AFileThatCannotBeReadIsNamed) {
  const auto missing = ParseOptions({"--config.file=/nowhere/t.yaml"});
  EXPECT_EQ(ExitCodeFor(missing.status()), ExitCode::kUsage);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere/t.yaml: No such file"));
  EXPECT_FALSE(ParseOptions({"--config.file=" + folder_}).ok());
  EXPECT_THAT(RefusalWith(std::string(kMaxConfigBytes + 1, '#')), HasSubstr("at most 1048576"));
}

TEST_F(ConfigFileTest, AnEmptyNameMeansNoFile) {
  EXPECT_EQ(ParseOptions({"--config.file="})->config_file, "");
}

}  // namespace
}  // namespace tallyd
