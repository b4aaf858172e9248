#include "core/wire/name_tags.h"

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

size_t ListStart(std::string_view name, const TagDialects& dialects) {
  for (size_t i = 0; i < name.size(); ++i) {
    if ((name[i] == '#' && dialects.librato) || (name[i] == ',' && dialects.influxdb)) return i;
  }
  return kNone;
}

}  // namespace

// SignalFx comes first, and with one bracket alone no other dialect is tried.
SplitName SplitNameTags(std::string_view name, const TagDialects& dialects) {
  SplitName split;
  split.before = name;
  if (dialects.signalfx) {
    const size_t open = name.find('[');
    const size_t close = name.find(']');
    if (open != kNone && close != kNone && open < close) {
      split.before = name.substr(0, open);
      split.tags = name.substr(open + 1, close - open - 1);
      split.after = name.substr(close + 1);
      split.has_tags = true;
      return split;
    }
    if (open != kNone || close != kNone) {
      split.lone_bracket = true;
      return split;
    }
  }
  const size_t start = ListStart(name, dialects);
  if (start == kNone) return split;
  split.before = name.substr(0, start);
  split.tags = name.substr(start + 1);
  split.has_tags = true;
  return split;
}

Tag SplitTag(std::string_view tag, char separator) {
  const size_t at = tag.find(separator);
  if (at == kNone) return {};
  return {.key = tag.substr(0, at), .value = tag.substr(at + 1)};
}

bool HasGoodNameTag(std::string_view name, const TagDialects& dialects) {
  bool good = false;
  ForEachTag(SplitNameTags(name, dialects).tags,
             [&](std::string_view tag) { good = good || SplitTag(tag, '=').good(); });
  return good;
}

}  // namespace tallyd
