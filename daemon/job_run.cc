#include "daemon/job_run.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "daemon/admin_client.h"
#include "daemon/exit_code.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

constexpr int kAnswerTimeoutMs = 5'000;
constexpr size_t kMaxAnswerBytes = 64 * 1024;
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;
constexpr std::array<int, 8> kForwarded = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                           SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

volatile sig_atomic_t child_pid = 0;

// A terminal tells the whole foreground group, so what the kernel sends has reached the child too.
void Forward(int signal, siginfo_t* info, void*) {
  const int saved = errno;
  if (info->si_code <= 0 && child_pid > 0) ::kill(static_cast<pid_t>(child_pid), signal);
  errno = saved;
}

void Warn(absl::string_view what) { std::cerr << "tallyctl: " << what << "\n"; }

// A session with the daemon, from the answer to its request on.
class JobConnection {
 public:
  static absl::StatusOr<JobConnection> Open(const std::string& path, const std::string& target) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", path, "\" is no path of a socket"));
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid() ||
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot reach tallyd on ", path, ": ", std::strerror(errno)));
    }
    JobConnection connection(std::move(fd));
    connection.Send(absl::StrCat("POST ", target, " HTTP/1.1\r\nHost: tallyd\r\n\r\n"));
    absl::Status status = connection.ReadAnswer();
    if (!status.ok()) return status;
    return connection;
  }

  const std::string& socket_path() const { return socket_path_; }
  const std::string& udp() const { return udp_; }

  // Waits until the daemon has counted what the job sent; false if it does not say so.
  bool End(int exit_code) {
    Send(absl::StrCat("exit ", exit_code, "\n"));
    const absl::StatusOr<std::string> answer = ReadUntil("done\n");
    return answer.ok();
  }

 private:
  explicit JobConnection(UniqueFd fd) : fd_(std::move(fd)) {}

  void Send(const std::string& text) {
    // Short enough for the socket's buffer; an error shows in the answer.
    if (::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return;
  }

  absl::StatusOr<std::string> ReadUntil(absl::string_view end) {
    std::string text;
    std::array<char, 4096> buffer;
    while (!absl::EndsWith(text, end) && text.size() < kMaxAnswerBytes) {
      pollfd readable{fd_.get(), POLLIN, 0};
      const int ready = ::poll(&readable, 1, kAnswerTimeoutMs);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return absl::DeadlineExceededError("tallyd does not answer");
      const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(size));
    }
    if (absl::EndsWith(text, end)) return text;
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(text, absl::MaxSplits("\r\n\r\n", 1));
    return absl::FailedPreconditionError(
        absl::StrCat("tallyd refuses: ", absl::StripAsciiWhitespace(parts.second)));
  }

  absl::Status ReadAnswer() {
    const absl::StatusOr<std::string> answer = ReadUntil("\nready\n");
    if (!answer.ok()) return answer.status();
    for (absl::string_view line : absl::StrSplit(*answer, '\n')) {
      if (absl::ConsumePrefix(&line, "socket ")) socket_path_ = std::string(line);
      if (absl::ConsumePrefix(&line, "udp ")) udp_ = std::string(line);
    }
    return absl::OkStatus();
  }

  UniqueFd fd_;
  std::string socket_path_;
  std::string udp_;
};

absl::StatusOr<std::string> TargetOf(const JobRunOptions& options) {
  std::string target = absl::StrCat("/job?job=", PercentEncoded(options.job));
  if (!options.instance.empty()) {
    absl::StrAppend(&target, "&instance=", PercentEncoded(options.instance));
  }
  for (const std::string& label : options.grouping) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (label.find('=') == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("--grouping ", label, " is not LABEL=VALUE"));
    }
    absl::StrAppend(&target, "&label.", PercentEncoded(pair.first), "=",
                    PercentEncoded(pair.second));
  }
  if (options.ttl.empty()) return target;
  absl::Duration ttl;
  if (!absl::ParseDuration(options.ttl, &ttl) || ttl < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ttl ", options.ttl, " is no duration (write 90s, 1h30m)"));
  }
  return absl::StrCat(target, "&ttl_ms=", absl::ToInt64Milliseconds(ttl));
}

// What clients of StatsD and DogStatsD look at.
void SetEnvironment(const JobConnection& connection) {
  const std::pair<std::string, std::string> address =
      absl::StrSplit(connection.udp(), absl::MaxSplits(':', 1));
  const std::string url = absl::StrCat("unix://", connection.socket_path());
  const std::pair<const char*, std::string> variables[] = {
      {"STATSD_HOST", address.first},
      {"STATSD_PORT", address.second},
      {"STATSD_ADDR", connection.udp()},
      {"STATSD_SOCKET", connection.socket_path()},
      {"DD_AGENT_HOST", address.first},
      {"DD_DOGSTATSD_PORT", address.second},
      {"DD_DOGSTATSD_SOCKET", connection.socket_path()},
      {"DD_DOGSTATSD_URL", url},
  };
  for (const auto& [name, value] : variables) ::setenv(name, value.c_str(), 1);
}

[[noreturn]] void Execute(const JobRunOptions& options) {
  std::vector<char*> arguments;
  for (const std::string& argument : options.command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  Warn(absl::StrCat("cannot run ", options.command[0], ": ", std::strerror(error)));
  ::_exit(error == ENOENT ? kNotFound : kCannotRun);
}

// Signals wait from before the child is there until they can be forwarded to it.
class SignalsForwarded {
 public:
  SignalsForwarded() {
    sigset_t forwarded;
    ::sigemptyset(&forwarded);
    for (const int signal : kForwarded) ::sigaddset(&forwarded, signal);
    ::sigprocmask(SIG_BLOCK, &forwarded, &before_);
  }
  void InChild() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  void InParent(pid_t child) const {
    child_pid = child;
    struct sigaction action {};
    action.sa_sigaction = Forward;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    for (const int signal : kForwarded) {
      struct sigaction now {};
      ::sigaction(signal, nullptr, &now);
      // What we were told to ignore (as by nohup) the child ignores too.
      if (now.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
    }
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_;
};

int RunCommand(const JobRunOptions& options, const JobConnection* connection) {
  const SignalsForwarded signals;
  const pid_t child = ::fork();
  if (child < 0) {
    Warn(absl::StrCat("cannot start a process: ", std::strerror(errno)));
    return kCannotRun;
  }
  if (child == 0) {
    signals.InChild();
    if (connection != nullptr) SetEnvironment(*connection);
    Execute(options);
  }
  signals.InParent(child);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // Another process may have its number from now on.
  child_pid = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int RunJob(const JobRunOptions& options) {
  const absl::StatusOr<std::string> target = TargetOf(options);
  if (!target.ok()) {
    Warn({target.status().message()});
    return static_cast<int>(ExitCode::kUsage);
  }
  absl::StatusOr<JobConnection> connection = JobConnection::Open(options.socket, *target);
  if (!connection.ok()) {
    Warn({connection.status().message()});
    if (options.require) return static_cast<int>(ExitCode::kRuntimeFailure);
    Warn("the command runs without it");
  }
  const int code = RunCommand(options, connection.ok() ? &*connection : nullptr);
  if (connection.ok() && !connection->End(code)) Warn("tallyd did not take note of the job's end");
  return code;
}

}  // namespace tallyd
