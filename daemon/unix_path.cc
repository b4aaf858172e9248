#include "daemon/unix_path.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"
#include "daemon/log.h"
#include "daemon/stream_listener.h"
#include "daemon/unixgram_listener.h"

namespace tallyd {
namespace {

std::string Error() { return std::strerror(errno); }

absl::StatusOr<sockaddr_un> MakeAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return UsageError(absl::StrCat("socket path \"", path, "\" is not of 1 to ",
                                   sizeof(address.sun_path) - 1, " bytes"));
  }
  if (path.front() == '@') {
    return UsageError(
        absl::StrCat("socket path \"", path, "\": abstract sockets are not supported"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status CheckDirectory(const std::string& path) {
  const std::string directory = DirectoryOf(path);
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0) {
    return InUseError(absl::StrCat("socket path ", path, ": directory ", directory, ": ", Error()));
  }
  if ((info.st_mode & S_IWOTH) != 0 && (info.st_mode & S_ISVTX) == 0) {
    return InUseError(absl::StrCat("socket path ", path, ": anyone may replace it, because ",
                                   directory, " is writable for all and has no sticky bit"));
  }
  return absl::OkStatus();
}

// Two starting processes must not both find the same dead socket and replace each other's new one,
// so whoever looks at a path locks a file beside it, which goes with the lock. A file, because
// everybody who can read a directory can lock that, and keep us from starting.
class PathLock {
 public:
  // Refused if another process of our user has the lock when `patience` is over. Where nobody can
  // have it, because the file is another user's, there is none, and a line in the log says so.
  static absl::StatusOr<PathLock> Take(const std::string& path, absl::Duration patience) {
    const std::string file = path + ".lock";
    const int64_t deadline_ns = MonotonicNs() + absl::ToInt64Nanoseconds(patience);
    while (true) {
      UniqueFd fd(
          ::open(file.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
      if (!fd.valid()) return Without(file, Error());
      if (!IsOursAlone(fd.get())) return Without(file, "it is not a file of ours alone");
      // Whoever had the lock before has removed the file.
      if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
        if (IsAt(fd.get(), file)) return PathLock(file, std::move(fd));
      } else if (errno != EWOULDBLOCK) {
        return Without(file, Error());
      }
      if (MonotonicNs() >= deadline_ns) {
        return InUseError(
            absl::StrCat("socket path ", path, ": another process has the lock on ", file));
      }
      absl::SleepFor(absl::Milliseconds(20));
    }
  }

  PathLock(PathLock&&) = default;
  PathLock& operator=(PathLock&&) = delete;
  ~PathLock() {
    if (fd_.valid()) ::unlink(file_.c_str());
  }

 private:
  PathLock(std::string file, UniqueFd fd) : file_(std::move(file)), fd_(std::move(fd)) {}

  static PathLock Without(const std::string& file, const std::string& why) {
    LogWarn("a socket is bound without a lock on its path", {{"file", file}, {"error", why}});
    return {file, UniqueFd()};
  }

  static bool IsOursAlone(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid() &&
           (info.st_mode & (S_IRWXG | S_IRWXO)) == 0;
  }

  static bool IsAt(int fd, const std::string& file) {
    struct stat ours {};
    struct stat there {};
    return ::fstat(fd, &ours) == 0 && ::lstat(file.c_str(), &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
  }

  const std::string file_;
  UniqueFd fd_;  // invalid: there is no lock
};

// Says OK if nobody answers on the socket file. Anything but "connection refused" is an answer: a
// full queue, another socket type, a file that we may not talk to.
absl::Status CheckNobodyAnswers(const sockaddr_un& address, int type) {
  const UniqueFd probe(::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return absl::InternalError(absl::StrCat("cannot open a socket: ", Error()));
  const auto* target = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(probe.get(), target, sizeof(address)) != 0 && errno == ECONNREFUSED) {
    return absl::OkStatus();
  }
  return InUseError(absl::StrCat("socket ", address.sun_path, " is in use by another process"));
}

absl::Status RemoveStale(const sockaddr_un& address, int type) {
  const std::string path = address.sun_path;
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return InUseError(absl::StrCat("socket path ", path, ": ", Error()));
  }
  if (!S_ISSOCK(info.st_mode)) {
    const char* what = S_ISDIR(info.st_mode)   ? "a directory"
                       : S_ISLNK(info.st_mode) ? "a symbolic link"
                                               : "a file";
    return InUseError(
        absl::StrCat("socket path ", path, " is ", what, ", not a socket; it was left alone"));
  }
  absl::Status status = CheckNobodyAnswers(address, type);
  if (!status.ok()) return status;
  if (::unlink(path.c_str()) == 0) return absl::OkStatus();
  return InUseError(absl::StrCat("cannot remove the dead socket ", path, ": ", Error()));
}

// The file of a socket, however often its path leads elsewhere meanwhile.
struct SocketFile {
  UniqueFd fd;  // names it, and no more
  struct stat info {};
};

// Binds to a path on which nothing is. The kernel gives the file the permissions of the socket,
// less the umask, so that at no moment it is more open than asked.
absl::StatusOr<SocketFile> BindTo(const sockaddr_un& address, int fd, mode_t mode) {
  ::fchmod(fd, mode);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return InUseError(absl::StrCat("cannot listen on socket ", address.sun_path, ": ", Error()));
  }
  SocketFile file;
  file.fd.reset(::open(address.sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!file.fd.valid() || ::fstat(file.fd.get(), &file.info) != 0) {
    return InUseError(
        absl::StrCat("socket path ", address.sun_path, " went away at once: ", Error()));
  }
  if (!S_ISSOCK(file.info.st_mode) || file.info.st_uid != ::geteuid()) {
    return InUseError(absl::StrCat("socket path ", address.sun_path, " was replaced at once"));
  }
  return file;
}

// Not by its path: who owns the directory could have a link to any file there by now.
absl::Status SetRights(const std::string& path, const SocketFile& file, mode_t mode, gid_t group) {
  if (group != UnixPath::kOwnGroup &&
      ::fchownat(file.fd.get(), "", static_cast<uid_t>(-1), group, AT_EMPTY_PATH) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot give socket ", path, " to group ", group, ": ", Error()));
  }
  if ((file.info.st_mode & ~mode_t{S_IFMT}) == mode) return absl::OkStatus();
  if (::chmod(absl::StrCat("/proc/self/fd/", file.fd.get()).c_str(), mode) == 0) {
    return absl::OkStatus();
  }
  if (errno != ENOENT) {
    return absl::InternalError(absl::StrCat("cannot set the mode of socket ", path, ": ", Error()));
  }
  LogWarn("a socket has less than the mode asked for: that takes /proc, which is hidden",
          {{"path", path}});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UnixPath> UnixPath::Bind(const std::string& path, int type, mode_t mode, gid_t group,
                                        absl::Duration patience, Senders senders) {
  const absl::StatusOr<sockaddr_un> address = MakeAddress(path);
  if (!address.ok()) return address.status();
  absl::Status status = CheckDirectory(path);
  if (!status.ok()) return status;
  const absl::StatusOr<PathLock> lock = PathLock::Take(path, patience);
  if (!lock.ok()) return lock.status();
  status = RemoveStale(*address, type);
  if (!status.ok()) return status;

  UniqueFd fd(::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return absl::InternalError(absl::StrCat("cannot open a socket: ", Error()));
  if (senders == Senders::kTell && type == SOCK_DGRAM) TellSenders(fd.get());
  // Until the file is the right group's, no group has a right.
  const mode_t mode_at_first = group == kOwnGroup ? mode : mode & ~mode_t{S_IRWXG};
  absl::StatusOr<SocketFile> file = BindTo(*address, fd.get(), mode_at_first);
  if (!file.ok()) return file.status();
  UnixPath bound(path, std::move(fd), file->info.st_dev, file->info.st_ino);
  status = SetRights(path, *file, mode, group);
  // As long as the lock is held: on a socket that does not listen nobody answers.
  if (status.ok() && type != SOCK_DGRAM) {
    status = ListenOn(bound.fd(), absl::StrCat("socket ", path));
  }
  if (!status.ok()) return status;
  return bound;
}

absl::StatusOr<UnixPath> UnixPath::Adopt(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) {
    return absl::NotFoundError(absl::StrCat("no socket is at ", path));
  }
  return UnixPath(path, UniqueFd(), info.st_dev, info.st_ino);
}

UnixPath::UnixPath(UnixPath&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      fd_(std::move(other.fd_)),
      device_(other.device_),
      inode_(other.inode_) {}

UnixPath::~UnixPath() {
  if (!path_.empty() && LeadsToUs()) ::unlink(path_.c_str());
}

bool UnixPath::LeadsToUs() const {
  struct stat info {};
  return ::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

}  // namespace tallyd
