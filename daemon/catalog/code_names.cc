#include "daemon/catalog/code_names.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "core/expose/text.h"
#include "daemon/json.h"

namespace tallyd {
namespace {

constexpr size_t kCommentWidth = 100;

// Of C++20, and the names that the helpers use themselves.
constexpr std::array<std::string_view, 100> kTakenInCpp = {
    "alignas",       "alignof",     "and",
    "and_eq",        "asm",         "auto",
    "bitand",        "bitor",       "bool",
    "break",         "case",        "catch",
    "char",          "char8_t",     "char16_t",
    "char32_t",      "class",       "compl",
    "concept",       "const",       "consteval",
    "constexpr",     "constinit",   "const_cast",
    "continue",      "co_await",    "co_return",
    "co_yield",      "decltype",    "default",
    "delete",        "do",          "double",
    "dynamic_cast",  "else",        "enum",
    "explicit",      "export",      "extern",
    "false",         "float",       "for",
    "friend",        "goto",        "if",
    "inline",        "int",         "long",
    "mutable",       "namespace",   "new",
    "noexcept",      "not",         "not_eq",
    "nullptr",       "operator",    "or",
    "or_eq",         "private",     "protected",
    "public",        "register",    "reinterpret_cast",
    "requires",      "return",      "short",
    "signed",        "sizeof",      "static",
    "static_assert", "static_cast", "struct",
    "switch",        "template",    "this",
    "thread_local",  "throw",       "true",
    "try",           "typedef",     "typeid",
    "typename",      "union",       "unsigned",
    "using",         "virtual",     "void",
    "volatile",      "wchar_t",     "while",
    "xor",           "xor_eq",      "sink",
    "value",         "line",        "detail",
    "member",        "std",         "errno",
    "NULL"};

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  bool begins = true;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c)) {
      begins = true;
      continue;
    }
    if (begins) words.emplace_back();
    words.back() += c;
    begins = false;
  }
  return words;
}

}  // namespace

std::string CamelCase(std::string_view text) {
  std::string name;
  for (std::string& word : Words(text)) {
    word[0] = absl::ascii_toupper(word[0]);
    name += word;
  }
  return name.empty() ? "Empty" : name;
}

std::string UpperCase(std::string_view text) {
  std::string name;
  for (const std::string& word : Words(text)) {
    absl::StrAppend(&name, name.empty() ? "" : "_", absl::AsciiStrToUpper(word));
  }
  return name.empty() ? "EMPTY" : name;
}

std::string TypeCase(std::string_view text) {
  std::string name = CamelCase(text);
  return absl::ascii_isdigit(name[0]) ? "N" + name : name;
}

std::string ConstantName(std::string_view text) {
  std::string name = UpperCase(text);
  return absl::ascii_isdigit(name[0]) ? "_" + name : name;
}

std::string UniqueNames::Take(const std::string& wanted) {
  std::string name = wanted;
  for (int number = 2; !names_.insert(name).second; ++number) name = absl::StrCat(wanted, number);
  return name;
}

std::string CppParameter(const std::string& label) {
  const bool is_taken =
      std::find(kTakenInCpp.begin(), kTakenInCpp.end(), label) != kTakenInCpp.end();
  return is_taken ? label + "_label" : label;
}

std::string CppLiteral(const std::string& text) {
  std::string literal = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      literal += {'\\', c};
    } else if (absl::ascii_isprint(c)) {
      literal += c;
    } else {
      absl::StrAppendFormat(&literal, "\\%03o", static_cast<unsigned char>(c));
    }
  }
  return literal + "\"";
}

// JSON's escapes are those of the three languages, save that Go has no "\/", which is not written.
std::string CodeLiteral(const std::string& text) { return JsonString(text); }

std::string CodeNumber(double value) {
  std::string text;
  AppendValue(value, &text);
  return text;
}

std::string YamlText(const std::string& text) {
  const bool is_simple =
      std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isprint(c); });
  if (!is_simple || text.find_first_of("\"\\") == std::string::npos) return JsonString(text);
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
}

std::string Comment(std::string_view opening, std::string_view text) {
  std::string comment;
  std::string line;
  const auto end_line = [&] {
    if (!line.empty()) absl::StrAppend(&comment, std::string(opening), line, "\n");
    line.clear();
  };
  std::string word;
  // A line end of the text is a blank: a comment must not end before its end.
  for (const char c : std::string(text) + " ") {
    if (!absl::ascii_isspace(c)) {
      word += absl::ascii_iscntrl(c) ? '?' : c;
      continue;
    }
    if (word.empty()) continue;
    if (opening.size() + line.size() + 1 + word.size() > kCommentWidth) end_line();
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
    word.clear();
  }
  end_line();
  return comment;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string IndentedJson(std::string_view json) {
  std::string text;
  size_t depth = 0;
  bool in_text = false;
  const auto new_line = [&] { text.append("\n").append(2 * depth, ' '); };
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      text += c;
      if (c == '\\') text += json[++i];
      in_text = c != '"';
      continue;
    }
    const bool opens = c == '{' || c == '[';
    const bool closes = c == '}' || c == ']';
    const bool is_empty = opens && i + 1 < json.size() && json[i + 1] == c + 2;
    if (closes && json[i - 1] != c - 2) {
      --depth;
      new_line();
    }
    text += c;
    in_text = c == '"';
    if (c == ':') text += ' ';
    if (c == ',') new_line();
    if (is_empty) {
      text += json[++i];
    } else if (opens) {
      ++depth;
      new_line();
    }
  }
  return text + "\n";
}

}  // namespace tallyd
