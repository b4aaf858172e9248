#include "core/rules/rules.h"

#include <utility>

#include "core/rules/label_set.h"
#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

SeriesKind KindOf(ObserverType type) {
  return type == ObserverType::kSummary ? SeriesKind::kSummary : SeriesKind::kHistogram;
}

HistogramLayout LayoutOf(const MappingRule& rule) {
  return rule.observer_type == ObserverType::kSummary
             ? HistogramLayout::FromOptions(rule.summary)
             : HistogramLayout::FromOptions(rule.histogram);
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool IsOurOwn(std::string_view name) {
  return StartsWith(name, "tallyd_") || StartsWith(name, "process_");
}

bool IsReserved(std::string_view label, SeriesKind kind) {
  return StartsWith(label, "__") || (kind == SeriesKind::kHistogram && label == "le") ||
         (kind == SeriesKind::kSummary && label == "quantile");
}

Verdict Refuse(DropReason reason) { return {.accepted = false, .reason = reason}; }

// Whether the line had a tag section. (One that was empty never gets this far.)
bool HasTagSection(std::string_view tags) {
  return !tags.empty() && (tags[0] != '|' || tags.find("|#") != std::string_view::npos);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Rules>> Rules::Create(Options options, LayoutTable* layouts,
                                                           uint32_t sequence) {
  std::unique_ptr<Rules> rules(new Rules(std::move(options), sequence));
  const absl::Status status = rules->InternLayouts(layouts);
  if (!status.ok()) return status;
  return rules;
}

Rules::Rules(Options options, uint32_t sequence)
    : options_(std::move(options)), sequence_(sequence) {
  if (options_.mapping != nullptr) defaults_ = options_.mapping->config().defaults;
  if (defaults_.ttl_ms == 0) defaults_.ttl_ms = options_.default_ttl_ms;
}

absl::Status Rules::InternLayouts(LayoutTable* layouts) {
  const absl::StatusOr<uint16_t> layout = layouts->Intern(LayoutOf(defaults_));
  if (!layout.ok()) return layout.status();
  default_layout_ = *layout;
  if (options_.mapping == nullptr) return absl::OkStatus();
  for (const MappingRule& rule : options_.mapping->config().rules) {
    const absl::StatusOr<uint16_t> of_rule = layouts->Intern(LayoutOf(rule));
    if (!of_rule.ok()) return of_rule.status();
    rule_layouts_.push_back(*of_rule);
  }
  return absl::OkStatus();
}

// How the series is kept; without a rule as the defaults say.
void Rules::UseRule(const MappingRule* rule, SampleType type, SeriesSpec* spec) const {
  spec->rule = rule;
  spec->ttl_ms = rule != nullptr && rule->ttl_ms > 0 ? rule->ttl_ms : defaults_.ttl_ms;
  spec->scale = rule != nullptr ? rule->scale : 1;
  switch (type) {
    case SampleType::kCounter:
      spec->kind = SeriesKind::kCounter;
      return;
    case SampleType::kGauge:
      spec->kind = SeriesKind::kGauge;
      return;
    case SampleType::kSet:
      spec->kind = SeriesKind::kSet;
      return;
    case SampleType::kTimer:
    case SampleType::kHistogram:
      break;
  }
  if (rule == nullptr) {
    spec->kind = KindOf(defaults_.observer_type);
    spec->layout = default_layout_;
  } else {
    spec->kind = KindOf(rule->observer_type);
    spec->layout =
        rule_layouts_[static_cast<size_t>(rule - options_.mapping->config().rules.data())];
  }
}

Verdict Rules::Resolve(const KeyView& key, SeriesSpec* spec) const {
  *spec = SeriesSpec{};
  const SplitName split = SplitNameTags(key.name, options_.tags);
  LabelSet labels(options_.tags, options_.container_id_label);
  labels.ReadName(split);
  if (!labels.empty() && HasTagSection(key.tags)) return Refuse(DropReason::kMixedTagDialects);
  labels.ReadSections(key.tags);
  spec->bad_tags = labels.bad_tags();
  spec->bad_name_tags = labels.bad_name_tags();
  if (split.before.size() + split.after.size() > options_.limits.name_bytes) {
    return Refuse(DropReason::kNameTooLong);
  }
  if (labels.tags() > options_.limits.tags) return Refuse(DropReason::kTooManyTags);

  Mapped mapped;
  mapped.name = std::string(split.before).append(split.after);
  if (mapped.name.empty()) return Refuse(DropReason::kEmptyName);
  if (options_.mapping != nullptr) {
    const std::string sent = std::exchange(mapped.name, {});
    if (!options_.mapping->Map(sent, key.type, &mapped))
      mapped = {.rule = nullptr, .name = sent, .labels = {}};
  }
  if (mapped.rule != nullptr && mapped.rule->drop) return Refuse(DropReason::kMappingDrop);
  AppendSanitizedName(mapped.name, &spec->name);
  if (spec->name.empty()) return Refuse(DropReason::kEmptyName);
  if (IsOurOwn(spec->name)) return Refuse(DropReason::kTypeConflict);
  UseRule(mapped.rule, key.type, spec);

  spec->overridden_labels = labels.KeepLast();
  if (spec->rule != nullptr) labels.Overlay(&mapped.labels, spec->rule->honor_labels);
  return AppendLabels(labels, spec);
}

Verdict Rules::AppendLabels(const LabelSet& labels, SeriesSpec* spec) const {
  size_t bytes = 0;
  for (const Label& label : labels.labels()) {
    if (IsReserved(label.name, spec->kind)) return Refuse(DropReason::kBadLabel);
    bytes += label.name.size() + label.value.size();
    if (!spec->labels.empty()) spec->labels.push_back(',');
    spec->labels.append(label.name).append("=\"");
    AppendEscaped(label.value, &spec->labels);
    spec->labels.push_back('"');
  }
  if (bytes > options_.limits.label_bytes) return Refuse(DropReason::kLabelsTooLong);
  return {.accepted = true};
}

std::string_view Rules::HelpOf(const MappingRule* rule) {
  // statsd_exporter's text: a fleet that runs both shows one HELP per family.
  constexpr std::string_view kDefault = "Metric autogenerated by statsd_exporter.";
  return rule == nullptr || rule->help.empty() ? kDefault : std::string_view(rule->help);
}

}  // namespace tallyd
