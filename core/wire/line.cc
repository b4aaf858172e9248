#include "core/wire/line.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/wire/number.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

std::optional<SampleType> TypeOf(std::string_view text) {
  if (text == "c") return SampleType::kCounter;
  if (text == "g") return SampleType::kGauge;
  if (text == "ms") return SampleType::kTimer;
  if (text == "h" || text == "d") return SampleType::kHistogram;
  if (text == "s") return SampleType::kSet;
  return std::nullopt;
}

void Count(uint16_t* repairs) {
  if (*repairs < UINT16_MAX) ++*repairs;
}

// The type of a sample whose value is cut off.
std::optional<SampleType> TypeIn(std::string_view type_and_sections) {
  return TypeOf(type_and_sections.substr(0, type_and_sections.find('|')));
}

// `sections` with the bar before each.
bool HasEmptySection(std::string_view sections) {
  return sections.back() == '|' || sections.find("||") != kNone;
}

// False if `value` is none of `type`.
bool ReadValue(std::string_view value, std::optional<SampleType> type, Sample* sample) {
  if (type == SampleType::kSet) {
    sample->member = value;
    return !value.empty();
  }
  Number number;
  if (!ParseNumber(value, &number)) return false;
  sample->value = number.value;
  sample->is_integer = number.is_integer;
  sample->integer = number.integer;
  sample->is_signed = value[0] == '+' || value[0] == '-';
  return true;
}

// Whether a sample stands at the start of `text`: value, bar, type.
bool OpensSample(std::string_view text) {
  const std::string_view sample = text.substr(0, text.find(':'));
  const size_t bar = sample.find('|');
  if (bar == kNone) return false;
  const std::optional<SampleType> type = TypeIn(sample.substr(bar + 1));
  Sample unused;
  return type && ReadValue(sample.substr(0, bar), type, &unused);
}

// Whether a colon belongs to the section that it stands in rather than starting another sample.
// `opening` is the section up to the colon, `after` the text behind it. Sections that nobody knows
// yet will have an opening and a colon too, so only what reads as a sample ends one.
bool KeepsColon(std::string_view opening, std::string_view after) {
  if (opening == "c" || opening == "e" || opening == "card") return true;
  if (opening.empty() || opening[0] == '@' || opening[0] == 'T') return false;
  for (const std::string_view known : {"c:", "e:", "card:"}) {
    if (opening.starts_with(known)) return false;
  }
  return !OpensSample(after);
}

// Where the first sample of `samples` ends: at a colon, except one that belongs to a section, which
// can only be the third part of a sample or a later one.
size_t EndOfSample(std::string_view samples) {
  size_t part_start = 0;
  int parts = 1;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i] == '|') {
      part_start = i + 1;
      ++parts;
    } else if (samples[i] == ':') {
      const std::string_view opening = samples.substr(part_start, i - part_start);
      if (parts < 3 || !KeepsColon(opening, samples.substr(i + 1))) return i;
    }
  }
  return samples.size();
}

}  // namespace

// What stands after a value: its type and sections, read once for all values they hold for.
struct LineParser::Sections {
  std::optional<SampleType> type;
  std::optional<DropReason> refusal;
  SampleRepairs repairs;
  double rate = 1;
  double earlier_rates = 1;  // of repeated rates all but the last: a counter is divided by each
};

LineParser::LineParser(LineOptions options) : options_(options) {
  options_.max_line_bytes = std::min(options_.max_line_bytes, kMaxLineBytes);
  scratch_.reserve(options_.max_line_bytes + kReadPadding);
}

LineParser::LineParser(size_t max_line_bytes)
    : LineParser(LineOptions{.max_line_bytes = max_line_bytes, .tags = {}}) {}

bool LineParser::Parse(std::string_view line, SampleSink* sink) {
  scratch_.clear();
  tags_ = {};
  has_labels_ = false;
  is_joined_ = false;
  continues_ = false;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (line.empty()) return false;
  if (line.size() > options_.max_line_bytes) {
    sink->OnDrop(DropReason::kTooLong);
  } else if (const std::optional<EventKind> kind = OpeningKind(line)) {
    if (IsWellFormed(*kind, line)) {
      sink->OnEvent(*kind);
    } else {
      sink->OnDrop(DropReason::kBadEvent);
    }
  } else {
    ParseMetric(line, sink);
  }
  return !scratch_.empty();
}

void LineParser::ParseMetric(std::string_view line, SampleSink* sink) {
  const size_t colon = line.find(':');
  if (colon == kNone || colon == 0 || line.find('|', colon) == kNone || !IsUtf8(line)) {
    return sink->OnDrop(DropReason::kMalformedLine);
  }
  ParseSamples(line.substr(0, colon), line.substr(colon + 1), sink);
}

void LineParser::ParseSamples(std::string_view name, std::string_view rest, SampleSink* sink) {
  const bool has_tag_section = rest.find("|#") != kNone;
  if (has_tag_section && HasGoodNameTag(name, options_.tags)) {
    return sink->OnDrop(DropReason::kMixedTagDialects);
  }
  const size_t bar = rest.find('|');
  if (rest.substr(0, bar).find(':') != kNone) return ParsePacked(name, rest, bar, sink);
  // Tag values may hold colons: with a tag section the line is one sample.
  if (has_tag_section) return ParseOne(name, rest, sink);
  while (true) {
    const size_t end = EndOfSample(rest);
    has_labels_ = false;
    ParseOne(name, rest.substr(0, end), sink);
    if (end == rest.size()) return;
    rest.remove_prefix(end + 1);
  }
}

