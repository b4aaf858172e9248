#include "core/rules/mapping_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/histogram_layout.h"
#include "core/rules/segment_tree.h"

namespace tallyd {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool IsWord(char c) { return IsLetter(c) || IsDigit(c); }

// "*", or letters, digits, "_" and "-", the first of which may not be "-".
bool IsGlobSegment(std::string_view segment) {
  if (segment == "*") return true;
  return !segment.empty() && segment[0] != '-' &&
         std::all_of(segment.begin(), segment.end(), [](char c) { return IsWord(c) || c == '-'; });
}

// Bytes of a reference "$1", "${1}", with one brace or none: 0 if `text` does not begin with one.
size_t ReferenceSize(std::string_view text) {
  if (text[0] != '$') return 0;
  size_t at = 1;
  if (at < text.size() && text[at] == '{') ++at;
  const size_t digits = at;
  while (at < text.size() && IsDigit(text[at])) ++at;
  if (at == digits) return 0;
  if (at < text.size() && text[at] == '}') ++at;
  return at;
}

bool IsNameTemplate(std::string_view name) {
  if (IsDigit(name[0])) return false;
  while (!name.empty()) {
    const size_t size = IsWord(name[0]) ? 1 : ReferenceSize(name);
    if (size == 0) return false;
    name.remove_prefix(size);
  }
  return true;
}

bool IsLabelName(std::string_view name) {
  return name.size() >= 2 && IsLetter(name[0]) && std::all_of(name.begin(), name.end(), IsWord);
}

// Checks the rules one by one, and remembers which options of the defaults were wrong, so that this
// is not said again of each rule that has them from there.
class Checker {
 public:
  explicit Checker(Complaints* complaints) : complaints_(complaints) {}

  void CheckDefaults(const MappingRule& defaults) {
    prefix_ = "defaults.";
    rule_ = &defaults;
    CheckTtl();
    const size_t before_histogram = complaints_->size();
    CheckHistogram();
    const size_t before_summary = complaints_->size();
    CheckSummary();
    check_histograms_ = before_summary == before_histogram;
    check_summaries_ = complaints_->size() == before_summary;
  }

  void CheckRule(const MappingRule& rule) {
    prefix_ = "";
    rule_ = &rule;
    CheckMatch();
    CheckName();
    CheckLabels();
    CheckTtl();
    if (!std::isfinite(rule.scale)) Complain("scale", "is not finite; write a number");
    if (check_histograms_) CheckHistogram();
    if (check_summaries_) CheckSummary();
  }

 private:
  void Complain(std::string_view key, std::string_view text) {
    complaints_->Add(LineOf(*rule_, key), absl::StrCat(View(prefix_), View(key)), text);
  }

  void CheckMatch() {
    if (rule_->match_type == MatchType::kRegex || IsGlob(rule_->match)) return;
    if (rule_->match.empty()) {
      Complain("match", "is missing; write the names that the rule is for");
      return;
    }
    Complain("match",
             absl::StrCat(Quoted(rule_->match),
                          " is no glob; write segments joined by dots, each a lone * or letters, "
                          "digits, _ and -, and begin with no digit; or set match_type: regex"));
  }

  void CheckName() {
    if (rule_->name.empty()) {
      Complain("name", "is missing; write the name of the metric, for dropped ones too");
    } else if (!IsNameTemplate(rule_->name)) {
      Complain("name", absl::StrCat(Quoted(rule_->name),
                                    " is no name of a metric; use letters, digits, _ and "
                                    "references such as ${1}, and begin with no digit"));
    }
  }

  void CheckLabels() {
    std::set<std::string_view> seen;
    for (const auto& [name, text] : rule_->labels) {
      const std::string key = absl::StrCat("labels.", name);
      if (!IsLabelName(name)) {
        const std::string where = absl::StrCat("labels.", Quoted(name));
        complaints_->Add(LineOf(*rule_, key), where,
                         "is no name of a label; use two or more letters, digits and _, and begin "
                         "with no digit");
      } else if (name.starts_with("__")) {
        Complain(key,
                 "is reserved, and no scrape with it would be taken; begin with one _ or none");
      } else if (!seen.insert(name).second) {
        Complain(key, "is set twice; keep one of them");
      }
      CheckReservedLabel(name, key);
    }
  }

  void CheckReservedLabel(std::string_view name, std::string_view key) {
    const bool for_observers =
        rule_->matched_type == MatchedType::kAny || rule_->matched_type == MatchedType::kObserver;
    if (rule_->drop || !for_observers) return;
    const bool histogram = rule_->observer_type == ObserverType::kHistogram;
    if (name != (histogram ? "le" : "quantile")) return;
    Complain(key, absl::StrCat("is a label that every ", histogram ? "histogram" : "summary",
                               " has itself; name it otherwise, or say by match_metric_type that "
                               "the rule is for counters or gauges"));
  }

