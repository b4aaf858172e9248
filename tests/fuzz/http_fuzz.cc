// Any bytes from an HTTP client, cut anywhere: each request is answered once with a status that we
// know, what is answered does not depend on the cuts, and once the client has said all, the
// connection ends by itself.
//
// The first byte says how the rest is cut, and whether bodies are read.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/http_session.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

namespace http = boost::beast::http;

constexpr size_t kMaxBody = 300;
// Of a body that is being read and the one before it, whose request is done by then.
constexpr size_t kBodyBudget = 2 * kMaxBody;

std::string Text(boost::beast::string_view text) { return {text.data(), text.size()}; }

// A client and the session that serves it.
class Exchange {
 public:
  Exchange(bool bodies, size_t piece) : piece_(piece) {
    std::array<int, 2> ends{};
    Check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) == 0);
    client_ = ends[0];
    TcpSocket socket(loop_);
    socket.assign(boost::asio::ip::tcp::v4(), ends[1]);
    HttpSession::Limits limits;
    if (bodies) {
      limits.max_body_bytes = kMaxBody;
      limits.body_budget = std::make_shared<BodyBudget>(kBodyBudget);
    }
    std::make_shared<HttpSession>(
        std::move(socket), limits,
        [this](const std::shared_ptr<HttpSession>& session, const HttpRequest& request) {
          Handle(session, request);
        },
        [this](HttpSession*) { ++closed_; })
        ->Start();
  }
  ~Exchange() { ::close(client_); }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void Run(std::string_view bytes) {
    while (!bytes.empty() && closed_ == 0) {
      const std::string_view now = bytes.substr(0, piece_);
      const ssize_t sent = ::send(client_, now.data(), now.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
      if (sent < 0 && errno != EAGAIN) break;  // it has hung up
      Settle();
    }
    ::shutdown(client_, SHUT_WR);
    // Nothing is left to wait for: no deadline is needed for it to end.
    for (int i = 0; i < 1000 && closed_ == 0; ++i) {
      loop_.restart();
      loop_.run_one_for(std::chrono::milliseconds(50));
      Receive();
    }
    Settle();
    Check(closed_ == 1);
    Check(done_ == handled_.size());
  }

  // "STATUS BODY" of each answer, without interim ones.
  std::vector<std::string> Answers() const {
    std::vector<std::string> answers;
    absl::string_view rest = received_;
    while (!rest.empty()) {
      const size_t end = rest.find("\r\n\r\n");
      Check(end != absl::string_view::npos && rest.substr(0, 9) == "HTTP/1.1 ");
      const absl::string_view header = rest.substr(0, end + 2);
      rest.remove_prefix(end + 4);
      int status = 0;
      Check(absl::SimpleAtoi(header.substr(9, 3), &status));
      if (status == 100) continue;
      const std::string_view kLength = "\r\nContent-Length: ";
      const size_t at = header.find(absl::string_view(kLength.data(), kLength.size()));
      Check(at != absl::string_view::npos);
      const absl::string_view line = header.substr(at + kLength.size());
      size_t length = 0;
      Check(absl::SimpleAtoi(line.substr(0, line.find("\r\n")), &length));
      const bool of_a_request = answers.size() < handled_.size();
      CheckStatus(status, of_a_request);
      if (IsWithoutBody(answers.size(), rest)) length = 0;
      Check(rest.size() >= length);
      answers.push_back(absl::StrCat(status, " ", rest.substr(0, length)));
      rest.remove_prefix(length);
    }
    // Each request, and at most one thing that became none.
    Check(answers.size() == handled_.size() || answers.size() == handled_.size() + 1);
    return answers;
  }

 private:
  void Handle(const std::shared_ptr<HttpSession>& session, const HttpRequest& request) {
    Check(request.path_untrusted.substr(0, 1) == "/");
    Check(request.path_untrusted.find_first_of("?# \r\n") == std::string::npos);
    Check(request.body_untrusted.size() <= kMaxBody);
    handled_.push_back(request.method() == http::verb::head);
    HttpResponse response = HttpResponse::Plain(
        http::status::ok, absl::StrCat(Text(request.header_untrusted.method_string()), " ",
                                       request.path_untrusted, " ", request.body_untrusted));
    response.done = [this](bool) { ++done_; };
    session->Answer(std::move(response));
  }

  static void CheckStatus(int status, bool of_a_request) {
    static constexpr std::array<int, 5> kRefusals = {400, 413, 431, 503, 505};
    if (of_a_request) return Check(status == 200);
    Check(std::find(kRefusals.begin(), kRefusals.end(), status) != kRefusals.end());
  }

  // An answer to HEAD has no body, nor has the refusal of one.
  bool IsWithoutBody(size_t answer, absl::string_view rest) const {
    return answer < handled_.size() ? handled_[answer] : rest.empty();
  }

  // Until the session has taken in what there is.
  void Settle() {
    for (int idle = 0; idle < 2;) {
      loop_.restart();
      const size_t turns = loop_.poll();
      idle = turns > 0 ? 0 : idle + 1;
      Receive();
    }
  }
  void Receive() {
    std::array<char, 16384> bytes;
    ssize_t size = 0;
    while ((size = ::recv(client_, bytes.data(), bytes.size(), 0)) > 0) {
      received_.append(bytes.data(), static_cast<size_t>(size));
    }
  }

  const size_t piece_;
  Loop loop_{1};
  int client_ = -1;
  int closed_ = 0;
  size_t done_ = 0;
  std::vector<bool> handled_;  // whether it was a HEAD
  std::string received_;
};

std::vector<std::string> AnswersTo(std::string_view bytes, bool bodies, size_t piece) {
  Exchange exchange(bodies, piece);
  exchange.Run(bytes);
  return exchange.Answers();
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool bodies = (data[0] & 1) != 0;
  // Of few bytes each one comes alone.
  const size_t piece = std::max<size_t>(1 + (data[0] >> 1), size / 64);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = tallyd::AnswersTo(bytes, bodies, size);
  const auto cut = tallyd::AnswersTo(bytes, bodies, piece);
  // What comes in pieces is looked at again only when a header is complete: who ends before that is
  // not told what was wrong with it. What is sent at once is read in pieces, too, if it is long, so
  // either may be told more. And what is both malformed and too long may be called either.
  const auto refused = [](const std::string& answer) { return answer[0] != '2'; };
  const size_t both = std::min(whole.size(), cut.size());
  for (size_t i = 0; i < both; ++i) {
    tallyd::Check(whole[i] == cut[i] || (refused(whole[i]) && refused(cut[i])));
  }
  for (const auto* answers : {&whole, &cut}) {
    tallyd::Check(answers->size() == both ||
                  (answers->size() == both + 1 && refused(answers->back())));
  }
  return 0;
}
