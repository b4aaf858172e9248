// JSON objects and lists, for tools that write a little of it.

#ifndef TALLYD_DAEMON_JSON_OBJECT_H_
#define TALLYD_DAEMON_JSON_OBJECT_H_

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/expose/text.h"
#include "daemon/json.h"

namespace tallyd {

// One object, member after member.
class JsonObject {
 public:
  void Add(const char* name, const std::string& json) {
    absl::StrAppend(&text_, text_.empty() ? "{" : ",", "\"", name, "\":", json);
  }
  void AddText(const char* name, const std::string& text) { Add(name, JsonString(text)); }
  void AddBool(const char* name, bool value) { Add(name, value ? "true" : "false"); }
  // What is not finite becomes a string.
  void AddNumber(const char* name, double value) {
    std::string text;
    AppendValue(value, &text);
    Add(name, std::isfinite(value) ? text : JsonString(text));
  }
  std::string Take() { return text_.empty() ? "{}" : text_ + "}"; }

 private:
  std::string text_;
};

template <typename List, typename ToJson>
std::string JsonList(const List& list, ToJson to_json) {
  std::string json = "[";
  for (const auto& item : list) absl::StrAppend(&json, json.size() > 1 ? "," : "", to_json(item));
  return json + "]";
}

inline std::string JsonTexts(const std::vector<std::string>& list) {
  return JsonList(list, [](const std::string& text) { return JsonString(text); });
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_JSON_OBJECT_H_
