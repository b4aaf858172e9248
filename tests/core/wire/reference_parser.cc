#include "tests/core/wire/reference_parser.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>

namespace tallyd {
namespace {

using Strings = std::vector<std::string>;

ReferenceSample Lost(DropReason reason) {
  ReferenceSample sample;
  sample.drop = reason;
  return sample;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Strings Split(const std::string& text, char separator) {
  Strings parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::string Join(const Strings& parts, char separator) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += separator;
    text += parts[i];
  }
  return text;
}

// Decodes every character and asks whether it was written the one way it may be.
bool IsValidUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int size = lead < 0x80           ? 1
                     : (lead >> 5) == 0x6  ? 2
                     : (lead >> 4) == 0xE  ? 3
                     : (lead >> 3) == 0x1E ? 4
                                           : 0;
    if (size == 0 || i + static_cast<size_t>(size) > text.size()) return false;
    uint32_t code = size == 1 ? lead : lead & (0x7Fu >> size);
    for (int k = 1; k < size; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      if ((next >> 6) != 0x2) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    static constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kLeast[size] || code > 0x10FFFF) return false;
    if (code >= 0xD800 && code <= 0xDFFF) return false;
    i += static_cast<size_t>(size);
  }
  return true;
}

std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

// Underscores stand between digits, or between the prefix "0x" and a digit. Takes them out.
bool TakeOutUnderscores(std::string* text) {
  const bool hex = text->substr(0, 2) == "0x";
  const auto is_digit = [hex](char c) {
    return (c >= '0' && c <= '9') || (hex && c >= 'a' && c <= 'f');
  };
  std::string rest;
  for (size_t i = 0; i < text->size(); ++i) {
    if ((*text)[i] != '_') {
      rest += (*text)[i];
      continue;
    }
    if (i == 0 || i + 1 == text->size()) return false;
    const bool after_prefix = hex && i == 2;
    if (!after_prefix && !is_digit((*text)[i - 1])) return false;
    if (!is_digit((*text)[i + 1])) return false;
  }
  *text = rest;
  return true;
}

// Reads digits, at most one point among them; says how many digits.
size_t SkipMantissa(const std::string& text, bool hex, size_t* at) {
  size_t digits = 0;
  bool point = false;
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if ((c >= '0' && c <= '9') || (hex && c >= 'a' && c <= 'f')) {
      ++digits;
    } else if (c == '.' && !point) {
      point = true;
    } else {
      break;
    }
  }
  return digits;
}

// An exponent that `letter` begins and that ends the text.
bool IsExponent(const std::string& text, size_t at, char letter) {
  if (at >= text.size() || text[at] != letter) return false;
  ++at;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  if (at == text.size()) return false;
  for (; at < text.size(); ++at) {
    if (text[at] < '0' || text[at] > '9') return false;
  }
  return true;
}

bool IsUnsignedNumber(const std::string& text) {
  const bool hex = text.substr(0, 2) == "0x";
  size_t at = hex ? 2 : 0;
  if (SkipMantissa(text, hex, &at) == 0) return false;
  if (hex) return IsExponent(text, at, 'p');
  return at == text.size() || IsExponent(text, at, 'e');
}

std::string TypeAsKept(const std::string& type) { return type == "d" ? "h" : type; }

bool IsKnownType(const std::string& type) {
  for (const char* known : {"c", "g", "ms", "h", "d", "s"}) {
    if (type == known) return true;
  }
  return false;
}

// The name's tag list, if `dialects` see one: what stands between the first brackets, or after the
// first "#" or ",". A lone bracket hides the others.
std::string NameTagList(const std::string& name, const TagDialects& dialects) {
  const size_t open = name.find('[');
  const size_t close = name.find(']');
  if (dialects.signalfx && (open != std::string::npos || close != std::string::npos)) {
    const bool pair = open != std::string::npos && close != std::string::npos && open < close;
    return pair ? name.substr(open + 1, close - open - 1) : "";
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if ((dialects.librato && name[i] == '#') || (dialects.influxdb && name[i] == ',')) {
      return name.substr(i + 1);
    }
  }
  return "";
}

