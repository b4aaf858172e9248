// How statsd_exporter finds the rule for a name and expands its templates, defects included.
//
// A slow model, for comparing: `tallyctl explain` and `tallyctl migrate check`. Written from
// docs/protocol.md and from what statsd_exporter does; it shares with core/rules/mapping.h what a
// rule is, and the regular expressions, but neither the search nor the templates of globs.

#ifndef TALLYD_DAEMON_PEER_MAPPING_H_
#define TALLYD_DAEMON_PEER_MAPPING_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {

// What statsd_exporter's rule says of a name. Not sanitised yet.
struct PeerMapped {
  const MappingRule* rule = nullptr;  // of the mapping that was given
  std::string name;
  std::vector<std::pair<std::string_view, std::string>> labels;
};

// Immutable and therefore thread-safe.
class PeerMapping {
 public:
  // A rule that statsd_exporter's tree loses or moves, for samples of one type.
  struct Defect {
    enum class Kind {
      kHidden,     // it is the beginning of an earlier rule, so it is never found
      kDuplicate,  // an earlier rule has the same match, which this one moves back to its own place
    };
    Kind kind = Kind::kHidden;
    const MappingRule* rule = nullptr;
    const MappingRule* earlier = nullptr;
    MatchedType type = MatchedType::kAny;
  };

  // `mapping` is not null.
  explicit PeerMapping(std::shared_ptr<const Mapping> mapping);
  ~PeerMapping();

  // `type` is not kAny. False if no rule is found.
  bool Map(std::string_view name, MatchedType type, PeerMapped* mapped) const;

  // In the order of the rules, for each rule once a type.
  const std::vector<Defect>& defects() const { return defects_; }
  const Mapping& mapping() const { return *mapping_; }

 private:
  struct Node;
  struct Search;

  void AddGlob(const MappingRule& rule, MatchedType type, int priority, Node* root);
  void Walk(const Node& node, size_t field, Search* search) const;
  void Visit(const Node& child, size_t field, bool captures, Search* search) const;
  bool MapGlob(std::string_view name, MatchedType type, PeerMapped* mapped) const;
  bool MapRegex(std::string_view name, MatchedType type, PeerMapped* mapped) const;

  std::shared_ptr<const Mapping> mapping_;
  std::unique_ptr<Node> roots_[3];  // for counters, gauges, observers
  bool has_globs_ = false;
  bool backtracks_ = true;
  // The rules with regular expressions by themselves, and where in mapping_ each of them stands.
  std::shared_ptr<const Mapping> regexes_;
  std::vector<size_t> regex_places_;
  std::vector<Defect> defects_;
};

// A template of a glob rule as statsd_exporter expands it: references become a format string, in
// which everything else that looks like a format is one too.
std::string ExpandPeerTemplate(std::string_view text, const std::vector<std::string_view>& captures,
                               size_t stars);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PEER_MAPPING_H_
