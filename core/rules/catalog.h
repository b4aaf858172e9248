// The catalog: the metrics that a service declares, and what is allowed of them.
//
// A declaration says more than the data plane needs (alerts, panels, links): one model serves the
// daemon, which enforces it, and tallyctl, which checks and generates from it. Reading the YAML is
// the daemon's part (daemon/catalog_file.h); the format is docs/catalog.md.

#ifndef TALLYD_CORE_RULES_CATALOG_H_
#define TALLYD_CORE_RULES_CATALOG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {

// What happens to what is not declared.
enum class CatalogMode : uint8_t {
  kOpen,     // passes
  kWarn,     // passes, and is reported with its sender
  kEnforce,  // names are refused, values of labels outside their set fold into "__overflow__"
};

enum class DeclaredType : uint8_t { kCounter, kGauge, kHistogram, kSummary, kSet };

// A label: exactly one of `values` and `max_values` says what bounds it.
struct DeclaredLabel {
  std::string name;
  int line = 0;
  std::string help;
  std::vector<std::string> values;  // all there are; in the order of the file
  size_t max_values = 0;            // how many there may be, where they cannot be listed
  std::string from;                 // template of the mapping language ("$1"); empty: sent as a tag

  bool is_enumerable() const { return !values.empty(); }
};

// A gauge that the daemon reads itself, for values that are read rather than sent. Exactly one of
// `file` (whose first number is the value) and `socket` (a UNIX stream socket that is sent `query`
// and answers with a number) is set.
struct ObservedSource {
  int line = 0;
  std::string file;
  std::string socket;
  std::string query;
  int64_t interval_ms = 5'000;
  int64_t timeout_ms = 1'000;
  std::vector<std::pair<std::string, std::string>> labels;  // which series of the gauge it is
};

struct DeclaredPanel {
  int line = 0;
  std::string row;    // the component; empty: the service's name
  std::string title;  // empty: the metric's help
  std::string expr;   // empty: what fits the type
  std::string kind;   // "timeseries", "stat", "heatmap"; empty: what fits the type
};

// Values of input series and the moments at which an alert must or must not fire.
struct AlertTest {
  int line = 0;
  bool fires = false;
  int64_t at_ms = 0;
  std::vector<std::pair<std::string, std::string>> series;  // selector, promtool's values notation
};

struct DeclaredAlert {
  int line = 0;
  std::vector<KeyLine> key_lines;
  std::string name;  // CamelCase
  std::string expr;
  int64_t for_ms = 0;
  std::string severity;  // "critical", "warning", "info"
  std::string summary;
  std::string description;
  std::string runbook;  // link; empty: the catalog's runbook_base and the alert's name
  std::string owner;    // empty: the catalog's
  std::string reason;   // why a lint finding is meant so; empty: it is not
  std::vector<AlertTest> tests;
};

struct RecordingRule {
  int line = 0;
  std::string record;
  std::string expr;
};

struct DeclaredMetric {
  int line = 0;
  std::vector<KeyLine> key_lines;  // for messages; keys that are not here stand at `line`
  std::string name;                // as exposed
  DeclaredType type = DeclaredType::kCounter;
  // A base unit, which is the name's suffix (before "_total"); empty: the name ends with none.
  std::string unit;
  std::string help;
  std::vector<DeclaredLabel> labels;  // sorted by name
  // StatsD names, or globs of the mapping language, that feed it; empty: its own name.
  std::vector<std::string> sources;
  double scale = 1;             // of what is sent, to base units; timers come in ms and need none
  std::vector<double> buckets;  // of a histogram; ascending, finite, distinct, never empty
  std::vector<Quantile> quantiles;  // of a summary; never empty
  int64_t ttl_ms = 0;
  bool non_negative = false;   // a gauge whose changes stop at 0
  bool single_sender = false;  // a gauge that one sender alone may report; a second one is told
  std::vector<ObservedSource> observed;
  std::string owner;    // empty: the catalog's
  std::string runbook;  // link
  DeclaredPanel panel;

  // Series that there are from the start; 0 if a label cannot be enumerated, and of gauges that are
  // observed: nobody has read them yet. Saturates.
  size_t EnumerableSeries() const;
  // The most series there can be with all labels inside their bounds; saturates.
  size_t MaxSeries() const;
  // `sources`, or the name where there are none. Of observed gauges, none: they are not sent.
  std::vector<std::string> SourcesOrName() const;
};

// One file. A value; checked once ReadCatalog has returned it.
struct Catalog {
  std::string file;  // for messages
  std::vector<KeyLine> key_lines;
  std::string service;  // [a-z][a-z0-9_]*
  std::string description;
  CatalogMode mode = CatalogMode::kWarn;
  std::string owner;
  std::string runbook_base;  // link to the folder of runbooks
  int64_t scrape_interval_ms = 15'000;
  std::string dashboard_title;  // empty: the service's name
  std::string dashboard_uid;    // at most 40 characters; empty: "tallyd-" and the service's name
  std::vector<DeclaredMetric> metrics;  // in the order of the file
  std::vector<RecordingRule> recording_rules;
  std::vector<DeclaredAlert> alerts;
};

std::string_view Name(DeclaredType type);
std::string_view Name(CatalogMode mode);

// What samples must be to feed a metric of this type.
MatchedType MatchedTypeOf(DeclaredType type);

// What OpenMetrics calls the family of a counter of this name.
std::string_view WithoutTotal(std::string_view metric_name);

// What the name says the unit is: the base unit that it ends with, before "_total"; or "".
std::string_view UnitOfName(std::string_view metric_name);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CATALOG_H_
