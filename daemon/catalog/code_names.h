// Names and literals of the languages that are generated.

#ifndef TALLYD_DAEMON_CATALOG_CODE_NAMES_H_
#define TALLYD_DAEMON_CATALOG_CODE_NAMES_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tallyd {

// "mc_actor_mailbox" and "5xx-late" as McActorMailbox and 5xxLate, and as MC_ACTOR_MAILBOX and
// 5XX_LATE: letters and digits of ASCII alone; what else there is separates words. Text without any
// is "Empty" or "EMPTY".
std::string CamelCase(std::string_view text);
std::string UpperCase(std::string_view text);

// The same as names of their own, which begin with no digit.
std::string TypeCase(std::string_view text);
std::string ConstantName(std::string_view text);

// Makes names distinct in the order in which they come: a second "Status" is "Status2".
class UniqueNames {
 public:
  // Nobody gets one of `taken`.
  explicit UniqueNames(std::set<std::string> taken = {}) : names_(std::move(taken)) {}
  std::string Take(const std::string& wanted);

 private:
  std::set<std::string> names_;
};

// A label's name as a parameter of C++: another one if the language, or what is generated, has it.
std::string CppParameter(const std::string& label);

// "text" for C++, and for Go, Python and JavaScript, which all read it alike: ASCII alone, other
// characters as bytes (C++: octal, so that no digit after them counts) or as code points.
std::string CppLiteral(const std::string& text);
std::string CodeLiteral(const std::string& text);

// A number that any of the languages reads back exactly.
std::string CodeNumber(double value);

// A text of any kind as a YAML scalar: quoted always, so that it stays a text.
std::string YamlText(const std::string& text);

// `text` as comment lines that begin with `opening` ("// "), at most 100 columns where that can be.
std::string Comment(std::string_view opening, std::string_view text);

// The last part of a path.
std::string BaseName(const std::string& path);

// Compact JSON with line ends and indentation, for people who read the changes of it.
std::string IndentedJson(std::string_view json);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_CODE_NAMES_H_
