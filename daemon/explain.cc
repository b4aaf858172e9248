#include "daemon/explain.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/expose/text.h"
#include "core/rules/rules.h"
#include "core/shard/family_types.h"
#include "core/wire/line.h"
#include "daemon/json.h"

namespace tallyd {
namespace {

std::string NumberText(double value) {
  std::string text;
  AppendValue(value, &text);
  return text;
}

const char* WrittenType(SampleType type) {
  switch (type) {
    case SampleType::kCounter:
      return "c";
    case SampleType::kGauge:
      return "g";
    case SampleType::kTimer:
      return "ms";
    case SampleType::kHistogram:
      return "h";
    case SampleType::kSet:
      return "s";
  }
  return "";
}

const char* KindName(SeriesKind kind) {
  switch (kind) {
    case SeriesKind::kCounter:
      return "counter";
    case SeriesKind::kGauge:
      return "gauge";
    case SeriesKind::kHistogram:
      return "histogram";
    case SeriesKind::kSet:
      return "set";
    case SeriesKind::kSummary:
      return "summary";
  }
  return "";
}

std::string SeriesText(const SeriesSpec& spec) {
  return spec.labels.empty() ? spec.name : absl::StrCat(spec.name, "{", spec.labels, "}");
}

std::string Counted(int count, RepairReason reason, const char* what) {
  const std::string name(Name(reason));
  return absl::StrCat(name, ": ", count, " ", what);
}

// Collects what the parser says and asks the rules about it.
class Collector final : public SampleSink {
 public:
  explicit Collector(Explanation* explanation) : explanation_(explanation) {}

  void OnDrop(DropReason reason) override {
    ExplainedSample dropped;
    dropped.reason = reason;
    explanation_->samples.push_back(std::move(dropped));
  }

  void OnSample(const Sample& sample) override {
    ExplainedSample explained;
    explained.type = WrittenType(sample.type);
    explained.name = std::string(sample.name);
    explained.tags = std::string(sample.tags);
    explained.rate = sample.rate;
    DescribeValue(sample, &explained);
    Judge(sample, &explained);
    explanation_->samples.push_back(std::move(explained));
  }

 private:
  static void DescribeValue(const Sample& sample, ExplainedSample* explained) {
    explained->value = NumberText(sample.value);
    switch (sample.type) {
      case SampleType::kCounter:
        explained->weight = 1 / sample.rate;
        explained->meaning = absl::StrCat("adds ", NumberText(sample.value / sample.rate));
        return;
      case SampleType::kGauge:
        explained->rate = 1;  // has no meaning for a gauge
        explained->meaning = sample.is_signed
                                 ? absl::StrCat("changes the gauge by ", explained->value)
                                 : absl::StrCat("sets the gauge to ", explained->value);
        return;
      case SampleType::kTimer:
        explained->value = NumberText(sample.value / 1000);
        explained->weight = 1 / sample.rate;
        explained->meaning = absl::StrCat("observes ", explained->value, " seconds");
        return;
      case SampleType::kHistogram:
        explained->weight = 1 / sample.rate;
        explained->meaning = absl::StrCat("observes ", explained->value);
        return;
      case SampleType::kSet:
        explained->rate = 1;  // nor for a set
        explained->value = std::string(sample.member);
        explained->meaning = "adds the member, if it is new";
        return;
    }
  }

  void Judge(const Sample& sample, ExplainedSample* explained) {
    SeriesSpec spec;
    const Verdict verdict = rules_->Resolve({sample.type, sample.name, sample.tags}, &spec);
    explained->accepted = verdict.accepted;
    explained->reason = verdict.reason;
    explained->kind = KindName(spec.kind);
    NoteRepairs(sample, spec, explained);
    if (!verdict.accepted) return;
    explained->series = SeriesText(spec);
    // Of the samples of one line the first decides the type, as in a daemon that starts with it.
    if (families_.ClaimFor(spec.name, spec.kind) != FamilyTypes::Claim::kGranted) {
      Refuse(DropReason::kTypeConflict, explained);
    } else if (sample.type == SampleType::kCounter && sample.value / sample.rate < 0) {
      Refuse(DropReason::kNegativeCounter, explained);
    }
  }

  static void Refuse(DropReason reason, ExplainedSample* explained) {
    explained->accepted = false;
    explained->reason = reason;
  }

