// When statsd_exporter's unordered search leaves a dead end again.

#ifndef TALLYD_CORE_RULES_BACKTRACKING_H_
#define TALLYD_CORE_RULES_BACKTRACKING_H_

#include <string_view>
#include <vector>

namespace tallyd {

// Whether the globs need backtracking, by statsd_exporter's definition: there is a glob with a star
// such that another one of as many segments begins with the same text up to that star, and that
// neither contains another one of as many segments nor is contained in one. Two equal globs contain
// each other; types do not matter.
bool NeedsBacktracking(const std::vector<std::string_view>& globs);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_BACKTRACKING_H_
