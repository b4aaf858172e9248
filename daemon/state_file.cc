#include "daemon/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/exit_code.h"

namespace tallyd {
namespace {

absl::Status Failed(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

}  // namespace

StateFile::Calls StateFile::KernelCalls() {
  Calls calls;
  calls.openat = [](int directory, const char* name, int flags, mode_t mode) {
    return ::openat(directory, name, flags, mode);
  };
  calls.write = [](int fd, const void* bytes, size_t size) { return ::write(fd, bytes, size); };
  calls.fsync = [](int fd) { return ::fsync(fd); };
  calls.rename = [](int directory, const char* from, const char* to) {
    return ::renameat(directory, from, directory, to);
  };
  return calls;
}

absl::StatusOr<std::unique_ptr<StateFile>> StateFile::Open(const std::string& directory) {
  return Open(directory, KernelCalls());
}

absl::StatusOr<std::unique_ptr<StateFile>> StateFile::Open(const std::string& directory,
                                                           Calls calls) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Failed("open", directory);
  // Of the directory itself, so that it can be had where nothing can be written.
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Failed("lock", directory);
    return InUseError(absl::StrCat(directory, ": another process keeps its state there"));
  }
  return std::unique_ptr<StateFile>(
      new StateFile(directory, kName, std::move(fd), std::move(calls)));
}

absl::StatusOr<std::unique_ptr<StateFile>> StateFile::Beside(const std::string& name) const {
  // A lock belongs to what was opened, of which this is another number.
  UniqueFd fd(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd.valid()) return Failed("open", directory_);
  return std::unique_ptr<StateFile>(new StateFile(directory_, name, std::move(fd), calls_));
}

absl::StatusOr<std::string> StateFile::Read() const {
  const UniqueFd file(
      calls_.openat(fd_.get(), name_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0));
  if (!file.valid()) {
    if (errno == ENOENT) return absl::NotFoundError("no state was saved yet");
    return Failed("open", path());
  }
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return Failed("stat", path());
  if (!S_ISREG(about.st_mode)) return absl::DataLossError(absl::StrCat(path(), " is no file"));
  std::string bytes(static_cast<size_t>(about.st_size), 0);
  size_t read = 0;
  while (read < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + read, bytes.size() - read);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed("read", path());
    if (got == 0) break;  // it has become shorter, which its checksums tell
    read += static_cast<size_t>(got);
  }
  bytes.resize(read);
  return bytes;
}

absl::Status StateFile::Write(std::string_view bytes) const {
  absl::Status status = WriteNew(bytes);
  if (!status.ok()) {
    // Half a file takes room that the next attempt may need.
    ::unlinkat(fd_.get(), new_name_.c_str(), 0);
    return status;
  }
  if (calls_.rename(fd_.get(), new_name_.c_str(), name_.c_str()) != 0)
    return Failed("rename to", path());
  // The name is on the disk when the directory is.
  if (calls_.fsync(fd_.get()) != 0) return Failed("fsync", directory_);
  return absl::OkStatus();
}

absl::Status StateFile::WriteNew(std::string_view bytes) const {
  const std::string name = absl::StrCat(directory_, "/", new_name_);
  // Values and names are nobody else's business, and the seed of the hashes is a secret.
  constexpr mode_t kOwnerOnly = 0600;
  const UniqueFd file(calls_.openat(fd_.get(), new_name_.c_str(),
                                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                                    kOwnerOnly));
  if (!file.valid()) return Failed("open", name);
  constexpr size_t kPiece = size_t{1} << 20;
  while (!bytes.empty()) {
    const ssize_t wrote = calls_.write(file.get(), bytes.data(), std::min(bytes.size(), kPiece));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return Failed("write", name);
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  if (calls_.fsync(file.get()) != 0) return Failed("fsync", name);
  return absl::OkStatus();
}

absl::StatusOr<std::string> StateFile::SetAside(const std::string& suffix) const {
  const std::string name = name_ + suffix;
  if (calls_.rename(fd_.get(), name_.c_str(), name.c_str()) != 0) return Failed("rename", path());
  return directory_ + "/" + name;
}

}  // namespace tallyd
