#include "core/rules/catalog_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/glob_tree.h"
#include "core/rules/histogram_layout.h"
#include "core/rules/mapping_check.h"

namespace tallyd {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }

bool IsLetter(char c) { return IsLower(c) || (c >= 'A' && c <= 'Z') || c == '_'; }

bool IsWord(char c) { return IsLetter(c) || IsDigit(c); }

bool IsName(std::string_view name) {
  return !name.empty() && IsLetter(name[0]) && std::all_of(name.begin(), name.end(), IsWord);
}

bool IsRecordName(std::string_view name) {
  return !name.empty() && (IsLetter(name[0]) || name[0] == ':') &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsWord(c) || c == ':'; });
}

bool IsServiceName(std::string_view name) {
  return !name.empty() && IsLower(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
    return IsLower(c) || IsDigit(c) || c == '_';
  });
}

bool IsCamelCase(std::string_view name) {
  return !name.empty() && name[0] >= 'A' && name[0] <= 'Z' &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsWord(c) && c != '_'; });
}

bool IsLink(std::string_view text) {
  return (text.starts_with("https://") || text.starts_with("http://")) &&
         text.find_first_of(" \t\r\n\"<>") == std::string_view::npos;
}

// What a name must not end with, and the unit to write instead.
struct ForeignUnit {
  std::string_view suffix;
  std::string_view instead;
};

constexpr std::array<ForeignUnit, 48> kForeignUnits = {{
    {"s", "seconds"},
    {"sec", "seconds"},
    {"secs", "seconds"},
    {"second", "seconds"},
    {"ms", "seconds"},
    {"msec", "seconds"},
    {"msecs", "seconds"},
    {"millis", "seconds"},
    {"millisecond", "seconds"},
    {"milliseconds", "seconds"},
    {"us", "seconds"},
    {"usec", "seconds"},
    {"micros", "seconds"},
    {"microseconds", "seconds"},
    {"ns", "seconds"},
    {"nanos", "seconds"},
    {"nanoseconds", "seconds"},
    {"minutes", "seconds"},
    {"hours", "seconds"},
    {"days", "seconds"},
    {"weeks", "seconds"},
    {"b", "bytes"},
    {"byte", "bytes"},
    {"bits", "bytes"},
    {"kb", "bytes"},
    {"mb", "bytes"},
    {"gb", "bytes"},
    {"tb", "bytes"},
    {"kib", "bytes"},
    {"mib", "bytes"},
    {"gib", "bytes"},
    {"kilobytes", "bytes"},
    {"megabytes", "bytes"},
    {"gigabytes", "bytes"},
    {"kibibytes", "bytes"},
    {"mebibytes", "bytes"},
    {"gibibytes", "bytes"},
    {"percent", "ratio"},
    {"percentage", "ratio"},
    {"pct", "ratio"},
    {"fahrenheit", "celsius"},
    {"kilograms", "grams"},
    {"kg", "grams"},
    {"kilometers", "meters"},
    {"km", "meters"},
    {"miles", "meters"},
    {"millivolts", "volts"},
    {"kilojoules", "joules"},
}};

std::string_view BaseOf(std::string_view unit) {
  const auto* const found =
      std::find_if(kForeignUnits.begin(), kForeignUnits.end(),
                   [unit](const ForeignUnit& foreign) { return foreign.suffix == unit; });
  return found == kForeignUnits.end() ? "" : found->instead;
}

bool IsBaseUnit(std::string_view unit) {
  return !unit.empty() && UnitOfName(absl::StrCat("x_", View(unit))) == unit;
}

std::string_view LastWord(std::string_view name) {
  const size_t last = name.rfind('_');
  return last == std::string_view::npos ? "" : name.substr(last + 1);
}

