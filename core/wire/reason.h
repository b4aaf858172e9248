// Why a sample was lost, or what was put right while it counted: two closed lists.
//
// The names are those of docs/protocol.md and the values of the label `reason` of
// tallyd_dropped_samples_total and tallyd_repaired_total. Every sample that was received is either
// applied or dropped under exactly one reason; a line that is refused before it is taken apart is
// one sample.

#ifndef TALLYD_CORE_WIRE_REASON_H_
#define TALLYD_CORE_WIRE_REASON_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tallyd {

enum class DropReason : uint8_t {
  kMalformedLine,     // no colon, empty name, no "|" after the colon, invalid UTF-8
  kMalformedSample,   // a sample without a type, an empty section
  kBadValue,          // the value is no number, or NaN where that would poison the series
  kBadType,           // unknown type
  kMixedTagDialects,  // tags in the name and a tag section
  kBadPacking,        // packed values of a type that cannot be packed
  kBadContainerId,    // "c:" without an id
  kNegativeCounter,   // a counter increment below zero
  kEmptyName,         // nothing is left of the name once its tags are cut off
  kTypeConflict,      // the family has another type, or the name is one of our own
  kBadLabel,          // a reserved label name: "__" prefix, "le" on a histogram
  kBadEvent,          // malformed event or service check
  kTooLong,           // a line or frame over a limit
  kTruncated,         // cut off by the buffer, or by the end of its connection
  kSeriesLimit,       // no room for a new key, nor for the series that it would fold to
  kNameTooLong,       // these three: a key over one of core/wire/limits.h's KeyLimits
  kTooManyTags,
  kLabelsTooLong,
  kMappingDrop,   // a mapping rule says "drop"
  kUndeclared,    // no catalog declares the name, and one of them enforces
  kCrash,         // was being taken in when the process before this one ended without notice
  kUnauthorized,  // its sender is none of the users that may send to this socket
  kCount
};
inline constexpr size_t kDropReasons = static_cast<size_t>(DropReason::kCount);

enum class RepairReason : uint8_t {
  kBadTag,           // per tag: empty, without separator, key or value empty; the tag is left out
  kBadSampleRate,    // unreadable rate; the sample counts once
  kUnknownSection,   // a section that says nothing to us, timestamps among them; ignored
  kOverriddenLabel,  // per tag: a later tag of the same label name took its place
  kGaugeUnderflow,   // a change would have taken a declared non-negative gauge below 0
  kCount
};
inline constexpr size_t kRepairReasons = static_cast<size_t>(RepairReason::kCount);

inline constexpr std::array<std::string_view, kDropReasons> kDropReasonNames = {
    "malformed_line", "malformed_sample", "bad_value",        "bad_type",     "mixed_tag_dialects",
    "bad_packing",    "bad_container_id", "negative_counter", "empty_name",   "type_conflict",
    "bad_label",      "bad_event",        "too_long",         "truncated",    "series_limit",
    "name_too_long",  "too_many_tags",    "labels_too_long",  "mapping_drop", "undeclared",
    "crash",          "unauthorized"};

inline constexpr std::array<std::string_view, kRepairReasons> kRepairReasonNames = {
    "bad_tag", "bad_sample_rate", "unknown_section", "overridden_label", "gauge_underflow"};

constexpr std::string_view Name(DropReason reason) {
  return kDropReasonNames[static_cast<size_t>(reason)];
}
constexpr std::string_view Name(RepairReason reason) {
  return kRepairReasonNames[static_cast<size_t>(reason)];
}

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_REASON_H_
