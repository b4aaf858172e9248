#include "daemon/yaml_scalar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "core/wire/number.h"

namespace tallyd {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsPlainScalar(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && node.is_plain;
}

// Takes "0x", "0b", "0o" or "0" off, and gives the base that they mean.
int TakeBase(std::string_view* digits) {
  if (digits->size() < 2 || (*digits)[0] != '0') return 10;
  int base = 8;
  size_t prefix = 1;
  switch ((*digits)[1]) {
    case 'x':
    case 'X':
      base = 16;
      prefix = 2;
      break;
    case 'b':
    case 'B':
      base = 2;
      prefix = 2;
      break;
    case 'o':
    case 'O':
      prefix = 2;
      break;
    default:
      break;
  }
  digits->remove_prefix(prefix);
  return base;
}

// Integers of 64 bits, signed or not. Larger ones may still be fractions.
std::optional<double> ReadInteger(std::string_view text) {
  const bool negative = text.starts_with("-");
  if (negative || text.starts_with("+")) text.remove_prefix(1);
  const int base = TakeBase(&text);
  uint64_t magnitude = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  const auto value = static_cast<double>(magnitude);
  // An integer has no minus zero.
  return negative && magnitude != 0 ? -value : value;
}

// Whether it is a sign, decimal digits with a point in or before them or not, and an exponent.
bool IsDecimal(std::string_view text) {
  if (text.starts_with("-") || text.starts_with("+")) text.remove_prefix(1);
  return !text.empty() && (IsDigit(text[0]) || (text.size() > 1 && text[0] == '.')) &&
         text.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
}

std::optional<double> ReadFraction(std::string_view text) {
  Number number;
  if (!IsDecimal(text) || !ParseNumber(text, &number)) return std::nullopt;
  return number.value;
}

template <size_t kSize>
bool IsOneOf(std::string_view text, const std::array<std::string_view, kSize>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

std::optional<double> ReadNamedNumber(std::string_view text) {
  constexpr std::array<std::string_view, 3> kInfinities = {".inf", ".Inf", ".INF"};
  constexpr std::array<std::string_view, 3> kNans = {".nan", ".NaN", ".NAN"};
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (IsOneOf(text, kNans)) return std::numeric_limits<double>::quiet_NaN();
  if (IsOneOf(text, kInfinities)) return kInfinity;
  if (text.empty() || !IsOneOf(text.substr(1), kInfinities)) return std::nullopt;
  if (text[0] == '+') return kInfinity;
  if (text[0] == '-') return -kInfinity;
  return std::nullopt;
}

std::optional<double> ReadNumber(std::string_view text) {
  if (text.empty()) return std::nullopt;
  if (const auto named = ReadNamedNumber(text)) return named;
  if (text[0] == '.') return ReadFraction(text);
  if (!IsDigit(text[0]) && text[0] != '+' && text[0] != '-') return std::nullopt;
  std::string plain(text);
  plain.erase(std::remove(plain.begin(), plain.end(), '_'), plain.end());
  const auto integer = ReadInteger(plain);
  return integer ? integer : ReadFraction(plain);
}

// Go's durations are abseil's, but for the micro sign and infinities.
std::optional<int64_t> ReadDurationNs(const std::string& text) {
  if (text.find("inf") != std::string::npos) return std::nullopt;
  absl::Duration duration;
  const std::string in_ascii = absl::StrReplaceAll(text, {{"\u00b5s", "us"}, {"\u03bcs", "us"}});
  if (!absl::ParseDuration(in_ascii, &duration)) return std::nullopt;
  if (absl::AbsDuration(duration) > absl::Nanoseconds(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return absl::ToInt64Nanoseconds(duration);
}

}  // namespace

std::optional<bool> YamlBool(const YamlNode& node) {
  constexpr std::array<std::string_view, 11> kTrue = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                                      "True", "TRUE", "on",  "On",  "ON"};
  constexpr std::array<std::string_view, 11> kFalse = {
      "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"};
  if (!IsPlainScalar(node)) return std::nullopt;
  if (IsOneOf(node.text, kTrue)) return true;
  if (IsOneOf(node.text, kFalse)) return false;
  return std::nullopt;
}

std::optional<double> YamlNumber(const YamlNode& node) {
  return IsPlainScalar(node) ? ReadNumber(node.text) : std::nullopt;
}

std::optional<uint32_t> YamlCount(const YamlNode& node) {
  const std::optional<double> number = YamlNumber(node);
  if (!number || !(*number > -1 && *number < 0x1p32)) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

std::optional<int64_t> YamlDurationNs(const YamlNode& node, bool* is_bare) {
  if (is_bare != nullptr) *is_bare = false;
  if (node.kind != YamlNode::Kind::kScalar) return std::nullopt;
  if (const std::optional<double> number = YamlNumber(node)) {
    if (!(std::abs(*number) < 0x1p63)) return std::nullopt;
    if (is_bare != nullptr) *is_bare = *number != 0;
    return static_cast<int64_t>(*number);
  }
  return ReadDurationNs(node.text);
}

}  // namespace tallyd
