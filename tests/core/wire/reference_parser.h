// The line grammar a second time: slow, obvious, and written from docs/protocol.md alone, to hold
// core/wire/line.h against.

#ifndef TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_
#define TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// One sample of a line: lost for a reason, or what it says.
struct ReferenceSample {
  std::optional<DropReason> drop;  // if set, nothing else is

  std::string type;  // "c", "g", "ms", "h" (also for "d") or "s"
  std::string name;
  std::vector<std::string> label_sections;  // "#..." and "c:...", of all samples so far
  std::string value;                        // as sent
  std::vector<double> rates;                // as they count: 0 and unreadable ones are 1
  int bad_rates = 0;
  int unknown_sections = 0;
};

// Takes a line without its LF apart.
std::vector<ReferenceSample> ParseByTheBook(std::string line, size_t max_line_bytes = 65'535);

// Reads a number as Go's ParseFloat does.
bool ReadNumberByTheBook(const std::string& text, double* value);

// Whether LineParser's sample says the same.
bool Agrees(const ReferenceSample& expected, const Sample& actual);

}  // namespace tallyd

#endif  // TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_
