// What a key means: the way from identity bytes as sent to the series that is exposed.
//
// Paid once for each new key and shard, never per event, so it is ordinary C++. The mapping
// language of statsd_exporter will stand here; today every name maps to itself, sanitised.

#ifndef TALLYD_CORE_RULES_RULES_H_
#define TALLYD_CORE_RULES_RULES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/rules/histogram_layout.h"
#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// What the numbers of a series are. A set is exposed as a gauge but is kept as what it is.
enum class SeriesKind : uint8_t { kCounter = 1, kGauge = 2, kHistogram = 3, kSet = 4 };

// The identity of a series and how to keep it. `labels` is rendered as in the text formats, sorted
// by name and escaped: `a="b",c="d"`; two series are the same if name and labels are.
struct SeriesSpec {
  SeriesKind kind = SeriesKind::kCounter;
  std::string name;
  std::string labels;
  uint16_t layout = 0;    // of a histogram: index into Rules::layouts()
  uint16_t bad_tags = 0;  // repairs that each sample of this key costs
  uint16_t overridden_labels = 0;
  int64_t ttl_ms = 0;  // 0: never expires
};

struct Verdict {
  bool accepted = false;
  DropReason reason = DropReason::kMalformedLine;  // if not accepted
};

// A complete set of rules. Immutable and therefore thread-safe.
class Rules {
 public:
  struct Options {
    int64_t default_ttl_ms = 0;
  };

  explicit Rules(Options options);

  // Says what `key` means. Deterministic: the shard and the merger get the same answer.
  Verdict Resolve(const KeyView& key, SeriesSpec* spec) const;

  const std::vector<HistogramLayout>& layouts() const { return layouts_; }
  std::string_view HelpFor(std::string_view family) const;

 private:
  Options options_;
  std::vector<HistogramLayout> layouts_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_RULES_H_
