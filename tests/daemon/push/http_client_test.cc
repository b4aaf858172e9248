#include "daemon/push/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "tests/daemon/push/script_server.h"

namespace tallyd {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kNoContent[] = "HTTP/1.1 204 No Content\r\n\r\n";

std::shared_ptr<const std::string> Part(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

class HttpClientTest : public testing::Test {
 protected:
  HttpClientOptions OptionsFor(int port, const std::string& host = "127.0.0.1") {
    HttpClientOptions options;
    options.url = HttpUrl::Parse(absl::StrCat("http://", host, ":", port, "/base")).value();
    options.total_timeout = absl::Seconds(5);
    return options;
  }

  void Use(HttpClientOptions options) {
    client_ = std::make_unique<HttpClient>(&loop_, std::move(options));
  }

  HttpResult Send(PushRequest request = {}) {
    std::optional<HttpResult> result;
    client_->Send(std::move(request), [&](HttpResult got) { result = std::move(got); });
    RunUntil([&] { return result.has_value(); });
    EXPECT_TRUE(result.has_value()) << "never answered";
    return result.value_or(HttpResult());
  }

  // False if it does not come true in time.
  bool RunUntil(const std::function<bool()>& holds) {
    const int64_t deadline_ns = MonotonicNs() + 20'000'000'000;
    while (!holds() && MonotonicNs() < deadline_ns) {
      loop_.restart();
      loop_.run_one_for(std::chrono::milliseconds(20));
    }
    return holds();
  }

  ScriptServer::Script Always(const std::string& answer) {
    return ScriptServer::Always(answer, &seen_, &mu_);
  }
  std::vector<SeenRequest> seen() {
    const std::lock_guard lock(mu_);
    return seen_;
  }

  std::string File(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(testing::TempDir(), "http_client_test.", getpid(), name);
    std::ofstream(path, std::ios::trunc | std::ios::binary) << text;
    return path;
  }

  Loop loop_{1};
  std::unique_ptr<HttpClient> client_;
  std::mutex mu_;
  std::vector<SeenRequest> seen_;
};

TEST_F(HttpClientTest, SendsTheWholeRequestAndReadsTheAnswer) {
  ScriptServer server(
      Always("HTTP/1.1 200 OK\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nhello"));
  Use(OptionsFor(server.port()));
  const HttpResult result = Send({.method = "PUT",
                                  .target = "/metrics/job/a",
                                  .headers = {{"Content-Type", "text/plain"}},
                                  .body = {Part("one "), Part(""), Part("two")}});
  EXPECT_TRUE(result.ok()) << result.error;
  EXPECT_EQ(result.status, 200);
  EXPECT_EQ(result.body, "hello");
  EXPECT_EQ(result.Header("retry-after"), "7");
  EXPECT_EQ(result.Header("none"), "");
  EXPECT_EQ(result.sent_bytes, 7u);
  ASSERT_EQ(seen().size(), 1u);
  EXPECT_EQ(seen()[0].line, "PUT /metrics/job/a HTTP/1.1");
  EXPECT_EQ(seen()[0].body, "one two");
  EXPECT_THAT(
      seen()[0].header,
      AllOf(StartsWith(absl::StrCat("Host: 127.0.0.1:", server.port(), "\r\nUser-Agent: tallyd/")),
            EndsWith("\r\nContent-Length: 7\r\nContent-Type: text/plain\r\n\r\n")));
  client_.reset();
}

TEST_F(HttpClientTest, WithoutATargetThePathIsTheUrls) {
  ScriptServer server(Always(kNoContent));
  Use(OptionsFor(server.port()));
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(seen()[0].line, "PUT /base HTTP/1.1");
  client_.reset();
}

TEST_F(HttpClientTest, UsesAConnectionAgain) {
  ScriptServer server(Always(kNoContent));
  Use(OptionsFor(server.port()));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Send().ok());
  EXPECT_EQ(server.connections(), 1);
  client_.reset();
}

TEST_F(HttpClientTest, AConnectionDoesNotOutliveItsTime) {
  ScriptServer server(Always(kNoContent));
  HttpClientOptions options = OptionsFor(server.port());
  options.connection_life = absl::ZeroDuration();
  Use(options);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Send().ok());
  EXPECT_EQ(server.connections(), 3);
  client_.reset();
}

