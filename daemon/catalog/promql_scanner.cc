#include "daemon/catalog/promql_scanner.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "core/rules/abseil_view.h"
#include "daemon/catalog/promql.h"

namespace tallyd {
namespace {

bool BeginsWord(char c) { return absl::ascii_isalpha(c) || c == '_' || c == ':'; }
bool IsInWord(char c) { return BeginsWord(c) || absl::ascii_isdigit(c); }

struct Unit {
  const char* name;
  int64_t ms;
};
constexpr std::array<Unit, 7> kUnits = {{{"ms", 1},
                                         {"s", 1'000},
                                         {"m", 60'000},
                                         {"h", 3'600'000},
                                         {"d", 86'400'000},
                                         {"w", 604'800'000},
                                         {"y", 31'536'000'000}}};

// The length of the number at the beginning: digits, a fraction, an exponent, or 0x and digits.
size_t NumberLength(std::string_view text) {
  size_t end = 0;
  const auto digits = [&] {
    while (end < text.size() && absl::ascii_isdigit(text[end])) ++end;
  };
  if (text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
    end = 2;
    while (end < text.size() && absl::ascii_isxdigit(text[end])) ++end;
    return end;
  }
  digits();
  if (end < text.size() && text[end] == '.') {
    ++end;
    digits();
  }
  if (end == 0 || (end == 1 && text[0] == '.')) return 0;
  if (end < text.size() && (text[end] | 0x20) == 'e') {
    size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    if (exponent < text.size() && absl::ascii_isdigit(text[exponent])) {
      end = exponent;
      digits();
    }
  }
  return end;
}

char Unescaped(char c) {
  if (c == 'n') return '\n';
  if (c == 't') return '\t';
  return c == 'r' ? '\r' : c;
}

}  // namespace

int64_t PromqlDurationMs(std::string_view text) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 4;
  int64_t sum = 0;
  while (!text.empty()) {
    int64_t count = 0;
    size_t digits = 0;
    for (; digits < text.size() && absl::ascii_isdigit(text[digits]) && digits < 9; ++digits) {
      count = count * 10 + (text[digits] - '0');
    }
    text.remove_prefix(digits);
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& candidate) {
      return text.starts_with(candidate.name);
    });
    if (digits == 0 || unit == kUnits.end() || count > (kMost - sum) / unit->ms) return 0;
    sum += count * unit->ms;
    text.remove_prefix(std::string_view(unit->name).size());
  }
  return sum;
}

std::string PromqlDuration(int64_t ms) {
  // Days and more are not used: 24h is as short as 1d, and says the same to more people.
  std::string text;
  for (const Unit& unit : {kUnits[3], kUnits[2], kUnits[1], kUnits[0]}) {
    if (ms / unit.ms == 0) continue;
    text += std::to_string(ms / unit.ms) + unit.name;
    ms %= unit.ms;
  }
  return text.empty() ? "0s" : text;
}

void PromqlScanner::SkipBlanks() {
  while (at_ < text_.size()) {
    if (text_[at_] == '#') {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else if (absl::ascii_isspace(text_[at_])) {
      ++at_;
    } else {
      return;
    }
  }
}

bool PromqlScanner::AtEnd() {
  SkipBlanks();
  return at_ == text_.size();
}

bool PromqlScanner::Sees(std::string_view sign) {
  SkipBlanks();
  const std::string_view rest = text_.substr(at_);
  if (!absl::StartsWithIgnoreCase(View(rest), View(sign))) return false;
  return !absl::ascii_isalnum(sign.back()) || rest.size() == sign.size() ||
         !IsInWord(rest[sign.size()]);
}

bool PromqlScanner::Accept(std::string_view sign) {
  if (!Sees(sign)) return false;
  at_ += sign.size();
  return true;
}

std::string PromqlScanner::Word() {
  SkipBlanks();
  size_t end = at_;
  if (end < text_.size() && BeginsWord(text_[end])) {
    while (end < text_.size() && IsInWord(text_[end])) ++end;
  }
  std::string word(text_.substr(at_, end - at_));
  at_ = end;
  return word;
}

std::string PromqlScanner::PeekWord() {
  SkipBlanks();
  const size_t here = at_;
  std::string word = Word();
  at_ = here;
  return word;
}

std::optional<double> PromqlScanner::Number() {
  SkipBlanks();
  const std::string word = absl::AsciiStrToLower(PeekWord());
  if (word == "inf" || word == "nan") {
    at_ += word.size();
    return word == "inf" ? std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  const size_t length = NumberLength(text_.substr(at_));
  if (length == 0) return std::nullopt;
  // Hexadecimal numbers are read by strtod, too; the C locale holds in our programs.
  const std::string number(text_.substr(at_, length));
  at_ += length;
  return std::strtod(number.c_str(), nullptr);
}

std::optional<std::string> PromqlScanner::QuotedText() {
  SkipBlanks();
  if (at_ == text_.size()) return std::nullopt;
  const char quote = text_[at_];
  if (quote != '"' && quote != '\'' && quote != '`') return std::nullopt;
  std::string value;
  for (size_t i = at_ + 1; i < text_.size(); ++i) {
    if (text_[i] == quote) {
      at_ = i + 1;
      return value;
    }
    const bool escapes = text_[i] == '\\' && quote != '`' && i + 1 < text_.size();
    value += escapes ? Unescaped(text_[++i]) : text_[i];
  }
  return std::nullopt;
}

std::optional<int64_t> PromqlScanner::Duration() {
  SkipBlanks();
  size_t end = at_;
  if (end < text_.size() && text_[end] == '$') {
    ++end;
    while (end < text_.size() && (IsInWord(text_[end]) || text_[end] == '{' || text_[end] == '}')) {
      ++end;
    }
    at_ = end;
    return PromqlExpr::kVariableRange;
  }
  while (end < text_.size() && absl::ascii_isalnum(text_[end])) ++end;
  const int64_t ms = PromqlDurationMs(text_.substr(at_, end - at_));
  if (ms == 0) return std::nullopt;
  at_ = end;
  return ms;
}

std::string PromqlScanner::Before() const {
  constexpr size_t kShown = 30;
  return std::string(text_.substr(at_ < kShown ? 0 : at_ - kShown, std::min(at_, kShown)));
}

}  // namespace tallyd
