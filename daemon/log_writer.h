// Writes log lines to a descriptor that may not take them.

#ifndef TALLYD_DAEMON_LOG_WRITER_H_
#define TALLYD_DAEMON_LOG_WRITER_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "absl/time/time.h"

namespace tallyd {

// A bounded queue and a thread that writes what is in it. Nobody who has a line waits: where the
// descriptor takes nothing, as with a pipe whose reader has stopped, lines stay in the queue, and
// past its bound the oldest are lost and counted.
//
// Invariant: only the thread writes. It may hang in a write for ever (a dead disk under a file), so
// what it uses is shared with it, and Stop leaves it behind rather than wait for it.
// Thread-safe, but for Stop, which is called once and last.
class LogWriter {
 public:
  static constexpr size_t kMaxLines = 256;
  static constexpr size_t kMaxBytes = size_t{1} << 20;

  explicit LogWriter(int fd);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // A line with its LF. Never waits for the descriptor.
  void Write(std::string line);
  // Writes what is queued as far as the descriptor takes it within `patience`. False if lines or
  // the thread were left behind.
  bool Stop(absl::Duration patience);

  uint64_t lost_to_full_queue() const;
  uint64_t lost_to_failed_write() const;

 private:
  struct Shared {
    explicit Shared(int descriptor) : fd(descriptor) {}

    const int fd;
    // Of std, since ThreadSanitizer shall see it.
    std::mutex mu;
    std::condition_variable changed;
    std::deque<std::string> lines;  // guarded by mu, as are the next four
    size_t bytes = 0;
    bool stopping = false;
    bool ended = false;
    int64_t give_up_ns = 0;  // once stopping
    bool torn = false;       // the thread's: only a part of the last line was written
    std::atomic<uint64_t> full_queue{0};
    std::atomic<uint64_t> failed_write{0};
  };

  static void Run(const std::shared_ptr<Shared>& shared);
  static bool Take(Shared* shared, std::string* line);
  static bool AwaitLine(Shared* shared);
  static bool AwaitReader(Shared* shared);
  static void WriteLine(Shared* shared, const std::string& line);

  const std::shared_ptr<Shared> shared_;
  bool stopped_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOG_WRITER_H_