TEST_F(HttpClientTest, SendsAgainWhenAnIdleConnectionWasClosed) {
  ScriptServer server([](ScriptedPeer& peer) {
    SeenRequest request;
    if (peer.ReadRequest(&request)) peer.Send(kNoContent);
  });
  Use(OptionsFor(server.port()));
  for (int i = 0; i < 3; ++i) {
    const HttpResult result = Send();
    EXPECT_TRUE(result.ok()) << result.error;
    ::usleep(10'000);  // the server's end must have arrived
  }
  EXPECT_EQ(server.connections(), 3);
}

TEST_F(HttpClientTest, AConnectionThatEndsAtOnceIsNotTriedForEver) {
  ScriptServer server([](ScriptedPeer& peer) {
    SeenRequest request;
    peer.ReadRequest(&request);
  });
  Use(OptionsFor(server.port()));
  EXPECT_EQ(Send().cause, PushCause::kClosed);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, EveryStatusHasItsCause) {
  const struct {
    const char* status;
    PushCause cause;
  } cases[] = {{"200 OK", PushCause::kOk},
               {"202 Accepted", PushCause::kOk},
               {"301 Moved Permanently", PushCause::kRedirect},
               {"307 Temporary Redirect", PushCause::kRedirect},
               {"400 Bad Request", PushCause::kClientError},
               {"401 Unauthorized", PushCause::kClientError},
               {"429 Too Many Requests", PushCause::kTooManyRequests},
               {"500 Internal Server Error", PushCause::kServerError},
               {"503 Service Unavailable", PushCause::kServerError}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.status);
    ScriptServer server(
        Always(absl::StrCat("HTTP/1.1 ", c.status, "\r\nContent-Length: 6\r\n\r\nbe\tso\n")));
    Use(OptionsFor(server.port()));
    const HttpResult result = Send();
    EXPECT_EQ(result.cause, c.cause);
    EXPECT_EQ(absl::StrCat(result.status), std::string(c.status, 3));
    const bool says_why = c.cause != PushCause::kRedirect;
    EXPECT_EQ(result.error,
              result.ok() ? "" : absl::StrCat("status ", result.status, says_why ? ": be so" : ""));
    client_.reset();  // the server waits for the connection's end
  }
}

TEST_F(HttpClientTest, DoesNotFollowARedirect) {
  ScriptServer elsewhere(Always(kNoContent));
  ScriptServer server(Always(absl::StrCat("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:",
                                          elsewhere.port(), "/\r\nContent-Length: 0\r\n\r\n")));
  Use(OptionsFor(server.port()));
  EXPECT_EQ(Send().cause, PushCause::kRedirect);
  EXPECT_EQ(elsewhere.connections(), 0);
  client_.reset();
}

TEST_F(HttpClientTest, GoesOnAfterInterimAnswers) {
  ScriptServer server(Always(
      absl::StrCat("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", kNoContent)));
  Use(OptionsFor(server.port()));
  const HttpResult result = Send();
  EXPECT_EQ(result.status, 204) << result.error;
  client_.reset();
}

