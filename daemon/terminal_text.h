// Text for people, on a terminal of 80 columns.

#ifndef TALLYD_DAEMON_TERMINAL_TEXT_H_
#define TALLYD_DAEMON_TERMINAL_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tallyd {

inline constexpr size_t kTextWidth = 80;

// `text`, broken at single blanks so that no line is longer than kTextWidth where that can be; all
// lines but the first begin with `indent` blanks, and the first is thought to stand so far right.
std::string Wrapped(std::string_view text, size_t indent);

// What came from a sender, so that it cannot steer the terminal: control characters and bytes that
// are no UTF-8 become \xNN, and a backslash that would look like one of these becomes two.
std::string Printable(std::string_view text_untrusted);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_TERMINAL_TEXT_H_