// What a `from` refers to that a glob with so many stars does not give; "" if all is well.
std::string UnfitReference(std::string_view text, int stars) {
  for (size_t dollar = text.find('$'); dollar != std::string_view::npos;
       dollar = text.find('$', dollar)) {
    size_t at = dollar + 1;
    if (at < text.size() && text[at] == '{') ++at;
    const size_t begin = at;
    while (at < text.size() && (IsWord(text[at]) || text[at] == '$')) ++at;
    const std::string_view run = text.substr(begin, at - begin);
    int number = 0;
    const bool is_number =
        !run.empty() && run.size() <= 4 && std::all_of(run.begin(), run.end(), IsDigit);
    if (is_number) {
      for (const char digit : run) number = number * 10 + (digit - '0');
    }
    if (number < 1 || number > stars) return std::string(text.substr(dollar, at - dollar));
    if (at < text.size() && text[at] == '}') ++at;
    dollar = at;
  }
  return "";
}

// Checks what belongs to no other catalog, and remembers what has been said.
class Checker {
 public:
  Checker(const Catalog& catalog, Complaints* complaints)
      : catalog_(catalog), complaints_(complaints) {}

  void CheckAll() {
    CheckHead();
    for (const DeclaredMetric& metric : catalog_.metrics) CheckMetric(metric);
    for (const RecordingRule& rule : catalog_.recording_rules) CheckRecordingRule(rule);
    for (const DeclaredAlert& alert : catalog_.alerts) CheckAlert(alert);
  }

 private:
  void CheckHead() {
    const auto complain = [this](std::string_view key, std::string_view text) {
      complaints_->Add(LineOf(catalog_.key_lines, 1, key), key, text);
    };
    if (catalog_.service.empty()) {
      complain("service", "is missing; write the name of the service");
    } else if (!IsServiceName(catalog_.service)) {
      complain("service", absl::StrCat(Quoted(catalog_.service),
                                       " is no name of a service; use lower-case letters, digits "
                                       "and _, and begin with a letter"));
    }
    if (!catalog_.runbook_base.empty() && !IsLink(catalog_.runbook_base)) {
      complain("runbook_base", NoLink(catalog_.runbook_base));
    }
    if (catalog_.scrape_interval_ms <= 0) {
      complain("scrape_interval", "is not above 0; write a duration such as 15s");
    }
    const std::string& uid = catalog_.dashboard_uid;
    const bool is_uid = uid.size() <= 40 && std::all_of(uid.begin(), uid.end(), [](char c) {
                          return IsWord(c) || c == '-';
                        });
    if (!is_uid) {
      complain("dashboard.uid", absl::StrCat(Quoted(uid),
                                             " is no uid; write at most 40 letters, digits, _ "
                                             "and -"));
    }
    if (catalog_.metrics.empty()) complain("metrics", "are missing; declare at least one");
  }

  static std::string NoLink(std::string_view text) {
    return absl::StrCat(Quoted(text), " is no link; write one that begins with https://");
  }

  // ---- Metrics ----

  void Complain(std::string_view key, std::string_view text) {
    ComplainAt(LineOf(metric_->key_lines, metric_->line, key), key, text);
  }

  void ComplainAt(int line, std::string_view key, std::string_view text) {
    complaints_->Add(line, KeyOfMetric(key), text);
  }

  std::string KeyOfMetric(std::string_view key) const {
    std::string full = "metrics";
    if (!metric_->name.empty()) absl::StrAppend(&full, ".", metric_->name);
    return absl::StrCat(full, ".", View(key));
  }

  void CheckMetric(const DeclaredMetric& metric) {
    metric_ = &metric;
    CheckName();
    CheckUnit();
    if (metric.help.empty()) {
      Complain("help", "is missing; say what is counted or measured, in a sentence");
    }
    CheckLabels();
    CheckSources();
    CheckBuckets();
    CheckQuantiles();
    CheckKeeping();
    CheckObserved();
    if (!metric.runbook.empty() && !IsLink(metric.runbook)) {
      Complain("runbook", NoLink(metric.runbook));
    }
  }

