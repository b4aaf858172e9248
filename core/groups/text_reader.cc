#include "core/groups/text_reader.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"
#include "core/wire/number.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

bool IsNameChar(char c, bool first, bool colon) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_' || (colon && c == ':') ||
         (!first && absl::ascii_isdigit(static_cast<unsigned char>(c)));
}

bool CutSuffix(std::string_view* name, std::string_view suffix) {
  if (name->size() <= suffix.size()) return false;
  if (name->substr(name->size() - suffix.size()) != suffix) return false;
  name->remove_suffix(suffix.size());
  return true;
}

// A float as the text format has it: Go's, without hexadecimal and underscores.
bool ReadFloat(std::string_view text, double* value) {
  if (text.find_first_of("pP_") != std::string_view::npos) return false;
  Number number;
  if (!ParseNumber(text, &number)) return false;
  *value = number.value;
  return true;
}

uint64_t ToCount(double value) {
  constexpr double kEnd = 18446744073709551616.0;  // 2^64
  if (!(value > 0)) return 0;
  return value < kEnd ? static_cast<uint64_t>(value) : std::numeric_limits<uint64_t>::max();
}

class TextReader {
 public:
  TextReader(std::string_view body, size_t max_samples)
      : rest_(body), allowance_(max_samples), max_samples_(max_samples) {}

  absl::StatusOr<PushedFamilies> Read() {
    while (!rest_.empty() && status_.ok() && !allowance_.exceeded()) {
      ++line_number_;
      const size_t end = rest_.find('\n');
      line_ = rest_.substr(0, end);
      SkipBlanks();
      if (end == std::string_view::npos) {
        if (!line_.empty()) Fail("unexpected end of input stream");
        break;
      }
      ReadLine();
      rest_.remove_prefix(end + 1);
    }
    if (allowance_.exceeded()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", max_samples_, " series and families in one push"));
    }
    if (!status_.ok()) return status_;
    PushedFamilies families;
    for (auto& [name, reading] : reading_) {
      if (!reading.family.metrics.empty()) families.emplace(name, std::move(reading.family));
    }
    return families;
  }

 private:
  // A family, and what is known only while it is read.
  struct Reading {
    PushedFamily family;
    bool has_help = false;
    bool has_type = false;
    absl::flat_hash_map<std::string, size_t> distributions;  // by labels; place in the metrics
  };
  // What a line of a histogram or a summary says of it.
  enum class Part { kItem, kSum, kCount };

  // Where the line stands, in which every step below takes what it has read off the front.

  void SkipBlanks() {
    while (!line_.empty() && IsBlank(line_.front())) line_.remove_prefix(1);
  }

  std::string_view TakeUntilBlank() {
    size_t size = 0;
    while (size < line_.size() && !IsBlank(line_[size])) ++size;
    return Take(size);
  }

  std::string_view TakeName(bool colon) {
    size_t size = 0;
    while (size < line_.size() && IsNameChar(line_[size], size == 0, colon)) ++size;
    return Take(size);
  }

  std::string_view Take(size_t size) {
    const std::string_view taken = line_.substr(0, size);
    line_.remove_prefix(size);
    return taken;
  }