TEST_F(HttpClientTest, WhatIsNoProperAnswerIsRefused) {
  const std::string many_bytes(200'000, 'x');
  const std::pair<std::string, PushCause> cases[] = {
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", PushCause::kBadAnswer},
      {"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + many_bytes, PushCause::kBadAnswer},
      {"HTTP/1.1 200 OK\r\n\r\n" + many_bytes, PushCause::kBadAnswer},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + many_bytes + "\r\n",
       PushCause::kBadAnswer},
      {"HTTP/1.1 200 OK\r\nX: " + many_bytes + "\r\n\r\n", PushCause::kBadAnswer},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", PushCause::kClosed},
      {"HTTP/1.1 200 OK\r\nCont", PushCause::kClosed},
      {"", PushCause::kClosed},
  };
  for (const auto& [answer, cause] : cases) {
    SCOPED_TRACE(answer.substr(0, 60));
    ScriptServer server([text = answer](ScriptedPeer& peer) {
      SeenRequest request;
      if (peer.ReadRequest(&request)) peer.Send(text);
    });
    Use(OptionsFor(server.port()));
    const HttpResult result = Send();
    EXPECT_EQ(result.cause, cause) << result.error;
    EXPECT_THAT(result.error, Not(IsEmpty()));
    client_.reset();
  }
}

TEST_F(HttpClientTest, ARefusalIsKnownAlthoughItsBodyBreaksOff) {
  ScriptServer server([](ScriptedPeer& peer) {
    SeenRequest request;
    peer.ReadRequest(&request);
    peer.Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\ninconsistent");
  });
  Use(OptionsFor(server.port()));
  const HttpResult result = Send();
  EXPECT_EQ(result.cause, PushCause::kClientError);
  EXPECT_EQ(result.status, 400);
  EXPECT_EQ(result.body, "inconsistent");
}

TEST_F(HttpClientTest, AResetIsNoAnswer) {
  ScriptServer server([](ScriptedPeer& peer) {
    SeenRequest request;
    peer.ReadRequest(&request);
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    ::usleep(20'000);
    peer.Reset();
  });
  Use(OptionsFor(server.port()));
  EXPECT_EQ(Send().cause, PushCause::kClosed);
}

TEST_F(HttpClientTest, AnAnswerBeforeTheBodyIsSentCounts) {
  // Closed earlier, with a body on its way, the connection is reset, and the answer lost.
  std::atomic<bool> taken{false};
  ScriptServer server([&taken](ScriptedPeer& peer) {
    peer.Send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n");
    for (int i = 0; i < 10'000 && !taken; ++i) ::usleep(1000);
  });
  Use(OptionsFor(server.port()));
  const HttpResult result = Send({.body = {Part(std::string(32 << 20, 'x'))}});
  taken = true;
  EXPECT_EQ(result.status, 413) << result.error;
  EXPECT_EQ(result.cause, PushCause::kClientError);
}

TEST_F(HttpClientTest, AServerThatHangsCostsTheTimeOut) {
  ScriptServer server([](ScriptedPeer& peer) { peer.AwaitEnd(); });
  HttpClientOptions options = OptionsFor(server.port());
  options.total_timeout = absl::Milliseconds(200);
  Use(options);
  const HttpResult result = Send();
  EXPECT_EQ(result.cause, PushCause::kTimeout);
  EXPECT_EQ(result.error, "the answer took longer than 200ms");
  EXPECT_GE(result.duration, absl::Milliseconds(200));
  EXPECT_LT(result.duration, absl::Seconds(3));
  // And nothing of it is left for the next request.
  EXPECT_EQ(Send().cause, PushCause::kTimeout);
  EXPECT_TRUE(RunUntil([&] { return server.connections() == 2; }));
}

TEST_F(HttpClientTest, AByteNowAndThenDoesNotKeepARequestAlive) {
  ScriptServer server([](ScriptedPeer& peer) {
    SeenRequest request;
    peer.ReadRequest(&request);
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    while (peer.Send("x")) ::usleep(20'000);
  });
  HttpClientOptions options = OptionsFor(server.port());
  options.total_timeout = absl::Milliseconds(300);
  Use(options);
  EXPECT_EQ(Send().cause, PushCause::kTimeout);
}

TEST_F(HttpClientTest, ARefusedConnectionIsSaidSo) {
  int port = 0;
  {
    ScriptServer gone([](ScriptedPeer&) {});
    port = gone.port();
  }
  Use(OptionsFor(port));
  const HttpResult result = Send({.body = {Part("x")}});
  EXPECT_EQ(result.cause, PushCause::kConnect);
  EXPECT_EQ(result.error, "cannot connect to 127.0.0.1: Connection refused");
  EXPECT_EQ(result.sent_bytes, 0u);
}

// A listener that never accepts and whose backlog is full answers no connection.
TEST_F(HttpClientTest, ABlackHoleCostsTheConnectTimeOut) {
  const UniqueFd hole(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(hole.get(), generic, size), 0);
  ASSERT_EQ(::listen(hole.get(), 0), 0);
  ASSERT_EQ(::getsockname(hole.get(), generic, &size), 0);
  std::vector<UniqueFd> backlog;
  for (int i = 0; i < 4; ++i) {
    backlog.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ::connect(backlog.back().get(), generic, size);
  }
  HttpClientOptions options = OptionsFor(ntohs(address.sin_port));
  options.connect_timeout = absl::Milliseconds(200);
  Use(options);
  const HttpResult result = Send();
  EXPECT_EQ(result.cause, PushCause::kConnectTimeout) << result.error;
  EXPECT_LT(result.duration, absl::Seconds(3));
}

TEST_F(HttpClientTest, TriesTheAddressesOfANameInTurn) {
  ScriptServer server(Always(kNoContent));
  HttpClientOptions options = OptionsFor(server.port(), "gateway.test");
  options.resolve = [](const std::string& host) -> absl::StatusOr<NameLookup::Addresses> {
    EXPECT_EQ(host, "gateway.test");
    return NameLookup::Addresses{boost::asio::ip::make_address("127.0.0.2"),
                                 boost::asio::ip::make_address("127.0.0.1")};
  };
  Use(options);
  const HttpResult result = Send();
  EXPECT_TRUE(result.ok()) << result.error;
  EXPECT_THAT(seen()[0].header, StartsWith(absl::StrCat("Host: gateway.test:", server.port())));
  client_.reset();
}

TEST_F(HttpClientTest, LooksNamesUp) {
  ScriptServer server(Always(kNoContent));
  Use(OptionsFor(server.port(), "localhost"));
  const HttpResult result = Send();
  EXPECT_TRUE(result.ok()) << result.error;
  client_.reset();
}

TEST_F(HttpClientTest, ANameWithoutAddressIsSaidSo) {
  HttpClientOptions options = OptionsFor(1, "nowhere.test");
  options.resolve = [](const std::string&) -> absl::StatusOr<NameLookup::Addresses> {
    return absl::UnavailableError("no such name");
  };
  Use(options);
  const HttpResult result = Send();
  EXPECT_EQ(result.cause, PushCause::kLookup);
  EXPECT_EQ(result.error, "no such name");
}

// A name server that hangs: neither a request nor the end of the client waits for it, and its late
// answer is nobody's.
TEST_F(HttpClientTest, NobodyWaitsForANameServer) {
  ScriptServer server(Always(kNoContent));
  struct Gate {
    std::mutex mu;
    int asked = 0;
    bool open = false;
    int answered = 0;
  };
  const auto gate = std::make_shared<Gate>();
  HttpClientOptions options = OptionsFor(server.port(), "slow.test");
  options.total_timeout = absl::Milliseconds(100);
  options.resolve = [gate](const std::string&) -> absl::StatusOr<NameLookup::Addresses> {
    {
      const std::lock_guard lock(gate->mu);
      ++gate->asked;
    }
    while (true) {
      ::usleep(1000);
      const std::lock_guard lock(gate->mu);
      if (!gate->open) continue;
      ++gate->answered;
      return NameLookup::Addresses{boost::asio::ip::make_address("127.0.0.1")};
    }
  };
  Use(options);
  HttpResult result = Send();
  EXPECT_EQ(result.cause, PushCause::kLookup);
  EXPECT_EQ(result.error, "looking up the name took longer than 100ms");
  result = Send();
  EXPECT_EQ(result.cause, PushCause::kLookup);
  EXPECT_EQ(result.error, "the name servers have not answered yet about slow.test");
  {
    const std::lock_guard lock(gate->mu);
    EXPECT_EQ(gate->asked, 1);
    gate->open = true;
  }
  // Once they have, the next request asks again.
  EXPECT_TRUE(RunUntil([&] { return Send().ok(); }));

  {
    const std::lock_guard lock(gate->mu);
    gate->open = false;
  }
  options.total_timeout = absl::Seconds(5);
  Use(options);
  client_->Send({}, [](HttpResult) { FAIL() << "the client is gone"; });
  const int64_t begin_ns = MonotonicNs();
  client_.reset();
  EXPECT_LT(MonotonicNs() - begin_ns, 4'000'000'000);
  const auto answered = [&] {
    const std::lock_guard lock(gate->mu);
    gate->open = true;
    return gate->answered >= 3;
  };
  EXPECT_TRUE(RunUntil(answered));
  loop_.restart();
  loop_.run_for(std::chrono::milliseconds(50));
}

TEST_F(HttpClientTest, AClientThatEndsCallsNobody) {
  ScriptServer server([](ScriptedPeer& peer) { peer.AwaitEnd(); });
  Use(OptionsFor(server.port()));
  client_->Send({.body = {Part("x")}}, [](HttpResult) { FAIL() << "the client is gone"; });
  loop_.run_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(client_->under_way());
  client_.reset();
  loop_.restart();
  loop_.run_for(std::chrono::milliseconds(50));
}

TEST_F(HttpClientTest, ACancelledRequestLeavesTheClientFitForAnother) {
  std::atomic<int> connection{0};
  ScriptServer server([&](ScriptedPeer& peer) {
    SeenRequest request;
    if (++connection == 1) return peer.AwaitEnd();
    while (peer.ReadRequest(&request)) peer.Send(kNoContent);
  });
  Use(OptionsFor(server.port()));
  client_->Send({}, [](HttpResult) { FAIL() << "it was cancelled"; });
  loop_.run_for(std::chrono::milliseconds(50));
  client_->Cancel();
  EXPECT_FALSE(client_->under_way());
  EXPECT_TRUE(Send().ok());
  client_.reset();
}

TEST_F(HttpClientTest, ReadsThePasswordForEachRequest) {
  ScriptServer server(Always(kNoContent));
  HttpClientOptions options = OptionsFor(server.port());
  options.credentials.username = "Aladdin";
  options.credentials.password_file = File("password", "open sesame\n");
  Use(options);
  EXPECT_TRUE(Send().ok());
  File("password", "closed");
  EXPECT_TRUE(Send().ok());
  // RFC 7617 section 2 has the first as its example.
  EXPECT_THAT(seen()[0].header, HasSubstr("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
  EXPECT_THAT(seen()[1].header, HasSubstr("Authorization: Basic QWxhZGRpbjpjbG9zZWQ=\r\n"));
  client_.reset();
}

TEST_F(HttpClientTest, ATokenThatCannotBeUsedIsNotSent) {
  ScriptServer server(Always(kNoContent));
  HttpClientOptions options = OptionsFor(server.port());
  options.credentials.bearer_token_file = File("token", "abc.def\r\n");
  Use(options);
  EXPECT_TRUE(Send().ok());
  EXPECT_THAT(seen()[0].header, HasSubstr("Authorization: Bearer abc.def\r\n"));
  for (const std::string& bad : {std::string("abc\r\nX-Evil: 1"), std::string("a\0b", 3),
                                 std::string("\n"), std::string(20'000, 'x')}) {
    File("token", bad);
    const HttpResult result = Send();
    EXPECT_EQ(result.cause, PushCause::kCredentials);
    EXPECT_THAT(result.error, StartsWith(options.credentials.bearer_token_file));
    EXPECT_THAT(result.error, Not(HasSubstr("Evil")));
  }
  std::remove(options.credentials.bearer_token_file.c_str());
  EXPECT_THAT(Send().error, EndsWith("No such file or directory"));
  // A pipe that nobody writes to would hold up the loop.
  ASSERT_EQ(::mkfifo(options.credentials.bearer_token_file.c_str(), 0600), 0);
  EXPECT_THAT(Send().error, EndsWith("not a regular file"));
  std::remove(options.credentials.bearer_token_file.c_str());
  EXPECT_EQ(seen().size(), 1u);
  client_.reset();
}

TEST_F(HttpClientTest, AHeaderCannotEndTheHeaders) {
  ScriptServer server(Always(kNoContent));
  Use(OptionsFor(server.port()));
  EXPECT_EQ(Send({.headers = {{"X", "a\r\nY: b"}}}).cause, PushCause::kCredentials);
  EXPECT_EQ(server.connections(), 0);
}

TEST(HttpUrlTest, ReadsWhatIsAUrl) {
  const struct {
    const char* text;
    const char* shown;
    const char* authority;
  } cases[] = {
      {"http://gateway:9091", "http://gateway:9091", "gateway:9091"},
      {"HTTPS://gateway/", "https://gateway/", "gateway"},
      {"https://gateway:443/a/b?c=d", "https://gateway/a/b", "gateway"},
      {"http://127.0.0.1", "http://127.0.0.1", "127.0.0.1"},
      {"http://[::1]:80/x", "http://[::1]/x", "[::1]"},
      {"http://[fe80::1]:9091", "http://[fe80::1]:9091", "[fe80::1]:9091"},
      {"http://gateway?x", "http://gateway/", "gateway"},
  };
  for (const auto& c : cases) {
    const absl::StatusOr<HttpUrl> url = HttpUrl::Parse(c.text);
    ASSERT_TRUE(url.ok()) << c.text << ": " << url.status();
    EXPECT_EQ(url->ToString(), c.shown);
    EXPECT_EQ(url->Authority(), c.authority);
  }
}

TEST(HttpUrlTest, RefusesWhatIsNone) {
  for (const char* text :
       {"", "gateway:9091", "ftp://gateway", "http://", "http:///x", "http://:80", "http://a:0",
        "http://a:65536", "http://a:b", "http://a:", "http://[::1", "http://[::1]x", "http://a b",
        "http://a/\r\nX:1", "http://user:secret@a/", "http://a/#x", "http://a_/\x80",
        "http://a%20b/", "http://[gateway]/"}) {
    EXPECT_FALSE(HttpUrl::Parse(text).ok()) << text;
  }
  EXPECT_FALSE(HttpUrl::Parse("http://a/" + std::string(5000, 'x')).ok());
}

TEST(PushCauseTest, EachHasANameOfItsOwn) {
  std::vector<std::string> names;
  for (size_t i = 0; i < kPushCauses; ++i) {
    names.emplace_back(PushCauseName(static_cast<PushCause>(i)));
  }
  EXPECT_EQ(names.front(), "ok");
  EXPECT_EQ(names.back(), "server_error");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace tallyd
