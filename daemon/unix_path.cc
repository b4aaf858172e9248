#include "daemon/unix_path.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"

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

// Two starting processes must not both find the same dead socket and replace each other's new one,
// so whoever looks at a path holds its directory's lock. The lock leaves no file behind.
absl::StatusOr<UniqueFd> LockDirectory(const std::string& path, absl::Duration patience) {
  const std::string directory = DirectoryOf(path);
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return InUseError(absl::StrCat("socket path ", path, ": directory ", directory, ": ", Error()));
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) == 0 && (info.st_mode & S_IWOTH) != 0 &&
      (info.st_mode & S_ISVTX) == 0) {
    return InUseError(absl::StrCat("socket path ", path, ": anyone may replace it, because ",
                                   directory, " is writable for all and has no sticky bit"));
  }
  const int64_t deadline_ns = MonotonicNs() + absl::ToInt64Nanoseconds(patience);
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (MonotonicNs() >= deadline_ns) {
      return InUseError(absl::StrCat("socket path ", path, ": the lock on directory ", directory,
                                     " is held by another process"));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return fd;
}

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

absl::Status BindTo(const sockaddr_un& address, int fd, mode_t mode, gid_t group) {
  // The kernel gives the file the permissions of the socket, less the umask: set before, so that
  // the path is at no moment more open than asked, and after, because of the umask.
  // Until the file is the right group's, no group has a right.
  const bool own_group = group == UnixPath::kOwnGroup;
  ::fchmod(fd, own_group ? mode : mode & ~mode_t{S_IRWXG});
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return InUseError(absl::StrCat("cannot listen on socket ", address.sun_path, ": ", Error()));
  }
  if (!own_group && ::lchown(address.sun_path, static_cast<uid_t>(-1), group) != 0) {
    const int error = errno;
    ::unlink(address.sun_path);
    return absl::InternalError(absl::StrCat("cannot give socket ", address.sun_path, " to group ",
                                            group, ": ", std::strerror(error)));
  }
  if (::chmod(address.sun_path, mode) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot set the mode of socket ", address.sun_path, ": ", Error()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UnixPath> UnixPath::Bind(const std::string& path, int type, mode_t mode, gid_t group,
                                        absl::Duration patience) {
  const absl::StatusOr<sockaddr_un> address = MakeAddress(path);
  if (!address.ok()) return address.status();
  const absl::StatusOr<UniqueFd> lock = LockDirectory(path, patience);
  if (!lock.ok()) return lock.status();
  absl::Status status = RemoveStale(*address, type);
  if (!status.ok()) return status;

  UniqueFd fd(::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return absl::InternalError(absl::StrCat("cannot open a socket: ", Error()));
  status = BindTo(*address, fd.get(), mode, group);
  if (!status.ok()) return status;

  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return InUseError(absl::StrCat("socket path ", path, " went away at once: ", Error()));
  }
  return UnixPath(path, std::move(fd), info.st_dev, info.st_ino);
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