  static void NoteRepairs(const Sample& sample, const SeriesSpec& spec,
                          ExplainedSample* explained) {
    const auto note = [explained](int count, RepairReason reason, const char* what) {
      if (count > 0) explained->repairs.push_back(Counted(count, reason, what));
    };
    note(sample.repairs.bad_rates, RepairReason::kBadSampleRate,
         "rate unreadable; the sample counts once");
    note(sample.repairs.unknown_sections, RepairReason::kUnknownSection, "section ignored");
    note(spec.bad_tags, RepairReason::kBadTag,
         "tag left out: empty, or without key, \":\" or value");
    note(spec.overridden_labels, RepairReason::kOverriddenLabel,
         "label replaced by a later one of the same name");
  }

  Explanation* const explanation_;
  LayoutTable layouts_;
  const std::unique_ptr<const Rules> rules_ = Rules::Create({}, &layouts_).value();
  FamilyTypes families_{4096, 1};
};

// The line as its separators cut it: the name, then what stands between the bars.
std::vector<std::string> Tokens(std::string_view line) {
  std::vector<std::string> tokens;
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return {std::string(line)};
  tokens.emplace_back(line.substr(0, colon));
  line.remove_prefix(colon + 1);
  while (true) {
    const size_t bar = line.find('|');
    tokens.emplace_back(line.substr(0, bar));
    if (bar == std::string_view::npos) return tokens;
    line.remove_prefix(bar + 1);
  }
}

void AddLine(std::string* text, const char* name, const std::string& value) {
  absl::StrAppend(text, "  ", name, std::string(10 - std::string_view(name).size(), ' '), value,
                  "\n");
}

std::string SampleText(const ExplainedSample& sample) {
  std::string text;
  if (!sample.name.empty()) {
    AddLine(&text, "name", sample.name);
    AddLine(&text, "type", absl::StrCat(sample.type, " (", sample.kind, ")"));
    AddLine(&text, "value", absl::StrCat(sample.value, "  ", sample.meaning));
    if (sample.rate != 1) {
      AddLine(
          &text, "rate",
          absl::StrCat(NumberText(sample.rate), "  counts ", NumberText(sample.weight), " times"));
    }
    if (!sample.tags.empty()) AddLine(&text, "tags", sample.tags);
  }
  for (const std::string& repair : sample.repairs) AddLine(&text, "repaired", repair);
  if (sample.accepted) {
    AddLine(&text, "series", sample.series);
    return text;
  }
  const Advice advice = AdviceFor(sample.reason);
  AddLine(&text, "refused", std::string(Name(sample.reason)));
  AddLine(&text, "because", advice.why);
  AddLine(&text, "remedy", advice.remedy);
  return text;
}

std::string JsonNumber(double value) {
  return std::isfinite(value) ? NumberText(value) : JsonString(NumberText(value));
}

std::string JsonList(const std::vector<std::string>& list) {
  return absl::StrCat("[",
                      absl::StrJoin(list, ",",
                                    [](std::string* out, const std::string& item) {
                                      absl::StrAppend(out, JsonString(item));
                                    }),
                      "]");
}

std::string SampleJson(const ExplainedSample& sample) {
  std::string json = absl::StrCat("{\"accepted\":", sample.accepted ? "true" : "false");
  const auto add = [&json](const char* name, const std::string& value) {
    absl::StrAppend(&json, ",\"", name, "\":", value);
  };
  if (!sample.name.empty()) {
    add("name", JsonString(sample.name));
    add("type", JsonString(sample.type));
    add("kind", JsonString(sample.kind));
    add("value", JsonString(sample.value));
    add("meaning", JsonString(sample.meaning));
    add("rate", JsonNumber(sample.rate));
    add("weight", JsonNumber(sample.weight));
    add("tags", JsonString(sample.tags));
  }
  add("repairs", JsonList(sample.repairs));
  if (sample.accepted) {
    add("series", JsonString(sample.series));
  } else {
    const Advice advice = AdviceFor(sample.reason);
    add("reason", JsonString(std::string(Name(sample.reason))));
    add("because", JsonString(advice.why));
    add("remedy", JsonString(advice.remedy));
  }
  json.push_back('}');
  return json;
}

}  // namespace

bool Explanation::accepted() const {
  return std::all_of(samples.begin(), samples.end(),
                     [](const ExplainedSample& sample) { return sample.accepted; });
}

Explanation Explain(const std::string& line_untrusted) {
  Explanation explanation;
  explanation.line = line_untrusted;
  explanation.tokens = Tokens(line_untrusted);
  Collector collector(&explanation);
  LineParser().Parse(line_untrusted, &collector);
  return explanation;
}

Advice AdviceFor(DropReason reason) {
  switch (reason) {
    case DropReason::kMalformedLine:
      return {
          "a line is name:value|type in UTF-8; here the name, the colon or the bar is missing, "
          "or the bytes are no UTF-8",
          "send name:value|type, for example page.views:1|c"};
    case DropReason::kMalformedSample:
      return {"a sample has no type, or a section between two bars is empty",
              "remove the extra \"|\", or add the type"};
    case DropReason::kBadValue:
      return {"the value is no number, or one that would spoil the series for good",
              "send a decimal number such as 12, -0.5 or 1e3"};
    case DropReason::kBadType:
      return {"the type is none of c, g, ms, h, d, s", "use one of these types"};
    case DropReason::kMixedTagDialects:
      return {"tags stand both in the name and in a tag section", "use one of the two"};
    case DropReason::kBadPacking:
      return {"several values stand before the type, and values of this type cannot be packed",
              "send one value a line, or a known type"};
    case DropReason::kBadContainerId:
      return {"the section \"c:\" names no container", "leave the section out, or give the id"};
    case DropReason::kNegativeCounter:
      return {"a counter only goes up",
              "send a gauge, or count the other direction by another name"};
    case DropReason::kEmptyName:
      return {"nothing is left of the name once its tags are cut off", "give the metric a name"};
    case DropReason::kTypeConflict:
      return {
          "the family has another type, claims this name for its own samples, or has a name "
          "that is ours (tallyd_, process_)",
          "use another name, or the type that the family has"};
    case DropReason::kBadLabel:
      return {
          "a tag becomes a label that Prometheus reserves: one that begins with \"__\", or "
          "\"le\" on a histogram",
          "rename the tag"};
    case DropReason::kBadEvent:
      return {"the event or service check is malformed", "check its lengths and fields"};
    case DropReason::kTooLong:
      return {"the line is longer than the limit", "send fewer or shorter tags"};
    case DropReason::kTruncated:
      return {"the line was cut off by its transport", "send smaller datagrams"};
    case DropReason::kSeriesLimit:
      return {"there are as many series as may be", "send fewer tag values, or raise the limit"};
    case DropReason::kNameTooLong:
      return {"the name, its tags cut off, is longer than the limit", "shorten the name"};
    case DropReason::kTooManyTags:
      return {"the line has more tags than the limit allows", "send fewer tags"};
    case DropReason::kLabelsTooLong:
      return {"names and values of the tags are longer, all together, than the limit",
              "send fewer or shorter tags"};
    case DropReason::kMappingDrop:
      return {"a rule of the mapping file says to drop this metric",
              "change the rule if the metric is wanted"};
    case DropReason::kCount:
      break;
  }
  return {"", ""};
}

std::string ExplanationText(const Explanation& explanation) {
  std::string text = absl::StrCat("line    ", explanation.line, "\n");
  absl::StrAppend(&text, "tokens  ", absl::StrJoin(explanation.tokens, "  "), "\n");
  if (explanation.samples.empty()) return text + "The line is empty and skipped.\n";
  int number = 0;
  for (const ExplainedSample& sample : explanation.samples) {
    absl::StrAppend(&text, "sample ", ++number, "\n", SampleText(sample));
  }
  return text;
}

std::string ExplanationJson(const Explanation& explanation) {
  return absl::StrCat("{\"line\":", JsonString(explanation.line),
                      ",\"accepted\":", explanation.accepted() ? "true" : "false",
                      ",\"tokens\":", JsonList(explanation.tokens), ",\"samples\":[",
                      absl::StrJoin(explanation.samples, ",",
                                    [](std::string* out, const ExplainedSample& sample) {
                                      absl::StrAppend(out, SampleJson(sample));
                                    }),
                      "]}\n");
}

}  // namespace tallyd