  void CheckName() {
    const std::string& name = metric_->name;
    if (name.empty()) {
      Complain("name", "is missing; write the name as it is exposed");
      return;
    }
    if (!IsName(name)) {
      Complain("name", absl::StrCat(Quoted(name),
                                    " is no name of a metric; use letters, digits and _, and "
                                    "begin with no digit"));
      return;
    }
    if (name.starts_with("tallyd_") || name.starts_with("process_")) {
      Complain("name", "begins as our own metrics do; choose another prefix, such as the service");
    }
    const bool is_counter = metric_->type == DeclaredType::kCounter;
    if (is_counter && (!name.ends_with("_total") || name == "_total")) {
      Complain("name",
               absl::StrCat("is a counter's, which ends in _total; write ", name, "_total"));
    }
    if (!is_counter && name.ends_with("_total")) {
      Complain("name", absl::StrCat("ends in _total, but is no counter's; write ",
                                    View(WithoutTotal(name)), ", or type: counter"));
    }
    for (const std::string_view suffix : {"_bucket", "_sum", "_count", "_created"}) {
      if (!name.ends_with(suffix)) continue;
      Complain("name", absl::StrCat("ends in ", View(suffix),
                                    ", which samples of histograms and counters do; choose "
                                    "another ending"));
    }
  }

  void CheckUnit() {
    const std::string_view bare = WithoutTotal(metric_->name);
    const std::string& unit = metric_->unit;
    if (!unit.empty() && !IsBaseUnit(unit)) {
      const std::string_view base = BaseOf(unit);
      Complain("unit",
               absl::StrCat(Quoted(unit), " is no base unit; write ",
                            base.empty() ? "one such as seconds, bytes or ratio" : View(base),
                            ", and a scale where samples come in another one"));
      return;
    }
    if (!unit.empty() && !bare.ends_with(absl::StrCat("_", unit))) {
      const bool total = metric_->name.ends_with("_total");
      Complain("unit", absl::StrCat(unit, " is not the name's suffix; name the metric ", View(bare),
                                    "_", unit, total ? "_total" : ""));
      return;
    }
    const std::string_view base = BaseOf(LastWord(bare));
    // Of a rate it is what the rate is by, in which case one second is a base unit.
    if (bare.ends_with("_per_second")) return;
    if (unit.empty() && !base.empty()) {
      Complain("name", absl::StrCat("ends in ", View(LastWord(bare)),
                                    ", which is no base unit; measure in ", View(base),
                                    " and end the name in _", View(base)));
    }
  }

  void CheckLabels() {
    std::string_view previous;
    for (const DeclaredLabel& label : metric_->labels) {
      const std::string key = absl::StrCat("labels.", label.name);
      const auto complain = [&](std::string_view text) { ComplainAt(label.line, key, text); };
      // They are sorted.
      if (!label.name.empty() && label.name == previous) complain("is there twice; keep one");
      previous = label.name;
      CheckLabelName(label, key);
      CheckBound(label, key);
      CheckFrom(label, key);
    }
    if (metric_->EnumerableSeries() > kMaxEnumerableSeries) {
      Complain("labels", absl::StrCat("make ", metric_->EnumerableSeries(),
                                      " series that are there from the start, and at most ",
                                      kMaxEnumerableSeries,
                                      " are possible; leave labels out, or bound one by max"));
    }
  }

  void CheckLabelName(const DeclaredLabel& label, const std::string& key) {
    const auto complain = [&](std::string_view text) { ComplainAt(label.line, key, text); };
    if (!IsName(label.name)) {
      complain("is no name of a label; use letters, digits and _, and begin with no digit");
    } else if (label.name.starts_with("__")) {
      complain("is reserved, and no scrape with it would be taken; begin with one _ or none");
    } else if (metric_->type == DeclaredType::kHistogram && label.name == "le") {
      complain("is a label that every histogram has itself; name it otherwise");
    } else if (metric_->type == DeclaredType::kSummary && label.name == "quantile") {
      complain("is a label that every summary has itself; name it otherwise");
    } else if (!label.from.empty() && label.name.size() < 2) {
      complain("is too short for a mapping; use two or more letters");
    }
  }

