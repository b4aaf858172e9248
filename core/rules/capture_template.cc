#include "core/rules/capture_template.h"

#include <re2/re2.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

bool IsRunCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$';
}

// The number that is the whole of `digits`, -1 if that is none or too long for any capture.
int NumberOf(std::string_view digits) {
  int number = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole ? number : -1;
}

// Bytes of letters and digits of any script, and "_", that `text` begins with.
size_t GoNameSize(std::string_view text) {
  static const RE2* const name = new RE2("[\\pL\\p{Nd}_]+");
  re2::StringPiece found;
  const bool matches = name->Match(text, 0, text.size(), RE2::ANCHOR_START, &found, 1);
  return matches ? found.size() : 0;
}

// What stands behind a "$": the name of a group, and how many bytes it takes with its braces. None
// if it is no reference.
struct GoReference {
  std::string_view name;
  size_t size = 0;
};

GoReference ReadGoReference(std::string_view text) {
  const bool braced = !text.empty() && text[0] == '{';
  if (braced) text.remove_prefix(1);
  const size_t size = GoNameSize(text);
  if (size == 0) return {};
  if (!braced) return {text.substr(0, size), size};
  if (size == text.size() || text[size] != '}') return {};
  return {text.substr(0, size), size + 2};
}

// None if there is no such group. Numbers with a leading zero are names to Go.
std::vector<int> GroupsOf(std::string_view reference, int groups,
                          const std::map<int, std::string>& group_names) {
  const bool canonical = reference.size() == 1 || reference[0] != '0';
  const int number = canonical ? NumberOf(reference) : -1;
  if (number > groups) return {};
  if (number >= 0) return {number};
  std::vector<int> found;
  for (const auto& [group, name] : group_names) {
    if (name == reference) found.push_back(group);
  }
  return found;
}

}  // namespace

CaptureTemplate CaptureTemplate::OfGlob(std::string_view text, int stars) {
  CaptureTemplate result;
  while (!text.empty()) {
    const size_t dollar = text.find('$');
    if (dollar == kNone) break;
    const bool braced = dollar + 1 < text.size() && text[dollar + 1] == '{';
    const size_t begin = dollar + (braced ? 2 : 1);
    size_t end = begin;
    while (end < text.size() && IsRunCharacter(text[end])) ++end;
    if (end == begin) {
      result.AddText(text.substr(0, begin));
      text.remove_prefix(begin);
      continue;
    }
    result.AddText(text.substr(0, dollar));
    const int number = NumberOf(text.substr(begin, end - begin));
    if (number >= 1 && number <= stars) result.AddReference({number});
    const bool closed = end < text.size() && text[end] == '}';
    text.remove_prefix(closed ? end + 1 : end);
  }
  result.AddText(text);
  return result;
}

CaptureTemplate CaptureTemplate::OfRegex(std::string_view text, int groups,
                                         const std::map<int, std::string>& group_names) {
  CaptureTemplate result;
  while (!text.empty()) {
    const size_t dollar = text.find('$');
    if (dollar == kNone) break;
    result.AddText(text.substr(0, dollar));
    text.remove_prefix(dollar + 1);
    if (!text.empty() && text[0] == '$') {
      result.AddText("$");
      text.remove_prefix(1);
      continue;
    }
    const GoReference reference = ReadGoReference(text);
    if (reference.size == 0) {
      result.AddText("$");
      continue;
    }
    result.AddReference(GroupsOf(reference.name, groups, group_names));
    text.remove_prefix(reference.size);
  }
  result.AddText(text);
  return result;
}

void CaptureTemplate::Expand(absl::Span<const std::string_view> captures, std::string* out) const {
  for (const Piece& piece : pieces_) {
    out->append(piece.text);
    for (const int capture : piece.captures) {
      if (captures[capture].data() == nullptr) continue;
      out->append(captures[capture]);
      break;
    }
  }
}

int CaptureTemplate::max_capture() const {
  int highest = -1;
  for (const Piece& piece : pieces_) {
    for (const int capture : piece.captures) highest = std::max(highest, capture);
  }
  return highest;
}

void CaptureTemplate::AddText(std::string_view text) {
  if (text.empty()) return;
  if (pieces_.empty() || !pieces_.back().captures.empty()) pieces_.emplace_back();
  pieces_.back().text.append(text);
}

void CaptureTemplate::AddReference(std::vector<int> captures) {
  if (captures.empty()) return;
  if (pieces_.empty() || !pieces_.back().captures.empty()) pieces_.emplace_back();
  pieces_.back().captures = std::move(captures);
}

}  // namespace tallyd
