// What the names of families say in the exposition formats, and of which type a kind is there.

#ifndef TALLYD_CORE_MERGE_FAMILY_NAMES_H_
#define TALLYD_CORE_MERGE_FAMILY_NAMES_H_

#include <string_view>

#include "core/merge/page_encoder.h"
#include "core/rules/rules.h"

namespace tallyd {

// OpenMetrics 1.0: a counter's sample is its family's name and kTotalSuffix; when a series began is
// a line called like its family with kCreatedSuffix.
inline constexpr std::string_view kTotalSuffix = "_total";
inline constexpr std::string_view kCreatedSuffix = "_created";

// `name` without `suffix`; empty if it does not end with it, or is nothing else.
inline std::string_view StemBefore(std::string_view name, std::string_view suffix) {
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : std::string_view();
}

inline FamilyType TypeOf(SeriesKind kind) {
  switch (kind) {
    case SeriesKind::kCounter:
      return FamilyType::kCounter;
    case SeriesKind::kGauge:
    case SeriesKind::kSet:
      return FamilyType::kGauge;
    case SeriesKind::kHistogram:
      return FamilyType::kHistogram;
    case SeriesKind::kSummary:
      return FamilyType::kSummary;
  }
  return FamilyType::kGauge;
}

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_FAMILY_NAMES_H_