  void CheckBound(const DeclaredLabel& label, const std::string& key) {
    const auto complain = [&](std::string_view text) { ComplainAt(label.line, key, text); };
    if (label.values.empty() && label.max_values == 0) {
      complain("has no bound; list its values, or write max: how many there may be");
    }
    if (!label.values.empty() && label.max_values != 0) {
      complain("has values and max; keep the values, which are a bound already");
    }
    if (label.max_values > kMaxLabelValues) {
      complain(absl::StrCat("has a max of ", label.max_values, ", and at most ", kMaxLabelValues,
                            " is a bound; what has more values is no label"));
    }
    std::set<std::string_view> seen;
    for (const std::string& value : label.values) {
      if (value.empty()) {
        complain("has an empty value, which is the same as no label; leave it out");
      } else if (!seen.insert(value).second) {
        complain(absl::StrCat("has the value ", Quoted(value), " twice; keep one"));
      } else if (value == "__overflow__") {
        complain("has the value \"__overflow__\", which what is folded gets; choose another one");
      }
    }
  }

  void CheckFrom(const DeclaredLabel& label, const std::string& key) {
    if (label.from.empty()) return;
    if (!metric_->observed.empty()) {
      ComplainAt(label.line, key, "has from, but an observed gauge has no sources; leave it out");
      return;
    }
    for (const std::string& source : metric_->SourcesOrName()) {
      const std::string unfit = UnfitReference(label.from, CountStars(source));
      if (unfit.empty()) continue;
      ComplainAt(
          label.line, key,
          absl::StrCat("comes from ", Quoted(unfit), ", but the source ", Quoted(source), " has ",
                       CountStars(source), " stars; refer to one of them by its number"));
      return;
    }
  }

  void CheckSources() {
    for (const std::string& source : metric_->sources) {
      if (IsGlob(source)) continue;
      Complain("sources", absl::StrCat(Quoted(source),
                                       " is no name or glob; write segments joined by dots, each "
                                       "a lone * or letters, digits, _ and -, and begin with no "
                                       "digit"));
    }
    if (!metric_->sources.empty() && !metric_->observed.empty()) {
      Complain("observed",
               "is given beside sources; a gauge is sent or observed, keep one of them");
    }
  }

  void CheckBuckets() {
    const std::vector<double>& buckets = metric_->buckets;
    if (metric_->type != DeclaredType::kHistogram) {
      if (!buckets.empty()) Complain("buckets", "are a histogram's; write type: histogram");
      return;
    }
    if (buckets.empty()) {
      Complain("buckets", "are none; list at least one bound, or leave the key out for defaults");
    }
    if (buckets.size() > HistogramLayout::kMaxBounds) {
      Complain("buckets", absl::StrCat("are ", buckets.size(), ", and at most ",
                                       static_cast<int>(HistogramLayout::kMaxBounds),
                                       " are possible; leave some out"));
    }
    if (std::any_of(buckets.begin(), buckets.end(), [](double b) { return !std::isfinite(b); })) {
      Complain("buckets", "are not all finite; leave .inf out, it is there without being listed");
      return;
    }
    const auto wrong = std::adjacent_find(buckets.begin(), buckets.end(),
                                          [](double a, double b) { return b <= a; });
    if (wrong == buckets.end()) return;
    if (wrong[0] == wrong[1]) {
      Complain("buckets", absl::StrCat("have ", wrong[0], " twice; keep one"));
    } else {
      Complain("buckets",
               absl::StrCat("do not ascend: ", wrong[1], " follows ", wrong[0], "; sort them"));
    }
  }

