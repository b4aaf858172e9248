// Which families go to a target.

#ifndef TALLYD_DAEMON_PUSH_FAMILY_FILTER_H_
#define TALLYD_DAEMON_PUSH_FAMILY_FILTER_H_

#include <string>
#include <string_view>
#include <vector>

namespace tallyd {

// A value. Patterns are names in which "*" stands for any text and "?" for any character.
struct FamilyFilter {
  // What is included, or everything if nothing is said, less what is excluded.
  bool Wants(std::string_view family) const;

  std::vector<std::string> include;
  std::vector<std::string> exclude;
};

// Whether the whole of `text` is as `pattern` says.
bool MatchesGlob(std::string_view pattern, std::string_view text);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_FAMILY_FILTER_H_
