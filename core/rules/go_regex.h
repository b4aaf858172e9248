// Patterns as Go's regexp package reads them, for RE2.

#ifndef TALLYD_CORE_RULES_GO_REGEX_H_
#define TALLYD_CORE_RULES_GO_REGEX_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tallyd {

// The two are one language but for these: Go (from 1.22 on) also writes a named group "(?<name>",
// names groups in ASCII alone, and knows no "\C". The result means to RE2 what `pattern` means to
// Go; mistakes that RE2 finds by itself are left to it.
absl::StatusOr<std::string> Re2Pattern(std::string_view pattern);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_GO_REGEX_H_
