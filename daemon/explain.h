// What becomes of a line, and why: `tallyctl explain`, and the readings that `tallyctl migrate
// check` compares.

#ifndef TALLYD_DAEMON_EXPLAIN_H_
#define TALLYD_DAEMON_EXPLAIN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rules/layout_table.h"
#include "core/rules/rules.h"
#include "core/shard/family_types.h"
#include "core/wire/reason.h"
#include "core/wire/sample.h"
#include "daemon/near_rule.h"
#include "daemon/peer_differences.h"

namespace tallyd {

// One sample of a line, or what was dropped in its place.
struct ExplainedSample {
  bool accepted = false;
  DropReason reason = DropReason::kMalformedLine;  // if not accepted

  // Empty where the line was refused before it came to them.
  std::string type;    // as written: c, g, ms, h, s
  std::string name;    // as matched: without its tags
  std::string tags;    // the sections that give labels, as sent
  std::string member;  // of a set
  double value = 0;    // in the unit of the series, scaled, before the rate
  bool is_change = false;
  double rate = 1;
  double weight = 1;  // how often it counts, on average
  SeriesKind kind = SeriesKind::kCounter;
  std::string family;
  std::string series;  // name{labels}
  std::vector<std::string> repairs;

  const MappingRule* rule = nullptr;  // of the explainer's mapping
  std::optional<NearRule> near;
  bool by_catalog = false;              // a catalog's source takes the name, before any rule
  std::string catalog;                  // which entry it meets, or that it meets none, and the mode
  std::vector<std::string> departures;  // from that entry, and what comes of them
  int64_t ttl_ms = 0;
  std::vector<std::string> bounds;     // of a histogram that a rule made
  std::vector<std::string> quantiles;  // of a summary

  // What a running daemon knows: the type that the family has there; empty if it has none.
  std::string family_type;
};

// How many series a running daemon has, and how many it may have.
struct SeriesCount {
  uint64_t series = 0;
  uint64_t limit = 0;
};

struct Explanation {
  std::string line;
  Dialect dialect = Dialect::kStatsd;
  std::vector<std::string> tokens;
  std::string event;                     // "event", "service_check", or empty
  std::vector<ExplainedSample> samples;  // none: the line is empty, or an event
  std::vector<PeerDifference> differences;
  std::optional<SeriesCount> budget;

  bool accepted() const;
};

// Asks the parser and the rules of the daemon themselves. Thread-compatible.
class Explainer {
 public:
  struct Options {
    Rules::Options rules;
    Dialect dialect = Dialect::kStatsd;
    size_t max_line_bytes = kMaxLineBytes;
  };

  static absl::StatusOr<std::unique_ptr<Explainer>> Create(Options options);

  // Everything about a line by itself, as if it were the first that a daemon sees. With `running`,
  // which may be null, also the types that families have there.
  Explanation Explain(std::string_view line_untrusted, const FamilyTypes* running) const;
  // The samples alone, without `near` and without differences, and with the types of families that
  // `claims` has had from the lines before.
  Explanation Read(std::string_view line_untrusted, FamilyTypes* claims) const;

  const Options& options() const { return options_; }
  const std::shared_ptr<const PeerMapping>& peer_mapping() const { return peer_mapping_; }

 private:
  explicit Explainer(Options options) : options_(std::move(options)) {}

  Options options_;
  LayoutTable layouts_;
  std::unique_ptr<const Rules> rules_;
  std::shared_ptr<const PeerMapping> peer_mapping_;  // null without a mapping
};

// Why a sample is dropped for `reason`, and what its sender should do.
struct Advice {
  const char* why;
  const char* remedy;
};
Advice AdviceFor(DropReason reason);

// counter, gauge, histogram, set, summary.
const char* KindName(SeriesKind kind);

// For people, 80 columns wide.
std::string ExplanationText(const Explanation& explanation, const MappingConfig* mapping);
// One object and a line feed; docs/tallyctl.md has its keys.
std::string ExplanationJson(const Explanation& explanation, const MappingConfig* mapping);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_EXPLAIN_H_
