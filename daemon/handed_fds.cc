#include "daemon/handed_fds.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/rules/abseil_view.h"
#include "daemon/exit_code.h"

namespace tallyd {
namespace {

constexpr int kFirstFd = 3;                 // by the protocol
constexpr int kMostFds = 1 << 16;           // more than any manager keeps
constexpr const char* kNoName = "unknown";  // as sd_listen_fds_with_names(3) calls them

absl::StatusOr<std::vector<std::string>> NamesOf(const char* names, int count) {
  if (names == nullptr) return std::vector<std::string>(static_cast<size_t>(count), kNoName);
  std::vector<std::string> split = absl::StrSplit(names, ':');
  if (split.size() == static_cast<size_t>(count)) return split;
  return UsageError(absl::StrCat("LISTEN_FDNAMES has ", split.size(),
                                 " names for LISTEN_FDS=", count, " descriptors"));
}

}  // namespace

absl::StatusOr<HandedFds> HandedFds::FromEnvironment() {
  absl::StatusOr<HandedFds> handed = Read(std::getenv("LISTEN_PID"), std::getenv("LISTEN_FDS"),
                                          std::getenv("LISTEN_FDNAMES"), kFirstFd);
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return handed;
}

absl::StatusOr<HandedFds> HandedFds::Read(const char* pid, const char* count, const char* names,
                                          int first) {
  HandedFds handed;
  if (pid == nullptr || count == nullptr) return handed;
  int meant = 0;
  if (!absl::SimpleAtoi(pid, &meant)) {
    return UsageError(absl::StrCat("LISTEN_PID=", pid, " is no process id"));
  }
  if (meant != ::getpid()) return handed;
  int fds = 0;
  if (!absl::SimpleAtoi(count, &fds) || fds < 0 || fds > kMostFds) {
    return UsageError(absl::StrCat("LISTEN_FDS=", count, " is no number of descriptors"));
  }
  if (fds == 0) return handed;
  absl::StatusOr<std::vector<std::string>> all_names = NamesOf(names, fds);
  if (!all_names.ok()) return all_names.status();
  for (int i = 0; i < fds; ++i) {
    const int fd = first + i;
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return UsageError(absl::StrCat("LISTEN_FDS=", fds, ", but descriptor ", fd, " is not open"));
    }
    handed.fds_.push_back({std::move((*all_names)[static_cast<size_t>(i)]), UniqueFd(fd)});
  }
  return handed;
}

bool HandedFds::IsOwnName(std::string_view name) {
  return absl::StartsWith(View(name), View(kOwnPrefix)) && !absl::EndsWith(View(name), ".socket");
}

std::vector<UniqueFd> HandedFds::Take(std::string_view name) {
  std::vector<UniqueFd> taken;
  for (HandedFd& handed : TakeIf([name](const HandedFd& fd) { return fd.name == name; })) {
    taken.push_back(std::move(handed.fd));
  }
  return taken;
}

}  // namespace tallyd
