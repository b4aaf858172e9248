#include "daemon/push/inconsistent_families.h"

#include <cstddef>
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

}  // namespace tallyd
