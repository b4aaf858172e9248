// Tags that stand in the name: SignalFx `a[k=v]b`, Librato `a#k=v`, InfluxDB `a,k=v`
// (docs/protocol.md, "Tags").

#ifndef TALLYD_CORE_WIRE_NAME_TAGS_H_
#define TALLYD_CORE_WIRE_NAME_TAGS_H_

#include <cstddef>
#include <string_view>

namespace tallyd {

// Which dialects of tags are read; the others' characters are part of the name, or ignored
// sections.
struct TagDialects {
  bool dogstatsd = true;
  bool influxdb = true;
  bool librato = true;
  bool signalfx = true;
};

// A name as sent, taken apart. The name that is matched and exposed is `before` + `after`.
struct SplitName {
  std::string_view before;
  std::string_view after;     // of a SignalFx tag list, else empty
  std::string_view tags;      // the tag list: split at ",", each tag at its first "="
  bool has_tags = false;      // there is a list, though it may be empty
  bool lone_bracket = false;  // "[" or "]" without the other before or after it: one bad tag
};

SplitName SplitNameTags(std::string_view name, const TagDialects& dialects);

// One tag: of good ones neither part is empty. `separator` is "=" in names and ":" in sections.
struct Tag {
  std::string_view key;
  std::string_view value;
  bool good() const { return !key.empty() && !value.empty(); }
};
Tag SplitTag(std::string_view tag, char separator);

// Calls `each(tag_text)` for the tags of a list. A trailing comma is no error; a leading or doubled
// one is an empty tag.
template <class Each>
void ForEachTag(std::string_view list, Each&& each) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    each(list.substr(0, comma));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

// Whether the name yields at least one label, so that a tag section beside it is
// `mixed_tag_dialects`.
bool HasGoodNameTag(std::string_view name, const TagDialects& dialects);

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_NAME_TAGS_H_