bool HasLabelInName(const std::string& name, const TagDialects& dialects) {
  for (const std::string& tag : Split(NameTagList(name, dialects), ',')) {
    const size_t equals = tag.find('=');
    if (equals != std::string::npos && equals > 0 && equals + 1 < tag.size()) return true;
  }
  return false;
}

// A length: digits, and no more of them than a line can be long.
std::optional<size_t> ReadLength(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return {};
  const size_t start = std::min(text.find_first_not_of('0'), text.size() - 1);
  if (text.size() - start > 9) return {};
  return std::stoul(text.substr(start));
}

// "_e{1,2}:t|xx|..."
bool IsEventByTheBook(const std::string& line) {
  const size_t end = line.find("}:");
  if (end == std::string::npos) return false;
  const Strings lengths = Split(line.substr(3, end - 3), ',');
  if (lengths.size() != 2) return false;
  const auto title = ReadLength(lengths[0]);
  const auto text = ReadLength(lengths[1]);
  if (!title || !text || *title == 0) return false;
  const std::string body = line.substr(end + 2);
  const size_t whole = *title + 1 + *text;
  if (body.size() < whole || body[*title] != '|') return false;
  return body.size() == whole || body[whole] == '|';
}

// "_sc|name|0|..."
bool IsServiceCheckByTheBook(const std::string& line) {
  const Strings parts = Split(line, '|');
  if (parts.size() < 3 || parts[1].empty()) return false;
  return parts[2] == "0" || parts[2] == "1" || parts[2] == "2" || parts[2] == "3";
}

ReferenceSample EventOrLost(EventKind kind, const std::string& line) {
  const bool good =
      IsValidUtf8(line) &&
      (kind == EventKind::kEvent ? IsEventByTheBook(line) : IsServiceCheckByTheBook(line));
  if (!good) return Lost(DropReason::kBadEvent);
  ReferenceSample event;
  event.event = kind;
  return event;
}

class Line {
 public:
  explicit Line(std::string name) : name_(std::move(name)) {}

  // One sample: value, type and sections between bars.
  void Read(const std::string& text) {
    const Strings parts = Split(text, '|');
    if (parts.size() < 2) {
      samples_.push_back(Lost(DropReason::kMalformedSample));
      return;
    }
    samples_.push_back(ReadParts(parts));
  }

  std::vector<ReferenceSample> Take() { return std::move(samples_); }

 private:
  ReferenceSample ReadParts(const Strings& parts) {
    const std::string& value = parts[0];
    const std::string& type = parts[1];
    double number = 0;
    if (type == "s" ? value.empty() : !ReadNumberByTheBook(value, &number)) {
      return Lost(DropReason::kBadValue);
    }
    ReferenceSample sample;
    for (size_t i = 2; i < parts.size(); ++i) {
      if (parts[i].empty()) return Lost(DropReason::kMalformedSample);
    }
    has_labels_ = false;
    for (size_t i = 2; i < parts.size(); ++i) {
      if (!ApplySection(parts[i], &sample)) return Lost(DropReason::kBadContainerId);
    }
    if (!IsKnownType(type)) return Lost(DropReason::kBadType);
    if (type != "g" && type != "s" && std::isnan(number)) return Lost(DropReason::kBadValue);
    sample.type = TypeAsKept(type);
    sample.name = name_;
    sample.value = value;
    sample.label_sections = labels_;
    return sample;
  }

  bool ApplySection(const std::string& section, ReferenceSample* sample) {
    if (section[0] == '@') {
      double rate = 0;
      const bool readable = ReadNumberByTheBook(section.substr(1), &rate) && !std::isnan(rate);
      if (!readable) ++sample->bad_rates;
      sample->rates.push_back(!readable || rate == 0 ? 1 : rate);
    } else if (section[0] == '#') {
      AddLabels(section);
    } else if (section.substr(0, 2) == "c:") {
      if (section == "c:") return false;
      AddLabels(section);
    } else {
      ++sample->unknown_sections;
    }
    return true;
  }

  // A sample's own replace those of the samples before it.
  void AddLabels(const std::string& section) {
    if (!has_labels_) labels_.clear();
    has_labels_ = true;
    labels_.push_back(section);
  }

