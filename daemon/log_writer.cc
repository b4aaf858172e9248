#include "daemon/log_writer.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "daemon/clock.h"

namespace tallyd {
namespace {

constexpr int kLookAgainMs = 100;

// Signals are for other threads, and a reader that went away is an error of that write.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

LogWriter::LogWriter(int fd) : shared_(std::make_shared<Shared>(fd)) {
  const AllSignalsBlocked inherited_by_the_thread;
  std::thread(Run, shared_).detach();
}

LogWriter::~LogWriter() {
  if (!stopped_) Stop(absl::ZeroDuration());
}

void LogWriter::Write(std::string line) {
  {
    const std::scoped_lock lock(shared_->mu);
    shared_->bytes += line.size();
    shared_->lines.push_back(std::move(line));
    while (shared_->lines.size() > kMaxLines ||
           (shared_->bytes > kMaxBytes && shared_->lines.size() > 1)) {
      shared_->bytes -= shared_->lines.front().size();
      shared_->lines.pop_front();
      shared_->full_queue.fetch_add(1, std::memory_order_relaxed);
    }
  }
  shared_->changed.notify_all();
}

bool LogWriter::Stop(absl::Duration patience) {
  stopped_ = true;
  std::unique_lock<std::mutex> lock(shared_->mu);
  shared_->stopping = true;
  shared_->give_up_ns = MonotonicNs() + absl::ToInt64Nanoseconds(patience);
  shared_->changed.notify_all();
  // The thread looks at the time itself; the rest is for one that hangs in a write.
  const absl::Duration at_most = patience + absl::Milliseconds(2 * kLookAgainMs);
  shared_->changed.wait_for(lock, absl::ToChronoMilliseconds(at_most),
                            [this] { return shared_->ended; });
  return shared_->ended && shared_->lines.empty();
}

uint64_t LogWriter::lost_to_full_queue() const {
  return shared_->full_queue.load(std::memory_order_relaxed);
}

uint64_t LogWriter::lost_to_failed_write() const {
  return shared_->failed_write.load(std::memory_order_relaxed);
}

void LogWriter::Run(const std::shared_ptr<Shared>& shared) {
  std::string line;
  // A line is taken when the descriptor is ready, not before: until then it is one of the queue's,
  // and the oldest of them gives way to newer ones.
  while (AwaitLine(shared.get()) && AwaitReader(shared.get()) && Take(shared.get(), &line)) {
    WriteLine(shared.get(), line);
  }
  const std::scoped_lock lock(shared->mu);
  shared->ended = true;
  shared->changed.notify_all();
}

// False if there is none and it is time to end.
bool LogWriter::AwaitLine(Shared* shared) {
  std::unique_lock<std::mutex> lock(shared->mu);
  shared->changed.wait(lock, [shared] { return shared->stopping || !shared->lines.empty(); });
  return !shared->lines.empty();
}

// Waits until the descriptor takes something. False if it is time to give up.
bool LogWriter::AwaitReader(Shared* shared) {
  while (true) {
    // Looks again now and then, since stopping is told by other means.
    pollfd ready{shared->fd, POLLOUT, 0};
    if (::poll(&ready, 1, kLookAgainMs) > 0) return true;  // also where it fails: a write says why
    const std::scoped_lock lock(shared->mu);
    if (shared->stopping && MonotonicNs() >= shared->give_up_ns) return false;
  }
}

bool LogWriter::Take(Shared* shared, std::string* line) {
  const std::scoped_lock lock(shared->mu);
  if (shared->lines.empty()) return false;
  *line = std::move(shared->lines.front());
  shared->lines.pop_front();
  shared->bytes -= line->size();
  return true;
}

void LogWriter::WriteLine(Shared* shared, const std::string& line) {
  const std::string text = shared->torn ? "\n" + line : line;
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t result = ::write(shared->fd, text.data() + written, text.size() - written);
    if (result >= 0) {
      written += static_cast<size_t>(result);
      shared->torn = written < text.size();
      continue;
    }
    if (errno == EINTR) continue;
    // Not ready after all, where somebody else has made the descriptor non-blocking.
    if (errno == EAGAIN && AwaitReader(shared)) continue;
    shared->failed_write.fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

}  // namespace tallyd
