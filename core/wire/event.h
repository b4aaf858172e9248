// Events `_e{...}` and service checks `_sc|...` (docs/protocol.md, "Events and service checks").
// They are recognised, checked and counted; no metric comes of them.

#ifndef TALLYD_CORE_WIRE_EVENT_H_
#define TALLYD_CORE_WIRE_EVENT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tallyd {

enum class EventKind : uint8_t { kEvent, kServiceCheck };
inline constexpr size_t kEventKinds = 2;

// The values of the label `kind` of tallyd_received_events_total.
inline constexpr std::array<std::string_view, kEventKinds> kEventKindNames = {"event",
                                                                              "service_check"};

constexpr std::string_view Name(EventKind kind) {
  return kEventKindNames[static_cast<size_t>(kind)];
}

// What the first bytes of a line say that it is. Only the exact openings count: `_event` and `_sc`
// may begin the name of a metric.
constexpr std::optional<EventKind> OpeningKind(std::string_view line) {
  if (line.substr(0, 3) == "_e{") return EventKind::kEvent;
  if (line.substr(0, 4) == "_sc|") return EventKind::kServiceCheck;
  return std::nullopt;
}

// Whether a line that opens as `kind` is one: what must be there is there, in UTF-8. Optional
// fields are not read, so that bad ones do no harm.
bool IsWellFormed(EventKind kind, std::string_view line_untrusted);

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_EVENT_H_
