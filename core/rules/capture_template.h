// Templates of names and labels: text with references to what a match captured.

#ifndef TALLYD_CORE_RULES_CAPTURE_TEMPLATE_H_
#define TALLYD_CORE_RULES_CAPTURE_TEMPLATE_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace tallyd {

// A template, taken apart once. Captured text is never expanded again. Immutable.
//
// The two kinds read the same text differently (docs/mapping.md, "Templates"), because
// statsd_exporter does: "$1_x" is a reference to "1_x", and what that is depends on the kind.
class CaptureTemplate {
 public:
  // A reference is "$" or "${", the longest run of [a-zA-Z0-9_$], and a "}" if there is one. A run
  // that is a number from 1 to `stars` is that capture, any other is nothing.
  static CaptureTemplate OfGlob(std::string_view text, int stars);

  // What Go's Regexp.Expand reads: "$name" with the longest run of letters, digits and "_", or
  // "${name}"; "$$" is a dollar; what is no reference is itself. A number is a group from 0, the
  // whole match, to `groups`. Of several groups of one name it is the first that took part in the
  // match. Unknown groups are nothing.
  static CaptureTemplate OfRegex(std::string_view text, int groups,
                                 const std::map<int, std::string>& group_names);

  // Appends the text. `captures[n]` is capture n; there are at least max_capture() + 1 of them, and
  // the data() of those that took no part is null.
  void Expand(absl::Span<const std::string_view> captures, std::string* out) const;

  // The highest capture that is referred to, -1 if there is none.
  int max_capture() const;

 private:
  // A stretch of text, and what follows it: the first of these captures that took part.
  struct Piece {
    std::string text;
    std::vector<int> captures;
  };

  void AddText(std::string_view text);
  void AddReference(std::vector<int> captures);

  std::vector<Piece> pieces_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CAPTURE_TEMPLATE_H_
