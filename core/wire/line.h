// One text line, taken apart: etsy StatsD and DogStatsD (docs/protocol.md has grammar and rules).
//
// The order of the steps is statsd_exporter's, because it decides which error a bad line counts as
// and how much of it is lost.

#ifndef TALLYD_CORE_WIRE_LINE_H_
#define TALLYD_CORE_WIRE_LINE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// Receives what a line holds, in order: each sample is either one OnSample or one OnDrop.
class SampleSink {
 public:
  virtual ~SampleSink() = default;
  virtual void OnSample(const Sample& sample) = 0;
  virtual void OnDrop(DropReason reason) = 0;
};

// Takes lines apart. Thread-compatible: its scratch space holds the joined tags of the last line.
class LineParser {
 public:
  static constexpr size_t kDefaultMaxLineBytes = 65'535;

  explicit LineParser(size_t max_line_bytes = kDefaultMaxLineBytes);

  // Parses one line without its LF. A CR at its end is not part of it; an empty line is nothing.
  // Views given to the sink are valid until the next call. True if some of them point into the
  // scratch space rather than into the line.
  bool Parse(std::string_view line_untrusted, SampleSink* sink);

  size_t max_line_bytes() const { return max_line_bytes_; }

 private:
  struct Sections;

  void ParseSamples(std::string_view name, std::string_view rest, SampleSink* sink);
  void ParsePacked(std::string_view name, std::string_view rest, size_t values_size,
                   SampleSink* sink);
  void ParseOne(std::string_view name, std::string_view text, SampleSink* sink);
  void Deliver(std::string_view name, const Sections& sections, Sample* sample, SampleSink* sink);
  Sections ParseSections(std::string_view type_and_sections);
  void ParseSection(std::string_view section, Sections* sections);
  void AddLabels(std::string_view section);

  size_t max_line_bytes_;
  std::string scratch_;
  std::string_view tags_;      // of the line so far
  bool scratch_used_ = false;  // by tags_
  bool continues_ = false;     // a sample of the line has been delivered
};

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_LINE_H_
