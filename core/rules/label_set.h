// The labels of a key on their way from tags as sent to labels as exposed.

#ifndef TALLYD_CORE_RULES_LABEL_SET_H_
#define TALLYD_CORE_RULES_LABEL_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/wire/name_tags.h"

namespace tallyd {

// What stands for a value that has no room, or is none of those that are declared.
inline constexpr std::string_view kOverflowValue = "__overflow__";

struct Label {
  std::string name;  // sanitised
  std::string value;
};

// What a session says of all that comes in by it: labels, which win over any other, and for how
// long its series stay. As text, behind "|=" in a key's tags: the milliseconds, 0 for no such
// bound, then ",NAME:VALUE" for each label. Names are label names; values have no comma and no bar.
struct SessionLabels {
  std::vector<Label> labels;  // sorted by name
  int64_t ttl_ms = 0;
};

// Takes the session's text off the end of a key's tags; nothing is said if there is none.
SessionLabels TakeSession(std::string_view* tags);

// Puts labels in the place of those of the same names; both are sorted. Returns how many of these
// there were.
uint16_t PutLabels(const std::vector<Label>& over, std::vector<Label>* labels);

// Reads tags of all dialects in the order in which they stand, then settles which of several of one
// name holds. Thread-compatible.
class LabelSet {
 public:
  LabelSet(const TagDialects& dialects, bool container_id_label)
      : dialects_(dialects), container_id_label_(container_id_label) {}

  void ReadName(const SplitName& name);
  // `tags` as KeyView has them.
  void ReadSections(std::string_view tags);
  // Sorts by name and keeps of each name the last; returns how many others there were.
  uint16_t KeepLast();
  // A rule's labels, after KeepLast: they take the place of tags, unless these are honoured. A
  // label whose template came out empty is no label.
  void Overlay(std::vector<std::pair<std::string_view, std::string>>* labels, bool honor_tags);

  bool empty() const { return labels_.empty(); }
  const std::vector<Label>& labels() const { return labels_; }
  size_t tags() const { return tags_; }  // good and bad
  uint16_t bad_tags() const { return bad_tags_; }
  uint16_t bad_name_tags() const { return bad_name_tags_; }

 private:
  void ReadSection(std::string_view list);
  void Add(std::string_view name, std::string_view value);

  TagDialects dialects_;
  bool container_id_label_;
  std::vector<Label> labels_;
  size_t tags_ = 0;
  uint16_t bad_tags_ = 0;
  uint16_t bad_name_tags_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_LABEL_SET_H_
