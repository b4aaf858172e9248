// What a Pushgateway complains about when it refuses a push.

#ifndef TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_
#define TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_

#include <string>
#include <string_view>
#include <vector>

namespace tallyd {

// The families that a gateway's refusal names as inconsistent, a line for each, the likeliest
// first. Empty if it is no such refusal.
std::vector<std::vector<std::string>> InconsistentFamilies(std::string_view answer_untrusted);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_
