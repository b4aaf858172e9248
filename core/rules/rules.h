// What a key means: the way from identity bytes as sent to the series that is exposed.
//
// Paid once for each new key and shard, never per event, so it is ordinary C++.

#ifndef TALLYD_CORE_RULES_RULES_H_
#define TALLYD_CORE_RULES_RULES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rules/catalog_index.h"
#include "core/rules/histogram_layout.h"
#include "core/rules/label_set.h"
#include "core/rules/layout_table.h"
#include "core/rules/mapping.h"
#include "core/wire/limits.h"
#include "core/wire/name_tags.h"
#include "core/wire/reason.h"
#include "core/wire/sample.h"

namespace tallyd {

// What the numbers of a series are. A set is exposed as a gauge but is kept as what it is.
enum class SeriesKind : uint8_t {
  kCounter = 1,
  kGauge = 2,
  kHistogram = 3,
  kSet = 4,
  kSummary = 5
};

constexpr bool IsObserver(SeriesKind kind) {
  return kind == SeriesKind::kHistogram || kind == SeriesKind::kSummary;
}

// The identity of a series and how to keep it. `labels` is rendered as in the text formats, sorted
// by name and escaped: `a="b",c="d"`; two series are the same if name and labels are.
struct SeriesSpec {
  SeriesKind kind = SeriesKind::kCounter;
  std::string name;
  std::string labels;
  const MappingRule* rule = nullptr;  // that made it so; lives as long as the Rules
  uint16_t layout = 0;                // of an observer: number in the LayoutTable
  uint16_t bad_tags = 0;              // repairs that each sample of this key costs
  uint16_t bad_name_tags = 0;         // and that each line of it costs
  uint16_t overridden_labels = 0;
  int64_t ttl_ms = 0;  // 0: never expires
  double scale = 1;    // of the value, after milliseconds and rate

  // What the catalogs say; nothing but violations of families that they do not declare.
  bool folded = false;        // values outside their sets were replaced by "__overflow__"
  bool non_negative = false;  // a gauge whose changes stop at 0
  // The family of a gauge that one process alone may report; lives as long as the Rules.
  std::string_view single_sender;
  uint32_t family_limit = 0;    // series of the family; 0: the default
  std::string_view fold_label;  // to fold first past the limit; empty: the one that explodes
  ViolationSet violations;      // there even if the key is refused for them
  std::string violating_label;  // the first one that is not as declared, if labels are not
};

struct Verdict {
  bool accepted = false;
  DropReason reason = DropReason::kMalformedLine;  // if not accepted
};

// A complete set of rules. Immutable and therefore thread-safe.
class Rules {
 public:
  struct Options {
    int64_t default_ttl_ms = 0;  // where neither rule nor the mapping's defaults say
    TagDialects tags = {};
    KeyLimits limits = {};
    bool container_id_label = true;                    // else "c:" sections say nothing
    std::shared_ptr<const Mapping> mapping = nullptr;  // every name maps to itself
    // What it declares comes before the mapping. Without one, everything passes.
    std::shared_ptr<const CatalogIndex> catalog = nullptr;
  };

  // Fails if the layouts find no room in the table, which outlives the rules. `sequence` grows from
  // one set to the next.
  static absl::StatusOr<std::unique_ptr<const Rules>> Create(Options options, LayoutTable* layouts,
                                                             uint32_t sequence = 0);

  // Says what `key` means. Deterministic: the shard and the merger get the same answer. Of a
  // literal key, only name and labels are said.
  Verdict Resolve(const KeyView& key, SeriesSpec* spec) const;

  // The series that are there from the start, as Resolve would make them: those of the catalogs'
  // metrics whose labels all have their values listed. In the order of the files.
  std::vector<SeriesSpec> DeclaredSeries() const;
  // The series of the observed gauges, one for each source, in the order of the files.
  std::vector<SeriesSpec> ObservedSeries() const;

  // Of a family that `rule`, or no rule, made.
  static std::string_view HelpOf(const MappingRule* rule);

  // Of observers without room (core/rules/overflow.h): the same under all rules.
  uint16_t overflow_layout() const { return overflow_layout_; }

  const Options& options() const { return options_; }
  uint32_t sequence() const { return sequence_; }

 private:
  Rules(Options options, uint32_t sequence);
  absl::Status InternLayouts(LayoutTable* layouts);
  Verdict Map(const std::string& sent_name, SampleType type, SeriesSpec* spec, Mapped* mapped,
              bool* by_catalog) const;
  void UseRule(const MappingRule* rule, SampleType type, SeriesSpec* spec) const;
  Verdict FindFamily(SampleType type, SeriesSpec* spec, const DeclaredFamily** family) const;
  void UseFamily(const DeclaredFamily& family, SeriesSpec* spec) const;
  Verdict AppendLabels(const std::vector<Label>& labels, SeriesSpec* spec) const;

  Options options_;
  uint32_t sequence_;
  MappingRule defaults_;  // how names that no rule fits are kept
  uint16_t default_layout_ = 0;
  uint16_t overflow_layout_ = 0;
  std::vector<uint16_t> rule_layouts_;    // by the rule's place in the mapping
  std::vector<uint16_t> family_layouts_;  // by the family's number in the catalog
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_RULES_H_
