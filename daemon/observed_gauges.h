// Values that the daemon reads itself, from files and UNIX sockets (docs/catalog.md, "Observed
// gauges").

#ifndef TALLYD_DAEMON_OBSERVED_GAUGES_H_
#define TALLYD_DAEMON_OBSERVED_GAUGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "core/rules/catalog.h"
#include "daemon/unique_fd.h"

namespace tallyd {

enum class ObservedFailure : uint8_t {
  kCannotOpen,     // no such file, or not for us
  kNoRegularFile,  // a pipe, a folder, a device
  kCannotConnect,  // no such socket, or nobody listens
  kTimeout,        // no number in time
  kCannotRead,     // a read or a write failed
  kNoNumber,       // what is there holds none
  kCount
};
inline constexpr size_t kObservedFailures = static_cast<size_t>(ObservedFailure::kCount);
inline constexpr std::array<std::string_view, kObservedFailures> kObservedFailureNames = {
    "cannot_open", "no_regular_file", "cannot_connect", "timeout", "cannot_read", "no_number"};

// The first word of `text` that is a finite number; words are apart by anything but letters, digits
// and "+-._".
std::optional<double> FirstNumber(std::string_view text_untrusted);

// Reads sources one after the other, each at its interval, on a thread of its own: one that hangs
// makes others late by its timeout at most, and nobody else.
//
// Ownership: who makes it destroys it. The destructor ends a wait that is under way.
class ObservedGauges {
 public:
  // Of a source, by its place in the list.
  using Reading = std::variant<double, ObservedFailure>;
  using OnReading = std::function<void(size_t source, const Reading& reading)>;

  // Most bytes that are looked at.
  static constexpr size_t kMaxBytes = 4096;

  // `on_reading` is called on the thread of this.
  ObservedGauges(std::vector<ObservedSource> sources, OnReading on_reading);
  ~ObservedGauges();
  ObservedGauges(const ObservedGauges&) = delete;
  ObservedGauges& operator=(const ObservedGauges&) = delete;

 private:
  void Run();
  // True if this is to end.
  bool WaitUntil(int64_t due_ns) const;
  Reading Read(const ObservedSource& source) const;
  Reading ReadSocket(const ObservedSource& source) const;
  // Waits for a descriptor; 0, or false events at the end of time or of this.
  bool WaitFor(int fd, int16_t events, int64_t deadline_ns) const;

  const std::vector<ObservedSource> sources_;
  const OnReading on_reading_;
  UniqueFd stop_;  // an eventfd
  std::thread thread_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_OBSERVED_GAUGES_H_