void LineParser::ParsePacked(std::string_view name, std::string_view rest, size_t values_size,
                             SampleSink* sink) {
  std::string_view values = rest.substr(0, values_size);
  const Sections sections = ParseSections(rest.substr(values_size + 1));
  if (!sections.type) return sink->OnDrop(DropReason::kBadPacking);
  // Sets are not packed: the colon belongs to the member.
  const bool packed = *sections.type != SampleType::kSet;
  while (true) {
    const size_t end = packed ? values.find(':') : kNone;
    Sample sample;
    if (ReadValue(values.substr(0, end), sections.type, &sample)) {
      Deliver(name, sections, &sample, sink);
    } else {
      sink->OnDrop(DropReason::kBadValue);
    }
    if (end == kNone) return;
    values.remove_prefix(end + 1);
  }
}

// The value's own error comes first: then its sections give no labels to the samples after it.
void LineParser::ParseOne(std::string_view name, std::string_view text, SampleSink* sink) {
  const size_t bar = text.find('|');
  if (bar == kNone) return sink->OnDrop(DropReason::kMalformedSample);
  const std::string_view type_and_sections = text.substr(bar + 1);
  Sample sample;
  if (!ReadValue(text.substr(0, bar), TypeIn(type_and_sections), &sample)) {
    return sink->OnDrop(DropReason::kBadValue);
  }
  Deliver(name, ParseSections(type_and_sections), &sample, sink);
}

// Errors of the sections come before the type's.
void LineParser::Deliver(std::string_view name, const Sections& sections, Sample* sample,
                         SampleSink* sink) {
  if (sections.refusal) return sink->OnDrop(*sections.refusal);
  if (!sections.type) return sink->OnDrop(DropReason::kBadType);
  // A NaN would poison a counter or a sum for good; a gauge is repaired by the next value.
  if (std::isnan(sample->value) && *sections.type != SampleType::kGauge) {
    return sink->OnDrop(DropReason::kBadValue);
  }
  sample->type = *sections.type;
  sample->name = name;
  sample->tags = tags_;
  sample->rate = sections.rate;
  sample->repairs = sections.repairs;
  sample->continues = continues_;
  continues_ = true;
  if (sections.earlier_rates != 1 && sample->type == SampleType::kCounter) {
    sample->value /= sections.earlier_rates;
    sample->is_integer = false;
  }
  sink->OnSample(*sample);
}

LineParser::Sections LineParser::ParseSections(std::string_view type_and_sections) {
  Sections sections;
  sections.type = TypeIn(type_and_sections);
  size_t bar = type_and_sections.find('|');
  if (bar != kNone && HasEmptySection(type_and_sections.substr(bar))) {
    sections.refusal = DropReason::kMalformedSample;
  }
  while (bar != kNone && !sections.refusal) {
    type_and_sections.remove_prefix(bar + 1);
    bar = type_and_sections.find('|');
    ParseSection(type_and_sections.substr(0, bar), &sections);
  }
  return sections;
}

void LineParser::ParseSection(std::string_view section, Sections* sections) {
  if (section[0] == '@') {
    Number rate;
    const bool readable = ParseNumber(section.substr(1), &rate) && !std::isnan(rate.value);
    if (!readable) Count(&sections->repairs.bad_rates);
    sections->earlier_rates *= sections->rate;
    sections->rate = !readable || rate.value == 0 ? 1 : rate.value;
  } else if (section[0] == '#') {
    AddLabels(section);
  } else if (section.substr(0, 2) == "c:") {
    if (section.size() == 2) {
      sections->refusal = DropReason::kBadContainerId;
    } else {
      AddLabels(section);
    }
  } else {
    Count(&sections->repairs.unknown_sections);
  }
}

// Sections that stand side by side, as clients write them, are in the line what they are in a key.
// Those of an earlier sample end with the first of a later one: in a line of several samples they
// are container ids, of which the last counts, and keys that grow from sample to sample would take
// time and memory of a square.
void LineParser::AddLabels(std::string_view section) {
  if (!has_labels_ || tags_.empty()) {
    tags_ = section[0] == '#' ? section.substr(1)
                              : std::string_view(section.data() - 1, section.size() + 1);
    has_labels_ = true;
    is_joined_ = false;
    return;
  }
  if (!is_joined_ && tags_.data() + tags_.size() + 1 == section.data()) {
    tags_ = {tags_.data(), tags_.size() + 1 + section.size()};
    return;
  }
  // What earlier samples have there stays where it is: all of it is no longer than the line.
  const size_t start = scratch_.size() - (is_joined_ ? tags_.size() : 0);
  if (!is_joined_) scratch_.append(tags_);
  is_joined_ = true;
  scratch_.push_back('|');
  scratch_.append(section);
  tags_ = std::string_view(scratch_).substr(start);
}

}  // namespace tallyd
