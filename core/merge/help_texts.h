// Help texts of families, each kept once: they come from mapping files and catalogs, so there are
// few, and many families share one.

#ifndef TALLYD_CORE_MERGE_HELP_TEXTS_H_
#define TALLYD_CORE_MERGE_HELP_TEXTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace tallyd {

// Thread-compatible: the merger thread only.
class HelpTexts {
 public:
  // The number of a text, for as long as this lives.
  uint32_t Intern(std::string_view text) {
    const auto [found, is_new] =
        numbers_.try_emplace(std::string(text), static_cast<uint32_t>(texts_.size()));
    if (is_new) texts_.emplace_back(text);
    return found->second;
  }

  // Valid until the next Intern.
  std::string_view operator[](uint32_t number) const { return texts_[number]; }

 private:
  std::vector<std::string> texts_;
  absl::flat_hash_map<std::string, uint32_t> numbers_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_HELP_TEXTS_H_