  std::string name_;
  Strings labels_;  // that hold for the next sample
  bool has_labels_ = false;
  std::vector<ReferenceSample> samples_;
};

// Whether the piece is "value|type" or begins so.
bool IsSampleByTheBook(const std::string& piece) {
  const Strings parts = Split(piece, '|');
  if (parts.size() < 2 || !IsKnownType(parts[1])) return false;
  double number = 0;
  return parts[1] == "s" ? !parts[0].empty() : ReadNumberByTheBook(parts[0], &number);
}

// Whether the colon between the pieces stands in a section of the sample that has been put together
// so far: sections begin with the third part.
bool ColonIsOfSection(const std::string& sample, const std::string& next_piece) {
  const Strings parts = Split(sample, '|');
  if (parts.size() < 3 || parts.back().empty()) return false;
  const std::string opening = Split(parts.back(), ':')[0];
  const bool first_colon = opening == parts.back();
  if (opening == "c" || opening == "e" || opening == "card") return first_colon;
  if (opening[0] == '@' || opening[0] == 'T') return false;
  return !IsSampleByTheBook(next_piece);
}

// Splits at the colons that begin a new sample.
Strings SplitSamples(const std::string& text) {
  const Strings pieces = Split(text, ':');
  Strings samples = {pieces[0]};
  for (size_t i = 1; i < pieces.size(); ++i) {
    if (ColonIsOfSection(samples.back(), pieces[i])) {
      samples.back() += ":" + pieces[i];
    } else {
      samples.push_back(pieces[i]);
    }
  }
  return samples;
}

std::string TagsOf(const Strings& label_sections) {
  std::string tags;
  for (const std::string& section : label_sections) {
    if (tags.empty() && section[0] == '#') {
      tags = section.substr(1);
    } else {
      tags += "|" + section;
    }
  }
  return tags;
}

SampleType TypeByName(const std::string& type) {
  if (type == "c") return SampleType::kCounter;
  if (type == "g") return SampleType::kGauge;
  if (type == "ms") return SampleType::kTimer;
  return type == "h" ? SampleType::kHistogram : SampleType::kSet;
}

bool SameNumber(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

bool AgreesOnValue(const ReferenceSample& expected, const Sample& actual) {
  double value = 0;
  ReadNumberByTheBook(expected.value, &value);
  // All rates of a counter but the last are in the value already. Three are no more than nonsense:
  // the order of the divisions is then anybody's.
  if (expected.type == "c") {
    if (expected.rates.size() > 2) return true;
    if (expected.rates.size() == 2) value /= expected.rates[0];
  }
  if (!SameNumber(actual.value, value)) return false;
  if (!actual.is_integer) return true;
  std::string digits = expected.value;
  if (digits[0] == '+') digits.erase(0, 1);
  TakeOutUnderscores(&digits);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return false;
  return std::strtoull(digits.c_str(), nullptr, 10) == actual.integer;
}

// What stands after the name and its colon.
std::vector<ReferenceSample> ParseSamples(const std::string& name, const std::string& rest) {
  Line samples(name);
  Strings parts = Split(rest, '|');
  if (Contains(parts[0], ":")) {
    const std::string type = parts[1];
    if (!IsKnownType(type)) return {Lost(DropReason::kBadPacking)};
    if (type != "s") {  // a set is not packed: the colon is the member's
      std::vector<ReferenceSample> packed;
      for (const std::string& value : Split(parts[0], ':')) {
        parts[0] = value;
        Line one(name);  // the sections stand there once, so their labels hold once
        one.Read(Join(parts, '|'));
        packed.push_back(one.Take()[0]);
      }
      return packed;
    }
    samples.Read(rest);
    return samples.Take();
  }
  if (Contains(rest, "|#")) {
    samples.Read(rest);
  } else {
    for (const std::string& sample : SplitSamples(rest)) samples.Read(sample);
  }
  return samples.Take();
}

}  // namespace

