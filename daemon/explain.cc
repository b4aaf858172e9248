#include "daemon/explain.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/wire/line.h"

namespace tallyd {
namespace {

// Names that one line can claim.
constexpr size_t kFamiliesOfALine = 4096;
// A weight past which doubles skip integers; the shard stops there too.
constexpr double kMostWeight = 0x1p53;

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

SeriesKind PlainKind(SampleType type) {
  switch (type) {
    case SampleType::kCounter:
      return SeriesKind::kCounter;
    case SampleType::kGauge:
      return SeriesKind::kGauge;
    case SampleType::kSet:
      return SeriesKind::kSet;
    case SampleType::kTimer:
    case SampleType::kHistogram:
      break;
  }
  return SeriesKind::kHistogram;
}

std::string SeriesText(const SeriesSpec& spec) {
  return spec.labels.empty() ? spec.name : absl::StrCat(spec.name, "{", spec.labels, "}");
}

// Collects what the parser says and asks the rules about it.
class Collector final : public SampleSink {
 public:
  Collector(const Explainer::Options& options, const Rules& rules, const LayoutTable& layouts,
            FamilyTypes* claims, Explanation* explanation)
      : options_(options),
        rules_(rules),
        layouts_(layouts),
        claims_(claims),
        explanation_(explanation) {}

  void OnDrop(DropReason reason) override {
    ExplainedSample dropped;
    dropped.reason = reason;
    explanation_->samples.push_back(std::move(dropped));
  }

  void OnEvent(EventKind kind) override { explanation_->event = std::string(Name(kind)); }

  void OnSample(const Sample& sample) override {
    ExplainedSample explained;
    explained.type = WrittenType(sample.type);
    explained.tags = std::string(sample.tags);
    const SplitName split = SplitNameTags(sample.name, options_.rules.tags);
    explained.name = std::string(split.before).append(split.after);
    FindRule(sample.type, &explained);
    DescribeValue(sample, &explained);
    Judge(sample, &explained);
    explanation_->samples.push_back(std::move(explained));
  }

 private:
  void FindRule(SampleType type, ExplainedSample* explained) const {
    Mapped mapped;
    const CatalogIndex* const catalog = options_.rules.catalog.get();
    explained->by_catalog =
        catalog != nullptr && catalog->Map(explained->name, type, &mapped) != nullptr;
    if (explained->by_catalog) return;
    const Mapping* const mapping = options_.rules.mapping.get();
    if (mapping != nullptr && mapping->Map(explained->name, type, &mapped)) {
      explained->rule = mapped.rule;
    }
  }

  void DescribeValue(const Sample& sample, ExplainedSample* explained) const {
    explained->value = sample.value;
    explained->rate = sample.rate;
    switch (sample.type) {
      case SampleType::kCounter:
        explained->weight = 1 / sample.rate;
        break;
      case SampleType::kGauge:
        explained->rate = 1;  // has no meaning for a gauge
        explained->is_change = sample.is_signed && options_.dialect == Dialect::kStatsd;
        break;
      case SampleType::kTimer:
        explained->value = sample.value / 1000;
        [[fallthrough]];
      case SampleType::kHistogram:
        explained->weight = ObserverWeight(sample.rate);
        break;
      case SampleType::kSet:
        explained->rate = 1;  // nor for a set
        explained->member = std::string(sample.member);
        break;
    }
  }

  static double ObserverWeight(double rate) {
    return rate > 0 ? std::min(1 / rate, kMostWeight) : 0;
  }

  void Judge(const Sample& sample, ExplainedSample* explained) {
    SeriesSpec spec;
    const Verdict verdict = rules_.Resolve({sample.type, sample.name, sample.tags}, &spec);
    explained->accepted = verdict.accepted;
    explained->reason = verdict.reason;
    NoteRepairs(sample, spec, explained);
    NoteCatalog(spec, explained);
    // The rules may refuse a key before they come to what it would be.
    explained->kind = verdict.accepted ? spec.kind : PlainKind(sample.type);
    if (!verdict.accepted) return;
    explained->family = spec.name;
    explained->value *= spec.scale;
    explained->series = SeriesText(spec);
    explained->ttl_ms = spec.ttl_ms;
    NoteLayout(spec, explained);
    if (sample.type == SampleType::kCounter && explained->value / explained->rate < 0) {
      return Refuse(DropReason::kNegativeCounter, explained);
    }
    uint16_t layout = 0;
    const FamilyTypes::Claim claim = claims_->ClaimFor({.family = spec.name,
                                                        .kind = spec.kind,
                                                        .layout = spec.layout,
                                                        .sequence = rules_.sequence(),
                                                        .mapped = spec.rule != nullptr},
                                                       &layout);
    // Past the bound on names nothing is known, and nothing is refused.
    if (claim == FamilyTypes::Claim::kConflict) Refuse(DropReason::kTypeConflict, explained);
  }

