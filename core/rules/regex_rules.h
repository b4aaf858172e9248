// Which regex rule a name belongs to: the first of the file that fits and has the right type.

#ifndef TALLYD_CORE_RULES_REGEX_RULES_H_
#define TALLYD_CORE_RULES_REGEX_RULES_H_

#include <re2/filtered_re2.h>
#include <re2/re2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "core/rules/literal_scanner.h"
#include "core/rules/mapping.h"
#include "core/wire/sample.h"

namespace tallyd {

// The regex rules of a file. Immutable after Finish(), and then thread-safe.
//
// A pattern can only fit a name that contains the literals which the pattern cannot do without. One
// scan of the name for all literals of all patterns leaves few patterns to try; patterns without
// literals are always tried. RE2::Set, which makes all patterns one automaton, was measured beside
// it: as quick where patterns begin with literals, but with 10,000 that begin like "(\w+)\." its
// states, each of which holds all patterns that may still match, no longer fit into 64 MiB, and a
// new name took 7 ms instead of 10 us.
class RegexRules {
 public:
  // `expected`: how many there will be, for what each may have of the memory.
  explicit RegexRules(size_t expected);

  // In the order of the file. An error says what is wrong with the pattern.
  absl::Status Add(std::string_view pattern, MatchedType type, uint32_t number);
  void Finish();

  // The index of the first rule that fits, -1 if there is none. Indices count the calls of Add().
  int Find(std::string_view name, SampleType type) const;

  uint32_t number(int index) const { return rules_[index].number; }
  const re2::RE2& pattern(int index) const { return patterns_.GetRE2(index); }

  // The whole match and the groups up to `max_capture`; the data() of those that took no part is
  // null. Requires that the rule fits.
  std::vector<std::string_view> Captures(int index, std::string_view name, int max_capture) const;

 private:
  struct Rule {
    MatchedType type;
    uint32_t number;
  };

  bool Fits(int index, std::string_view name, SampleType type) const;

  int64_t memory_each_;
  re2::FilteredRE2 patterns_;
  std::vector<Rule> rules_;
  std::unique_ptr<LiteralScanner> literals_;  // null: all patterns are tried
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_REGEX_RULES_H_
