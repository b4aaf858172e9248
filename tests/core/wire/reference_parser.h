// The line grammar a second time: slow, obvious, and written from docs/protocol.md alone, to hold
// core/wire/line.h against.

#ifndef TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_
#define TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/wire/line.h"
#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// One sample of a line: lost for a reason, or what it says. Or a line that is no sample.
struct ReferenceSample {
  std::optional<DropReason> drop;  // if set, nothing else is
  std::optional<EventKind> event;  // likewise

  std::string type;  // "c", "g", "ms", "h" (also for "d") or "s"
  std::string name;
  std::vector<std::string> label_sections;  // "#..." and "c:...", of all samples so far
  std::string value;                        // as sent
  std::vector<double> rates;                // as they count: 0 and unreadable ones are 1
  int bad_rates = 0;
  int unknown_sections = 0;
  bool continues = false;
};

// Takes a line without its LF apart.
std::vector<ReferenceSample> ParseByTheBook(std::string line, const LineOptions& options = {});

// Reads a number as Go's ParseFloat does.
bool ReadNumberByTheBook(const std::string& text, double* value);

// Whether LineParser's sample says the same.
bool Agrees(const ReferenceSample& expected, const Sample& actual);

// Holds what a parser says of a line against the book, one by one.
class Comparison : public SampleSink {
 public:
  explicit Comparison(const std::string& line, const LineOptions& options = {});

  void OnSample(const Sample& sample) override;
  void OnDrop(DropReason reason) override;
  void OnEvent(EventKind kind) override;

  // Has seen exactly what the book says.
  bool ok() const { return ok_ && seen_ == expected_.size(); }
  size_t drops() const;
  size_t events() const;
  size_t samples() const { return expected_.size() - drops() - events(); }

 private:
  const ReferenceSample* Next();

  std::vector<ReferenceSample> expected_;
  size_t seen_ = 0;
  bool ok_ = true;
};

// Whether ParseLineFast may have delivered `sample` of `line`: what the book says, except that it
// leaves the refusal of mixed dialects to the rules if the key shows them what they need for it.
bool FastAgrees(const std::string& line, const LineOptions& options, const Sample& sample);

}  // namespace tallyd

#endif  // TALLYD_TESTS_CORE_WIRE_REFERENCE_PARSER_H_
