#include "core/rules/overflow.h"

#include <xxhash.h>

#include <array>

namespace tallyd {
namespace {

struct Family {
  SeriesKind kind;
  std::string_view name;
  std::string_view help;
};

constexpr std::array<Family, 5> kFamilies = {{
    {SeriesKind::kCounter, "tallyd_overflow_total",
     "Sum of the counter increments that found no room for a series or a family of their own."},
    {SeriesKind::kGauge, "tallyd_overflow_gauge",
     "Last value of a gauge that found no room for a series or a family of its own."},
    {SeriesKind::kHistogram, "tallyd_overflow_histogram",
     "Observations that found no room for a series or a family of their own."},
    {SeriesKind::kSet, "tallyd_overflow_set",
     "Distinct members of sets that found no room for a series or a family of their own."},
    {SeriesKind::kSummary, "tallyd_overflow_histogram", ""},
}};

void AppendLabel(std::string_view name, std::string_view value, std::string* labels) {
  if (!labels->empty()) labels->push_back(',');
  labels->append(name).append("=\"").append(value).push_back('"');
}

}  // namespace

std::string_view OverflowFamily(SeriesKind kind) {
  for (const Family& family : kFamilies) {
    if (family.kind == kind) return family.name;
  }
  return kFamilies[0].name;
}

std::string_view HelpOfOverflowFamily(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.name == name) return family.help;
  }
  return {};
}

bool IsOverflowFamily(std::string_view family) { return !HelpOfOverflowFamily(family).empty(); }

uint32_t HashLabelName(std::string_view name) {
  const auto hash = static_cast<uint32_t>(XXH3_64bits(name.data(), name.size()));
  return hash == 0 ? 1 : hash;
}

bool FoldLabel(std::string_view labels, uint32_t name_hash, std::string* folded) {
  folded->clear();
  bool found = false;
  ForEachLabel(labels, [&](std::string_view name, std::string_view value) {
    const bool is_it = HashLabelName(name) == name_hash;
    found = found || is_it;
    AppendLabel(name, is_it ? kOverflowValue : value, folded);
  });
  return found;
}

std::string FoldAllLabels(std::string_view labels) {
  std::string folded;
  ForEachLabel(labels, [&](std::string_view name, std::string_view /*value*/) {
    AppendLabel(name, kOverflowValue, &folded);
  });
  return folded;
}

std::vector<std::string> FoldedLabels(std::string_view labels) {
  std::vector<std::string> names;
  ForEachLabel(labels, [&](std::string_view name, std::string_view value) {
    if (value == kOverflowValue) names.emplace_back(name);
  });
  return names;
}

void LabelSpread::Add(std::string_view labels) {
  ++series_;
  ForEachLabel(labels, [&](std::string_view name, std::string_view value) {
    Values& values = labels_[HashLabelName(name)];
    if (values.name.empty()) values.name = name;
    values.hashes.insert(XXH3_64bits(value.data(), value.size()));
  });
}

uint32_t LabelSpread::Widest() const {
  uint32_t widest = 0;
  size_t most = 1;
  std::string_view name;
  for (const auto& [hash, values] : labels_) {
    // Of equals the first by name, so that all shards agree.
    if (values.hashes.size() > most ||
        (widest != 0 && values.hashes.size() == most && values.name < name)) {
      widest = hash;
      most = values.hashes.size();
      name = values.name;
    }
  }
  return widest;
}

}  // namespace tallyd
