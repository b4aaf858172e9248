// JSON strings, for logs and tools that write a little of it.

#ifndef TALLYD_DAEMON_JSON_H_
#define TALLYD_DAEMON_JSON_H_

#include <string>

namespace tallyd {

// `text` in quotes, escaped. If it is no UTF-8, its bytes above 127 are written as the characters
// of the same number, so that the result is always JSON.
std::string JsonString(const std::string& text);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JSON_H_
