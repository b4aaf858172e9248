// Paths of UNIX sockets: when one may be taken, and when it is given back.

#ifndef TALLYD_DAEMON_UNIX_PATH_H_
#define TALLYD_DAEMON_UNIX_PATH_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// A socket bound to a path of the file system.
//
// Invariant: only sockets are removed. One of someone else is replaced only if nobody answers on
// it; a file, a directory or a symbolic link is left alone and refused. At the end of its life the
// path is unlinked if it still leads to our socket. Whoever may write the directory can put
// something else there in the moment between a look and what it leads to; no other file gets our
// mode or our group for that. Thread-compatible.
class UnixPath {
 public:
  static constexpr gid_t kOwnGroup = static_cast<gid_t>(-1);
  static constexpr absl::Duration kPatience = absl::Seconds(2);
  enum class Senders { kIgnore, kTell };

  // Binds a non-blocking socket of `type` (SOCK_DGRAM, ...) to `path` with permissions `mode`, for
  // `group` unless that is kOwnGroup. At no moment is it more open than that. One that takes
  // connections listens.
  //
  // Waits `patience` at most for another process of our user that looks at this path. Where the
  // kernel is to tell who sends, it does from the first datagram on.
  static absl::StatusOr<UnixPath> Bind(const std::string& path, int type, mode_t mode,
                                       gid_t group = kOwnGroup, absl::Duration patience = kPatience,
                                       Senders senders = Senders::kIgnore);

  // Takes over the path of a socket that our predecessor bound and handed on; without its socket.
  static absl::StatusOr<UnixPath> Adopt(const std::string& path);

  UnixPath(UnixPath&& other) noexcept;
  UnixPath& operator=(UnixPath&&) = delete;
  ~UnixPath();

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  // The socket; the path stays ours.
  UniqueFd TakeFd() { return std::move(fd_); }
  // Whether the path leads to our socket.
  bool LeadsToUs() const;
  // Leaves the path where it is, for a successor.
  void Leave() { path_.clear(); }

 private:
  UnixPath(std::string path, UniqueFd fd, dev_t device, ino_t inode)
      : path_(std::move(path)), fd_(std::move(fd)), device_(device), inode_(inode) {}

  std::string path_;  // empty: moved away
  UniqueFd fd_;
  dev_t device_;
  ino_t inode_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_UNIX_PATH_H_
