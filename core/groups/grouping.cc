#include "core/groups/grouping.h"

#include <optional>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/groups/pushed_family.h"
#include "core/rules/abseil_view.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

constexpr char kBase64Suffix[] = "@base64";

// Base64url, RFC 4648 section 5, whose padding may be there, in part or too long.
std::optional<std::string> DecodeBase64(absl::string_view text) {
  while (absl::ConsumeSuffix(&text, "=")) {
  }
  std::string decoded;
  // The library takes "." for padding too, and blanks for nothing.
  if (text.find_first_of(". \t\r\n\v\f") != absl::string_view::npos || text.size() % 4 == 1 ||
      !absl::WebSafeBase64Unescape(text, &decoded)) {
    return {};
  }
  return decoded;
}

absl::Status AddLabel(absl::string_view name, absl::string_view value, Grouping* grouping) {
  const bool encoded = absl::ConsumeSuffix(&name, kBase64Suffix);
  const std::string_view bare(name.data(), name.size());
  if (!IsLabelName(bare) || absl::StartsWith(name, "__")) {
    return absl::InvalidArgumentError(absl::StrCat("improper label name \"", name, "\""));
  }
  std::optional<std::string> decoded = std::string(value);
  if (encoded) decoded = DecodeBase64(value);
  if (!decoded.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid base64 encoding for label ", name, "=\"", value, "\""));
  }
  (*grouping)[std::string(name)] = *std::move(decoded);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ParseJob(absl::string_view keyword, absl::string_view value) {
  if (keyword == "job") {
    if (value.empty()) return absl::NotFoundError("no job");
    return std::string(value);
  }
  std::optional<std::string> job = DecodeBase64(value);
  if (!job.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid base64 encoding in job name \"", value, "\""));
  }
  return *std::move(job);
}

}  // namespace

absl::StatusOr<Grouping> ParseGrouping(std::string_view path_untrusted) {
  const std::vector<absl::string_view> parts = absl::StrSplit(View(path_untrusted), '/');
  if (parts.size() < 2 || (parts[0] != "job" && parts[0] != "job@base64")) {
    return absl::NotFoundError("no path of a group");
  }
  absl::StatusOr<std::string> job = ParseJob(parts[0], parts[1]);
  if (!job.ok()) return job.status();
  Grouping grouping;
  // A slash at the end, with nothing behind it, is no label.
  const bool has_labels = parts.size() > 3 || (parts.size() == 3 && !parts[2].empty());
  if (has_labels && parts.size() % 2 != 0) {
    return absl::InvalidArgumentError("odd number of components in label string");
  }
  for (size_t i = 2; has_labels && i + 1 < parts.size(); i += 2) {
    const absl::Status status = AddLabel(parts[i], parts[i + 1], &grouping);
    if (!status.ok()) return status;
  }
  if (job->empty()) return absl::InvalidArgumentError("job name is required");
  grouping["job"] = *std::move(job);
  if (grouping.size() > kMaxPushedLabels) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxPushedLabels, " labels"));
  }
  for (const auto& [name, value] : grouping) {
    if (!IsUtf8(value)) {
      return absl::InvalidArgumentError(absl::StrCat("label ", name, " is not UTF-8"));
    }
  }
  return grouping;
}

}  // namespace tallyd
