#include "daemon/yaml_fields.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/nearest_name.h"
#include "daemon/yaml_scalar.h"

namespace tallyd {
namespace {

using Kind = YamlNode::Kind;

std::optional<int64_t> ReadDurationMs(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t ms;
  };
  static constexpr std::array<Unit, 7> kUnits = {{{"y", 31'536'000'000},
                                                  {"w", 604'800'000},
                                                  {"d", 86'400'000},
                                                  {"h", 3'600'000},
                                                  {"m", 60'000},
                                                  {"s", 1'000},
                                                  {"ms", 1}}};
  constexpr size_t kMostDigits = 7;  // so that nothing overflows
  if (text == "0") return 0;
  if (text.empty()) return std::nullopt;
  int64_t total = 0;
  size_t next_unit = 0;
  while (!text.empty()) {
    const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0 || digits > kMostDigits) return std::nullopt;
    int64_t number = 0;
    for (const char digit : text.substr(0, digits)) number = number * 10 + (digit - '0');
    text.remove_prefix(digits);
    const size_t letters = std::min(text.find_first_of("0123456789"), text.size());
    while (next_unit < kUnits.size() && kUnits[next_unit].name != text.substr(0, letters)) {
      ++next_unit;
    }
    if (next_unit == kUnits.size()) return std::nullopt;
    total += number * kUnits[next_unit++].ms;
    text.remove_prefix(letters);
  }
  return total;
}

// A key may be as long as the file.
std::string Shortened(const std::string& key) { return key.size() <= 200 ? key : Quoted(key); }

}  // namespace

std::string Shown(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kScalar:
      return Quoted(node.text);
    case Kind::kSequence:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "";
}

void YamlFields::Complain(const Place& place, std::string_view text) {
  complaints_->Add(place.line, place.key.empty() ? "file" : Shortened(place.key), text);
}

void YamlFields::ReadMap(const YamlNode& node, const Place& place,
                         std::initializer_list<Field> fields, std::vector<KeyLine>* lines) {
  std::vector<bool> seen(fields.size());
  ForEachKey(node, place, [&](const std::string& key, const Place& inner, const YamlNode& value) {
    const auto* const field = std::find_if(fields.begin(), fields.end(),
                                           [&key](const Field& each) { return each.key == key; });
    if (field == fields.end()) return ComplainOfUnknown(key, inner, fields);
    const auto number = static_cast<size_t>(field - fields.begin());
    if (seen[number]) return Complain(inner, "is there twice; keep one of them");
    seen[number] = true;
    if (lines != nullptr) lines->push_back({key, inner.line});
    field->read(value, inner);
  });
}

void YamlFields::ComplainOfUnknown(const std::string& key, const Place& place,
                                   std::initializer_list<Field> fields) {
  std::vector<std::string> known;
  for (const Field& field : fields) known.emplace_back(field.key);
  const std::string nearest = NearestName(key, known);
  Complain(place,
           absl::StrCat("is no key here; ",
                        nearest.empty() ? absl::StrCat("use one of ", absl::StrJoin(known, ", "))
                                        : absl::StrCat("did you mean ", nearest, "?")));
}

void YamlFields::ForEachKey(const YamlNode& map, const Place& place, const ReadKey& each) {
  if (IsNull(map)) return;
  if (map.kind != Kind::kMap) {
    return Complain(place, absl::StrCat(Shown(map), " is no map; write keys with their values"));
  }
  for (size_t i = 0; i + 1 < map.children.size(); i += 2) {
    const YamlNode& key = tree_.node(map.children[i]);
    if (key.kind != Kind::kScalar) {
      Complain({place.key, key.line}, absl::StrCat("a key is ", Shown(key), "; write text"));
      continue;
    }
    const Place inner = {place.key.empty() ? key.text : absl::StrCat(place.key, ".", key.text),
                         key.line};
    if (key.is_plain && key.text == "<<") {
      Complain(inner, "merge keys are not read here; write the keys out");
      continue;
    }
    each(key.text, inner, tree_.node(map.children[i + 1]));
  }
}

void YamlFields::ForEachName(const YamlNode& map, const Place& place, const ReadKey& each) {
  std::vector<std::string_view> seen;
  ForEachKey(map, place, [&](const std::string& key, const Place& inner, const YamlNode& value) {
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      return Complain(inner, "is there twice; keep one of them");
    }
    if (seen.size() == kMostNames) Complain(inner, "is one too many; 1000 are enough");
    if (seen.size() > kMostNames) return;
    seen.push_back(key);
    each(key, inner, value);
  });
}

void YamlFields::ForEachItem(const YamlNode& value, const Place& place, const ReadItem& each) {
  if (IsNull(value)) return;
  if (value.kind != Kind::kSequence) {
    return Complain(place, absl::StrCat(Shown(value), " is no list; begin its items with -"));
  }
  for (const uint32_t child : value.children) each(tree_.node(child));
}

void YamlFields::Read(const YamlNode& value, const Place& place, std::string* out) {
  if (value.kind == Kind::kScalar) {
    *out = value.text;
  } else if (!IsNull(value)) {
    Complain(place, absl::StrCat("is ", Shown(value), "; write text"));
  }
}

void YamlFields::Read(const YamlNode& value, const Place& place, bool* out) {
  if (IsNull(value)) return;
  if (const auto read = YamlBool(value)) {
    *out = *read;
  } else {
    Complain(place, absl::StrCat(Shown(value), " is no truth value; write true or false"));
  }
}

void YamlFields::Read(const YamlNode& value, const Place& place, double* out) {
  if (const auto read = YamlNumber(value)) {
    *out = *read;
  } else {
    Complain(place, absl::StrCat(Shown(value), " is no number; write one, without quotes"));
  }
}

void YamlFields::ReadMs(const YamlNode& value, const Place& place, int64_t* out) {
  const auto read = value.kind == Kind::kScalar ? ReadDurationMs(value.text) : std::nullopt;
  if (read) {
    *out = *read;
  } else {
    Complain(place, absl::StrCat(Shown(value),
                                 " is no duration; write one such as 500ms, 15s, 5m or 1h30m"));
  }
}

void YamlFields::Read(const YamlNode& value, const Place& place, std::vector<std::string>* out) {
  if (value.kind == Kind::kScalar) return out->push_back(value.text);
  ForEachItem(value, place, [&](const YamlNode& item) {
    if (item.kind == Kind::kScalar) return out->push_back(item.text);
    Complain({place.key, item.line}, absl::StrCat("has ", Shown(item), "; write text"));
  });
}

void YamlFields::Read(const YamlNode& value, const Place& place,
                      std::vector<std::pair<std::string, std::string>>* out) {
  ForEachName(value, place, [&](const std::string& key, const Place& inner, const YamlNode& item) {
    std::string text;
    Read(item, inner, &text);
    out->emplace_back(key, std::move(text));
  });
}

}  // namespace tallyd
