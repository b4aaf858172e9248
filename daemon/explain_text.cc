// Explanations as text and as JSON.

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "core/expose/text.h"
#include "daemon/explain.h"
#include "daemon/json_object.h"
#include "daemon/terminal_text.h"

namespace tallyd {
namespace {

constexpr size_t kNameWidth = 12;  // of the first column, indentation included

std::string NumberText(double value) {
  std::string text;
  AppendValue(value, &text);
  return text;
}

std::string Times(double weight) {
  return absl::StrCat("counts ", absl::SixDigits(weight), " times",
                      weight == std::floor(weight) ? "" : " on average");
}

// What the value does to the series.
std::string Meaning(const ExplainedSample& sample) {
  const std::string value = NumberText(sample.value);
  switch (sample.kind) {
    case SeriesKind::kCounter:
      return absl::StrCat("adds ", NumberText(sample.value / sample.rate));
    case SeriesKind::kGauge:
      return sample.is_change ? absl::StrCat("changes the gauge by ", value)
                              : absl::StrCat("sets the gauge to ", value);
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      return absl::StrCat("observes ", value, sample.type == "ms" ? " seconds" : "");
    case SeriesKind::kSet:
      return "adds the member, if it is new";
  }
  return "";
}

std::string ValueText(const ExplainedSample& sample) {
  return sample.kind == SeriesKind::kSet ? sample.member : NumberText(sample.value);
}

std::string TtlText(int64_t ttl_ms) { return absl::FormatDuration(absl::Milliseconds(ttl_ms)); }

std::string Place(const MappingRule& rule, const MappingConfig* mapping) {
  const std::string file = mapping == nullptr || mapping->file.empty() ? "mapping" : mapping->file;
  return absl::StrCat(file, ":", rule.line);
}

std::string RuleText(const MappingRule& rule, const MappingConfig* mapping) {
  const std::string to = rule.drop ? "dropped" : absl::StrCat("\"", rule.name, "\"");
  return absl::StrCat(Place(rule, mapping), "  \"", rule.match, "\" -> ", to);
}

// The parts of a text that is read by people.
class TextWriter {
 public:
  explicit TextWriter(const MappingConfig* mapping) : mapping_(mapping) {}

  void Add(std::string_view name, std::string_view value) { AddRaw(name, Printable(value)); }
  // Broken at blanks.
  void AddProse(std::string_view name, std::string_view value) {
    AddRaw(name, Wrapped(Printable(value), kNameWidth));
  }

  void AddSample(const ExplainedSample& sample) {
    if (!sample.type.empty()) AddReading(sample);
    for (const std::string& repair : sample.repairs) AddProse("repaired", repair);
    if (!sample.catalog.empty()) Add("catalog", sample.catalog);
    for (const std::string& departure : sample.departures) AddProse("differs", departure);
    if (!sample.type.empty() && mapping_ != nullptr && !sample.by_catalog) AddRules(sample);
    if (sample.accepted) return AddSeries(sample);
    const Advice advice = AdviceFor(sample.reason);
    Add("dropped", std::string(Name(sample.reason)));
    AddFamily(sample);
    AddProse("because", advice.why);
    AddProse("remedy", advice.remedy);
  }

  std::string Take() { return std::move(text_); }

 private:
  void AddReading(const ExplainedSample& sample) {
    Add("name", sample.name);
    Add("type", absl::StrCat(sample.type, " (", KindName(sample.kind), ")"));
    Add("value", absl::StrCat(ValueText(sample), "  ", Meaning(sample)));
    if (sample.rate != 1) {
      const bool counter = sample.kind == SeriesKind::kCounter;
      Add("rate", absl::StrCat(NumberText(sample.rate), "  ",
                               counter ? "the value is divided by it" : Times(sample.weight)));
    }
    if (!sample.tags.empty()) Add("tags", sample.tags);
  }

  void AddRules(const ExplainedSample& sample) {
    Add("rule", sample.rule == nullptr ? "none fits" : RuleText(*sample.rule, mapping_));
    if (sample.near.has_value()) {
      Add("nearly", RuleText(*sample.near->rule, mapping_));
      AddProse("", Describe(*sample.near, sample.name));
    }
  }

  void AddSeries(const ExplainedSample& sample) {
    Add("series", sample.series);
    AddFamily(sample);
    if (sample.ttl_ms > 0) Add("ttl", TtlText(sample.ttl_ms));
    if (!sample.bounds.empty()) AddProse("buckets", absl::StrJoin(sample.bounds, " "));
    if (!sample.quantiles.empty()) AddProse("quantiles", absl::StrJoin(sample.quantiles, " "));
  }

  void AddFamily(const ExplainedSample& sample) {
    if (!sample.family_type.empty()) Add("family", absl::StrCat("is a ", sample.family_type));
  }

  void AddRaw(std::string_view name, std::string_view value) {
    const size_t gap = kNameWidth - 2 - std::min(name.size(), kNameWidth - 3);
    text_.append("  ").append(name).append(gap, ' ').append(value).append("\n");
  }

