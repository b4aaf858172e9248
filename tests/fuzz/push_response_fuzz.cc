// Any bytes as a server's answers to pushes: a request ends exactly once and within bounds, and
// once the target takes what it is sent, the sender of remote write has told it everything.
//
// The first byte says how many answers the rest is cut into, the second what kind of sender it is.

#include <algorithm>
#include <array>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/push/http_client.h"
#include "daemon/push/inconsistent_families.h"
#include "daemon/push/remote_write_sender.h"
#include "daemon/push/write_answer.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

using Tcp = boost::asio::ip::tcp;
using Socket = boost::asio::basic_stream_socket<Tcp, Loop::executor_type>;
using Acceptor = boost::asio::basic_socket_acceptor<Tcp, Loop::executor_type>;

// Gives each connection the bytes of `answer`, and closes it once the client has sent something.
class Server {
 public:
  explicit Server(Loop* loop)
      : loop_(loop), acceptor_(*loop, {boost::asio::ip::address_v4::loopback(), 0}) {}
  int port() const { return acceptor_.local_endpoint().port(); }
  void Serve(std::string answer) {
    answer_ = std::move(answer);
    Accept();
  }
  void Stop() { acceptor_.cancel(); }

 private:
  void Accept() {
    auto socket = std::make_shared<Socket>(*loop_);
    acceptor_.async_accept(*socket, [this, socket](const boost::system::error_code& error) {
      if (error) return;
      socket->async_read_some(boost::asio::buffer(request_), [this, socket](auto, size_t) {
        boost::asio::async_write(*socket, boost::asio::buffer(answer_), [socket](auto, size_t) {});
      });
      Accept();
    });
  }

  Loop* const loop_;
  Acceptor acceptor_;
  std::array<char, 4096> request_ = {};
  std::string answer_;
};

HttpClientOptions ClientOptions(int port) {
  HttpClientOptions options;
  options.url.host = "127.0.0.1";
  options.url.port = std::to_string(port);
  options.total_timeout = absl::Seconds(2);
  options.max_header_bytes = 2048;
  options.max_answer_bytes = 4096;
  options.kept_answer_bytes = 1024;
  return options;
}

// What the client makes of an answer.
HttpResult ResultOf(const std::string& answer) {
  Loop loop;
  Server server(&loop);
  const HttpClientOptions options = ClientOptions(server.port());
  HttpClient client(&loop, options);
  server.Serve(answer);
  std::optional<HttpResult> result;
  PushRequest request;
  request.body = {std::make_shared<const std::string>("a 1\n")};
  client.Send(std::move(request), [&](HttpResult ended) {
    Check(!result.has_value());
    result = std::move(ended);
    server.Stop();
  });
  // One that never ends is for libFuzzer's time limit to find: a program may get no processor for
  // longer than any deadline here.
  while (!result.has_value() && loop.run_one() > 0) continue;
  loop.run_for(std::chrono::seconds(4));  // until there is nothing left that could end it again
  Check(result.has_value() && !client.under_way());
  Check(result->body.size() <= options.kept_answer_bytes);
  Check(result->headers.size() <= 64 && result->error.size() <= 1024);
  Check(result->ok() == (result->cause == PushCause::kOk));
  if (result->ok()) Check(result->status >= 200 && result->status < 300);
  for (const char c : result->error) Check(static_cast<unsigned char>(c) >= 0x20);
  for (const auto& families : InconsistentFamilies(result->body)) Check(!families.empty());
  return *std::move(result);
}

// A clock that jumps to what happens next, and a target that first gives the answers that it is to
// give, and takes everything once these are used up.
class World final : public RemoteWriteHost {
 public:
  static constexpr int kSeries = 11;
  static constexpr int64_t kStartMs = 1'790'000'000'000;

  explicit World(std::vector<WriteAnswer> answers) : answers_(std::move(answers)) {}

  int64_t MonotonicNs() override { return now_ns_; }
  int64_t WallMs() override { return kStartMs + now_ns_ / 1'000'000; }
  double Random() override { return 0.5; }
  void Render(RemoteWriteEncoder::Options options) override {
    Check(!rendering_.has_value());
    rendering_ = std::move(options);
  }
  void Send(int connection, WriteMessage message) override {
    Check(message.body != nullptr && under_way_.emplace(connection, message.protocol).second);
  }
  void CountStored(uint64_t series) override { stored_ += series; }
  void CountDropped(WriteDrop, uint64_t) override {}
  void Warn(const std::string&, const std::string&) override {}
  void Inform(const std::string&, const std::string&) override {}

