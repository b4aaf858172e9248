#include "daemon/push_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/config_file.h"
#include "daemon/options.h"

namespace tallyd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

absl::StatusOr<Options> FromYaml(const std::string& yaml) {
  const absl::StatusOr<FlagValues> values = ParseConfig(yaml, "/etc/t.yaml");
  if (!values.ok()) return values.status();
  return OptionsFrom(*values);
}

std::string Problem(const std::string& yaml) {
  const absl::StatusOr<Options> options = FromYaml(yaml);
  return options.ok() ? "" : std::string(options.status().message());
}

TEST(PushConfigTest, ReadsATarget) {
  const absl::StatusOr<Options> options = FromYaml(
      "series: {limit: 1000}\n"
      "push:\n"
      "  exit-timeout: 2s\n"
      "  job: everywhere\n"
      "  pushgateway:\n"
      "    - url: http://gw:9091/base/\n"
      "      name: main\n"
      "      job: nightly\n"
      "      grouping: {instance: h1, path: /var/tmp}\n"
      "      interval: 1m\n"
      "      timeout: 2s\n"
      "      families: {include: [\"app_*\", \"other\"], exclude: \"*_debug\"}\n"
      "      max_series: 77\n"
      "      own_metrics: true\n"
      "      on_exit: delete\n"
      "    - {url: \"http://gw2\"}\n");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->push_exit_timeout, absl::Seconds(2));
  ASSERT_EQ(options->pushgateways.size(), 2u);
  const PushgatewayOptions& first = options->pushgateways[0];
  EXPECT_EQ(first.url.ToString(), "http://gw:9091/base");
  EXPECT_EQ(first.name, "main");
  EXPECT_EQ(first.key.job, "nightly");
  EXPECT_THAT(first.key.labels,
              UnorderedElementsAre(Pair("instance", "h1"), Pair("path", "/var/tmp")));
  EXPECT_EQ(first.interval, absl::Minutes(1));
  EXPECT_EQ(first.total_timeout, absl::Seconds(2));
  EXPECT_THAT(first.families.include, ElementsAre("app_*", "other"));
  EXPECT_THAT(first.families.exclude, ElementsAre("*_debug"));
  EXPECT_EQ(first.max_series, 77u);
  EXPECT_TRUE(first.own_metrics);
  EXPECT_TRUE(first.delete_on_exit);
  const PushgatewayOptions& second = options->pushgateways[1];
  EXPECT_EQ(second.name, "http://gw2");
  EXPECT_EQ(second.total_timeout, absl::Seconds(10));
  EXPECT_EQ(second.key.job, "everywhere");
  ASSERT_EQ(second.key.labels.size(), 1u);
  EXPECT_EQ(second.key.labels[0].first, "instance");
  EXPECT_NE(second.key.labels[0].second, "");
  EXPECT_EQ(second.max_series, 1000u);
  EXPECT_FALSE(second.delete_on_exit);
}

TEST(PushConfigTest, FlagsMakeATarget) {
  const absl::StatusOr<Options> options =
      ParseOptions({"--push.pushgateway-url=http://gw:9091", "--push.job=j", "--push.instance=i",
                    "--push.interval=1s", "--push.on-exit=delete", "--push.target-series=10"});
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->pushgateways.size(), 1u);
  EXPECT_EQ(options->pushgateways[0].key.Path(), "/metrics/job/j/instance/i");
  EXPECT_EQ(options->pushgateways[0].max_series, 10u);
  EXPECT_TRUE(options->pushgateways[0].delete_on_exit);
  EXPECT_THAT(ParseOptions({"--push.pushgateway=x"}).status().message(),
              HasSubstr("--push.pushgateway: only the configuration file can say this"));
  EXPECT_THAT(ParseOptions({}).value().pushgateways, IsEmpty());
}

TEST(PushConfigTest, RefusesMoreSeriesThanAGatewayBears) {
  const std::string problem = Problem("push:\n  pushgateway:\n    - url: http://gw\n");
  EXPECT_THAT(problem,
              HasSubstr("/etc/t.yaml:3: push.pushgateway: would push up to 1000000 series"));
  EXPECT_THAT(problem, HasSubstr("set series.limit"));
  EXPECT_THAT(problem, HasSubstr("max_series"));
  EXPECT_EQ(Problem("push:\n  pushgateway:\n    - {url: \"http://gw\", max_series: 100000}\n"), "");
  EXPECT_EQ(Problem("series: {limit: 100000}\npush:\n  pushgateway:\n    - url: http://gw\n"), "");
  EXPECT_THAT(Problem("push:\n  pushgateway:\n    - {url: \"http://gw\", max_series: 100001}\n"),
              HasSubstr("max_series: not in 1 to 100000"));
  EXPECT_THAT(ParseOptions({"--push.pushgateway-url=http://gw"}).status().message(),
              HasSubstr("--push.pushgateway-url: would push up to 1000000 series"));
}

