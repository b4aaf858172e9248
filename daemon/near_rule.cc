#include "daemon/near_rule.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tallyd {
namespace {

constexpr int kMostRegexes = 1000;

using Segments = std::vector<std::string_view>;

Segments SegmentsOf(std::string_view text) {
  Segments segments;
  while (true) {
    const size_t dot = text.find('.');
    segments.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) return segments;
    text.remove_prefix(dot + 1);
  }
}

bool Takes(std::string_view pattern, std::string_view segment) {
  return pattern == "*" || pattern == segment;
}

bool TypeFits(MatchedType matched, SampleType type) {
  switch (matched) {
    case MatchedType::kAny:
      return true;
    case MatchedType::kCounter:
      return type == SampleType::kCounter;
    case MatchedType::kGauge:
      return type == SampleType::kGauge || type == SampleType::kSet;
    case MatchedType::kObserver:
      return type == SampleType::kTimer || type == SampleType::kHistogram;
  }
  return false;
}

// Something of the rule must be there, else "*.x" would be near to every name.
bool SharesText(const Segments& patterns, const Segments& segments) {
  return std::any_of(patterns.begin(), patterns.end(), [&segments](std::string_view pattern) {
    return pattern != "*" && std::find(segments.begin(), segments.end(), pattern) != segments.end();
  });
}

// Places where two lists of one length disagree; stops at two.
std::vector<size_t> Mismatches(const Segments& patterns, const Segments& segments) {
  std::vector<size_t> places;
  for (size_t i = 0; i < patterns.size() && places.size() < 2; ++i) {
    if (!Takes(patterns[i], segments[i])) places.push_back(i);
  }
  return places;
}

// The place in the longer list whose removal makes the two fit, if there is one.
std::optional<size_t> SurplusAt(const Segments& patterns, const Segments& segments) {
  const bool longer_pattern = patterns.size() > segments.size();
  const size_t longer = std::max(patterns.size(), segments.size());
  for (size_t skipped = longer; skipped-- > 0;) {
    bool fits = true;
    for (size_t i = 0, j = 0; i < patterns.size() && j < segments.size(); ++i, ++j) {
      if (longer_pattern && i == skipped) ++i;
      if (!longer_pattern && j == skipped) ++j;
      fits = fits && Takes(patterns[i], segments[j]);
    }
    if (fits) return skipped;
  }
  return {};
}

std::optional<NearRule> NearGlob(const MappingRule& rule, const Segments& segments,
                                 bool type_fits) {
  const Segments patterns = SegmentsOf(rule.match);
  NearRule near;
  near.rule = &rule;
  if (patterns.size() == segments.size()) {
    const std::vector<size_t> places = Mismatches(patterns, segments);
    if (places.size() + (type_fits ? 0 : 1) > 1) return {};
    if (!places.empty() && !SharesText(patterns, segments)) return {};
    if (places.empty()) {
      near.miss = type_fits ? NearRule::Miss::kAnotherRuleWins : NearRule::Miss::kOtherType;
    } else {
      near.segment = places[0] + 1;
    }
    return near;
  }
  const size_t longer = std::max(patterns.size(), segments.size());
  if (!type_fits || longer - std::min(patterns.size(), segments.size()) != 1) return {};
  if (!SharesText(patterns, segments)) return {};
  const std::optional<size_t> surplus = SurplusAt(patterns, segments);
  if (!surplus.has_value()) return {};
  near.miss =
      patterns.size() == longer ? NearRule::Miss::kSegmentMore : NearRule::Miss::kSegmentLess;
  near.segment = *surplus + 1;
  return near;
}

bool RegexFits(const MappingRule& rule, std::string_view name, SampleType type) {
  MappingConfig config;
  config.rules.push_back(rule);
  config.rules[0].matched_type = MatchedType::kAny;
  const auto mapping = Mapping::Compile(std::move(config));
  Mapped mapped;
  return mapping.ok() && (*mapping)->Map(name, type, &mapped);
}

}  // namespace

std::optional<NearRule> FindNearRule(const Mapping& mapping, std::string_view name, SampleType type,
                                     const MappingRule* taken) {
  const Segments segments = SegmentsOf(name);
  int regexes = 0;
  for (const MappingRule& rule : mapping.config().rules) {
    if (&rule == taken) continue;
    const bool type_fits = TypeFits(rule.matched_type, type);
    if (rule.match_type == MatchType::kGlob) {
      if (auto near = NearGlob(rule, segments, type_fits)) return near;
    } else if (++regexes <= kMostRegexes && RegexFits(rule, name, type)) {
      NearRule near;
      near.rule = &rule;
      near.miss = type_fits ? NearRule::Miss::kAnotherRuleWins : NearRule::Miss::kOtherType;
      return near;
    }
  }
  return {};
}

const char* Name(NearRule::Miss miss) {
  switch (miss) {
    case NearRule::Miss::kAnotherRuleWins:
      return "another-rule-wins";
    case NearRule::Miss::kOtherType:
      return "other-type";
    case NearRule::Miss::kSegmentDiffers:
      return "segment-differs";
    case NearRule::Miss::kSegmentMore:
      return "segment-more";
    case NearRule::Miss::kSegmentLess:
      return "segment-less";
  }
  return "";
}

std::string Describe(const NearRule& near, std::string_view name) {
  const auto quoted = [&near](std::string_view text) {
    const std::string_view segment = SegmentsOf(text)[near.segment - 1];
    return absl::StrCat("\"", absl::string_view(segment.data(), segment.size()), "\"");
  };
  switch (near.miss) {
    case NearRule::Miss::kAnotherRuleWins:
      return "it fits too, but another rule wins";
    case NearRule::Miss::kOtherType:
      return "it fits, but takes samples of another type only";
    case NearRule::Miss::kSegmentDiffers:
      return absl::StrCat("segment ", near.segment, " is ", quoted(name), ", the rule wants ",
                          quoted(near.rule->match));
    case NearRule::Miss::kSegmentMore:
      return absl::StrCat("the rule has one segment more, ", quoted(near.rule->match));
    case NearRule::Miss::kSegmentLess:
      return absl::StrCat("the name has one segment more, ", quoted(name));
  }
  return "";
}

}  // namespace tallyd
