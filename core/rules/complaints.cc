#include "core/rules/complaints.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/wire/utf8.h"

namespace tallyd {

void Complaints::Add(int line, std::string_view key, std::string_view text) {
  complaints_.push_back({line, absl::StrCat(View(key), ": ", View(text))});
}

absl::Status Complaints::ToStatus(std::string_view file) const {
  if (empty()) return absl::OkStatus();
  std::vector<Complaint> sorted = complaints_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Complaint& a, const Complaint& b) { return a.line < b.line; });
  std::string message;
  for (size_t i = 0; i < std::min(sorted.size(), kMaxShown); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "\n", View(file), ":", sorted[i].line, ": ",
                    sorted[i].text);
  }
  if (sorted.size() > kMaxShown) {
    absl::StrAppend(&message, "\nand ", sorted.size() - kMaxShown, " more");
  }
  return absl::InvalidArgumentError(message);
}

std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 60;
  std::string_view shown = text;
  if (text.size() > kLongest) {
    shown = text.substr(0, kLongest);
    // Not through the middle of a character.
    while (!shown.empty() && !IsUtf8(shown) && kLongest - shown.size() < 4) shown.remove_suffix(1);
  }
  return absl::StrCat("\"", absl::Utf8SafeCEscape(View(shown)),
                      text.size() > kLongest ? "...\"" : "\"");
}

}  // namespace tallyd
