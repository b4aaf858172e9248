#include "daemon/job_lines.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/wire/event.h"
#include "core/wire/name_tags.h"

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

bool TakesTagSection(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == kNone || OpeningKind(line).has_value()) return false;
  if (HasGoodNameTag(line.substr(0, colon), TagDialects())) return false;
  // With tags a line is one sample already.
  const std::string_view rest = line.substr(colon + 1);
  if (rest.find("|#") != kNone) return true;
  const size_t bar = rest.find('|');
  const size_t next = bar == kNone ? kNone : rest.find(':', bar);
  return next == kNone || rest.substr(0, next + 1).find("|c:") != kNone;
}

}  // namespace

JobLabels::JobLabels(const Grouping& labels, absl::Duration ttl)
    : session_(absl::StrCat(absl::ToInt64Milliseconds(ttl))) {
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&tags_, tags_.empty() ? "|#" : ",", name, ":", value);
    absl::StrAppend(&session_, ",", name, ":", value);
  }
}

std::string JobLabels::Tagged(absl::string_view lines_untrusted) const {
  std::string tagged;
  while (!lines_untrusted.empty()) {
    const size_t end = lines_untrusted.find('\n');
    const absl::string_view line = absl::StripSuffix(lines_untrusted.substr(0, end), "\r");
    const bool takes = TakesTagSection({line.data(), line.size()});
    if (!line.empty()) absl::StrAppend(&tagged, line, takes ? tags_ : "", "\n");
    lines_untrusted.remove_prefix(end == kNone ? lines_untrusted.size() : end + 1);
  }
  return tagged;
}

}  // namespace tallyd
