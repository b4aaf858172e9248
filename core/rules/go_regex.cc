#include "core/rules/go_regex.h"

#include <algorithm>

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

// Bytes of an escape, "\Q...\E" as a whole.
size_t EscapeSize(std::string_view text) {
  if (text.starts_with("\\Q")) {
    const size_t end = text.find("\\E", 2);
    return end == kNone ? text.size() : end + 2;
  }
  return std::min<size_t>(2, text.size());
}

// Bytes of a class in brackets; all that is left if it is not closed.
size_t ClassSize(std::string_view text) {
  size_t at = text.starts_with("[^") ? 2 : 1;
  for (bool first = true; at < text.size(); first = false) {
    if (text[at] == ']' && !first) return at + 1;
    const size_t named_end = text.substr(at).starts_with("[:") ? text.find(":]", at + 2) : kNone;
    if (text[at] == '\\') {
      at += 2;
    } else if (named_end != kNone) {
      at = named_end + 2;
    } else {
      ++at;
    }
  }
  return text.size();
}

// The opening of a named group, "(?P<" or "(?<"; 0 if the text is none.
size_t NamedGroupSize(std::string_view text) {
  if (text.starts_with("(?P<")) return 4;
  return text.starts_with("(?<") ? 3 : 0;
}

// RE2 takes letters of any script in the names of groups, Go ASCII alone.
bool IsAsciiUpToBracket(std::string_view text) {
  const std::string_view name = text.substr(0, text.find('>'));
  return std::all_of(name.begin(), name.end(), [](char c) { return (c & 0x80) == 0; });
}

}  // namespace

absl::StatusOr<std::string> Re2Pattern(std::string_view pattern) {
  std::string result;
  while (!pattern.empty()) {
    size_t size = 1;
    if (pattern[0] == '\\') {
      if (pattern.starts_with("\\C")) {
        return absl::InvalidArgumentError("invalid escape sequence: \\C");
      }
      size = EscapeSize(pattern);
    } else if (pattern[0] == '[') {
      size = ClassSize(pattern);
    } else if (const size_t opening = NamedGroupSize(pattern); opening > 0) {
      pattern.remove_prefix(opening);
      if (!IsAsciiUpToBracket(pattern)) {
        return absl::InvalidArgumentError("the name of a group is letters, digits and _ of ASCII");
      }
      result.append("(?P<");
      continue;
    }
    result.append(pattern.substr(0, size));
    pattern.remove_prefix(size);
  }
  return result;
}

}  // namespace tallyd
