// One text line, taken apart: every dialect of StatsD (docs/protocol.md has grammar and rules).
//
// The order of the steps is statsd_exporter's, because it decides which error a bad line counts as
// and how much of it is lost.
//
// Tags in the name stay there: a key is what was sent, and the rules take it apart once a key. A
// line that has good ones and a tag section too is `mixed_tag_dialects`, and that is the one thing
// the parser asks the name about. ParseLineFast does not ask: it delivers such a line's sample, and
// the rules refuse its key for the same reason.

#ifndef TALLYD_CORE_WIRE_LINE_H_
#define TALLYD_CORE_WIRE_LINE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "core/wire/event.h"
#include "core/wire/limits.h"
#include "core/wire/name_tags.h"
#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// Receives what a line holds, in order: each sample is either one OnSample or one OnDrop. A line
// that is an event or a service check is one OnEvent and no sample; a malformed one is one OnDrop.
class SampleSink {
 public:
  virtual ~SampleSink() = default;
  virtual void OnSample(const Sample& sample) = 0;
  virtual void OnDrop(DropReason reason) = 0;
  virtual void OnEvent(EventKind /*kind*/) {}
};

struct LineOptions {
  size_t max_line_bytes = kMaxLineBytes;  // and no more than that
  // Which tags count; it is only asked whether a line mixes dialects. Sections of tags stay in the
  // key whether they are read or not, as in statsd_exporter: there too they keep the line one
  // sample.
  TagDialects tags;
};

// Takes lines apart. Thread-compatible: its scratch space holds joined tags of the last line.
class LineParser {
 public:
  explicit LineParser(LineOptions options = {});
  explicit LineParser(size_t max_line_bytes);

  // Parses one line without its LF. A CR at its end is not part of it; an empty line is nothing.
  // Views given to the sink are valid until the next call. True if some of them point into the
  // scratch space rather than into the line.
  bool Parse(std::string_view line_untrusted, SampleSink* sink);

  size_t max_line_bytes() const { return options_.max_line_bytes; }

 private:
  struct Sections;

  void ParseMetric(std::string_view line, SampleSink* sink);
  void ParseSamples(std::string_view name, std::string_view rest, SampleSink* sink);
  void ParsePacked(std::string_view name, std::string_view rest, size_t values_size,
                   SampleSink* sink);
  void ParseOne(std::string_view name, std::string_view text, SampleSink* sink);
  void Deliver(std::string_view name, const Sections& sections, Sample* sample, SampleSink* sink);
  Sections ParseSections(std::string_view type_and_sections);
  void ParseSection(std::string_view section, Sections* sections);
  void AddLabels(std::string_view section);

  LineOptions options_;
  std::string scratch_;
  std::string_view tags_;    // that hold for the next sample
  bool has_labels_ = false;  // the sample at hand has brought some of them
  bool is_joined_ = false;   // they are at the end of the scratch space
  bool continues_ = false;   // a sample of the line has been delivered
};

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_LINE_H_
