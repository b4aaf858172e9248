#include "daemon/push/grouping_key.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

bool IsPlain(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
}

bool IsPlainValue(const std::string& value) {
  // "." and ".." would be taken for steps of the path.
  return !value.empty() && value != "." && value != ".." &&
         std::all_of(value.begin(), value.end(), IsPlain);
}

bool IsLabelName(std::string_view name) {
  const auto fits = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  return !name.empty() && !absl::ascii_isdigit(static_cast<unsigned char>(name.front())) &&
         std::all_of(name.begin(), name.end(), fits);
}

void AppendStep(std::string_view name, const std::string& value, std::string* path) {
  if (IsPlainValue(value)) return absl::StrAppend(path, "/", View(name), "/", value);
  // An empty value is the padding alone.
  const std::string encoded = value.empty() ? "=" : absl::WebSafeBase64Escape(value);
  absl::StrAppend(path, "/", View(name), "@base64/", encoded);
}

struct Label {
  std::string_view name;
  std::string_view value;  // quoted and escaped
};

std::vector<Label> SplitLabels(std::string_view labels) {
  std::vector<Label> split;
  while (!labels.empty()) {
    const size_t equals = labels.find('=');
    if (equals == std::string_view::npos) break;
    size_t end = equals + 2;
    while (end < labels.size() && labels[end] != '"') end += labels[end] == '\\' ? 2 : 1;
    end = std::min(end + 1, labels.size());
    split.push_back({labels.substr(0, equals), labels.substr(equals + 1, end - equals - 1)});
    labels.remove_prefix(std::min(end + 1, labels.size()));
  }
  return split;
}

bool NamesGroupLabel(std::string_view labels, const GroupingKey& key) {
  const auto holds = [labels](std::string_view name) {
    return labels.find(name) != std::string_view::npos;
  };
  return holds("job") || std::any_of(key.labels.begin(), key.labels.end(),
                                     [&](const auto& label) { return holds(label.first); });
}

}  // namespace

absl::Status GroupingKey::Check() const {
  if (job.empty()) return absl::InvalidArgumentError("job: is empty, and a gateway refuses that");
  if (!IsUtf8(job)) return absl::InvalidArgumentError("job: not UTF-8");
  std::vector<std::string> names;
  for (const auto& [name, value] : labels) {
    if (!IsLabelName(name) || absl::StartsWith(name, "__")) {
      return absl::InvalidArgumentError(
          absl::StrCat("grouping: \"", name, "\" cannot be the name of a label"));
    }
    if (name == "job") return absl::InvalidArgumentError("grouping: the job has a key of its own");
    if (name == "le" || name == "quantile") {
      return absl::InvalidArgumentError(
          absl::StrCat("grouping: ", name, " would write over that of histograms or summaries"));
    }
    if (!IsUtf8(value)) {
      return absl::InvalidArgumentError(absl::StrCat("grouping: ", name, ": not UTF-8"));
    }
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("grouping: ", *twice, " is given twice"));
}

std::string GroupingKey::Path() const {
  std::string path = "/metrics";
  AppendStep("job", job, &path);
  auto sorted = labels;
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [name, value] : sorted) AppendStep(name, value, &path);
  return path;
}

bool GroupingKey::Has(std::string_view label) const {
  return label == "job" || std::any_of(labels.begin(), labels.end(),
                                       [label](const auto& own) { return own.first == label; });
}

std::string ExportedName(std::string_view label, const std::vector<std::string_view>& others,
                         const GroupingKey& key) {
  std::string name(label);
  const auto taken = [&] {
    return key.Has(name) || std::find(others.begin(), others.end(), name) != others.end();
  };
  do {
    name.insert(0, "exported_");
  } while (taken());
  return name;
}

std::string RenameGroupLabels(std::string_view labels, const GroupingKey& key) {
  if (!NamesGroupLabel(labels, key)) return std::string(labels);
  const std::vector<Label> split = SplitLabels(labels);
  std::vector<std::string_view> names;
  for (const Label& label : split) names.push_back(label.name);
  std::string renamed;
  for (const Label& label : split) {
    const std::string name =
        key.Has(label.name) ? ExportedName(label.name, names, key) : std::string(label.name);
    absl::StrAppend(&renamed, renamed.empty() ? "" : ",", name, "=", View(label.value));
  }
  return renamed;
}

}  // namespace tallyd
