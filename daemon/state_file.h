// The file of the saved state: replaced as a whole or not at all.

#ifndef TALLYD_DAEMON_STATE_FILE_H_
#define TALLYD_DAEMON_STATE_FILE_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// A directory with the state of one process, which holds a lock on it.
//
// A state is written beside the one that there is, brought to the disk, and only then takes its
// name: whenever the process or the machine ends, the file is the old one or the new one. Not
// thread-safe.
class StateFile {
 public:
  static constexpr char kName[] = "state";
  static constexpr char kNewName[] = "state.new";

  // What is asked of the kernel, so that tests can refuse it. As the functions of these names.
  struct Calls {
    std::function<int(int directory, const char* name, int flags, mode_t mode)> openat;
    std::function<ssize_t(int fd, const void* bytes, size_t size)> write;
    std::function<int(int fd)> fsync;
    std::function<int(int directory, const char* from, const char* to)> rename;
  };
  static Calls KernelCalls();

  // AlreadyExists if another process has the lock; another error if there is no such directory.
  static absl::StatusOr<std::unique_ptr<StateFile>> Open(const std::string& directory);
  static absl::StatusOr<std::unique_ptr<StateFile>> Open(const std::string& directory, Calls calls);

  // Another file of the process in the same directory, called `name`. The lock is shared.
  absl::StatusOr<std::unique_ptr<StateFile>> Beside(const std::string& name) const;

  // NotFound if nothing was saved yet.
  absl::StatusOr<std::string> Read() const;
  // On an error the former state is still there.
  absl::Status Write(std::string_view bytes) const;
  // Gives what cannot be read another name, by which it stays for whoever wants to look at it: the
  // file's with `suffix`. Returns its path.
  absl::StatusOr<std::string> SetAside(const std::string& suffix) const;

  std::string path() const { return directory_ + "/" + name_; }

 private:
  StateFile(std::string directory, std::string name, UniqueFd fd, Calls calls)
      : directory_(std::move(directory)),
        name_(std::move(name)),
        new_name_(name_ + ".new"),
        fd_(std::move(fd)),
        calls_(std::move(calls)) {}

  absl::Status WriteNew(std::string_view bytes) const;

  const std::string directory_;
  const std::string name_;
  const std::string new_name_;
  const UniqueFd fd_;  // of the directory; its lock is ours
  const Calls calls_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STATE_FILE_H_