  void NoteCatalog(const SeriesSpec& spec, ExplainedSample* explained) const {
    const CatalogIndex* const catalog = options_.rules.catalog.get();
    if (catalog == nullptr || spec.name.empty()) return;
    const DeclaredFamily* family = catalog->Find(spec.name);
    if (family == nullptr) family = catalog->OwnerOfSample(spec.name);
    const CatalogMode mode = family != nullptr ? family->catalog->mode : catalog->strictest();
    const std::string mode_text = absl::StrCat(", mode ", View(Name(mode)));
    explained->catalog = family != nullptr
                             ? absl::StrCat(family->catalog->file, ":", family->metric->line, "  ",
                                            family->metric->name, mode_text)
                             : absl::StrCat("none declares ", spec.name, mode_text);
    for (size_t i = 0; i < kViolations; ++i) {
      const auto violation = static_cast<Violation>(i);
      if (!spec.violations.Has(violation)) continue;
      const bool of_metric =
          violation == Violation::kUndeclaredMetric || violation == Violation::kType;
      const bool refused = of_metric && !explained->accepted;
      explained->departures.push_back(
          absl::StrCat(View(Name(violation)), ": ",
                       refused ? "refused" : (spec.folded ? "folded" : "passes"), " and reported"));
    }
    if (!spec.violating_label.empty()) {
      explained->departures.push_back(absl::StrCat("first label: ", spec.violating_label));
    }
  }

  void NoteLayout(const SeriesSpec& spec, ExplainedSample* explained) const {
    if (spec.rule == nullptr || !IsObserver(spec.kind)) return;
    const HistogramLayout& layout = layouts_[spec.layout];
    explained->bounds = layout.les;
    explained->quantiles = layout.quantile_texts;
  }

  static void Refuse(DropReason reason, ExplainedSample* explained) {
    explained->accepted = false;
    explained->reason = reason;
  }

  static void NoteRepairs(const Sample& sample, const SeriesSpec& spec,
                          ExplainedSample* explained) {
    const auto note = [explained](int count, RepairReason reason, const char* what) {
      if (count == 0) return;
      explained->repairs.push_back(absl::StrCat(std::string(Name(reason)), ": ", count, " ", what));
    };
    note(sample.repairs.bad_rates, RepairReason::kBadSampleRate,
         "rate unreadable; the sample counts once");
    note(sample.repairs.unknown_sections, RepairReason::kUnknownSection, "section ignored");
    note(spec.bad_tags + (sample.continues ? 0 : spec.bad_name_tags), RepairReason::kBadTag,
         "tag left out: empty, or without key, separator or value");
    note(spec.overridden_labels, RepairReason::kOverriddenLabel,
         "label replaced by a later one of the same name");
  }

