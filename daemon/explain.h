// What becomes of a line, and why: `tallyctl explain`.

#ifndef TALLYD_DAEMON_EXPLAIN_H_
#define TALLYD_DAEMON_EXPLAIN_H_

#include <string>
#include <vector>

#include "core/wire/reason.h"

namespace tallyd {

// One sample of a line, or what was dropped in its place.
struct ExplainedSample {
  bool accepted = false;
  DropReason reason = DropReason::kMalformedLine;  // if not accepted

  // Empty where the line was refused before it came to them.
  std::string type;  // as written: c, g, ms, h, s
  std::string name;
  std::string tags;
  std::string value;    // in the unit of the series
  std::string meaning;  // what the value does to the series
  double rate = 1;
  double weight = 1;   // how often it counts
  std::string series;  // name{labels}
  std::string kind;    // counter, gauge, histogram, set
  std::vector<std::string> repairs;
};

struct Explanation {
  std::string line;
  std::vector<std::string> tokens;
  std::vector<ExplainedSample> samples;  // none: the line is empty and skipped

  bool accepted() const;
};

// By the parser and the rules of the daemon itself. What only a running daemon knows, the limit on
// series and the types of families seen before, is not asked.
Explanation Explain(const std::string& line_untrusted);

// Why a sample is dropped for `reason`, and what its sender should do.
struct Advice {
  const char* why;
  const char* remedy;
};
Advice AdviceFor(DropReason reason);

std::string ExplanationText(const Explanation& explanation);
std::string ExplanationJson(const Explanation& explanation);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_EXPLAIN_H_
