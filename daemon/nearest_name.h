// Slips of the fingers: which known name an unknown one was probably meant to be.

#ifndef TALLYD_DAEMON_NEAREST_NAME_H_
#define TALLYD_DAEMON_NEAREST_NAME_H_

#include <string>
#include <string_view>
#include <vector>

namespace tallyd {

// The name of `known` that `name` was probably meant to be, or "".
std::string NearestName(std::string_view name, const std::vector<std::string>& known);
// "; did you mean NEAREST?" with `prefix` before the name; "" if nothing is near.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& known,
                       const std::string& prefix);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_NEAREST_NAME_H_
