// statsd_exporter's mapping language, compiled: from the name as sent to a rule, a name and labels
// (docs/protocol.md, "Mapping").
//
// Reading the YAML is the daemon's part (daemon/mapping_file.h); what a rule may say is checked
// here, so that every way to make rules is checked alike.

#ifndef TALLYD_CORE_RULES_MAPPING_H_
#define TALLYD_CORE_RULES_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/wire/sample.h"

namespace tallyd {

enum class MatchType : uint8_t { kGlob, kRegex };
enum class ObserverType : uint8_t { kHistogram, kSummary };
// What a rule is for. Sets are gauges here; timers, histograms and distributions are observers.
enum class MatchedType : uint8_t { kAny, kCounter, kGauge, kObserver };

// What a rule must be for to fit a sample of this type, unless it is for any.
MatchedType MatchedTypeOf(SampleType type);

struct Quantile {
  double quantile = 0.5;
  double error = 0.05;  // of the rank, as written; kept for show, ours is one of the value
  friend bool operator==(const Quantile&, const Quantile&) = default;
};

struct SummaryOptions {
  // More steps than these are these: the window's length is then within 1 % anyway, and each step
  // has to be remembered.
  static constexpr int kMaxAgeBuckets = 100;

  std::vector<Quantile> quantiles = {{0.5, 0.05}, {0.9, 0.01}, {0.99, 0.001}};
  int64_t max_age_ms = 600'000;
  int age_buckets = 5;
  friend bool operator==(const SummaryOptions&, const SummaryOptions&) = default;
};

struct HistogramOptions {
  std::vector<double> buckets = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};  // without +Inf
  double native_factor = 1.1;
  uint32_t native_max_buckets = 160;  // at most 160; statsd_exporter's default of 256 reads as that
  friend bool operator==(const HistogramOptions&, const HistogramOptions&) = default;
};

// Where a key of a rule stands. Keys within keys are joined by dots: "labels.host".
struct KeyLine {
  std::string key;
  int line = 0;
};

// One rule with the defaults filled in.
struct MappingRule {
  int line = 0;  // of its file, from 1
  // For messages; of a repeated key the last counts. Keys that are not here stand at `line`.
  // Mapping does not keep it.
  std::vector<KeyLine> key_lines;
  std::string match;
  MatchType match_type = MatchType::kGlob;
  std::string name;                                         // template
  std::vector<std::pair<std::string, std::string>> labels;  // name, template; names are distinct
  bool honor_labels = false;
  MatchedType matched_type = MatchedType::kAny;
  bool drop = false;
  ObserverType observer_type = ObserverType::kHistogram;
  // Whether the rule or the defaults say so. Where they do not, statsd_exporter makes summaries.
  bool observer_type_given = false;
  SummaryOptions summary;
  HistogramOptions histogram;
  int64_t ttl_ms = 0;  // 0: never expires
  double scale = 1;
  std::string help;  // empty: the default text
};

// A whole mapping file. `defaults` says how names that no rule fits are kept.
struct MappingConfig {
  std::string file;  // for messages
  // observer_type(_given), summary, histogram and ttl_ms alone mean something.
  MappingRule defaults;
  bool glob_disable_ordering = false;
  std::vector<MappingRule> rules;
  // "file:line: key: ..." of what was read but is old, or surely not meant
  std::vector<std::string> warnings;
};

// What the first fitting rule says of a name. The name is not sanitised yet; labels whose template
// came out empty are still there.
struct Mapped {
  const MappingRule* rule = nullptr;
  std::string name;
  std::vector<std::pair<std::string_view, std::string>> labels;  // in the order of the rule
};

// The rules of one file, compiled. Immutable and therefore thread-safe; mapping takes time that
// does not grow with the number of glob rules, and hardly with that of regex rules.
class Mapping {
 public:
  // Checks and compiles. An error is one line for each thing that is wrong, up to 20, each
  // "file:line: key: what is wrong; what to do", in the order of the file, and "and N more".
  // In config() options are in one form: buckets without +Inf, quantiles ascending and distinct,
  // the numbers of native and age buckets within their limits.
  static absl::StatusOr<std::shared_ptr<const Mapping>> Compile(MappingConfig config);
  ~Mapping();

  // Finds the rule for a name without its tags, and expands its templates (not for drop rules).
  // False if no rule fits; then `*mapped` is unspecified.
  bool Map(std::string_view name, SampleType type, Mapped* mapped) const;

  const MappingConfig& config() const;

 private:
  class Impl;
  explicit Mapping(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_MAPPING_H_
