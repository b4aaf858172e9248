#include "daemon/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tallyd {
namespace {

// The kernel passes at most 253 at a time.
constexpr size_t kMostFdsAtATime = 128;

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Whether the watchdog watches this process; without a pid it watches whoever is asked.
bool WatchesUs() {
  const std::string pid = Variable("WATCHDOG_PID");
  int watched = 0;
  return pid.empty() || (absl::SimpleAtoi(pid, &watched) && watched == ::getpid());
}

}  // namespace

ServiceManager ServiceManager::FromEnvironment() {
  Environment environment;
  environment.notify_socket = Variable("NOTIFY_SOCKET");
  int capacity = 0;
  if (absl::SimpleAtoi(Variable("FDSTORE"), &capacity)) environment.store_capacity = capacity;
  int64_t watchdog_us = 0;
  if (absl::SimpleAtoi(Variable("WATCHDOG_USEC"), &watchdog_us) && watchdog_us > 0 && WatchesUs()) {
    environment.watchdog = absl::Microseconds(watchdog_us);
  }
  for (const char* name : {"NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    ::unsetenv(name);
  }
  return ServiceManager(environment);
}

ServiceManager::ServiceManager(const Environment& environment)
    : store_capacity_(std::max(0, environment.store_capacity)), watchdog_(environment.watchdog) {
  const std::string& path = environment.notify_socket;
  const bool abstract = !path.empty() && path.front() == '@';
  if (path.empty() || (path.front() != '/' && !abstract)) return;
  if (path.size() >= sizeof(address_.sun_path)) return;
  address_.sun_family = AF_UNIX;
  std::memcpy(address_.sun_path, path.data(), path.size());
  if (abstract) address_.sun_path[0] = '\0';
  address_size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const timeval patience = absl::ToTimeval(kPatience);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

absl::Status ServiceManager::Notify(std::string_view assignments) const {
  return Send(assignments, nullptr, 0, 0);
}

bool ServiceManager::NotifyIfRoom(std::string_view assignments) const {
  return Send(assignments, nullptr, 0, MSG_DONTWAIT).ok();
}

absl::Status ServiceManager::Store(std::string_view name, const std::vector<int>& fds) const {
  if (!stores_fds()) return absl::FailedPreconditionError("no manager stores descriptors for us");
  // The manager would forget, as soon as its peer hung up, a connection with bytes still queued;
  // hence FDPOLL=0.
  const std::string assignments =
      absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", absl::string_view(name.data(), name.size()));
  for (size_t at = 0; at < fds.size(); at += kMostFdsAtATime) {
    const size_t count = std::min(kMostFdsAtATime, fds.size() - at);
    absl::Status status = Send(assignments, fds.data() + at, count, 0);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ServiceManager::Remove(std::string_view name) const {
  if (!stores_fds()) return absl::OkStatus();
  return Notify(
      absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", absl::string_view(name.data(), name.size())));
}

absl::Status ServiceManager::Send(std::string_view assignments, const int* fds, size_t count,
                                  int flags) const {
  if (!present()) return absl::OkStatus();
  iovec bytes{const_cast<char*>(assignments.data()), assignments.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFdsAtATime * sizeof(int))> control{};
  msghdr message{};
  message.msg_name = const_cast<sockaddr_un*>(&address_);
  message.msg_namelen = address_size_;
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket_.get(), &message, flags | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("the service manager: ", std::strerror(errno)));
}

}  // namespace tallyd
