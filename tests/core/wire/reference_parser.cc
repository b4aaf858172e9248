#include "tests/core/wire/reference_parser.h"

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
      labels_.push_back(section);
    } else if (section.substr(0, 2) == "c:") {
      if (section == "c:") return false;
      labels_.push_back(section);
    } else {
      ++sample->unknown_sections;
    }
    return true;
  }

  std::string name_;
  Strings labels_;  // one list for all samples of the line
  std::vector<ReferenceSample> samples_;
};

// Splits at the colons that begin a new sample. A colon belongs to the third part of a sample, or
// to a later one, if it follows that part's name "c", "e" or "card".
Strings SplitSamples(const std::string& text) {
  Strings samples(1);
  for (const char c : text) {
    if (c == ':') {
      const Strings parts = Split(samples.back(), '|');
      const std::string& part = parts.back();
      if (parts.size() < 3 || (part != "c" && part != "e" && part != "card")) {
        samples.emplace_back();
        continue;
      }
    }
    samples.back() += c;
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

std::vector<ReferenceSample> ParseByTheBook(std::string line, size_t max_line_bytes) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line.empty()) return {};
  if (line.size() > max_line_bytes) return {Lost(DropReason::kTooLong)};
  const size_t colon = line.find(':');
  if (colon == std::string::npos || colon == 0 || !IsValidUtf8(line)) {
    return {Lost(DropReason::kMalformedLine)};
  }
  const std::string name = line.substr(0, colon);
  const std::string rest = line.substr(colon + 1);
  if (!Contains(rest, "|")) return {Lost(DropReason::kMalformedLine)};

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

bool Agrees(const ReferenceSample& expected, const Sample& actual) {
  if (expected.drop) return false;
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

}  // namespace tallyd
