// How statsd_exporter would read a line: a slow model of it, for comparing.
//
// Written from docs/protocol.md and from what statsd_exporter does (its head of July 2026; 0.30
// differs by refusing timestamps). It follows its steps in its order, because they decide what is
// lost and what a line does to the lines after it.

#ifndef TALLYD_DAEMON_PEER_READING_H_
#define TALLYD_DAEMON_PEER_READING_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/rules/mapping.h"
#include "core/wire/name_tags.h"
#include "daemon/peer_mapping.h"

namespace tallyd {

// Why statsd_exporter loses a line or a sample.
enum class PeerLoss : uint8_t {
  kNone,
  kMalformedLine,    // no colon, nothing before it, no UTF-8
  kNoBar,            // no "|" after the colon
  kMixedTags,        // tags in the name and "|#"
  kPacking,          // packed values of another type than ms, h, d
  kNoType,           // a piece of the line without "|"
  kTooManySections,  // more than four after the type
  kEmptySection,     // "||", or a bar at the end
  kBadValue,         // no number
  kUnknownSection,   // begins with none of "@", "#", "c", "T"
  kBadContainerId,   // begins with "c" and is not "c:" and an id
  kSet,              // the type "s"
  kBadType,          // an unknown type
  kNoEvent,          // the rate leaves nothing of the sample
  kDropRule,         // a rule says so
  kEmptyName,        // a rule's name came out empty
  kNegativeCounter,  // an increment below zero
  kTypeConflict,     // the name belongs to another type
};

// What a line does to statsd_exporter beyond its own sample.
enum class PeerHazard : uint8_t {
  kNone,
  kCrash,         // the process ends
  kBrokenScrape,  // every scrape fails from now on
  kFlood,         // memory and CPU for a huge number of events
  kPoison,        // the series is NaN for good
};

struct PeerSample {
  PeerLoss loss = PeerLoss::kNone;
  PeerHazard hazard = PeerHazard::kNone;
  std::string hazard_cause;  // a clause, if there is a hazard

  // Of a sample that was read so far.
  std::string type;    // counter, gauge, summary, histogram
  std::string series;  // name{labels}, sorted, without empty values
  std::string family;
  double value = 0;           // what one event adds, sets or observes
  uint64_t times = 1;         // events; huge ones stop at 2^63
  bool is_change = false;     // of a gauge
  bool leaked_label = false;  // a label came from the mapping of an earlier sample of the line
  const MappingRule* rule = nullptr;

  bool taken() const { return loss == PeerLoss::kNone; }
};

// Empty for an empty line.
using PeerReading = std::vector<PeerSample>;

// The metric of its own, without the prefix "statsd_exporter_", that it counts a loss by. Empty for
// kNoEvent, which nothing counts.
std::string PeerMetric(const PeerSample& sample);
// "crash", "broken-scrape", "flood", "poison".
const char* PeerHazardName(PeerHazard hazard);

// Reads line after line and remembers, as statsd_exporter does, which type each name has.
// Thread-compatible.
//
// What is remembered is bounded: past kMaxRemembered names, or series, new ones are not, and so
// conflicts with them are not seen.
class PeerReader {
 public:
  static constexpr size_t kMaxRemembered = 500'000;

  // Without a mapping `mapping` is null.
  PeerReader(const TagDialects& dialects, std::shared_ptr<const PeerMapping> mapping);
  ~PeerReader();

  // A line without its LF.
  PeerReading Read(std::string_view line);
  // The same, leaving nothing behind, as if the line were the first and the last.
  PeerReading ReadAlone(std::string_view line) const;

  size_t series() const;
  bool remembers_all() const;

 private:
  class Registry;
  struct Line;

  using Labels = std::map<std::string, std::string>;

  PeerReading ReadWith(Registry* registry, std::string_view line) const;
  void ReadSample(std::string_view text, Line* line) const;
  bool ReadSections(const std::vector<std::string_view>& parts, PeerSample* sample,
                    Line* line) const;
  bool ReadSection(std::string_view section, std::string_view type, PeerSample* sample,
                   Line* line) const;
  void Handle(Registry* registry, std::string_view name, Labels* labels, Labels* leaked,
              PeerSample* sample) const;

  TagDialects dialects_;
  std::shared_ptr<const PeerMapping> mapping_;
  std::unique_ptr<Registry> registry_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PEER_READING_H_