  const MappingConfig* const mapping_;
  std::string text_;
};

std::string DifferencesText(const std::vector<PeerDifference>& differences) {
  if (differences.empty()) return "";
  std::string text = "statsd_exporter reads this differently\n";
  for (const PeerDifference& difference : differences) {
    const PeerCategoryInfo& info = InfoOf(difference.category);
    absl::StrAppend(&text, "  ", std::string(info.name));
    if (difference.sample > 0) absl::StrAppend(&text, ", sample ", difference.sample);
    absl::StrAppend(&text, "\n    ", Wrapped(std::string(info.meaning), 4), "\n    here   ",
                    Wrapped(Printable(difference.here), 11), "\n    there  ",
                    Wrapped(Printable(difference.there), 11), "\n");
  }
  return text;
}

std::string JsonNumbers(const std::vector<std::string>& list) {
  return JsonList(list, [](const std::string& number) { return number; });
}

void AddRule(const MappingRule& rule, const MappingConfig* mapping, JsonObject* json) {
  json->AddText("file", mapping == nullptr ? "" : mapping->file);
  json->AddNumber("line", rule.line);
  json->AddText("match", rule.match);
  json->AddText("action", rule.drop ? "drop" : "map");
  json->AddText("name", rule.name);
}

std::string RuleJson(const MappingRule& rule, const MappingConfig* mapping) {
  JsonObject json;
  AddRule(rule, mapping, &json);
  return json.Take();
}

std::string NearJson(const ExplainedSample& sample, const MappingConfig* mapping) {
  JsonObject json;
  AddRule(*sample.near->rule, mapping, &json);
  json.AddText("miss", Name(sample.near->miss));
  if (sample.near->segment > 0)
    json.AddNumber("segment", static_cast<double>(sample.near->segment));
  json.AddText("meaning", Describe(*sample.near, sample.name));
  return json.Take();
}

std::string SampleJson(const ExplainedSample& sample, const MappingConfig* mapping) {
  JsonObject json;
  json.AddBool("accepted", sample.accepted);
  if (!sample.type.empty()) {
    json.AddText("name", sample.name);
    json.AddText("type", sample.type);
    json.AddText("kind", KindName(sample.kind));
    json.AddText("value", ValueText(sample));
    json.AddText("meaning", Meaning(sample));
    json.AddNumber("rate", sample.rate);
    json.AddNumber("weight", sample.weight);
    json.AddText("tags", sample.tags);
  }
  json.Add("repairs", JsonTexts(sample.repairs));
  if (!sample.catalog.empty()) {
    json.AddText("catalog", sample.catalog);
    json.Add("departures", JsonTexts(sample.departures));
  }
  if (sample.rule != nullptr) json.Add("rule", RuleJson(*sample.rule, mapping));
  if (sample.near.has_value()) json.Add("near", NearJson(sample, mapping));
  if (!sample.family_type.empty()) json.AddText("family_type", sample.family_type);
  if (sample.accepted) {
    json.AddText("series", sample.series);
    json.AddNumber("ttl_seconds", static_cast<double>(sample.ttl_ms) / 1000);
    if (!sample.bounds.empty()) json.Add("buckets", JsonNumbers(sample.bounds));
    if (!sample.quantiles.empty()) json.Add("quantiles", JsonNumbers(sample.quantiles));
  } else {
    const Advice advice = AdviceFor(sample.reason);
    json.AddText("reason", std::string(Name(sample.reason)));
    json.AddText("because", advice.why);
    json.AddText("remedy", advice.remedy);
  }
  return json.Take();
}

std::string DifferenceJson(const PeerDifference& difference) {
  const PeerCategoryInfo& info = InfoOf(difference.category);
  JsonObject json;
  json.AddText("category", std::string(info.name));
  json.AddNumber("sample", static_cast<double>(difference.sample));
  json.AddText("here", difference.here);
  json.AddText("there", difference.there);
  json.AddText("meaning", std::string(info.meaning));
  return json.Take();
}

std::string BudgetJson(const SeriesCount& budget) {
  JsonObject json;
  json.AddNumber("series", static_cast<double>(budget.series));
  json.AddNumber("limit", static_cast<double>(budget.limit));
  return json.Take();
}

const char* DialectName(Dialect dialect) {
  return dialect == Dialect::kDogstatsd ? "dogstatsd" : "statsd";
}

}  // namespace

std::string ExplanationText(const Explanation& explanation, const MappingConfig* mapping) {
  std::string text = absl::StrCat("line    ", Printable(explanation.line), "\n");
  absl::StrAppend(&text, "tokens  ", Printable(absl::StrJoin(explanation.tokens, "  ")), "\n");
  absl::StrAppend(&text, "dialect ", DialectName(explanation.dialect), "\n");
  if (explanation.budget.has_value()) {
    absl::StrAppend(&text, "series  ", explanation.budget->series, " of at most ",
                    explanation.budget->limit, "\n");
  }
  if (!explanation.event.empty()) {
    absl::StrAppend(&text, explanation.event == "event" ? "An event" : "A service check",
                    ": counted by its kind, and no metric.\n");
  } else if (explanation.samples.empty()) {
    absl::StrAppend(&text, "The line is empty and skipped.\n");
  }
  int number = 0;
  for (const ExplainedSample& sample : explanation.samples) {
    TextWriter writer(mapping);
    writer.AddSample(sample);
    absl::StrAppend(&text, "sample ", ++number, "\n", writer.Take());
  }
  return text + DifferencesText(explanation.differences);
}

std::string ExplanationJson(const Explanation& explanation, const MappingConfig* mapping) {
  JsonObject json;
  json.AddText("line", explanation.line);
  json.AddText("dialect", DialectName(explanation.dialect));
  json.AddBool("accepted", explanation.accepted());
  json.Add("tokens", JsonTexts(explanation.tokens));
  if (!explanation.event.empty()) json.AddText("event", explanation.event);
  if (explanation.budget.has_value()) json.Add("budget", BudgetJson(*explanation.budget));
  json.Add("samples", JsonList(explanation.samples, [mapping](const ExplainedSample& sample) {
             return SampleJson(sample, mapping);
           }));
  json.Add("statsd_exporter", JsonList(explanation.differences, DifferenceJson));
  return json.Take() + "\n";
}

}  // namespace tallyd
