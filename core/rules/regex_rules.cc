#include "core/rules/regex_rules.h"

#include <algorithm>

#include "core/rules/go_regex.h"

namespace tallyd {
namespace {

// Literals that are shorter are in too many names to be worth the scan.
constexpr int kMinLiteral = 2;
// Fewer patterns are tried one by one.
constexpr int kMinFiltered = 8;
// More text of literals than this is not scanned for: it would cost more memory than the patterns.
constexpr size_t kMaxLiteralBytes = 4 << 20;

// What the automata of all patterns may use together, and of one pattern at least and at most.
// Where it does not do, RE2 takes slower ways to the same answer.
constexpr int64_t kMemory = 128 << 20;
constexpr int64_t kLeastMemory = 64 << 10;
constexpr int64_t kMostMemory = 8 << 20;
// Long patterns may have more than their share.
constexpr int64_t kMemoryForLongPattern = 64 << 20;

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace

RegexRules::RegexRules(size_t expected)
    : memory_each_(std::clamp(kMemory / static_cast<int64_t>(std::max<size_t>(1, expected)),
                              kLeastMemory, kMostMemory)),
      patterns_(kMinLiteral) {}

absl::Status RegexRules::Add(std::string_view pattern, MatchedType type, uint32_t number) {
  const absl::StatusOr<std::string> translated = Re2Pattern(pattern);
  if (!translated.ok()) return translated.status();
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(memory_each_);
  int index = 0;
  RE2::ErrorCode error = patterns_.Add(*translated, options, &index);
  if (error == RE2::ErrorPatternTooLarge) {
    options.set_max_mem(kMemoryForLongPattern);
    error = patterns_.Add(*translated, options, &index);
  }
  if (error != RE2::NoError) {
    return absl::InvalidArgumentError(RE2(*translated, options).error());
  }
  rules_.push_back({type, number});
  return absl::OkStatus();
}

void RegexRules::Finish() {
  if (patterns_.NumRegexps() < kMinFiltered) return;
  std::vector<std::string> literals;
  patterns_.Compile(&literals);
  size_t bytes = 0;
  for (const std::string& literal : literals) bytes += literal.size();
  if (bytes <= kMaxLiteralBytes) literals_ = std::make_unique<LiteralScanner>(literals);
}

int RegexRules::Find(std::string_view name, SampleType type) const {
  // The literals are in lower case by Unicode's rules, of which ASCII's are only a part.
  if (literals_ == nullptr || !IsAscii(name)) {
    for (int i = 0; i < patterns_.NumRegexps(); ++i) {
      if (Fits(i, name, type)) return i;
    }
    return -1;
  }
  std::vector<int> candidates;
  patterns_.AllPotentials(literals_->Find(LowerCase(name)), &candidates);
  std::sort(candidates.begin(), candidates.end());
  for (const int candidate : candidates) {
    if (Fits(candidate, name, type)) return candidate;
  }
  return -1;
}

bool RegexRules::Fits(int index, std::string_view name, SampleType type) const {
  const MatchedType matched = rules_[index].type;
  return (matched == MatchedType::kAny || matched == MatchedTypeOf(type)) &&
         pattern(index).Match(name, 0, name.size(), RE2::UNANCHORED, nullptr, 0);
}

std::vector<std::string_view> RegexRules::Captures(int index, std::string_view name,
                                                   int max_capture) const {
  std::vector<re2::StringPiece> groups(std::max(0, max_capture) + 1);
  pattern(index).Match(name, 0, name.size(), RE2::UNANCHORED, groups.data(),
                       static_cast<int>(groups.size()));
  std::vector<std::string_view> captures;
  captures.reserve(groups.size());
  for (const re2::StringPiece& group : groups) captures.emplace_back(group.data(), group.size());
  return captures;
}

}  // namespace tallyd
