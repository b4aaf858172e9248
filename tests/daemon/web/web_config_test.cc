#include "daemon/web/web_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr char kHash[] = "$2b$10$njfshhT9jYs7i.R1T.nJcOYWmIWlT4m38so4hxqSem3fA9TvYniDO";

WebConfig Parse(const std::string& yaml) {
  const absl::StatusOr<WebConfig> config = ParseWebConfig(yaml, "conf/web.yml");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : WebConfig();
}

std::string Refusal(const std::string& yaml) {
  const absl::StatusOr<WebConfig> config = ParseWebConfig(yaml, "web.yml");
  EXPECT_FALSE(config.ok()) << yaml;
  return std::string(config.status().message());
}

TEST(WebConfigTest, AnEmptyFileAsksForNothing) {
  for (const char* yaml :
       {"", "# nothing\n", "tls_server_config:\n  cert_file: c\n  key_file: k\n"}) {
    const WebConfig config = Parse(yaml);
    EXPECT_THAT(config.users, IsEmpty());
    EXPECT_THAT(config.headers, IsEmpty());
  }
  EXPECT_FALSE(Parse("").tls.has_value());
}

TEST(WebConfigTest, AllOfIt) {
  const WebConfig config = Parse(absl::StrCat(R"(
tls_server_config:
  cert_file: server.pem
  key_file: /etc/keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [X25519, CurveP256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
basic_auth_users:
  ann: )",
                                              kHash, "\n  bob: ", kHash, "\n"));
  ASSERT_TRUE(config.tls.has_value());
  EXPECT_EQ(config.tls->cert_file, "conf/server.pem");
  EXPECT_EQ(config.tls->key_file, "/etc/keys/server.key");
  EXPECT_EQ(config.tls->client_ca_file, "conf/ca.pem");
  EXPECT_EQ(config.tls->client_auth, ClientAuth::kRequireAndVerifyClientCert);
  EXPECT_EQ(config.tls->min_version, TLS1_2_VERSION);
  EXPECT_EQ(config.tls->max_version, TLS1_3_VERSION);
  EXPECT_THAT(config.tls->ciphers,
              ElementsAre("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"));
  EXPECT_THAT(config.tls->groups, ElementsAre("X25519", "P-256"));
  EXPECT_FALSE(config.tls->prefer_server_ciphers);
  EXPECT_THAT(config.headers, ElementsAre(Pair("Strict-Transport-Security", "max-age=31536000"),
                                          Pair("X-Frame-Options", "deny")));
  ASSERT_EQ(config.users.size(), 2U);
  EXPECT_EQ(config.users[0].name, "ann");
  EXPECT_EQ(config.users[1].hash, kHash);
}

TEST(WebConfigTest, EachMistakeHasItsLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"tls_config: {}", "web.yml:1: tls_config: unknown key"},
      {"- a", "not a map"},
      {"a: [", "web.yml:"},
      {"\ntls_server_config:\n  key_file: k", "web.yml:2: tls_server_config: has no cert_file"},
      {"tls_server_config:\n  cert_file: c", "web.yml:1: tls_server_config: has no key_file"},
      {"tls_server_config: {cert_file: [c], key_file: k}", "cert_file: not a text"},
      {"tls_server_config:\n  cert_file: c\n  key_file: k\n  cert: x",
       "web.yml:4: tls_server_config.cert: unknown key"},
      {"tls_server_config:\n  cert_file: c\n  cert_file: d\n  key_file: k",
       "web.yml:3: tls_server_config.cert_file: is given twice"},
      {"tls_server_config: {cert_file: c, key_file: k, client_auth_type: Yes}",
       "client_auth_type: \"Yes\" is none of NoClientCert"},
      {"tls_server_config: {cert_file: c, key_file: k, client_auth_type: VerifyClientCertIfGiven}",
       "there is no client_ca_file"},
      {"tls_server_config: {cert_file: c, key_file: k, client_ca_file: ca}",
       "client_ca_file has no effect"},
      {"tls_server_config: {cert_file: c, key_file: k, min_version: TLS14}",
       "\"TLS14\" is none of"},
      {"tls_server_config: {cert_file: c, key_file: k, max_version: TLS11}",
       "is below min_version"},
      {"tls_server_config: {cert_file: c, key_file: k, min_version: TLS13, max_version: TLS12}",
       "is below min_version"},
      {"tls_server_config:\n  cert_file: c\n  key_file: k\n  cipher_suites:\n  - RC4\n",
       "web.yml:5: tls_server_config.cipher_suites: \"RC4\" is no cipher suite"},
      {"tls_server_config: {cert_file: c, key_file: k, cipher_suites: RC4}", "not a list"},
      {"tls_server_config: {cert_file: c, key_file: k, curve_preferences: [P1]}",
       "is none of Curve"},
      {"tls_server_config: {cert_file: c, key_file: k, prefer_server_cipher_suites: 7}",
       "not true or false"},
      {"http_server_config: {http2: maybe}", "http2: not true or false"},
      {"http_server_config: {headers: {Content-Type: x}}", "headers.Content-Type: unknown key"},
      {"http_server_config: {headers: {X-Frame-Options: allow}}", "is deny or sameorigin"},
      {"http_server_config: {headers: {Content-Security-Policy: \"a\\r\\nX: y\"}}",
       "not the text of a header"},
      {"basic_auth_users: [a]", "not a map"},
      {"basic_auth_users: {\"a:b\": x}", "has no colon"},
  };
  for (const auto& [yaml, problem] : cases) EXPECT_THAT(Refusal(yaml), HasSubstr(problem)) << yaml;
}

TEST(WebConfigTest, WhatIsNoHashIsNotShown) {
  const std::string said = Refusal("basic_auth_users:\n  ann: plaintext-secret\n");
  EXPECT_THAT(said, HasSubstr("web.yml:2: basic_auth_users.ann: not a hash of bcrypt"));
  EXPECT_THAT(said, Not(HasSubstr("plaintext-secret")));
}

TEST(WebConfigTest, HashesThatTakeForEverAreRefused) {
  const std::string rest = std::string(kHash).substr(6);
  EXPECT_THAT(Refusal(absl::StrCat("basic_auth_users: {a: \"$2b$17", rest, "\"}")),
              HasSubstr("from 4 to 16"));
  EXPECT_THAT(Refusal(absl::StrCat("basic_auth_users: {a: \"$2b$31", rest, "\"}")),
              HasSubstr("from 4 to 16"));
  EXPECT_EQ(Parse(absl::StrCat("basic_auth_users: {a: \"$2y$16", rest, "\"}")).users.size(), 1U);
}

TEST(WebConfigTest, AllMistakesAtOnce) {
  const std::string said = Refusal("x: 1\nbasic_auth_users: {a: b}\ny: 2\n");
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(said, '\n')).size(), 3U) << said;
}

TEST(WebConfigTest, AFileThatCannotBeReadIsNamed) {
  EXPECT_THAT(std::string(LoadWebConfig("/nonexistent/web.yml").status().message()),
              HasSubstr("/nonexistent/web.yml"));
  EXPECT_THAT(std::string(LoadWebConfig("/dev/zero").status().message()), HasSubstr("/dev/zero"));
}

}  // namespace
}  // namespace tallyd