  // Until that time has passed, or the sender has nothing more to do.
  void Run(RemoteWriteSender* sender, absl::Duration duration) {
    const int64_t end = now_ns_ + absl::ToInt64Nanoseconds(duration);
    sender->Advance();
    for (int steps = 0; now_ns_ < end && !sender->finished(); ++steps) {
      Check(steps < 100'000);  // else it spins
      if (rendering_.has_value()) {
        Rendered(sender);
      } else if (!under_way_.empty()) {
        now_ns_ += 1'000'000;
        const auto [connection, protocol] = *under_way_.begin();
        under_way_.erase(under_way_.begin());
        sender->OnAnswer(connection, NextAnswer(protocol));
      } else {
        now_ns_ = std::max(now_ns_, std::min(end, sender->NextWakeNs()));
        sender->Advance();
      }
    }
  }
  uint64_t stored() const { return stored_; }
  size_t answers_left() const { return answers_.size() - next_; }

 private:
  void Rendered(RemoteWriteSender* sender) {
    const RemoteWriteEncoder encoder(*std::exchange(rendering_, std::nullopt));
    std::string page;
    for (int i = 0; i < kSeries; ++i) {
      encoder.Gauge({.name = "g", .help = "", .type = FamilyType::kGauge},
                    "i=\"" + std::to_string(i) + "\"", 1, &page);
    }
    const NativeHistogram native = {.count = 1, .positive = {{{0, 1}}, {1}}, .negative = {}};
    const std::vector<uint64_t> buckets = {1};
    encoder.Histogram({.name = "h", .help = "", .type = FamilyType::kHistogram}, "",
                      {.bounds = {}, .les = {}, .buckets = buckets, .sum = 1, .native = &native},
                      &page);
    auto pages = std::make_shared<WritePages>();
    pages->push_back(std::make_shared<const std::string>(std::move(page)));
    sender->OnRendered(std::move(pages));
  }

  WriteAnswer NextAnswer(WriteProtocol protocol) {
    if (next_ < answers_.size()) return answers_[next_++];
    WriteAnswer good{.status = 204, .date_ms = WallMs()};
    if (protocol == WriteProtocol::k2) good.written = WrittenCounts{.samples = 1'000};
    return good;
  }

  const std::vector<WriteAnswer> answers_;
  size_t next_ = 0;
  int64_t now_ns_ = 1'000'000'000;
  std::optional<RemoteWriteEncoder::Options> rendering_;
  std::map<int, WriteProtocol> under_way_;
  uint64_t stored_ = 0;
};

void CheckSender(std::vector<WriteAnswer> answers, unsigned kind) {
  RemoteWriteSenderOptions options;
  options.interval = absl::Minutes(1);
  options.protocol = (kind & 1) != 0 ? WriteProtocol::k2 : WriteProtocol::k1;
  options.histograms = (kind & 2) != 0 ? WriteHistograms::kBoth : WriteHistograms::kClassic;
  options.connections = 1 + (kind >> 2) % 4;
  options.batch_series = 3 + (kind >> 4);
  World world(std::move(answers));
  RemoteWriteSender sender(options, &world);
  // Whatever it is told, it comes again, a tenth later than it was asked to at most.
  while (const size_t left = world.answers_left()) {
    world.Run(&sender, RemoteWriteSender::kMaxRetryAfter * 1.2);
    Check(world.answers_left() < left);
  }
  // Past what it was asked last, and what it leaves out for a while.
  world.Run(&sender, RemoteWriteSender::kMaxRetryAfter * 3 + RemoteWriteSender::kQuarantine);
  Check(sender.Trouble().empty() && sender.pending() == 0);
  const uint64_t stored = world.stored();
  world.Run(&sender, options.interval * 2);
  Check(world.stored() >= stored + World::kSeries + 3);
  sender.Finish();
  world.Run(&sender, absl::Seconds(5));
  Check(sender.finished());
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t piece = all.size() / (1 + data[0] % 4) + 1;
  std::vector<tallyd::WriteAnswer> answers;
  for (size_t at = 0; at < all.size(); at += piece) {
    const tallyd::WriteAnswer answer =
        tallyd::AnswerOf(tallyd::ResultOf(std::string(all.substr(at, piece))));
    // More than once, since some answers mean another thing when they come again.
    answers.insert(answers.end(), 1 + (data[0] >> 2) % 16, answer);
  }
  tallyd::CheckSender(std::move(answers), data[1]);
  return 0;
}
