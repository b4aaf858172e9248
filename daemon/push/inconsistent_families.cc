#include "daemon/push/inconsistent_families.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

namespace tallyd {
namespace {

// Appends the name between quotes or, of a family, up to the next space, after `introduction`.
void TakeName(std::string_view line, std::string_view introduction,
              std::vector<std::string>* names) {
  const size_t at = line.find(introduction);
  if (at == std::string_view::npos) return;
  const std::string_view rest = line.substr(at + introduction.size());
  const char end = introduction.back() == '"' ? '"' : ' ';
  const size_t size = rest.find(end);
  if (size != std::string_view::npos) names->emplace_back(rest.substr(0, size));
}

}  // namespace

std::vector<std::vector<std::string>> InconsistentFamilies(std::string_view answer_untrusted) {
  std::vector<std::vector<std::string>> families;
  if (answer_untrusted.find("inconsistent") == std::string_view::npos) return families;
  while (!answer_untrusted.empty()) {
    const size_t end = answer_untrusted.find('\n');
    const std::string_view line = answer_untrusted.substr(0, end);
    std::vector<std::string> names;
    TakeName(line, "collected metric \"", &names);
    TakeName(line, "collected metric named \"", &names);
    TakeName(line, "collected histogram named \"", &names);
    TakeName(line, "collected summary named \"", &names);
    TakeName(line, "gathered metric family ", &names);
    if (!names.empty()) families.push_back(std::move(names));
    if (end == std::string_view::npos) break;
    answer_untrusted.remove_prefix(end + 1);
  }
  return families;
}

std::vector<std::string> RejectedFamilies::Add(
    std::string_view answer_untrusted, int64_t until_ns,
    const std::function<bool(const std::string& name)>& is_ours) {
  std::vector<std::string> added;
  for (const auto& names : InconsistentFamilies(answer_untrusted)) {
    const auto ours = std::find_if(names.begin(), names.end(), is_ours);
    if (ours == names.end() || !until_ns_.emplace(*ours, until_ns).second) continue;
    added.push_back(*ours);
  }
  return added;
}

void RejectedFamilies::Forget(int64_t now_ns) {
  for (auto family = until_ns_.begin(); family != until_ns_.end();) {
    family = family->second <= now_ns ? until_ns_.erase(family) : std::next(family);
  }
}

std::vector<std::string> RejectedFamilies::names() const {
  std::vector<std::string> names;
  for (const auto& [name, until_ns] : until_ns_) names.push_back(name);
  return names;
}

}  // namespace tallyd
