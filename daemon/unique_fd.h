// A file descriptor with one owner.

#ifndef TALLYD_DAEMON_UNIQUE_FD_H_
#define TALLYD_DAEMON_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace tallyd {

// Closes its descriptor at the end of its life. Thread-compatible.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(-1); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_UNIQUE_FD_H_
