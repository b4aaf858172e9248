// The catalogs that are in force, as the rules ask for them (docs/catalog.md, "What is enforced").

#ifndef TALLYD_CORE_RULES_CATALOG_INDEX_H_
#define TALLYD_CORE_RULES_CATALOG_INDEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "core/rules/catalog.h"
#include "core/rules/mapping.h"

namespace tallyd {

// How a key departs from the catalogs.
enum class Violation : uint8_t {
  kUndeclaredMetric,
  kUndeclaredLabel,
  kMissingLabel,
  kLabelValue,  // outside the declared set
  kType,
  kSecondSender,  // of a gauge that one process alone may report; no key shows it
  kCount
};
inline constexpr size_t kViolations = static_cast<size_t>(Violation::kCount);
inline constexpr std::array<std::string_view, kViolations> kViolationNames = {
    "undeclared_metric", "undeclared_label", "missing_label", "label_value", "type",
    "second_sender"};
constexpr std::string_view Name(Violation violation) {
  return kViolationNames[static_cast<size_t>(violation)];
}

// Several of them.
class ViolationSet {
 public:
  void Add(Violation violation) {
    bits_ = static_cast<uint8_t>(bits_ | 1U << static_cast<uint8_t>(violation));
  }
  bool Has(Violation violation) const {
    return (bits_ >> static_cast<uint8_t>(violation) & 1) != 0;
  }
  bool empty() const { return bits_ == 0; }

 private:
  uint8_t bits_ = 0;
};

// A declared metric, ready to be asked.
struct DeclaredFamily {
  const DeclaredMetric* metric = nullptr;
  const Catalog* catalog = nullptr;
  size_t number = 0;  // from 0, in the order of the files
  MappingRule rule;   // how its series are kept, and its help; no template of it is ever expanded
  std::vector<absl::flat_hash_set<std::string>> values;  // by label; empty where there is a max
  uint32_t series_limit = 0;    // with all bounds kept, and one more value for each listed set
  std::string_view fold_label;  // the one of the greatest max; empty: all values are listed
};

// Immutable and therefore thread-safe.
class CatalogIndex {
 public:
  // Of catalogs that have been checked beside each other.
  static absl::StatusOr<std::shared_ptr<const CatalogIndex>> Create(std::vector<Catalog> catalogs);
  ~CatalogIndex();

  const std::vector<Catalog>& catalogs() const { return catalogs_; }
  // By their numbers.
  const std::vector<std::unique_ptr<const DeclaredFamily>>& families() const { return families_; }

  // By the name as exposed; null if no catalog declares it.
  const DeclaredFamily* Find(std::string_view exposed_name) const;
  // The family that has samples of this name (_bucket, _sum, _count), or null.
  const DeclaredFamily* OwnerOfSample(std::string_view exposed_name) const;

  // The metric that has a source of this name and type, with its labels expanded, or null.
  const DeclaredFamily* Map(std::string_view sent_name, SampleType type, Mapped* mapped) const;
  // The metric that has a source of this name for samples of other types, or null.
  const DeclaredFamily* SourceOfOtherType(std::string_view sent_name, SampleType type) const;

  // What holds for names that no catalog declares: the strictest mode of all.
  CatalogMode strictest() const { return strictest_; }

 private:
  CatalogIndex() = default;

  std::vector<Catalog> catalogs_;
  std::vector<std::unique_ptr<const DeclaredFamily>> families_;
  absl::flat_hash_map<std::string, const DeclaredFamily*> by_name_;
  absl::flat_hash_map<std::string, const DeclaredFamily*> by_sample_;
  std::shared_ptr<const Mapping> sources_;
  std::vector<const DeclaredFamily*> by_source_;  // by the source's place in sources_
  CatalogMode strictest_ = CatalogMode::kOpen;
};

// A metric's sources as rules of the mapping language, one for each source, each for the type that
// is declared.
std::vector<MappingRule> SourceRules(const DeclaredMetric& metric);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CATALOG_INDEX_H_
