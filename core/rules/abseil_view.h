// Between the standard library's string_view and the one of its own that Debian's abseil has.

#ifndef TALLYD_CORE_RULES_ABSEIL_VIEW_H_
#define TALLYD_CORE_RULES_ABSEIL_VIEW_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace tallyd {

inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_ABSEIL_VIEW_H_
