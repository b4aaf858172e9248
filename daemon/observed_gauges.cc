#include "daemon/observed_gauges.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "core/wire/number.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

bool IsWord(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '-' || c == '.' || c == '_';
}

int PollMs(int64_t deadline_ns) {
  const int64_t left_ms = (deadline_ns - MonotonicNs() + kNsPerMs - 1) / kNsPerMs;
  return static_cast<int>(std::clamp<int64_t>(left_ms, 0, std::numeric_limits<int>::max()));
}

ObservedGauges::Reading NumberIn(std::string_view text) {
  const std::optional<double> number = FirstNumber(text);
  if (!number) return ObservedFailure::kNoNumber;
  return *number;
}

ObservedGauges::Reading ReadRegularFile(const std::string& path) {
  // A pipe without a writer would make us wait.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (fd.get() < 0) return ObservedFailure::kCannotOpen;
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return ObservedFailure::kCannotOpen;
  if (!S_ISREG(info.st_mode)) return ObservedFailure::kNoRegularFile;
  std::array<char, ObservedGauges::kMaxBytes> bytes;
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ObservedFailure::kCannotRead;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  return NumberIn({bytes.data(), size});
}

}  // namespace

std::optional<double> FirstNumber(std::string_view text_untrusted) {
  const auto* const end = text_untrusted.end();
  for (const auto* at = text_untrusted.begin(); at != end;) {
    at = std::find_if(at, end, IsWord);
    const auto* const word_end = std::find_if_not(at, end, IsWord);
    const auto size = static_cast<size_t>(word_end - at);
    Number number;
    if (size > 0 && ParseNumber(std::string_view(at, size), &number) &&
        std::isfinite(number.value)) {
      return number.value;
    }
    at = word_end;
  }
  return std::nullopt;
}

ObservedGauges::ObservedGauges(std::vector<ObservedSource> sources, OnReading on_reading)
    : sources_(std::move(sources)),
      on_reading_(std::move(on_reading)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!sources_.empty()) thread_ = std::thread([this] { Run(); });
}

ObservedGauges::~ObservedGauges() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  // It cannot fail: the counter has room for more than one.
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void ObservedGauges::Run() {
  ::pthread_setname_np(::pthread_self(), "observer");
  std::vector<int64_t> due_ns(sources_.size(), MonotonicNs());
  while (true) {
    const auto next = std::min_element(due_ns.begin(), due_ns.end());
    if (WaitUntil(*next)) return;
    const auto number = static_cast<size_t>(next - due_ns.begin());
    const Reading reading = Read(sources_[number]);
    // What was cut short by the end says nothing about the source.
    if (WaitUntil(0)) return;
    on_reading_(number, reading);
    // Turns that were missed are left out.
    *next = std::max(*next + sources_[number].interval_ms * kNsPerMs, MonotonicNs());
  }
}

bool ObservedGauges::WaitUntil(int64_t due_ns) const {
  while (true) {
    pollfd stop = {.fd = stop_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&stop, 1, PollMs(due_ns)) > 0) return true;
    if (MonotonicNs() >= due_ns) return false;
  }
}

ObservedGauges::Reading ObservedGauges::Read(const ObservedSource& source) const {
  return source.socket.empty() ? ReadRegularFile(source.file) : ReadSocket(source);
}

bool ObservedGauges::WaitFor(int fd, int16_t events, int64_t deadline_ns) const {
  while (true) {
    std::array<pollfd, 2> waits = {{{.fd = fd, .events = events, .revents = 0},
                                    {.fd = stop_.get(), .events = POLLIN, .revents = 0}}};
    const int ready = ::poll(waits.data(), waits.size(), PollMs(deadline_ns));
    if (waits[1].revents != 0) return false;
    if (ready > 0) return true;
    if (MonotonicNs() >= deadline_ns) return false;
  }
}

// The answer is over where its sender closes, or at the end of a line that holds a number.
ObservedGauges::Reading ObservedGauges::ReadSocket(const ObservedSource& source) const {
  const int64_t deadline_ns = MonotonicNs() + source.timeout_ms * kNsPerMs;
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (fd.get() < 0 || source.socket.size() >= sizeof(address.sun_path)) {
    return ObservedFailure::kCannotConnect;
  }
  std::memcpy(address.sun_path, source.socket.data(), source.socket.size());
  // A UNIX socket connects at once or, if too many others wait, not at all.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ObservedFailure::kCannotConnect;
  }
  std::string_view query = source.query;
  while (!query.empty()) {
    if (!WaitFor(fd.get(), POLLOUT, deadline_ns)) return ObservedFailure::kTimeout;
    const ssize_t sent = ::send(fd.get(), query.data(), query.size(), MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (sent < 0) return ObservedFailure::kCannotRead;
    query.remove_prefix(static_cast<size_t>(sent));
  }
  std::array<char, kMaxBytes> bytes;
  size_t size = 0;
  while (size < bytes.size()) {
    if (!WaitFor(fd.get(), POLLIN, deadline_ns)) return ObservedFailure::kTimeout;
    const ssize_t got = ::recv(fd.get(), bytes.data() + size, bytes.size() - size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return ObservedFailure::kCannotRead;
    if (got == 0) break;
    size += static_cast<size_t>(got);
    const std::string_view text(bytes.data(), size);
    const size_t line_end = text.rfind('\n');
    if (line_end == std::string_view::npos) continue;
    if (const auto number = FirstNumber(text.substr(0, line_end))) return *number;
  }
  return NumberIn({bytes.data(), size});
}

}  // namespace tallyd