  void CheckTtl() {
    if (rule_->ttl_ms < 0)
      Complain("ttl", "is negative; write a duration such as 5m, or 0 for never");
  }

  void CheckHistogram() {
    const HistogramOptions& options = rule_->histogram;
    CheckBuckets(options.buckets);
    if (!std::isfinite(options.native_factor)) {
      Complain("histogram_options.native_histogram_bucket_factor",
               "is not finite; write a factor above 1, such as 1.1");
    }
  }

  void CheckBuckets(const std::vector<double>& buckets) {
    constexpr std::string_view kKey = "histogram_options.buckets";
    if (buckets.size() > HistogramLayout::kMaxBounds) {
      Complain(kKey, absl::StrCat("are ", buckets.size(), ", and at most ",
                                  HistogramLayout::kMaxBounds, " are possible; leave some out"));
    }
    if (std::any_of(buckets.begin(), buckets.end(), [](double b) { return !std::isfinite(b); })) {
      Complain(kKey, "are not all finite; only the last may be .inf, and it may be left out");
      return;
    }
    const auto falling = std::adjacent_find(buckets.begin(), buckets.end(),
                                            [](double a, double b) { return b <= a; });
    if (falling != buckets.end()) {
      Complain(kKey, absl::StrCat("do not rise: ", falling[1], " follows ", falling[0],
                                  "; sort them, each once"));
    }
  }

  void CheckSummary() {
    const SummaryOptions& options = rule_->summary;
    for (const Quantile& quantile : options.quantiles) {
      if (quantile.quantile >= 0 && quantile.quantile <= 1) continue;
      Complain("summary_options.quantiles",
               absl::StrCat(quantile.quantile, " is no quantile; write numbers from 0 to 1"));
    }
    if (options.max_age_ms <= 0) {
      Complain("summary_options.max_age", "is not above 0; write a duration such as 10m");
    }
    if (options.age_buckets < 1) {
      Complain("summary_options.age_buckets", "is below 1; write 1 or more");
    }
  }

  Complaints* complaints_;
  const MappingRule* rule_ = nullptr;
  std::string_view prefix_;
  bool check_histograms_ = true;
  bool check_summaries_ = true;
};

}  // namespace

void NormalizeOptions(MappingRule* rule) {
  HistogramOptions& histogram = rule->histogram;
  if (!histogram.buckets.empty() &&
      histogram.buckets.back() == std::numeric_limits<double>::infinity()) {
    histogram.buckets.pop_back();
  }
  const HistogramOptions defaults;
  if (histogram.native_factor <= 1) histogram.native_factor = defaults.native_factor;
  if (histogram.native_max_buckets == 0 ||
      histogram.native_max_buckets > defaults.native_max_buckets) {
    histogram.native_max_buckets = defaults.native_max_buckets;
  }
  rule->summary.age_buckets = std::min(rule->summary.age_buckets, SummaryOptions::kMaxAgeBuckets);
  std::vector<Quantile>& quantiles = rule->summary.quantiles;
  std::stable_sort(quantiles.begin(), quantiles.end(),
                   [](const Quantile& a, const Quantile& b) { return a.quantile < b.quantile; });
  // The last of equal ones counts.
  const auto kept =
      std::unique(quantiles.rbegin(), quantiles.rend(),
                  [](const Quantile& a, const Quantile& b) { return a.quantile == b.quantile; });
  quantiles.erase(quantiles.begin(), kept.base());
}

void CheckMapping(const MappingConfig& config, Complaints* complaints) {
  Checker checker(complaints);
  checker.CheckDefaults(config.defaults);
  for (const MappingRule& rule : config.rules) checker.CheckRule(rule);
}

bool IsGlob(std::string_view match) {
  if (match.empty() || IsDigit(match[0])) return false;
  const SegmentTree::Segments segments = SplitSegments(match, ~size_t{0});
  return std::all_of(segments.begin(), segments.end(), IsGlobSegment);
}

int LineOf(const std::vector<KeyLine>& key_lines, int line, std::string_view key) {
  const auto found = std::find_if(key_lines.rbegin(), key_lines.rend(),
                                  [key](const KeyLine& each) { return each.key == key; });
  return found == key_lines.rend() ? line : found->line;
}

int LineOf(const MappingRule& rule, std::string_view key) {
  return LineOf(rule.key_lines, rule.line, key);
}

}  // namespace tallyd