  const Explainer::Options& options_;
  const Rules& rules_;
  const LayoutTable& layouts_;
  FamilyTypes* const claims_;
  Explanation* const explanation_;
};

// The line as its separators cut it: the name, then what stands between the bars.
std::vector<std::string> TokensOf(std::string_view line) {
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

// A family that runs with another type refuses the sample, whatever this line alone would do.
void AskRunning(const FamilyTypes& running, ExplainedSample* sample) {
  SeriesKind kind;
  if (sample->family.empty() || !running.Lookup(sample->family, &kind)) return;
  sample->family_type = KindName(kind);
  if (!sample->accepted || kind == sample->kind) return;
  sample->accepted = false;
  sample->reason = DropReason::kTypeConflict;
}

}  // namespace

bool Explanation::accepted() const {
  return std::all_of(samples.begin(), samples.end(),
                     [](const ExplainedSample& sample) { return sample.accepted; });
}

absl::StatusOr<std::unique_ptr<Explainer>> Explainer::Create(Options options) {
  std::unique_ptr<Explainer> explainer(new Explainer(std::move(options)));
  auto rules = Rules::Create(explainer->options_.rules, &explainer->layouts_);
  if (!rules.ok()) return rules.status();
  explainer->rules_ = *std::move(rules);
  if (const auto& mapping = explainer->options_.rules.mapping; mapping != nullptr) {
    explainer->peer_mapping_ = std::make_shared<PeerMapping>(mapping);
  }
  return explainer;
}

Explanation Explainer::Explain(std::string_view line_untrusted, const FamilyTypes* running) const {
  FamilyTypes claims(kFamiliesOfALine, 1);
  Explanation explanation = Read(line_untrusted, &claims);
  explanation.tokens = TokensOf(line_untrusted);
  const PeerReader peer(options_.rules.tags, peer_mapping_);
  explanation.differences = DifferencesOf(explanation, peer.ReadAlone(line_untrusted));
  for (ExplainedSample& sample : explanation.samples) {
    if (running != nullptr) AskRunning(*running, &sample);
    const Mapping* const mapping = options_.rules.mapping.get();
    if (mapping == nullptr || sample.type.empty() || sample.by_catalog) continue;
    SampleType type = SampleType::kCounter;
    for (const SampleType candidate :
         {SampleType::kGauge, SampleType::kTimer, SampleType::kHistogram, SampleType::kSet}) {
      if (sample.type == WrittenType(candidate)) type = candidate;
    }
    sample.near = FindNearRule(*mapping, sample.name, type, sample.rule);
  }
  return explanation;
}

Explanation Explainer::Read(std::string_view line_untrusted, FamilyTypes* claims) const {
  Explanation explanation;
  explanation.line = std::string(line_untrusted);
  explanation.dialect = options_.dialect;
  Collector collector(options_, *rules_, layouts_, claims, &explanation);
  LineOptions line_options;
  line_options.max_line_bytes = options_.max_line_bytes;
  line_options.tags = options_.rules.tags;
  LineParser(line_options).Parse(line_untrusted, &collector);
  return explanation;
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
      return {
          "nothing is left of the name: its tags are all there is, or the rule's name came "
          "out empty",
          "give the metric a name; in a rule, write ${1} rather than $1"};
    case DropReason::kTypeConflict:
      return {
          "the family has another type, claims this name for its own samples, or has a name "
          "that is ours (tallyd_, process_)",
          "use another name, or the type that the family has"};
    case DropReason::kBadLabel:
      return {
          "a tag becomes a label that Prometheus reserves: one that begins with \"__\", \"le\" on "
          "a histogram, or \"quantile\" on a summary",
          "rename the tag"};
    case DropReason::kBadEvent:
      return {"the event or service check is malformed", "check its lengths and fields"};
    case DropReason::kTooLong:
      return {"the line is longer than the limit",
              "send fewer or shorter tags, or raise --limit.line-bytes"};
    case DropReason::kTruncated:
      return {"the line was cut off by its transport", "send smaller datagrams"};
    case DropReason::kSeriesLimit:
      return {"there are as many series as may be",
              "send fewer tag values, or raise --series.limit"};
    case DropReason::kNameTooLong:
      return {"the name is longer than the limit", "shorten it, or raise --limit.name-bytes"};
    case DropReason::kTooManyTags:
      return {"there are more tags than the limit", "send fewer, or raise --limit.tags"};
    case DropReason::kLabelsTooLong:
      return {"the labels are together longer than the limit",
              "shorten them, or raise --limit.label-bytes"};
    case DropReason::kMappingDrop:
      return {"a mapping rule has the action \"drop\"",
              "nothing, or change the rule if that is not what you want"};
    case DropReason::kUndeclared:
      return {
          "no catalog declares this metric, and one that is in force refuses what is undeclared",
          "declare it in the catalog, or correct its name"};
    case DropReason::kCrash:
      return {"it was being taken in when tallyd ended without notice",
              "nothing; the log of that time may say why it ended"};
    case DropReason::kUnauthorized:
      return {"the user that sent it may not send to this socket",
              "add the user to the socket's allow_uids, or send as another"};
    case DropReason::kCount:
      break;
  }
  return {"", ""};
}

}  // namespace tallyd
