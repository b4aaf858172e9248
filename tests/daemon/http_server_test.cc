#include "daemon/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/exit_code.h"
#include "daemon/loop.h"
#include "daemon/unique_fd.h"
#include "tests/core/expose/family_reader.h"
#include "tests/daemon/aggregation.h"

namespace tallyd {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// An answer as it came over the wire.
struct Answer {
  int status = 0;  // 0: none came
  std::string header;
  std::string body;

  // The value of a header line, or nothing.
  std::optional<std::string> Header(const std::string& name) const {
    const size_t at = header.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const size_t begin = at + name.size() + 4;
    return header.substr(begin, header.find("\r\n", begin) - begin);
  }
  size_t ContentLength() const {
    uint64_t length = 0;
    EXPECT_TRUE(absl::SimpleAtoi(Header("Content-Length").value_or(""), &length)) << header;
    return length;
  }
};

// A client that writes exactly the bytes it is told to.
class Client {
 public:
  explicit Client(int port, int receive_buffer = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer > 0) {
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    const timeval patience = {.tv_sec = 30, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

  // False if the peer has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // Reads one answer; bytes behind it stay for the next.
  Answer Read(bool with_body = true) {
    Answer answer;
    size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!Receive()) return answer;
    }
    answer.header = received_.substr(0, end + 2);
    received_.erase(0, end + 4);
    EXPECT_THAT(answer.header, StartsWith("HTTP/1.1 "));
    answer.status = std::stoi(answer.header.substr(9));
    if (!with_body) return answer;
    const size_t length = answer.ContentLength();
    while (received_.size() < length && Receive()) {
    }
    answer.body = received_.substr(0, length);
    received_.erase(0, length);
    return answer;
  }

  // Reads and throws away until the peer closes; the number of bytes.
  size_t ReadToEnd() {
    size_t bytes = received_.size();
    received_.clear();
    while (Receive()) {
      bytes += received_.size();
      received_.clear();
    }
    return bytes;
  }
  bool WasReset() const { return error_ == ECONNRESET; }
  bool IsAtEnd() { return received_.empty() && !Receive(); }
  void Close() { fd_.reset(); }

 private:
  bool Receive() {
    char bytes[65536];
    const ssize_t size = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
    error_ = size < 0 ? errno : 0;
    EXPECT_NE(error_, EAGAIN) << "the server left us waiting";
    if (size <= 0) return false;
    received_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  UniqueFd fd_;
  int error_ = 0;
  std::string received_;
};

std::string Get(std::string_view path, const std::string& more_headers = "") {
  return absl::StrCat("GET ", absl::string_view(path.data(), path.size()),
                      " HTTP/1.1\r\nHost: here\r\n", more_headers, "\r\n");
}

std::string Request(const std::string& method, const std::string& path,
                    const std::string& more_headers = "") {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + more_headers + "\r\n";
}

std::string Gunzip(const std::string& bytes) {
  std::string out;
  libdeflate_decompressor* const decompressor = libdeflate_alloc_decompressor();
  std::vector<char> room(1 << 22);
  for (size_t read = 0; read < bytes.size();) {
    size_t in = 0;
    size_t produced = 0;
    const auto result =
        libdeflate_gzip_decompress_ex(decompressor, bytes.data() + read, bytes.size() - read,
                                      room.data(), room.size(), &in, &produced);
    EXPECT_EQ(result, LIBDEFLATE_SUCCESS) << "at byte " << read;
    if (result != LIBDEFLATE_SUCCESS) break;
    read += in;
    out.append(room.data(), produced);
  }
  libdeflate_free_decompressor(decompressor);
  return out;
}

// Families in the order of their TYPE lines.
std::vector<std::string> FamilyNames(const std::string& text) {
  std::vector<std::string> names;
  constexpr std::string_view kType = "# TYPE ";
  for (size_t at = text.find(kType); at != std::string::npos; at = text.find(kType, at + 1)) {
    const size_t begin = at + kType.size();
    names.push_back(text.substr(begin, text.find(' ', begin) - begin));
  }
  return names;
}

// Open connections cost the test as many descriptors as the server.
class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest() {
    options_.addresses = {"127.0.0.1:0"};
    options_.snapshot_max_age = absl::ZeroDuration();  // what was sent before a scrape is in it
  }
  ~HttpServerTest() override { StopServer(); }

