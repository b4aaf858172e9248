#include "core/rules/sanitize.h"

#include <algorithm>

#include "core/wire/utf8.h"

namespace tallyd {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_';
}

}  // namespace

void AppendSanitizedName(std::string_view text, std::string* out) {
  if (!text.empty() && IsDigit(text[0])) out->push_back('_');
  char previous = 0;
  while (!text.empty()) {
    const char c = text[0];
    if (c != '-' || previous != '-') out->push_back(IsNameCharacter(c) ? c : '_');
    previous = c;
    text.remove_prefix(std::max<size_t>(1, Utf8CharacterSize(text)));
  }
}

void AppendEscapedLabelValue(std::string_view value, std::string* out) {
  for (const char c : value) {
    switch (c) {
      case '\\':
        out->append("\\\\");
        break;
      case '"':
        out->append("\\\"");
        break;
      case '\n':
        out->append("\\n");
        break;
      default:
        out->push_back(c);
    }
  }
}

}  // namespace tallyd