bool ReadNumberByTheBook(const std::string& text, double* value) {
  std::string rest = Lower(text);
  if (rest == "nan") {
    *value = std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  const bool negative = !rest.empty() && rest[0] == '-';
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) rest.erase(0, 1);
  if (rest == "inf" || rest == "infinity") {
    *value = std::numeric_limits<double>::infinity();
  } else {
    if (!TakeOutUnderscores(&rest) || !IsUnsignedNumber(rest)) return false;
    *value = std::strtod(rest.c_str(), nullptr);
    if (!std::isfinite(*value)) return false;
  }
  if (negative) *value = -*value;
  return true;
}

std::vector<ReferenceSample> ParseByTheBook(std::string line, const LineOptions& options) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line.empty()) return {};
  if (line.size() > options.max_line_bytes) return {Lost(DropReason::kTooLong)};
  if (line.substr(0, 3) == "_e{") return {EventOrLost(EventKind::kEvent, line)};
  if (line.substr(0, 4) == "_sc|") return {EventOrLost(EventKind::kServiceCheck, line)};
  const size_t colon = line.find(':');
  if (colon == std::string::npos || colon == 0 || !IsValidUtf8(line)) {
    return {Lost(DropReason::kMalformedLine)};
  }
  const std::string name = line.substr(0, colon);
  const std::string rest = line.substr(colon + 1);
  if (Contains(rest, "|#") && HasLabelInName(name, options.tags)) {
    return {Lost(DropReason::kMixedTagDialects)};
  }
  if (!Contains(rest, "|")) return {Lost(DropReason::kMalformedLine)};
  std::vector<ReferenceSample> samples = ParseSamples(name, rest);
  bool continues = false;
  for (ReferenceSample& sample : samples) {
    sample.continues = continues;
    continues = continues || !sample.drop;
  }
  return samples;
}

bool Agrees(const ReferenceSample& expected, const Sample& actual) {
  if (expected.drop || expected.event || expected.continues != actual.continues) return false;
  if (TypeByName(expected.type) != actual.type || expected.name != actual.name) return false;
  if (TagsOf(expected.label_sections) != actual.tags) return false;
  if (expected.bad_rates != actual.repairs.bad_rates) return false;
  if (expected.unknown_sections != actual.repairs.unknown_sections) return false;
  const double rate = expected.rates.empty() ? 1 : expected.rates.back();
  if (!SameNumber(actual.rate, rate)) return false;
  if (expected.type == "s") return expected.value == actual.member;
  const bool is_signed = expected.value[0] == '+' || expected.value[0] == '-';
  return is_signed == actual.is_signed && AgreesOnValue(expected, actual);
}

bool FastAgrees(const std::string& line, const LineOptions& options, const Sample& sample) {
  std::vector<ReferenceSample> expected = ParseByTheBook(line, options);
  if (expected.size() != 1) return false;
  if (expected[0].drop == DropReason::kMixedTagDialects) {
    if (sample.tags.empty() || !HasLabelInName(std::string(sample.name), options.tags)) {
      return false;
    }
    LineOptions unmixed = options;
    unmixed.tags = {.dogstatsd = true, .influxdb = false, .librato = false, .signalfx = false};
    expected = ParseByTheBook(line, unmixed);
    if (expected.size() != 1) return false;
  }
  return Agrees(expected[0], sample);
}

Comparison::Comparison(const std::string& line, const LineOptions& options)
    : expected_(ParseByTheBook(line, options)) {}

const ReferenceSample* Comparison::Next() {
  if (seen_ < expected_.size()) return &expected_[seen_++];
  ok_ = false;
  return nullptr;
}

void Comparison::OnSample(const Sample& sample) {
  const ReferenceSample* expected = Next();
  ok_ = ok_ && Agrees(*expected, sample);
}

void Comparison::OnDrop(DropReason reason) {
  const ReferenceSample* expected = Next();
  ok_ = ok_ && expected->drop == reason;
}

void Comparison::OnEvent(EventKind kind) {
  const ReferenceSample* expected = Next();
  ok_ = ok_ && expected->event == kind;
}

size_t Comparison::drops() const {
  return static_cast<size_t>(std::count_if(expected_.begin(), expected_.end(),
                                           [](const auto& sample) { return !!sample.drop; }));
}

size_t Comparison::events() const {
  return static_cast<size_t>(std::count_if(expected_.begin(), expected_.end(),
                                           [](const auto& sample) { return !!sample.event; }));
}

}  // namespace tallyd
