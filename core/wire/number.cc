#include "core/wire/number.h"

#include <fast_float/fast_float.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace tallyd {

const double kExactPowersOfTen[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] | 0x20) : text[i];
    if (c != lower[i]) return false;
  }
  return true;
}

// Go allows "_" in a float only with a base prefix, and then between digits or after the prefix;
// its ParseFloat is documented to take them only so, but statsd_exporter was seen to take "1_000"
// as well. One underscore, a digit on either side.
bool StripUnderscores(std::string_view text, std::string* stripped) {
  const bool hex = text.size() > 1 && text[0] == '0' && (text[1] | 0x20) == 'x';
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      stripped->push_back(text[i]);
      continue;
    }
    const bool before =
        i > 0 && (IsDigit(text[i - 1]) || (hex && (i == 2 || IsHexDigit(text[i - 1]))));
    const bool after =
        i + 1 < text.size() && (hex ? IsHexDigit(text[i + 1]) : IsDigit(text[i + 1]));
    if (!before || !after) return false;
  }
  return true;
}

// Of a float at `begin`: digits [ "." digits ] with at least one digit. Where it ends, or npos.
size_t EndOfMantissa(std::string_view text, size_t begin, bool (*is_digit)(char)) {
  const auto skip = [&](size_t i) {
    while (i < text.size() && is_digit(text[i])) ++i;
    return i;
  };
  size_t end = skip(begin);
  size_t digits = end - begin;
  if (end < text.size() && text[end] == '.') {
    const size_t fraction = end + 1;
    end = skip(fraction);
    digits += end - fraction;
  }
  return digits == 0 ? std::string_view::npos : end;
}

// `mark` in either case, [ sign ], digits: up to the end of the text.
bool IsExponent(std::string_view text, char mark) {
  if (text.empty() || (text[0] | 0x20) != mark) return false;
  text.remove_prefix(1);
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), IsDigit);
}

// After "0x". The exponent is not optional.
bool IsHexFloat(std::string_view text) {
  const size_t end = EndOfMantissa(text, 2, IsHexDigit);
  return end != std::string_view::npos && IsExponent(text.substr(end), 'p');
}

bool IsDecimal(std::string_view text) {
  const size_t end = EndOfMantissa(text, 0, IsDigit);
  return end != std::string_view::npos && (end == text.size() || IsExponent(text.substr(end), 'e'));
}

// The syntax is checked, so strtod reads exactly the text; it rounds to nearest even in any case.
bool ParseHexFloat(std::string_view text, double* value) {
  const std::string terminated(text);
  *value = std::strtod(terminated.c_str(), nullptr);
  return std::isfinite(*value);
}

bool ParseDecimal(std::string_view text, double* value) {
  const auto result = fast_float::from_chars(text.data(), text.data() + text.size(), *value);
  if (result.ptr != text.data() + text.size()) return false;
  // This version of the library says Inf instead of an error.
  return std::isfinite(*value);
}

void SetInteger(std::string_view digits, Number* number) {
  uint64_t integer = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), integer);
  if (result.ec != std::errc() || result.ptr != digits.data() + digits.size()) return;
  number->is_integer = true;
  number->integer = integer;
}

bool ParseUnsigned(std::string_view text, Number* number) {
  if (text.size() > 1 && text[0] == '0' && (text[1] | 0x20) == 'x') {
    return IsHexFloat(text) && ParseHexFloat(text, &number->value);
  }
  if (!IsDecimal(text) || !ParseDecimal(text, &number->value)) return false;
  SetInteger(text, number);
  return true;
}

}  // namespace

bool ParseNumber(std::string_view text, Number* number) {
  *number = Number{};
  if (EqualsIgnoringCase(text, "nan")) {
    number->value = std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  const bool negative = !text.empty() && text[0] == '-';
  if (negative || (!text.empty() && text[0] == '+')) text.remove_prefix(1);
  if (EqualsIgnoringCase(text, "inf") || EqualsIgnoringCase(text, "infinity")) {
    number->value = std::numeric_limits<double>::infinity();
  } else if (text.find('_') != std::string_view::npos) {
    std::string stripped;
    if (!StripUnderscores(text, &stripped) || !ParseUnsigned(stripped, number)) return false;
  } else if (!ParseUnsigned(text, number)) {
    return false;
  }
  if (negative) {
    number->value = -number->value;
    number->is_integer = false;
  }
  return true;
}

}  // namespace tallyd
