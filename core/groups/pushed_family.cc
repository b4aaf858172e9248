#include "core/groups/pushed_family.h"

#include <algorithm>

namespace tallyd {
namespace {

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool IsLabelName(std::string_view name) {
  return !name.empty() && IsLetter(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsLetter(c) || IsDigit(c); });
}

bool IsMetricName(std::string_view name) {
  return !name.empty() && !IsDigit(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
    return IsLetter(c) || IsDigit(c) || c == ':';
  });
}

std::string_view PushedTypeName(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return "COUNTER";
    case FamilyType::kGauge:
      return "GAUGE";
    case FamilyType::kHistogram:
      return "HISTOGRAM";
    case FamilyType::kSummary:
      return "SUMMARY";
    case FamilyType::kUntyped:
      break;
  }
  return "UNTYPED";
}

}  // namespace tallyd