  bool Fail(absl::string_view what) {
    if (!status_.ok()) return false;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("text format parsing error in line ", line_number_, ": ", what));
    return false;
  }

  void ReadLine() {
    if (line_.empty()) return;
    if (line_.front() == '#') {
      line_.remove_prefix(1);
      ReadComment();
    } else {
      ReadSample();
    }
  }

  void ReadComment() {
    SkipBlanks();
    const std::string_view keyword = TakeUntilBlank();
    if (line_.empty() || (keyword != "HELP" && keyword != "TYPE")) return;
    SkipBlanks();
    const std::string_view name = TakeName(true);
    if (line_.empty()) return;
    if (!IsBlank(line_.front()) || name.empty()) {
      Fail("invalid metric name in comment");
      return;
    }
    Part unused = Part::kItem;
    Reading* const reading = FamilyOf(name, &unused);
    SkipBlanks();
    if (line_.empty()) return;
    keyword == "HELP" ? ReadHelp(name, reading) : ReadType(name, reading);
  }

  bool ReadHelp(std::string_view name, Reading* reading) {
    if (std::exchange(reading->has_help, true)) {
      return Fail(absl::StrCat("second HELP line for metric name \"", View(name), "\""));
    }
    std::string* const help = &reading->family.help;
    for (size_t i = 0; i < line_.size(); ++i) {
      if (line_[i] != '\\') {
        help->push_back(line_[i]);
      } else if (!AppendEscaped(i + 1 < line_.size() ? line_[++i] : '\n', "\\n", help)) {
        return false;
      }
    }
    return IsUtf8(*help) || Fail("the HELP text is not UTF-8");
  }

  // What stands behind a backslash, if it is one of `allowed`.
  bool AppendEscaped(char c, std::string_view allowed, std::string* out) {
    if (allowed.find(c) == std::string_view::npos) {
      return Fail(absl::StrCat("invalid escape sequence '\\", absl::string_view(&c, 1), "'"));
    }
    out->push_back(c == 'n' ? '\n' : c);
    return true;
  }

  bool ReadType(std::string_view name, Reading* reading) {
    if (std::exchange(reading->has_type, true)) {
      return Fail(absl::StrCat("second TYPE line for metric name \"", View(name),
                               "\", or TYPE reported after samples"));
    }
    for (const FamilyType type : {FamilyType::kCounter, FamilyType::kGauge, FamilyType::kSummary,
                                  FamilyType::kUntyped, FamilyType::kHistogram}) {
      if (absl::AsciiStrToUpper(View(line_)) == View(PushedTypeName(type))) {
        reading->family.type = type;
        return true;
      }
    }
    return Fail(absl::StrCat("unknown metric type \"", View(line_), "\""));
  }

  // The family that a name belongs to, made if there is none.
  Reading* FamilyOf(std::string_view name, Part* part) {
    *part = Part::kItem;
    const auto found = reading_.find(name);
    if (found != reading_.end()) return &found->second;
    for (const auto& [suffix, of_suffix] :
         {std::pair{"_count", Part::kCount}, {"_sum", Part::kSum}, {"_bucket", Part::kItem}}) {
      std::string_view base = name;
      if (!CutSuffix(&base, suffix)) continue;
      const auto distribution = reading_.find(base);
      if (distribution == reading_.end()) break;
      const FamilyType type = distribution->second.family.type;
      const bool belongs = type == FamilyType::kHistogram ||
                           (type == FamilyType::kSummary && of_suffix != Part::kItem);
      if (!belongs) break;
      *part = of_suffix;
      return &distribution->second;
    }
    allowance_.Take();
    return &reading_[std::string(name)];
  }

  bool ReadSample() {
    const std::string_view name = TakeName(true);
    if (name.empty()) return Fail("invalid metric name");
    if (!allowance_.Take()) return false;
    Part part = Part::kItem;
    Reading* const reading = FamilyOf(name, &part);
    reading->has_type = true;  // from now on
    SkipBlanks();
    PushedMetric metric;
    double item = std::numeric_limits<double>::quiet_NaN();
    if (!line_.empty() && line_.front() == '{') {
      line_.remove_prefix(1);
      if (!ReadLabels(name, reading->family.type, &metric.labels, &item)) return false;
      SkipBlanks();
    }
    const std::string_view text = TakeUntilBlank();
    double value = 0;
    if (!ReadFloat(text, &value)) {
      return Fail(absl::StrCat("expected float as value, got \"", View(text), "\""));
    }
    if (!line_.empty() && !ReadTimestamp()) return false;
    metric.has_timestamp = has_timestamp_;
    has_timestamp_ = false;
    AddSample(reading, part, item, value, std::move(metric));
    return true;
  }

  bool ReadTimestamp() {
    SkipBlanks();
    const std::string_view text = TakeUntilBlank();
    int64_t milliseconds = 0;
    if (!absl::SimpleAtoi(View(text), &milliseconds)) {
      return Fail(absl::StrCat("expected integer as timestamp, got \"", View(text), "\""));
    }
    has_timestamp_ = true;
    return line_.empty() || Fail("spurious string after timestamp");
  }

  // `item` is the bound or the quantile, where the type has one.
  bool ReadLabels(std::string_view metric, FamilyType type, PushedLabels* labels, double* item) {
    while (true) {
      SkipBlanks();
      if (!line_.empty() && line_.front() == '}') break;
      const std::string name(TakeName(false));
      if (name.empty()) {
        return Fail(absl::StrCat("invalid label name for metric \"", View(metric), "\""));
      }
      if (name == "__name__") return Fail("label name \"__name__\" is reserved");
      std::string value;
      if (!ReadLabelValue(&value)) return false;
      const bool is_item = (type == FamilyType::kSummary && name == "quantile") ||
                           (type == FamilyType::kHistogram && name == "le");
      if (is_item) {
        if (!ReadFloat(value, item)) {
          return Fail(
              absl::StrCat("expected float as value for '", name, "' label, got \"", value, "\""));
        }
      } else if (!AddLabel(metric, name, std::move(value), labels)) {
        return false;
      }
      SkipBlanks();
      if (line_.empty() || (line_.front() != ',' && line_.front() != '}')) {
        return Fail("unexpected end of label value");
      }
      if (line_.front() == '}') break;
      line_.remove_prefix(1);
    }
    line_.remove_prefix(1);
    return true;
  }

  bool AddLabel(std::string_view metric, const std::string& name, std::string value,
                PushedLabels* labels) {
    const auto same = [&name](const auto& label) { return label.first == name; };
    if (std::any_of(labels->begin(), labels->end(), same)) {
      return Fail(absl::StrCat("duplicate label names for metric \"", View(metric), "\""));
    }
    if (labels->size() == kMaxPushedLabels) {
      return Fail(absl::StrCat("more than ", kMaxPushedLabels, " labels"));
    }
    labels->emplace_back(name, std::move(value));
    return true;
  }

  bool ReadLabelValue(std::string* value) {
    SkipBlanks();
    if (line_.empty() || line_.front() != '=') return Fail("expected '=' after label name");
    line_.remove_prefix(1);
    SkipBlanks();
    if (line_.empty() || line_.front() != '"') {
      return Fail("expected '\"' at start of label value");
    }
    line_.remove_prefix(1);
    while (!line_.empty() && line_.front() != '"') {
      const char c = Take(1).front();
      if (c != '\\') {
        value->push_back(c);
        continue;
      }
      if (!AppendEscaped(line_.empty() ? '\n' : Take(1).front(), "\"\\n", value)) return false;
    }
    if (line_.empty()) return Fail("a label value contains an unescaped new-line");
    line_.remove_prefix(1);
    return IsUtf8(*value) || Fail("invalid label value");
  }

  static void AddSample(Reading* reading, Part part, double item, double value,
                        PushedMetric metric) {
    const FamilyType type = reading->family.type;
    if (type != FamilyType::kHistogram && type != FamilyType::kSummary) {
      metric.value = value;
      reading->family.metrics.push_back(std::move(metric));
      return;
    }
    const bool has_timestamp = metric.has_timestamp;
    PushedMetric* const whole = DistributionOf(reading, std::move(metric));
    whole->has_timestamp = whole->has_timestamp || has_timestamp;
    PushedDistribution* const distribution = whole->distribution.get();
    if (part == Part::kCount) {
      distribution->count = ToCount(value);
    } else if (part == Part::kSum) {
      distribution->sum = value;
    } else if (std::isnan(item)) {
      return;  // a line without its bound or quantile says nothing
    } else if (type == FamilyType::kHistogram) {
      distribution->buckets.push_back({.bound = item, .cumulative = ToCount(value)});
    } else {
      distribution->quantiles.push_back({.quantile = item, .value = value});
    }
  }

  // Lines of one histogram stand anywhere in the body.
  static PushedMetric* DistributionOf(Reading* reading, PushedMetric metric) {
    PushedLabels sorted = metric.labels;
    std::sort(sorted.begin(), sorted.end());
    std::string key;
    for (const auto& [name, value] : sorted) {
      absl::StrAppend(&key, name.size(), ":", name, value.size(), ":", value);
    }
    std::vector<PushedMetric>& metrics = reading->family.metrics;
    const auto [place, is_new] = reading->distributions.try_emplace(std::move(key), metrics.size());
    if (is_new) {
      metric.distribution = std::make_unique<PushedDistribution>();
      metrics.push_back(std::move(metric));
    }
    return &metrics[place->second];
  }

  std::string_view rest_;  // from the line on
  std::string_view line_;  // what is left of it
  SampleAllowance allowance_;
  const size_t max_samples_;
  size_t line_number_ = 0;
  bool has_timestamp_ = false;
  std::map<std::string, Reading, std::less<>> reading_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<PushedFamilies> ReadPushedText(std::string_view body_untrusted, size_t max_samples) {
  return TextReader(body_untrusted, max_samples).Read();
}

}  // namespace tallyd
