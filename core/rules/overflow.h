// Where samples go that find no room for a series of their own: series whose labels say
// "__overflow__" where the label stood that has too many values.

#ifndef TALLYD_CORE_RULES_OVERFLOW_H_
#define TALLYD_CORE_RULES_OVERFLOW_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/rules/rules.h"

namespace tallyd {

// The family for samples whose own has no room, one for each kind. Under our own prefix, so that
// senders cannot have it.
std::string_view OverflowFamily(SeriesKind kind);
std::string_view HelpOfOverflowFamily(std::string_view family);
bool IsOverflowFamily(std::string_view family);

// Calls `visit(name, value)` for each of the labels of SeriesSpec::labels; the value is escaped.
template <class Visit>
void ForEachLabel(std::string_view labels, Visit&& visit) {
  while (!labels.empty()) {
    const size_t equals = labels.find("=\"");
    size_t end = equals + 2;
    while (labels[end] != '"') end += labels[end] == '\\' ? 2 : 1;
    visit(labels.substr(0, equals), labels.substr(equals + 2, end - equals - 2));
    labels.remove_prefix(end + 1 == labels.size() ? end + 1 : end + 2);
  }
}

// Never 0, which stands for none.
uint32_t HashLabelName(std::string_view name);
// The labels with "__overflow__" for the value of the label of this hash; false if there is none.
bool FoldLabel(std::string_view labels, uint32_t name_hash, std::string* folded);
std::string FoldAllLabels(std::string_view labels);
// Which of the labels are folded.
std::vector<std::string> FoldedLabels(std::string_view labels);

// Finds the label that has too many values, from the labels of some series of a family.
// Thread-compatible.
class LabelSpread {
 public:
  void Add(std::string_view labels);
  size_t series() const { return series_; }
  // The hash of the label with the most distinct values; 0 if no label has several.
  uint32_t Widest() const;

 private:
  struct Values {
    std::string name;
    absl::flat_hash_set<uint64_t> hashes;
  };
  size_t series_ = 0;
  absl::flat_hash_map<uint32_t, Values> labels_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_OVERFLOW_H_