  void CheckQuantiles() {
    const std::vector<Quantile>& quantiles = metric_->quantiles;
    if (metric_->type != DeclaredType::kSummary) {
      if (!quantiles.empty()) Complain("quantiles", "are a summary's; write type: summary");
      return;
    }
    if (quantiles.empty()) {
      Complain("quantiles",
               "are none; list at least one, or leave the key out for 0.5, 0.9 and 0.99");
    }
    std::set<double> seen;
    for (const Quantile& quantile : quantiles) {
      if (!(quantile.quantile >= 0 && quantile.quantile <= 1)) {
        Complain("quantiles",
                 absl::StrCat(quantile.quantile, " is no quantile; write numbers from 0 to 1"));
      } else if (!seen.insert(quantile.quantile).second) {
        Complain("quantiles", absl::StrCat("have ", quantile.quantile, " twice; keep one"));
      }
    }
  }

  // How values and series are kept.
  void CheckKeeping() {
    const DeclaredMetric& metric = *metric_;
    if (!std::isfinite(metric.scale) || metric.scale <= 0) {
      Complain("scale", "is not above 0; write a factor to base units, such as 0.001");
    }
    const bool is_gauge = metric.type == DeclaredType::kGauge;
    if (metric.ttl_ms < 0) {
      Complain("ttl", "is negative; write a duration such as 5m");
    } else if (metric.ttl_ms > 0 && !is_gauge && metric.type != DeclaredType::kSet) {
      Complain("ttl",
               "is for gauges and sets; what is added up must not go backwards, leave it "
               "out");
    }
    if (metric.non_negative && !is_gauge) {
      Complain("non_negative", "is for gauges; leave it out");
    }
    if (metric.single_sender && !is_gauge) {
      Complain("single_sender", "is for gauges; leave it out");
    }
  }

  // ---- Observed gauges ----

  void CheckObserved() {
    if (metric_->observed.empty()) return;
    if (metric_->type != DeclaredType::kGauge) {
      Complain("observed", "is for gauges; write type: gauge");
    }
    std::set<std::vector<std::pair<std::string, std::string>>> seen;
    for (const ObservedSource& source : metric_->observed) {
      CheckObservedSource(source);
      auto labels = source.labels;
      std::sort(labels.begin(), labels.end());
      if (seen.insert(std::move(labels)).second) continue;
      ComplainAt(source.line, "observed.labels",
                 "are those of another source; a series has one source, tell them apart");
    }
  }

  void CheckObservedSource(const ObservedSource& source) {
    const auto complain = [&](std::string_view key, std::string_view text) {
      ComplainAt(source.line, absl::StrCat("observed", key.empty() ? "" : ".", View(key)), text);
    };
    constexpr size_t kLongestSocketPath = 107;  // of sockaddr_un
    if (source.file.empty() == source.socket.empty()) {
      complain("", source.file.empty() ? "has neither file nor socket; write one of them"
                                       : "has file and socket; keep one of them");
    }
    if (!source.file.empty() && source.file[0] != '/') {
      complain("file", absl::StrCat(Quoted(source.file), " is no absolute path; begin with /"));
    }
    if (!source.socket.empty() && source.socket[0] != '/') {
      complain("socket", absl::StrCat(Quoted(source.socket), " is no absolute path; begin with /"));
    }
    if (source.socket.size() > kLongestSocketPath) {
      complain("socket", "is longer than 107 bytes, which no socket's path is; shorten it");
    }
    if (source.socket.empty() && !source.query.empty()) {
      complain("query", "is for sockets; leave it out");
    }
    if (source.query.size() > 4096) complain("query", "is longer than 4096 bytes; shorten it");
    if (source.interval_ms < 100) {
      complain("interval", "is below 100ms; write a longer one such as 5s");
    }
    if (source.timeout_ms < 1 || source.timeout_ms > source.interval_ms) {
      complain("timeout", "is not between 1ms and the interval; write one such as 1s");
    }
    CheckObservedLabels(source);
  }

