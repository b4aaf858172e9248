// A storage provider in small: queues in memory, a database that says how long it took.
//
//   provider TALLYD-SOCKET ADMIN-SOCKET WORKER-DEPTH-FILE [--silent]
//
// TALLYD-SOCKET is the UNIX datagram socket of tallyd. On ADMIN-SOCKET the provider answers how
// deep a queue is ("depth orchestrator", "depth timer"), and it writes the depth of the third
// queue into WORKER-DEPTH-FILE. Commands come on standard input, one a line:
//
//   rounds N               N pieces of work, each put into the queue, fetched, acked, and done
//   enqueue QUEUE N        N entries more in a queue; 0 takes all out
//   fail OPERATION ERROR   an operation that the database fails
//   retry N                an ack that succeeds after N further attempts
//
// and each is answered with the samples that were recorded, sent, and not taken by the kernel.
// --silent records nothing: what remains is what the work itself costs.

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "metrics.h"

namespace {

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

struct Depths {
  std::atomic<int64_t> orchestrator{0};
  std::atomic<int64_t> worker{0};
  std::atomic<int64_t> timer{0};
};

// Answers queries on a UNIX stream socket, one a connection, in a thread of its own.
// Thread-safe: it reads the depths alone, which are atomic.
class AdminServer {
 public:
  AdminServer(const std::string& path, const Depths& depths) : depths_(depths) {
    socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = AddressOf(path);
    ::unlink(path.c_str());
    if (::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(socket_, 8) != 0) {
      std::perror(path.c_str());
      std::exit(1);
    }
    thread_ = std::thread([this] { Serve(); });
  }

  ~AdminServer() {
    stop_ = true;
    thread_.join();
    ::close(socket_);
  }

  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

 private:
  void Serve() {
    while (!stop_) {
      pollfd ready{socket_, POLLIN, 0};
      if (::poll(&ready, 1, 50) <= 0) continue;
      const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      Answer(connection);
      ::close(connection);
    }
  }

  void Answer(int connection) const {
    timeval patience{1, 0};
    ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    char buffer[64];
    const ssize_t size = ::recv(connection, buffer, sizeof(buffer), 0);
    if (size <= 0) return;
    const std::string_view query(buffer, static_cast<size_t>(size));
    const std::atomic<int64_t>* depth = nullptr;
    if (query == "depth orchestrator\n") depth = &depths_.orchestrator;
    if (query == "depth timer\n") depth = &depths_.timer;
    const std::string answer = depth == nullptr ? "what?\n" : std::to_string(*depth) + "\n";
    static_cast<void>(::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL));
  }

  const Depths& depths_;
  int socket_ = -1;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Provider {
 public:
  Provider(Metrics* metrics, std::string depth_file)
      : metrics_(*metrics), depth_file_(std::move(depth_file)) {
    WriteWorkerDepth();
  }

  const Depths& depths() const { return depths_; }

  // Each operation takes the milliseconds that the database says.
  void Round(int64_t id) {
    orchestrator_queue_.push_back(id);
    metrics_.Enqueued(1);
    const int64_t item = orchestrator_queue_.front();
    orchestrator_queue_.pop_front();
    metrics_.Fetched(2);
    worker_queue_.push_back(item * 31);
    metrics_.OrchestrationAcked(5, 0);
    checksum_ += worker_queue_.front();
    worker_queue_.pop_front();
    metrics_.Dequeued(2);
    metrics_.WorkerAcked(3);
  }

  void Enqueue(const std::string& queue, int64_t count) {
    std::atomic<int64_t>& depth = queue == "worker"  ? depths_.worker
                                  : queue == "timer" ? depths_.timer
                                                     : depths_.orchestrator;
    depth = count == 0 ? 0 : depth + count;
    WriteWorkerDepth();
  }

  void Fail(const std::string& operation, const std::string& error) {
    metrics_.Failed(operation, error);
  }

  void Retry(int64_t attempts) { metrics_.OrchestrationAcked(5 * (attempts + 1), attempts); }

  int64_t checksum() const { return checksum_; }

 private:
  // A reader sees the old number or the new one: never half a file.
  void WriteWorkerDepth() const {
    const std::string fresh = depth_file_ + ".new";
    std::ofstream(fresh) << depths_.worker << "\n";
    std::rename(fresh.c_str(), depth_file_.c_str());
  }

  Metrics& metrics_;
  const std::string depth_file_;
  Depths depths_;
  std::deque<int64_t> orchestrator_queue_;
  std::deque<int64_t> worker_queue_;
  int64_t checksum_ = 0;
};

void Obey(const std::string& line, Provider* provider) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  if (verb == "rounds") {
    int64_t count = 0;
    words >> count;
    for (int64_t i = 0; i < count; ++i) provider->Round(i);
  } else if (verb == "enqueue") {
    std::string queue;
    int64_t count = 0;
    words >> queue >> count;
    provider->Enqueue(queue, count);
  } else if (verb == "fail") {
    std::string operation;
    std::string error;
    words >> operation >> error;
    provider->Fail(operation, error);
  } else if (verb == "retry") {
    int64_t attempts = 0;
    words >> attempts;
    provider->Retry(attempts);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: provider TALLYD-SOCKET ADMIN-SOCKET WORKER-DEPTH-FILE [--silent]\n";
    return 2;
  }
  Metrics metrics(argc > 4 && std::string_view(argv[4]) == "--silent" ? "" : argv[1]);
  Provider provider(&metrics, argv[3]);
  const AdminServer admin(argv[2], provider.depths());
  std::string line;
  while (std::getline(std::cin, line)) {
    Obey(line, &provider);
    metrics.Flush();
    std::cout << metrics.recorded() << " " << metrics.sent() << " " << metrics.lost() << " "
              << provider.checksum() << std::endl;
  }
  return 0;
}
