#include "core/wire/event.h"

#include <charconv>

#include "core/wire/utf8.h"

namespace tallyd {
namespace {

constexpr size_t kEventOpening = 3;         // "_e{"
constexpr size_t kServiceCheckOpening = 4;  // "_sc|"

// Takes digits from the start of `text`. None, or more than fits, is no number.
std::optional<size_t> TakeLength(std::string_view* text) {
  size_t length = 0;
  const auto result = std::from_chars(text->data(), text->data() + text->size(), length);
  if (result.ec != std::errc()) return std::nullopt;
  text->remove_prefix(static_cast<size_t>(result.ptr - text->data()));
  return length;
}

bool Take(std::string_view opening, std::string_view* text) {
  if (text->substr(0, opening.size()) != opening) return false;
  text->remove_prefix(opening.size());
  return true;
}

// What follows the last part that must be there.
bool IsEndOrFields(std::string_view rest) { return rest.empty() || rest[0] == '|'; }

// title_size "," text_size "}:" title "|" text: the lengths decide, so both may hold bars.
bool IsEvent(std::string_view rest) {
  const std::optional<size_t> title_size = TakeLength(&rest);
  if (!title_size || *title_size == 0 || !Take(",", &rest)) return false;
  const std::optional<size_t> text_size = TakeLength(&rest);
  if (!text_size || !Take("}:", &rest)) return false;
  // Compared one by one: the sum of two lengths might wrap.
  if (rest.size() <= *title_size || rest[*title_size] != '|') return false;
  rest.remove_prefix(*title_size + 1);
  return rest.size() >= *text_size && IsEndOrFields(rest.substr(*text_size));
}

// name "|" status
bool IsServiceCheck(std::string_view rest) {
  const size_t bar = rest.find('|');
  if (bar == 0 || bar == std::string_view::npos) return false;
  rest.remove_prefix(bar + 1);
  if (rest.empty() || rest[0] < '0' || rest[0] > '3') return false;
  return IsEndOrFields(rest.substr(1));
}

}  // namespace

bool IsWellFormed(EventKind kind, std::string_view line) {
  if (!IsUtf8(line)) return false;
  return kind == EventKind::kEvent ? IsEvent(line.substr(kEventOpening))
                                   : IsServiceCheck(line.substr(kServiceCheckOpening));
}

}  // namespace tallyd
