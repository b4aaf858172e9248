// A server that does with each connection exactly what a test says.

#ifndef TALLYD_TESTS_DAEMON_PUSH_SCRIPT_SERVER_H_
#define TALLYD_TESTS_DAEMON_PUSH_SCRIPT_SERVER_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/unique_fd.h"

namespace tallyd {

// One request as it came.
struct SeenRequest {
  std::string line;    // "PUT /metrics/job/a HTTP/1.1"
  std::string header;  // the lines after it
  std::string body;
};

// A connection in the hands of a script.
class ScriptedPeer {
 public:
  explicit ScriptedPeer(UniqueFd fd) : fd_(std::move(fd)) {
    const timeval patience = {.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }

  // False: the client has closed, or sends nothing for long.
  bool ReadRequest(SeenRequest* request) {
    while (buffer_.find("\r\n\r\n") == std::string::npos) {
      if (!ReadMore()) return false;
    }
    const size_t end_of_line = buffer_.find("\r\n");
    const size_t end_of_header = buffer_.find("\r\n\r\n") + 4;
    request->line = buffer_.substr(0, end_of_line);
    request->header = buffer_.substr(end_of_line + 2, end_of_header - end_of_line - 2);
    const size_t at = request->header.find("Content-Length: ");
    const size_t length =
        at == std::string::npos ? 0 : std::strtoul(request->header.c_str() + at + 16, nullptr, 10);
    while (buffer_.size() < end_of_header + length) {
      if (!ReadMore()) return false;
    }
    request->body = buffer_.substr(end_of_header, length);
    buffer_.erase(0, end_of_header + length);
    return true;
  }

  // False: the client has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // What the client gets instead of an orderly end.
  void Reset() {
    const linger now = {.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fd_ = UniqueFd();
  }
  // Waits until the client has closed, or for long.
  void AwaitEnd() {
    while (ReadMore()) buffer_.clear();
  }

 private:
  bool ReadMore() {
    char bytes[65536];
    const ssize_t size = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (size <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  UniqueFd fd_;
  std::string buffer_;
};

// Runs the script for one connection after the other, on a thread of its own, which the destructor
// joins: by then clients should have closed. Thread-safe.
class ScriptServer {
 public:
  using Script = std::function<void(ScriptedPeer&)>;

  explicit ScriptServer(Script script) : script_(std::move(script)) {
    fd_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(fd_.get(), generic, size), 0);
    EXPECT_EQ(::listen(fd_.get(), 16), 0);
    EXPECT_EQ(::getsockname(fd_.get(), generic, &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Accept(); });
  }
  ~ScriptServer() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }

  int port() const { return port_; }
  int connections() const { return connections_; }

  // Answers every request with `answer`, and remembers it.
  static Script Always(std::string answer, std::vector<SeenRequest>* seen, std::mutex* mu) {
    return [answer = std::move(answer), seen, mu](ScriptedPeer& peer) {
      SeenRequest request;
      while (peer.ReadRequest(&request)) {
        {
          const std::lock_guard lock(*mu);
          seen->push_back(request);
        }
        if (!peer.Send(answer)) return;
      }
    };
  }

 private:
  void Accept() {
    while (true) {
      UniqueFd connection(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) return;
      ++connections_;
      ScriptedPeer peer(std::move(connection));
      script_(peer);
    }
  }

  const Script script_;
  UniqueFd fd_;
  int port_ = 0;
  std::atomic<int> connections_{0};
  std::thread thread_;
};

}  // namespace tallyd

#endif  // TALLYD_TESTS_DAEMON_PUSH_SCRIPT_SERVER_H_
