// A terminal, taken over for a live view and always given back.

#ifndef TALLYD_DAEMON_TERMINAL_SCREEN_H_
#define TALLYD_DAEMON_TERMINAL_SCREEN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/top_view.h"

namespace tallyd {

// What a key means: its character, or one of these.
enum class TerminalKey : int { kUp = 256, kDown, kPageUp, kPageDown, kHome };

// Reads keys out of what a terminal sends; sequences that it does not know are skipped whole.
// Thread-compatible.
class KeyReader {
 public:
  // The keys of `bytes`; a sequence that is not complete is continued by the next call.
  std::vector<int> Keys(std::string_view bytes_untrusted);

 private:
  enum class State { kPlain, kEscape, kSequence };

  State state_ = State::kPlain;
  std::string parameters_;
};

// The alternate screen of the controlling terminal, without echo and line editing, while this
// lives. Signals that end or stop the process are noticed by Wait; those of a crash give the
// terminal back before they take their course.
//
// Thread-compatible; one at a time in a process.
class TerminalScreen {
 public:
  // Fails where standard output is no terminal that can be steered.
  static absl::StatusOr<std::unique_ptr<TerminalScreen>> Open();
  ~TerminalScreen();
  TerminalScreen(const TerminalScreen&) = delete;
  TerminalScreen& operator=(const TerminalScreen&) = delete;

  struct Size {
    size_t width = 80;
    size_t height = 24;
  };
  Size size() const;
  void Draw(const std::vector<TopLine>& lines);

  struct Event {
    std::vector<int> keys;
    bool redraw = false;  // the size has changed, or somebody else had the terminal
    int signal = 0;       // that asks for the end; 0: none
  };
  // Waits until something happens, or until `deadline_ns` of the monotonic clock.
  Event Wait(int64_t deadline_ns);
  // Whether a signal that asks for the end is waiting.
  static bool Interrupted();

 private:
  TerminalScreen();
  static void Enter();
  static void Leave();
  void Suspend();

  const bool colour_;
  bool has_keys_ = true;
  KeyReader reader_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TERMINAL_SCREEN_H_