  void CheckObservedLabels(const ObservedSource& source) {
    const auto complain = [&](std::string_view name, std::string_view text) {
      ComplainAt(source.line, absl::StrCat("observed.labels.", View(name)), text);
    };
    std::set<std::string_view> given;
    for (const auto& [name, value] : source.labels) {
      given.insert(name);
      const std::string& wanted = name;
      const auto label =
          std::find_if(metric_->labels.begin(), metric_->labels.end(),
                       [&wanted](const DeclaredLabel& each) { return each.name == wanted; });
      if (label == metric_->labels.end()) {
        complain(name, "is no label of this metric; declare it");
      } else if (label->is_enumerable() && std::find(label->values.begin(), label->values.end(),
                                                     value) == label->values.end()) {
        complain(name, absl::StrCat(Quoted(value), " is not among the values; add it there"));
      }
    }
    for (const DeclaredLabel& label : metric_->labels) {
      if (given.count(label.name) == 0) complain(label.name, "has no value; give one");
    }
  }

  // ---- Rules and alerts ----

  void CheckRecordingRule(const RecordingRule& rule) {
    if (!IsRecordName(rule.record)) {
      complaints_->Add(rule.line, "recording_rules.record",
                       absl::StrCat(Quoted(rule.record),
                                    " is no name; use letters, digits, _ and :, such as "
                                    "level:metric:operation"));
    }
    if (rule.expr.empty()) {
      complaints_->Add(rule.line, absl::StrCat("recording_rules.", rule.record, ".expr"),
                       "is missing; write what is recorded");
    }
  }

  void CheckAlert(const DeclaredAlert& alert) {
    const auto complain = [&](std::string_view key, std::string_view text) {
      const std::string name = alert.name.empty() ? "" : absl::StrCat(".", alert.name);
      complaints_->Add(LineOf(alert.key_lines, alert.line, key),
                       absl::StrCat("alerts", name, ".", View(key)), text);
    };
    if (!IsCamelCase(alert.name)) {
      complain("name", absl::StrCat(Quoted(alert.name),
                                    " is no name of an alert; write it as QueueIsFull, with "
                                    "letters and digits alone"));
    }
    if (alert.expr.empty()) complain("expr", "is missing; write when the alert fires");
    if (alert.for_ms < 0) complain("for", "is negative; write a duration such as 5m");
    if (alert.severity != "critical" && alert.severity != "warning" && alert.severity != "info") {
      complain("severity", alert.severity.empty()
                               ? "is missing; write critical, warning or info"
                               : absl::StrCat(Quoted(alert.severity),
                                              " is not known; write critical, warning or info"));
    }
    if (alert.summary.empty()) {
      complain("summary", "is missing; say in a sentence what is wrong when it fires");
    }
    if (!alert.runbook.empty() && !IsLink(alert.runbook)) {
      complain("runbook", NoLink(alert.runbook));
    }
    for (const AlertTest& test : alert.tests) {
      const std::string key = absl::StrCat("alerts.", alert.name, ".tests");
      if (test.at_ms <= 0) {
        complaints_->Add(test.line, key, "has no moment; write at: such as 15m");
      }
      if (test.series.empty()) {
        complaints_->Add(test.line, key, "has no series; write selectors with their values");
      }
      for (const auto& [selector, values] : test.series) {
        if (!selector.empty() && !values.empty()) continue;
        complaints_->Add(test.line, key,
                         absl::StrCat("the series ", Quoted(selector),
                                      " has no values; write some such as 0+5x60"));
      }
    }
  }

  const Catalog& catalog_;
  Complaints* complaints_;
  const DeclaredMetric* metric_ = nullptr;
};

}  // namespace

void CheckCatalog(const Catalog& catalog, Complaints* complaints) {
  Checker(catalog, complaints).CheckAll();
}

}  // namespace tallyd
