#include "daemon/terminal_screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l\x1b[?7l";  // other screen, no cursor, no wrapping
constexpr char kLeave[] = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

constexpr int kEndSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr int kCrashSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

// Signal handlers know nothing else.
volatile sig_atomic_t end_signal = 0;
volatile sig_atomic_t size_changed = 0;
volatile sig_atomic_t stop_asked = 0;
volatile sig_atomic_t entered = 0;
termios terminal_before;

void OnSignal(int signal) {
  if (signal == SIGWINCH) {
    size_changed = 1;
  } else if (signal == SIGTSTP) {
    stop_asked = 1;
  } else {
    end_signal = signal;
  }
}

void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
}

// All that is called here may be called in a handler.
void GiveBack() {
  if (entered == 0) return;
  entered = 0;
  WriteAll(std::string_view(kLeave, sizeof(kLeave) - 1));
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
}

void OnCrash(int signal) {
  GiveBack();
  ::raise(signal);  // handled only once, so this is the end
}

void Handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigaction(signal, &action, nullptr);
}

// Blocked but while Wait waits, so that none comes between a look and the wait.
sigset_t WaitedFor() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : kEndSignals) ::sigaddset(&set, signal);
  ::sigaddset(&set, SIGWINCH);
  ::sigaddset(&set, SIGTSTP);
  return set;
}

bool WantsColour() {
  const char* const no_colour = std::getenv("NO_COLOR");
  return no_colour == nullptr || *no_colour == 0;
}

const char* StyleCode(TopLine::Style style) {
  switch (style) {
    case TopLine::Style::kTitle:
      return "\x1b[1m";
    case TopLine::Style::kColumns:
      return "\x1b[7m";
    case TopLine::Style::kWarning:
      return "\x1b[33m";
    case TopLine::Style::kPlain:
      break;
  }
  return "";
}

}  // namespace

std::vector<int> KeyReader::Keys(std::string_view bytes_untrusted) {
  constexpr size_t kMaxParameters = 16;
  std::vector<int> keys;
  const auto add = [&keys](TerminalKey key) { keys.push_back(static_cast<int>(key)); };
  for (const char c : bytes_untrusted) {
    if (c == '\x1b') {
      state_ = State::kEscape;
    } else if (state_ == State::kPlain) {
      keys.push_back(static_cast<unsigned char>(c));
    } else if (state_ == State::kEscape) {
      const bool begins = c == '[' || c == 'O';
      state_ = begins ? State::kSequence : State::kPlain;
      parameters_.clear();
    } else if (c >= '@' && c <= '~') {
      state_ = State::kPlain;
      if (c == 'A') add(TerminalKey::kUp);
      if (c == 'B') add(TerminalKey::kDown);
      if (c == 'H') add(TerminalKey::kHome);
      if (c == '~' && parameters_ == "5") add(TerminalKey::kPageUp);
      if (c == '~' && parameters_ == "6") add(TerminalKey::kPageDown);
      if (c == '~' && parameters_ == "1") add(TerminalKey::kHome);
    } else if (parameters_.size() < kMaxParameters) {
      parameters_.push_back(c);
    }
  }
  return keys;
}

absl::StatusOr<std::unique_ptr<TerminalScreen>> TerminalScreen::Open() {
  const char* const kind = std::getenv("TERM");
  const std::string_view name = kind == nullptr ? "" : kind;
  if (::isatty(STDOUT_FILENO) == 0 || name.empty() || name == "dumb") {
    return absl::FailedPreconditionError("standard output is no terminal that can be steered");
  }
  if (::tcgetattr(STDIN_FILENO, &terminal_before) != 0) {
    return absl::FailedPreconditionError("standard input is no terminal, so there are no keys");
  }
  return std::unique_ptr<TerminalScreen>(new TerminalScreen());
}

TerminalScreen::TerminalScreen() : colour_(WantsColour()) {
  const sigset_t waited = WaitedFor();
  ::sigprocmask(SIG_BLOCK, &waited, nullptr);
  for (const int signal : kEndSignals) Handle(signal, OnSignal, 0);
  for (const int signal : {SIGWINCH, SIGTSTP}) Handle(signal, OnSignal, 0);
  for (const int signal : kCrashSignals) {
    Handle(signal, OnCrash, static_cast<int>(SA_RESETHAND | SA_NODEFER));
  }
  Enter();
}

TerminalScreen::~TerminalScreen() {
  Leave();
  for (const int signal : kEndSignals) Handle(signal, SIG_DFL, 0);
  for (const int signal : {SIGWINCH, SIGTSTP}) Handle(signal, SIG_DFL, 0);
  const sigset_t waited = WaitedFor();
  ::sigprocmask(SIG_UNBLOCK, &waited, nullptr);
}

void TerminalScreen::Enter() {
  termios raw = terminal_before;
  // Ctrl-C and Ctrl-Z still make their signals.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  entered = 1;
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
  WriteAll(std::string_view(kEnter, sizeof(kEnter) - 1));
}

void TerminalScreen::Leave() { GiveBack(); }

// As a shell's user expects of Ctrl-Z: the shell gets its screen, and fg comes back here.
void TerminalScreen::Suspend() {
  Leave();
  ::raise(SIGSTOP);
  Enter();
}

TerminalScreen::Size TerminalScreen::size() const {
  winsize window{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return {};
  return {.width = window.ws_col, .height = std::max<size_t>(1, window.ws_row)};
}

void TerminalScreen::Draw(const std::vector<TopLine>& lines) {
  // A line is cleared before it is written: once its last column is, the cursor stands on that.
  std::string frame = "\x1b[H";
  for (size_t i = 0; i < lines.size(); ++i) {
    const char* const code = colour_ ? StyleCode(lines[i].style) : "";
    absl::StrAppend(&frame, i == 0 ? "" : "\r\n", "\x1b[K", code, lines[i].text,
                    *code == 0 ? "" : "\x1b[0m");
  }
  if (lines.size() < size().height) frame += "\r\n\x1b[J";
  WriteAll(frame);
}

TerminalScreen::Event TerminalScreen::Wait(int64_t deadline_ns) {
  Event event;
  const int64_t left_ns = std::max<int64_t>(0, deadline_ns - MonotonicNs());
  const timespec timeout{static_cast<time_t>(left_ns / 1'000'000'000),
                         static_cast<long>(left_ns % 1'000'000'000)};
  pollfd input{has_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
  sigset_t none;
  ::sigemptyset(&none);
  ::ppoll(&input, 1, &timeout, &none);
  if (std::exchange(stop_asked, 0) != 0) {
    Suspend();
    event.redraw = true;
  }
  event.redraw = event.redraw || size_changed != 0;
  size_changed = 0;
  event.signal = end_signal;
  if ((input.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
    std::array<char, 256> bytes;
    const ssize_t size = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (size > 0) {
      event.keys = reader_.Keys(std::string_view(bytes.data(), static_cast<size_t>(size)));
    } else if (size == 0 || errno != EINTR) {
      has_keys_ = false;  // the terminal is gone
      event.signal = SIGHUP;
    }
  }
  return event;
}

bool TerminalScreen::Interrupted() {
  if (end_signal != 0) return true;
  sigset_t pending;
  ::sigpending(&pending);
  return std::any_of(std::begin(kEndSignals), std::end(kEndSignals),
                     [&pending](int signal) { return ::sigismember(&pending, signal) == 1; });
}

}  // namespace tallyd
