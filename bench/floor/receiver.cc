#include "bench/floor/receiver.h"

#include <linux/sock_diag.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bench/load/transport.h"

namespace tallyd::bench {
namespace {

// How often a quiet receiver looks whether it shall end.
constexpr int kLookMs = 50;

std::atomic<bool> end_requested = false;

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

void DieUnless(bool ok, const char* what) {
  if (!ok) Die(absl::StrFormat("%s: %s", what, std::strerror(errno)));
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

double ToNs(const timeval& t) {
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_usec) * 1e3;
}

// Past the limit of the system where the process may, as a receiver that must lose nothing would.
void SetReceiveBuffer(int socket, int bytes) {
  if (bytes == 0) return;
  if (setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == 0) return;
  DieUnless(setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) == 0, "SO_RCVBUF");
}

// What the socket had no room for; always 0 for UNIX sockets, whose senders are refused instead.
uint64_t KernelDrops(int socket) {
  uint32_t info[SK_MEMINFO_VARS] = {};
  socklen_t bytes = sizeof(info);
  if (getsockopt(socket, SOL_SOCKET, SO_MEMINFO, info, &bytes) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

// SIGUSR1 is blocked from here on, for sigwait.
void HandleSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { end_requested.store(true, std::memory_order_relaxed); };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  sigset_t user1;
  sigemptyset(&user1);
  sigaddset(&user1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &user1, nullptr);
}

}  // namespace

Receiver::Receiver(ReceiverOptions options)
    : options_(std::move(options)), buffers_(kBatch * kBufferBytes, '\1') {
  const absl::StatusOr<Target> target = ParseTarget(options_.listen);
  if (!target.ok() || target->type != SOCK_DGRAM) Die(options_.listen + ": not a datagram socket");
  HandleSignals();
  socket_ = socket(target->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  DieUnless(socket_ >= 0, "socket");
  SetReceiveBuffer(socket_, options_.receive_buffer);
  const auto* address = reinterpret_cast<const sockaddr*>(&target->address);
  if (target->family == AF_UNIX) {
    unlink_path_ = reinterpret_cast<const sockaddr_un*>(address)->sun_path;
    unlink(unlink_path_.c_str());
  }
  DieUnless(bind(socket_, address, target->address_bytes) == 0, "bind");
  const timeval patience = {.tv_sec = 0, .tv_usec = kLookMs * 1000};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (options_.epoll) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    epoll_event readable = {.events = EPOLLIN, .data = {.fd = socket_}};
    DieUnless(epoll_ctl(epoll_, EPOLL_CTL_ADD, socket_, &readable) == 0, "epoll_ctl");
  }
  for (size_t i = 0; i < kBatch; ++i) {
    vectors_[i] = {.iov_base = &buffers_[i * kBufferBytes], .iov_len = kBufferBytes};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

Receiver::~Receiver() {
  close(socket_);
  if (epoll_ >= 0) close(epoll_);
  if (!unlink_path_.empty()) unlink(unlink_path_.c_str());
}

void Receiver::Start() {
  std::fputs("ready\n", stderr);
  if (options_.queued) WaitForUser1();
  last_input_ns_ = NowNs();
  CountCpu(-1);
}

void Receiver::WaitForUser1() const {
  sigset_t user1;
  sigemptyset(&user1);
  sigaddset(&user1, SIGUSR1);
  int signal_number;
  sigwait(&user1, &signal_number);
}

void Receiver::Finish() {
  CountCpu(1);
  account_.kernel_drops = KernelDrops(socket_);
}

void Receiver::CountCpu(double sign) {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  account_.cpu_user_ns += sign * ToNs(usage.ru_utime);
  account_.cpu_sys_ns += sign * ToNs(usage.ru_stime);
}

bool Receiver::IsOver() {
  if (end_requested.load(std::memory_order_relaxed)) return true;
  if (options_.idle_ms == 0 || account_.datagrams == 0) return false;
  return NowNs() - last_input_ns_ > options_.idle_ms * 1'000'000;
}

void Receiver::WaitForInput() {
  if (options_.rest_us > 0) {
    const timespec rest = {.tv_sec = 0, .tv_nsec = options_.rest_us * 1000};
    nanosleep(&rest, nullptr);
  }
  epoll_event event;
  if (options_.epoll) epoll_wait(epoll_, &event, 1, kLookMs);
}

size_t Receiver::NextBatch() {
  // A batch that is not full has emptied the socket.
  if (drained_) WaitForInput();
  const int flags = options_.epoll ? MSG_DONTWAIT : MSG_WAITFORONE;
  const int count = recvmmsg(socket_, messages_.data(), kBatch, flags, nullptr);
  drained_ = count < static_cast<int>(kBatch);
  if (count > 0) {
    // The clock is for the end alone, so it is read only when it may be near.
    if (drained_ && options_.idle_ms > 0) last_input_ns_ = NowNs();
    return static_cast<size_t>(count);
  }
  DieUnless(errno == EAGAIN || errno == EINTR, "recvmmsg");
  return IsOver() ? kEnd : 0;
}

std::string ReceiverJson(const ReceiverAccount& a) {
  const double datagrams = a.datagrams > 0 ? static_cast<double>(a.datagrams) : 1;
  return absl::StrFormat(
      R"("datagrams":%d,"bytes":%d,"truncated":%d,"batches":%d,"kernel_drops":%d,)"
      R"("cpu_ns_per_datagram":%.1f,"cpu_user_ns_per_datagram":%.1f,)"
      R"("cpu_sys_ns_per_datagram":%.1f)",
      a.datagrams, a.bytes, a.truncated, a.batches, a.kernel_drops,
      (a.cpu_user_ns + a.cpu_sys_ns) / datagrams, a.cpu_user_ns / datagrams,
      a.cpu_sys_ns / datagrams);
}

ReceiverOptions ReceiverOptionsFromFlags(const std::string& about, int argc, char** argv) {
  CLI::App app(about);
  ReceiverOptions o;
  app.add_option("--listen", o.listen, "udp://ADDRESS:PORT or unixgram:///PATH")->required();
  app.add_option("--receive-buffer", o.receive_buffer, "SO_RCVBUF, bytes (the system's default)");
  app.add_option("--idle-ms", o.idle_ms, "end so long after the last datagram (never)");
  app.add_flag("--queued", o.queued, "receive nothing before SIGUSR1");
  app.add_flag("--epoll", o.epoll, "wait by epoll rather than in recvmmsg");
  app.add_option("--rest-us", o.rest_us, "sleep so long after each drain")
      ->check(CLI::Range(0, 999'999));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  return o;
}

}  // namespace tallyd::bench
