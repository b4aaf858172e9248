// What a rule may not say (docs/mapping.md, "What is refused").

#ifndef TALLYD_CORE_RULES_MAPPING_CHECK_H_
#define TALLYD_CORE_RULES_MAPPING_CHECK_H_

#include <string_view>
#include <vector>

#include "core/rules/complaints.h"
#include "core/rules/mapping.h"

namespace tallyd {

// Puts options into the one form that the rest relies on: no +Inf among the buckets, the native
// histogram within what we have, quantiles ascending and distinct.
void NormalizeOptions(MappingRule* rule);

// Checks all but the patterns of regex rules, which compiling them does.
void CheckMapping(const MappingConfig& config, Complaints* complaints);

// Segments joined by dots, each a lone star or letters, digits, "_" and "-"; the first is no digit.
bool IsGlob(std::string_view match);

// The line where a key stands, or `line` if it is not there.
int LineOf(const std::vector<KeyLine>& key_lines, int line, std::string_view key);
int LineOf(const MappingRule& rule, std::string_view key);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_MAPPING_CHECK_H_