TEST(PushConfigTest, SaysEverythingThatIsWrongWithItsLine) {
  const std::string problem = Problem(
      "series: {limit: 10}\n"
      "push:\n"
      "  pushgateway:\n"
      "    - job: a\n"
      "    - url: http://user:secret@gw\n"
      "    - url: http://gw\n"
      "      intervall: 3s\n"
      "      interval: 3x\n"
      "      on_exit: perhaps\n"
      "      own_metrics: maybe\n"
      "      grouping: {__x: a}\n"
      "      families: {inclusive: a}\n"
      "      basic_auth: {username: a}\n"
      "    - url: https://gw\n"
      "      tls: {ca_file: nowhere.pem}\n"
      "    - url: http://gw\n"
      "      bearer_token_file: missing\n"
      "    - {url: \"http://gw\", tls: {ca_file: x}}\n");
  for (const char* expected :
       {"/etc/t.yaml:4: push.pushgateway: has no url",
        "/etc/t.yaml:5: push.pushgateway.url: a user",
        "/etc/t.yaml:7: push.pushgateway.intervall: unknown key; did you mean interval?",
        "/etc/t.yaml:8: push.pushgateway.interval: not a duration",
        "/etc/t.yaml:9: push.pushgateway.on_exit: not keep or delete",
        "/etc/t.yaml:10: push.pushgateway.own_metrics: not true or false",
        "/etc/t.yaml:6: push.pushgateway: grouping: \"__x\" cannot be",
        "/etc/t.yaml:12: push.pushgateway.families.inclusive: unknown key",
        "/etc/t.yaml:6: push.pushgateway: basic_auth has a username and a password_file",
        "/etc/t.yaml:14: push.pushgateway: cannot read /etc/nowhere.pem",
        "/etc/t.yaml:16: push.pushgateway: cannot read /etc/missing",
        "/etc/t.yaml:18: push.pushgateway: has tls, but its url begins with http://"}) {
    EXPECT_THAT(problem, HasSubstr(expected));
  }
  EXPECT_EQ(problem.find("secret"), std::string::npos) << problem;
}

TEST(PushConfigTest, RefusesWhatIsNoListOfMaps) {
  EXPECT_THAT(Problem("push: {pushgateway: http://gw}"), HasSubstr("not a list of maps"));
  EXPECT_THAT(Problem("push:\n  pushgateway:\n"), HasSubstr("not a list of maps"));
  EXPECT_THAT(Problem("push: {pushgateway: [a]}"), HasSubstr("not a map"));
  EXPECT_THAT(Problem("push: {pushgateway: [{url: a, url: b}]}"), HasSubstr("url is given twice"));
  EXPECT_THAT(Problem("push: {pushgateway: [{url: }]}"), HasSubstr("url: has no value"));
  EXPECT_THAT(Problem("push: {pushgateway: [{a: {b: {c: {d: {e: f}}}}}]}"),
              HasSubstr("nested too deeply"));
  // A document that contains itself.
  EXPECT_THAT(Problem("push: {pushgateway: [&a {b: *a, c: *a}]}"), HasSubstr("nested too deeply"));
}

TEST(PushConfigTest, TargetsMustBeToldApart) {
  EXPECT_THAT(Problem("series: {limit: 10}\npush:\n  pushgateway:\n"
                      "    - {url: \"http://gw\", job: a}\n    - {url: \"http://gw\", job: a}\n"),
              HasSubstr("/etc/t.yaml:5: push.pushgateway: two targets would write over each other "
                        "at http://gw/metrics/job/a"));
  EXPECT_THAT(Problem("series: {limit: 10}\npush:\n  pushgateway:\n"
                      "    - {url: \"http://gw\", name: a, grouping: {env: e, instance: i}}\n"
                      "    - {url: \"http://gw\", name: b, grouping: {instance: i, env: e}}\n"),
              HasSubstr("two targets would write over each other"));
  EXPECT_THAT(Problem("series: {limit: 10}\npush:\n  pushgateway:\n"
                      "    - {url: \"http://gw\", job: a}\n    - {url: \"http://gw\", job: b}\n"),
              HasSubstr("/etc/t.yaml:5: push.pushgateway: two targets are called http://gw; "
                        "give them a name"));
  std::string many = "series: {limit: 10}\npush:\n  pushgateway:\n";
  for (int i = 0; i < 17; ++i) absl::StrAppend(&many, "    - url: http://gw", i, "\n");
  EXPECT_THAT(Problem(many), HasSubstr("at most 16 targets"));
}

// InfluxDB takes a password there.
TEST(PushConfigTest, ARemoteWritesQueryIsNotInItsName) {
  const std::string targets =
      "push:\n  remote-write:\n    - url: http://a/write?db=p&p=secret\n"
      "    - url: http://b/write?db=p&p=secret\n";
  const absl::StatusOr<Options> options = FromYaml(targets);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->remote_writes[0].name, "http://a/write");
  EXPECT_EQ(options->remote_writes[0].url.path, "/write?db=p&p=secret");
  const std::string problem = Problem(targets + "    - url: http://b/write?db=q&p=secret\n");
  EXPECT_THAT(problem, HasSubstr("/etc/t.yaml:5: push.remote-write: two targets are called "
                                 "http://b/write; give them a name"));
  EXPECT_EQ(problem.find("secret"), std::string::npos) << problem;
}

}  // namespace
}  // namespace tallyd