  void StartServer() {
    server_ = std::make_unique<HttpServer>(loop_, options_, &aggregation_.merge_thread(),
                                           &aggregation_.own_metrics(), hooks_);
    const absl::Status listening = server_->Listen();
    ASSERT_TRUE(listening.ok()) << listening;
    const std::string address = server_->bound().at(0);
    port_ = std::stoi(address.substr(address.rfind(':') + 1));
    thread_ = std::thread([this] { loop_.run(); });
  }

  void StopServer() {
    if (!thread_.joinable()) return;
    OnLoop([this] { server_->Stop(); });
    work_.reset();
    thread_.join();
  }

  // Runs something on the server's thread and waits for it.
  void OnLoop(const std::function<void()>& work) {
    std::promise<void> done;
    boost::asio::post(loop_, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  Client Connect(int receive_buffer = 0) { return Client(port_, receive_buffer); }

  // One request on a connection of its own.
  Answer Ask(const std::string& request, bool with_body = true) {
    Client client = Connect();
    EXPECT_TRUE(client.Send(request));
    return client.Read(with_body);
  }

  // More than fits into the socket buffers of both sides.
  static constexpr int kWideSeries = 7'000;
  static constexpr size_t kWideBytes = 900 * kWideSeries;
  void FillWithSeries() {
    const std::string tags = "|c|#long:" + std::string(900, 'v') + ",n:";
    for (int i = 0; i < kWideSeries; ++i) {
      aggregation_.Send(absl::StrCat("wide", i % 1000, ":1", tags, i), i % 2);
    }
  }

  // Asks for metrics and reads only the header of the answer.
  Client StartSlowScrape(const std::string& more_headers = "") {
    Client client = Connect(4096);
    EXPECT_TRUE(client.Send(Get("/metrics", more_headers)));
    EXPECT_EQ(client.Read(false).status, 200);
    return client;
  }

  double OwnMetric(const std::string& name) {
    const std::string text = aggregation_.own_metrics().Render(ScrapeFormat::kPrometheus004).tallyd;
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  }

  Aggregation aggregation_;
  HttpServer::Options options_;
  HttpServer::Hooks hooks_;
  Loop loop_{1};
  boost::asio::executor_work_guard<Loop::executor_type> work_{loop_.get_executor()};
  std::unique_ptr<HttpServer> server_;
  int port_ = 0;
  std::thread thread_;
};

TEST_F(HttpServerTest, AScrapeShowsAggregatesAndOwnMetricsSorted) {
  aggregation_.Send("aaa:1|c\nqqq:2|g\nzzz:3|c\nzzz:3|c");
  StartServer();
  const Answer answer = Ask(Get("/metrics"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(answer.Header("Vary"), "Accept, Accept-Encoding");
  EXPECT_EQ(answer.Header("Content-Encoding"), std::nullopt);
  EXPECT_THAT(answer.body, HasSubstr("\naaa 1\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nqqq 2\n"));
  EXPECT_THAT(answer.body, EndsWith("\nzzz 6\n"));
  EXPECT_THAT(answer.body, HasSubstr("\ntallyd_applied_samples_total 4\n"));
  const std::vector<std::string> names = FamilyNames(answer.body);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST_F(HttpServerTest, OpenMetricsEndsWithEof) {
  aggregation_.Send("aaa_total:1|c\nzzz:3|g");
  StartServer();
  const Answer answer =
      Ask(Get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n"));
  EXPECT_EQ(answer.Header("Content-Type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8");
  EXPECT_THAT(answer.body, HasSubstr("# TYPE aaa counter\naaa_total 1\n"));
  EXPECT_THAT(answer.body, EndsWith("\nzzz 3\n# EOF\n"));
  EXPECT_EQ(answer.body.find("# EOF"), answer.body.size() - 6);
}

constexpr char kAcceptProtobuf[] =
    "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
    "encoding=delimited,text/plain;q=0.5\r\n";

TEST_F(HttpServerTest, ProtobufIsOneStreamOfAllParts) {
  aggregation_.Send("aaa:1|c\nqqq:200|ms\nzzz:3|g");
  StartServer();
  const Answer answer = Ask(Get("/metrics", kAcceptProtobuf));
  EXPECT_EQ(answer.Header("Content-Type"),
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
            "encoding=delimited");
  std::vector<PbFamily> families;
  EXPECT_EQ(ReadFamilies(answer.body, &families), "");
  std::map<std::string, PbFamily> by_name;
  std::vector<std::string> names;
  for (const PbFamily& family : families) {
    names.push_back(family.name());
    by_name[family.name()] = family;
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(by_name["aaa"].metric(0).counter().value(), 1);
  EXPECT_GT(by_name["aaa"].metric(0).counter().created_timestamp().seconds(), 1'600'000'000);
  EXPECT_EQ(by_name["qqq"].metric(0).histogram().sample_sum(), 0.2);
  EXPECT_TRUE(by_name["qqq"].metric(0).histogram().has_schema());
  EXPECT_EQ(by_name["zzz"].metric(0).gauge().value(), 3);
  EXPECT_EQ(by_name["tallyd_applied_samples_total"].metric(0).counter().value(), 3);
  EXPECT_GT(by_name["process_open_fds"].metric(0).gauge().value(), 0);

  const Answer zipped =
      Ask(Get("/metrics", absl::StrCat(kAcceptProtobuf, "Accept-Encoding: gzip\r\n")));
  EXPECT_EQ(zipped.Header("Content-Encoding"), "gzip");
  std::vector<PbFamily> unzipped;
  EXPECT_EQ(ReadFamilies(Gunzip(zipped.body), &unzipped), "");
  EXPECT_EQ(unzipped.size(), families.size());
  const Answer own = Ask(Get("/-/metrics", kAcceptProtobuf));
  EXPECT_EQ(ReadFamilies(own.body, &families), "");
  EXPECT_EQ(families.size(), unzipped.size() - 3);
}

TEST_F(HttpServerTest, GzipIsOneStreamOfAllParts) {
  aggregation_.Send("aaa:1|c\nqqq:2|g\nzzz:3|c");
  StartServer();
  for (const char* accept : {"text/plain", "application/openmetrics-text"}) {
    const Answer answer =
        Ask(Get("/metrics", absl::StrCat("Accept: ", accept, "\r\nAccept-Encoding: gzip\r\n")));
    EXPECT_EQ(answer.Header("Content-Encoding"), "gzip");
    const std::string text = Gunzip(answer.body);
    EXPECT_THAT(text, AllOf(HasSubstr("\naaa 1\n"), HasSubstr("\nprocess_open_fds "),
                            HasSubstr("\nqqq 2\n"), HasSubstr("\ntallyd_series 3\n"),
                            HasSubstr("\nzzz 3\n")));
  }
}

TEST_F(HttpServerTest, SeveralAcceptHeadersAreOne) {
  StartServer();
  const Answer answer =
      Ask(Get("/metrics", "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n"));
  EXPECT_THAT(answer.Header("Content-Type").value_or(""), StartsWith("application/openmetrics"));
}

TEST_F(HttpServerTest, TheTelemetryPathCanBeMoved) {
  options_.telemetry_path = "/stats";
  StartServer();
  EXPECT_EQ(Ask(Get("/stats")).status, 200);
  EXPECT_EQ(Ask(Get("/metrics")).status, 404);
  EXPECT_THAT(Ask(Get("/")).body, HasSubstr("href=\"/stats\""));
}

TEST_F(HttpServerTest, OwnMetricsComeAlone) {
  aggregation_.Send("aaa:1|c");
  StartServer();
  const Answer answer = Ask(Get("/-/metrics", "Accept: application/openmetrics-text\r\n"));
  EXPECT_THAT(answer.body, StartsWith("# HELP process_"));
  EXPECT_THAT(answer.body, AllOf(Not(HasSubstr("aaa")), EndsWith("\n# EOF\n")));
  const Answer zipped = Ask(Get("/-/metrics", "Accept-Encoding: gzip\r\n"));
  EXPECT_THAT(Gunzip(zipped.body), HasSubstr("tallyd_build_info"));
}

TEST_F(HttpServerTest, HeadSaysWhatGetWould) {
  StartServer();
  Client client = Connect();
  for (const char* path : {"/metrics", "/", "/-/healthy", "/nowhere"}) {
    ASSERT_TRUE(client.Send(Request("HEAD", path)));
    const Answer answer = client.Read(false);
    EXPECT_EQ(answer.status, std::string_view(path) == "/nowhere" ? 404 : 200);
    EXPECT_GT(answer.ContentLength(), 0u);
  }
  ASSERT_TRUE(client.Send(Get("/-/healthy")));
  EXPECT_EQ(client.Read().body, "tallyd is healthy.\n") << "no body came before";
}

TEST_F(HttpServerTest, UnknownPathsAreNotFound) {
  StartServer();
  for (const char* path : {"/nowhere", "/metrics/", "/../../etc/passwd", "//metrics", "/-/",
                           "/%2e%2e/%2e%2e/etc/passwd"}) {
    EXPECT_EQ(Ask(Get(path)).status, 404) << path;
  }
  EXPECT_EQ(Ask(Request("DELETE", "/nowhere")).status, 404);
}

TEST_F(HttpServerTest, TargetsMayHaveQueriesOrBeAbsolute) {
  StartServer();
  EXPECT_EQ(Ask(Get("/metrics?name[]=a")).status, 200);
  EXPECT_EQ(Ask(Get("http://here:9102/-/healthy")).status, 200);
  EXPECT_EQ(Ask(Get("http://here:9102")).status, 200);
  EXPECT_EQ(Ask(Get("https://here:9102/-/healthy")).status, 200);
  EXPECT_EQ(Ask(Request("OPTIONS", "*")).status, 400);
  EXPECT_EQ(Ask(Request("CONNECT", "here:80")).status, 400);
}

TEST_F(HttpServerTest, OtherMethodsAreNotAllowed) {
  StartServer();
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"}) {
    for (const char* path : {"/metrics", "/-/metrics", "/-/healthy", "/-/ready", "/"}) {
      const Answer answer = Ask(Request(method, path));
      EXPECT_EQ(answer.status, 405) << method << " " << path;
      EXPECT_EQ(answer.Header("Allow"), "GET, HEAD");
    }
  }
  for (const char* path : {"/-/reload", "/-/quit"}) {
    const Answer answer = Ask(Get(path));
    EXPECT_EQ(answer.status, 405);
    EXPECT_EQ(answer.Header("Allow"), "POST, PUT");
  }
}

TEST_F(HttpServerTest, ABodyIsNotReadHoweverLongItIs) {
  StartServer();
  for (const char* length : {"Content-Length: 1073741824\r\n", "Transfer-Encoding: chunked\r\n"}) {
    Client client = Connect();
    ASSERT_TRUE(client.Send(Request("POST", "/metrics", length)));
    const Answer answer = client.Read();
    EXPECT_EQ(answer.status, 405);
    EXPECT_EQ(answer.Header("Connection"), "close");
    // Whoever goes on sending is cut off long before the end.
    const std::string part(65536, 'b');
    int parts = 0;
    while (parts < 16384 && client.Send(part)) ++parts;
    EXPECT_LT(parts, 16384);
  }
}

TEST_F(HttpServerTest, AnswersAfterOneAnotherOnOneConnection) {
  StartServer();
  Client client = Connect();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(client.Send(Get("/metrics")));
    EXPECT_EQ(client.Read().status, 200);
  }
  ASSERT_TRUE(client.Send(Get("/-/healthy", "Connection: close\r\n")));
  EXPECT_EQ(client.Read().Header("Connection"), "close");
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(HttpServerTest, Http10ClosesUnlessAskedNotTo) {
  StartServer();
  Client client = Connect();
  ASSERT_TRUE(client.Send("GET /-/healthy HTTP/1.0\r\n\r\n"));
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_TRUE(client.IsAtEnd());
  Client lasting = Connect();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(lasting.Send("GET /-/healthy HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    EXPECT_EQ(lasting.Read().Header("Connection"), "keep-alive");
  }
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  StartServer();
  Client client = Connect();
  ASSERT_TRUE(client.Send(Get("/-/healthy") + Get("/nowhere") + Get("/-/metrics") +
                          Get("/-/ready") + "garbage\r\n\r\n" + Get("/-/healthy")));
  for (const int status : {200, 404, 200, 200, 400}) EXPECT_EQ(client.Read().status, status);
  EXPECT_TRUE(client.IsAtEnd()) << "after garbage nothing is believed";
}

TEST_F(HttpServerTest, RubbishIsRefused) {
  StartServer();
  const std::vector<std::pair<std::string, int>> cases = {
      {"\x01\x02\x03\r\n\r\n", 400},
      {"GET\r\n\r\n", 400},
      {"GET /metrics\r\n\r\n", 400},
      {"GET /metrics HTTP/9.9\r\n\r\n", 505},
      {"GET /metrics HTTP/2.0\r\n\r\n", 505},
      {"GET /metrics HTTP/1.1\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n", 400},
      {"GET /-/ready HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: "
       "4\r\n\r\na 1\n",
       400},
      {"GET /-/ready HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n", 431},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(9000, 'x') + "\r\n\r\n", 431}};
  for (const auto& [request, status] : cases) {
    Client client = Connect();
    client.Send(request);
    EXPECT_EQ(client.Read().status, status) << request.substr(0, 100);
    EXPECT_TRUE(client.IsAtEnd());
  }
}

TEST_F(HttpServerTest, AMegabyteOfHeaderIsCutOff) {
  StartServer();
  Client client = Connect();
  client.Send("GET / HTTP/1.1\r\nHost: a\r\n");
  const std::string field = "X: " + std::string(100, 'y') + "\r\n";
  int sent = 0;
  while (sent < 10'000 && client.Send(field)) ++sent;
  EXPECT_EQ(Ask(Get("/-/healthy")).status, 200);
  EXPECT_TRUE(client.Read(false).status == 431 || client.WasReset());
}

TEST_F(HttpServerTest, AHeaderMustBeCompleteInTime) {
  // Long enough for the first bytes to come within it on a busy machine.
  options_.header_timeout = absl::Milliseconds(500);
  StartServer();
  Client silent = Connect();
  EXPECT_TRUE(silent.IsAtEnd());
  EXPECT_FALSE(silent.WasReset());

  Client half = Connect();
  ASSERT_TRUE(half.Send("GET /metrics HT"));
  EXPECT_EQ(half.Read().status, 408);
  EXPECT_TRUE(half.IsAtEnd());
}

TEST_F(HttpServerTest, BytesThatTrickleInDoNotExtendTheTime) {
  options_.header_timeout = absl::Milliseconds(500);
  StartServer();
  Client client = Connect();
  ASSERT_TRUE(client.Send("GET /metrics HTTP/1.1\r\n"));
  std::atomic<bool> answered{false};
  std::thread trickle([&] { Eventually([&] { return answered || !client.Send("X: y\r\n"); }); });
  const int status = client.Read(false).status;
  answered = true;
  trickle.join();
  // Closed at any rate; without an answer if bytes kept coming in while it was being hung up on.
  EXPECT_TRUE(status == 408 || status == 0) << status;
}

TEST_F(HttpServerTest, IdleConnectionsAreClosed) {
  options_.idle_timeout = absl::Milliseconds(30);
  StartServer();
  Client client = Connect();
  ASSERT_TRUE(client.Send(Get("/-/healthy")));
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(HttpServerTest, ASlowReaderIsCutOffAtTheWriteDeadline) {
  options_.write_timeout = absl::Seconds(1);
  FillWithSeries();
  StartServer();
  // The first rendering is the only slow one.
  ASSERT_TRUE(Eventually([this] { return Ask(Get("/metrics")).status == 200; }));
  const double scrapes = OwnMetric("tallyd_scrape_duration_seconds_count");
  const Client slow_too = StartSlowScrape();
  Client slow = Connect(4096);
  ASSERT_TRUE(slow.Send(Get("/metrics")));
  const Answer answer = slow.Read(false);
  ASSERT_EQ(answer.status, 200);
  // Another scraper is served meanwhile.
  EXPECT_EQ(Ask(Get("/-/healthy")).status, 200);
  const int64_t until_ns = MonotonicNs() + 1'200'000'000;
  EXPECT_TRUE(Eventually([until_ns] { return MonotonicNs() > until_ns; }));
  EXPECT_LT(slow.ReadToEnd(), answer.ContentLength());
  EXPECT_TRUE(slow.WasReset());
  EXPECT_EQ(OwnMetric("tallyd_scrape_duration_seconds_count"), scrapes) << "whole ones alone count";
}

TEST_F(HttpServerTest, MoreScrapesThanAllowedAreToldToComeBack) {
  options_.max_requests = 2;
  FillWithSeries();
  StartServer();
  std::vector<Client> slow;
  for (int i = 0; i < 2; ++i) slow.push_back(StartSlowScrape());
  const Answer refused = Ask(Get("/metrics"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("Retry-After"), "1");
  EXPECT_EQ(OwnMetric("tallyd_refused_scrapes_total"), 1);
  EXPECT_EQ(Ask(Get("/-/healthy")).status, 200) << "other requests are not limited";
  EXPECT_EQ(Ask(Get("/-/metrics")).status, 200);
  slow.clear();
  EXPECT_TRUE(Eventually([this] { return Ask(Get("/metrics"), false).status == 200; }));
}

TEST_F(HttpServerTest, ScrapersThatCloseInTheMiddleLeaveNothingBehind) {
  options_.max_requests = 3;
  FillWithSeries();
  StartServer();
  // Writing to a closed connection must not end the process.
  ASSERT_EQ(::signal(SIGPIPE, SIG_DFL), SIG_DFL);
  for (int i = 0; i < 100; ++i) {
    Client client = Connect();
    ASSERT_TRUE(client.Send(Get("/metrics")));
    client.Close();
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Eventually([this] { return Ask(Get("/metrics"), false).status == 200; }));
  }
  EXPECT_TRUE(Eventually([this] {
    const Answer answer = Ask(Get("/metrics"));
    return answer.status == 200 && answer.body.size() == answer.ContentLength();
  }));
}

TEST_F(HttpServerTest, SlowReadersDoNotKeepAnyNumberOfSnapshots) {
  options_.max_pinned_bytes = 1;
  FillWithSeries();
  StartServer();
  std::vector<Client> slow;
  for (size_t i = 0; i <= HttpServer::kMinPinnedSnapshots; ++i) {
    aggregation_.Send("changing:1|c");
    slow.push_back(StartSlowScrape("Connection: close\r\n"));
  }
  // The first makes room for the last.
  EXPECT_LT(slow.front().ReadToEnd(), kWideBytes);
  EXPECT_TRUE(slow.front().WasReset());
  EXPECT_GT(slow.back().ReadToEnd(), kWideBytes);
}

TEST_F(HttpServerTest, ScrapesBetweenTwoMergesCostOneMerge) {
  options_.snapshot_max_age = absl::Hours(1);
  StartServer();
  const uint64_t merges = aggregation_.merge_thread().status().merges;
  std::vector<std::thread> scrapers;
  for (int i = 0; i < 8; ++i) {
    scrapers.emplace_back([this] {
      for (int n = 0; n < 20; ++n) EXPECT_EQ(Ask(Get("/metrics")).status, 200);
    });
  }
  for (std::thread& scraper : scrapers) scraper.join();
  EXPECT_EQ(aggregation_.merge_thread().status().merges, merges);
}

TEST_F(HttpServerTest, EveryScrapeIsWholeWhileShardsCount) {
  StartServer();
  std::atomic<bool> done{false};
  std::vector<std::thread> scrapers;
  for (int i = 0; i < 4; ++i) {
    scrapers.emplace_back([this, i, &done] {
      Client client = Connect();
      do {
        const std::string accept = i % 2 == 0 ? "" : "Accept: application/openmetrics-text\r\n";
        ASSERT_TRUE(
            client.Send(Get("/metrics", accept + (i < 2 ? "Accept-Encoding: gzip\r\n" : ""))));
        const Answer answer = client.Read();
        ASSERT_EQ(answer.status, 200);
        const std::string text = i < 2 ? Gunzip(answer.body) : answer.body;
        const std::vector<std::string> names = FamilyNames(text);
        EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
        EXPECT_EQ(text.ends_with("# EOF\n"), i % 2 == 1);
      } while (!done);
    });
  }
  for (int i = 0; i < 3000; ++i) {
    aggregation_.Send(absl::StrCat("m", i % 300, ":1|c\nt", i % 20, ":", i, "|ms"), i % 2);
  }
  done = true;
  for (std::thread& scraper : scrapers) scraper.join();
}

// Makes the merger's thread stand still in its next merge until the end of its life.
class StuckMerger {
 public:
  explicit StuckMerger(MergeThread* thread) : thread_(thread) {
    thread_->SetObserver(
        [go_on = go_on_.get_future().share()](auto, const auto&) { go_on.wait(); });
  }
  ~StuckMerger() {
    go_on_.set_value();
    thread_->SetObserver(nullptr);
  }

 private:
  MergeThread* const thread_;
  std::promise<void> go_on_;
};

TEST_F(HttpServerTest, AScrapeThatWouldComeTooLateIsRefusedInTime) {
  StartServer();
  {
    StuckMerger stuck(&aggregation_.merge_thread());
    const Answer answer = Ask(Get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.1\r\n"));
    EXPECT_EQ(answer.status, 503);
    EXPECT_NE(answer.Header("Retry-After"), std::nullopt);
    EXPECT_EQ(Ask(Get("/-/healthy")).status, 200);
  }
  EXPECT_EQ(Ask(Get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n")).status, 200);
  for (const char* nonsense : {"-1", "0", "nan", "1e99", "soon", ""}) {
    const std::string header =
        absl::StrCat("X-Prometheus-Scrape-Timeout-Seconds: ", nonsense, "\r\n");
    EXPECT_EQ(Ask(Get("/metrics", header)).status, 200) << nonsense;
  }
}

TEST_F(HttpServerTest, ConnectionsPastTheBoundAreRefused) {
  options_.max_connections = 3;
  options_.header_timeout = absl::Seconds(20);
  StartServer();
  std::vector<Client> busy;
  for (int i = 0; i < 3; ++i) {
    busy.push_back(Connect());
    ASSERT_TRUE(busy.back().Send("GET / HT"));
  }
  const Answer refused = Ask(Get("/metrics"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("Connection"), "close");
  ASSERT_TRUE(busy[0].Send("TP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_EQ(busy[0].Read().status, 200) << "whoever was there is served";
  // It waits for its next request now, and makes room for somebody who has one.
  EXPECT_TRUE(Eventually([this] { return Ask(Get("/-/healthy")).status == 200; }));
  EXPECT_TRUE(busy[0].IsAtEnd());
}

TEST_F(HttpServerTest, AThousandConnectionsAreAllAnswered) {
  constexpr int kConnections = 300;
  options_.max_connections = 100;
  options_.max_requests = 1000;
  StartServer();
  std::vector<Client> clients;
  for (int i = 0; i < kConnections; ++i) clients.push_back(Connect());
  int served = 0;
  int closed = 0;
  for (Client& client : clients) client.Send(Get("/metrics"));
  for (Client& client : clients) {
    const Answer answer = client.Read();
    if (answer.status == 200) ++served;
    if (answer.status == 0) ++closed;
    EXPECT_TRUE(answer.status == 200 || answer.status == 503 || answer.status == 0);
  }
  EXPECT_GE(served, 100);
  EXPECT_LE(closed, 100);
}

TEST_F(HttpServerTest, ReadinessSaysWhyNot) {
  std::atomic<bool> ready{false};
  hooks_.ready = [&ready] {
    return ready ? absl::OkStatus() : absl::UnavailableError("nothing was merged yet");
  };
  StartServer();
  const Answer answer = Ask(Get("/-/ready"));
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr("nothing was merged yet"));
  EXPECT_EQ(Ask(Get("/-/healthy")).status, 200);
  EXPECT_THAT(Ask(Get("/")).body, HasSubstr("nothing was merged yet"));
  ready = true;
  EXPECT_EQ(Ask(Get("/-/ready")).status, 200);
}

TEST_F(HttpServerTest, LifecycleIsOffUnlessEnabled) {
  hooks_.quit = [] { FAIL() << "nobody asked for it"; };
  hooks_.reload = [] { return absl::InternalError("nobody asked for it"); };
  StartServer();
  for (const char* path : {"/-/quit", "/-/reload"}) {
    for (const char* method : {"POST", "PUT"}) {
      const Answer answer = Ask(Request(method, path));
      EXPECT_EQ(answer.status, 403);
      EXPECT_THAT(answer.body, HasSubstr("--web.enable-lifecycle"));
    }
  }
}

TEST_F(HttpServerTest, ReloadSaysHowItWent) {
  options_.enable_lifecycle = true;
  absl::Status result;
  int reloads = 0;
  hooks_.reload = [&] {
    ++reloads;
    return result;
  };
  StartServer();
  EXPECT_EQ(Ask(Request("POST", "/-/reload")).status, 200);
  EXPECT_EQ(Ask(Request("PUT", "/-/reload", "Content-Length: 0\r\n")).status, 200);
  OnLoop([&] { result = absl::InvalidArgumentError("rules.yaml:3: no such key"); });
  const Answer answer = Ask(Request("POST", "/-/reload"));
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, HasSubstr("rules.yaml:3: no such key"));
  EXPECT_EQ(reloads, 3);
}

TEST_F(HttpServerTest, QuitIsAnsweredFirst) {
  options_.enable_lifecycle = true;
  std::promise<void> quit;
  hooks_.quit = [&quit] { quit.set_value(); };
  StartServer();
  Client client = Connect();
  ASSERT_TRUE(client.Send(Request("POST", "/-/quit")));
  EXPECT_EQ(client.Read().status, 200);
  quit.get_future().wait();
}

TEST_F(HttpServerTest, PagesOfOtherSitesMayNotUseTheLifecycle) {
  options_.enable_lifecycle = true;
  std::atomic<int> reloads{0};
  hooks_.reload = [&reloads] {
    ++reloads;
    return absl::OkStatus();
  };
  StartServer();
  for (const char* header :
       {"Origin: http://elsewhere\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n", "Origin: http://localhost:81\r\n",
        "Origin: http://localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Referer: http://elsewhere/x\r\n", "Referer: http://elsewhere?http://localhost/\r\n"}) {
    EXPECT_EQ(Ask(Request("POST", "/-/reload", header)).status, 403) << header;
  }
  // A name that its owner has made lead here: the browser takes it for the same site.
  EXPECT_EQ(
      Ask("POST /-/reload HTTP/1.1\r\nHost: elsewhere\r\nOrigin: http://elsewhere\r\n\r\n").status,
      403);
  EXPECT_EQ(reloads, 0);
  for (const char* header : {"Origin: http://localhost\r\n", "Origin: https://LOCALHOST\r\n",
                             "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n",
                             "Referer: http://localhost/page\r\n"}) {
    EXPECT_EQ(Ask(Request("POST", "/-/reload", header)).status, 200) << header;
  }
}

TEST_F(HttpServerTest, ThePageTellsWhatIsGoingOnAndRefersToNothingOutside) {
  aggregation_.Send("a:1|c\nnonsense\nb:1|c|@what");
  aggregation_.own_metrics().SetListeners({{.name = "unixgram:/run/<b>&.sock"}});
  aggregation_.merge_thread().MergeNow();
  StartServer();
  const Answer answer = Ask(Get("/"));
  EXPECT_EQ(answer.Header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_THAT(answer.Header("Content-Security-Policy").value_or(""),
              HasSubstr("default-src 'none'"));
  EXPECT_THAT(answer.body,
              AllOf(HasSubstr("unixgram:/run/&lt;b&gt;&amp;.sock"), HasSubstr("malformed_line"),
                    HasSubstr("bad_sample_rate"), HasSubstr(BuildVersion()),
                    HasSubstr("href=\"/metrics\""), EndsWith("</html>\n")));
  EXPECT_THAT(answer.body, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("://")),
                                 Not(HasSubstr("src=")), Not(HasSubstr("@import"))));
}

TEST_F(HttpServerTest, AnAddressInUseIsNamed) {
  StartServer();
  const std::string address = server_->bound().at(0);
  HttpServer::Options options;
  options.addresses = {address};
  HttpServer second(loop_, options, &aggregation_.merge_thread(), &aggregation_.own_metrics(), {});
  const absl::Status status = second.Listen();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_EQ(ExitCodeFor(status), ExitCode::kInUse);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address));
}

TEST_F(HttpServerTest, SeveralAddressesOfBothFamiliesAreServed) {
  options_.addresses = {"127.0.0.1:0", "127.0.0.1:0", "[::1]:0"};
  StartServer();
  ASSERT_EQ(server_->bound().size(), 3u);
  EXPECT_THAT(server_->bound()[2], StartsWith("[::1]:"));
  const std::string second = server_->bound()[1];
  Client client(std::stoi(second.substr(second.rfind(':') + 1)));
  ASSERT_TRUE(client.Send(Get("/-/healthy")));
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpServerTest, StopEndsEverythingThatIsOpen) {
  FillWithSeries();
  StartServer();
  Client idle = Connect();
  ASSERT_TRUE(idle.Send(Get("/-/healthy")));
  EXPECT_EQ(idle.Read().status, 200);
  Client half = Connect();
  ASSERT_TRUE(half.Send("GET /met"));
  Client slow = StartSlowScrape();
  StopServer();  // returns only once nothing is left to do for the loop
  EXPECT_TRUE(idle.IsAtEnd());
  EXPECT_TRUE(half.IsAtEnd());
  EXPECT_LT(slow.ReadToEnd(), kWideBytes);
}

}  // namespace
}  // namespace tallyd
