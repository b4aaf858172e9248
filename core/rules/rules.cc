#include "core/rules/rules.h"

#include <algorithm>
#include <utility>

#include "core/rules/catalog_index.h"
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

bool IsOurOwn(std::string_view name) {
  return name.starts_with("tallyd_") || name.starts_with("process_");
}

bool IsReserved(std::string_view label, SeriesKind kind) {
  return label.starts_with("__") || (kind == SeriesKind::kHistogram && label == "le") ||
         (kind == SeriesKind::kSummary && label == "quantile");
}

Verdict Refuse(DropReason reason) { return {.accepted = false, .reason = reason}; }

bool Fits(DeclaredType declared, SampleType type) {
  switch (type) {
    case SampleType::kCounter:
      return declared == DeclaredType::kCounter;
    case SampleType::kGauge:
      return declared == DeclaredType::kGauge;
    case SampleType::kSet:
      return declared == DeclaredType::kSet;
    case SampleType::kTimer:
    case SampleType::kHistogram:
      return declared == DeclaredType::kHistogram || declared == DeclaredType::kSummary;
  }
  return false;
}

SeriesKind KindOf(DeclaredType type) {
  switch (type) {
    case DeclaredType::kCounter:
      return SeriesKind::kCounter;
    case DeclaredType::kGauge:
      return SeriesKind::kGauge;
    case DeclaredType::kHistogram:
      return SeriesKind::kHistogram;
    case DeclaredType::kSummary:
      return SeriesKind::kSummary;
    case DeclaredType::kSet:
      return SeriesKind::kSet;
  }
  return SeriesKind::kCounter;
}

// Compares the labels of a key, sorted by name, with those of its family. In mode warn they stay as
// they are; in mode enforce a label that is not declared is left out, and one that is missing or
// has a value outside its set says that it is folded.
class LabelBounds {
 public:
  LabelBounds(const DeclaredFamily& family, SeriesSpec* spec)
      : family_(family), enforce_(family.catalog->mode == CatalogMode::kEnforce), spec_(spec) {}

  std::vector<Label> Bound(const std::vector<Label>& labels) && {
    const std::vector<DeclaredLabel>& declared = family_.metric->labels;
    size_t next = 0;
    for (const Label& label : labels) {
      for (; next < declared.size() && declared[next].name < label.name; ++next) {
        Miss(declared[next].name);
      }
      if (next == declared.size() || declared[next].name != label.name) {
        Depart(Violation::kUndeclaredLabel, label.name);
        if (!enforce_) bound_.push_back(label);
      } else {
        Keep(label, family_.values[next++]);
      }
    }
    for (; next < declared.size(); ++next) Miss(declared[next].name);
    return std::move(bound_);
  }

 private:
  void Miss(const std::string& name) {
    Depart(Violation::kMissingLabel, name);
    if (enforce_) bound_.push_back({name, std::string(kOverflowValue)});
  }

  void Keep(const Label& label, const absl::flat_hash_set<std::string>& values) {
    const bool inside = values.empty() || values.contains(label.value);
    if (!inside) Depart(Violation::kLabelValue, label.name);
    bound_.push_back(inside || !enforce_ ? label : Label{label.name, std::string(kOverflowValue)});
  }

  void Depart(Violation violation, const std::string& name) {
    spec_->violations.Add(violation);
    if (spec_->violating_label.empty()) spec_->violating_label = name;
    spec_->folded |= enforce_;
  }

  const DeclaredFamily& family_;
  const bool enforce_;
  SeriesSpec* const spec_;
  std::vector<Label> bound_;
};

// Calls `each(labels)` for every combination of a family's listed values, in their order.
template <class Each>
void ForEachCombination(const DeclaredMetric& metric, const Each& each) {
  std::vector<Label> labels;
  for (const DeclaredLabel& label : metric.labels) labels.push_back({label.name, ""});
  const size_t count = metric.EnumerableSeries();
  for (size_t number = 0; number < count; ++number) {
    size_t rest = number;
    for (size_t i = labels.size(); i > 0; --i) {
      const std::vector<std::string>& values = metric.labels[i - 1].values;
      labels[i - 1].value = values[rest % values.size()];
      rest /= values.size();
    }
    each(labels);
  }
}

// The session's labels say which group a sample belongs to, so no rule changes them. A catalog need
// not declare them; of those that it does, none is missing then.
void UseSession(const SessionLabels& session, const DeclaredFamily* family,
                std::vector<Label>* labels, SeriesSpec* spec) {
  const uint16_t overridden = PutLabels(session.labels, labels);
  spec->overridden_labels = static_cast<uint16_t>(spec->overridden_labels + overridden);
  if (session.ttl_ms > 0 && (spec->ttl_ms == 0 || session.ttl_ms < spec->ttl_ms)) {
    spec->ttl_ms = session.ttl_ms;
  }
  if (family == nullptr || family->catalog->mode == CatalogMode::kOpen) return;
  const auto is_undeclared = [&](const Label& label) {
    const auto has_name = [&](const auto& other) { return other.name == label.name; };
    const auto& declared = family->metric->labels;
    return std::any_of(session.labels.begin(), session.labels.end(), has_name) &&
           std::none_of(declared.begin(), declared.end(), has_name);
  };
  labels->erase(std::remove_if(labels->begin(), labels->end(), is_undeclared), labels->end());
}

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
  if (options_.catalog != nullptr) {
    for (const auto& family : options_.catalog->families()) {
      const absl::StatusOr<uint16_t> of_family = layouts->Intern(LayoutOf(family->rule));
      if (!of_family.ok()) return of_family.status();
      family_layouts_.push_back(*of_family);
    }
  }
  const absl::StatusOr<uint16_t> overflow =
      layouts->Intern(HistogramLayout::FromOptions(HistogramOptions{}));
  if (!overflow.ok()) return overflow.status();
  overflow_layout_ = *overflow;
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
  if (key.is_literal) {
    spec->name = key.name;
    spec->labels = key.tags;
    return {.accepted = true};
  }
  std::string_view tags = key.tags;
  const SessionLabels session = TakeSession(&tags);
  const SplitName split = SplitNameTags(key.name, options_.tags);
  LabelSet labels(options_.tags, options_.container_id_label);
  labels.ReadName(split);
  if (!labels.empty() && HasTagSection(tags)) return Refuse(DropReason::kMixedTagDialects);
  labels.ReadSections(tags);
  spec->bad_tags = labels.bad_tags();
  spec->bad_name_tags = labels.bad_name_tags();
  if (split.before.size() + split.after.size() > options_.limits.name_bytes) {
    return Refuse(DropReason::kNameTooLong);
  }
  if (labels.tags() > options_.limits.tags) return Refuse(DropReason::kTooManyTags);

  const std::string sent = std::string(split.before).append(split.after);
  if (sent.empty()) return Refuse(DropReason::kEmptyName);
  Mapped mapped;
  bool by_catalog = false;
  const Verdict mappable = Map(sent, key.type, spec, &mapped, &by_catalog);
  if (!mappable.accepted) return mappable;
  AppendSanitizedName(mapped.name, &spec->name);
  if (spec->name.empty()) return Refuse(DropReason::kEmptyName);
  if (IsOurOwn(spec->name)) return Refuse(DropReason::kTypeConflict);
  const DeclaredFamily* family = nullptr;
  const Verdict known = FindFamily(key.type, spec, &family);
  if (!known.accepted) return known;
  if (family == nullptr) {
    UseRule(mapped.rule, key.type, spec);
  } else {
    UseFamily(*family, spec);
    spec->scale = mapped.rule != nullptr ? mapped.rule->scale : 1;
    // In a catalog a scale is for what is sent in another unit; timers are known to be in ms.
    if (by_catalog && key.type == SampleType::kTimer) spec->scale = 1;
  }

  spec->overridden_labels = labels.KeepLast();
  if (mapped.rule != nullptr) labels.Overlay(&mapped.labels, mapped.rule->honor_labels);
  std::vector<Label> shown = labels.labels();
  if (!session.labels.empty()) UseSession(session, family, &shown, spec);
  if (family != nullptr && family->catalog->mode != CatalogMode::kOpen) {
    shown = LabelBounds(*family, spec).Bound(shown);
    PutLabels(session.labels, &shown);
  }
  return AppendLabels(shown, spec);
}

// The catalogs' sources come first, then the mapping file; what neither takes keeps its name.
Verdict Rules::Map(const std::string& sent_name, SampleType type, SeriesSpec* spec, Mapped* mapped,
                   bool* by_catalog) const {
  const CatalogIndex* const catalog = options_.catalog.get();
  if (catalog != nullptr && catalog->Map(sent_name, type, mapped) != nullptr) {
    *by_catalog = true;
    return {.accepted = true};
  }
  if (options_.mapping != nullptr && options_.mapping->Map(sent_name, type, mapped)) {
    if (mapped->rule->drop) return Refuse(DropReason::kMappingDrop);
    return {.accepted = true};
  }
  if (catalog != nullptr) {
    const DeclaredFamily* const other = catalog->SourceOfOtherType(sent_name, type);
    if (other != nullptr) {
      spec->name = other->metric->name;
      spec->violations.Add(Violation::kType);
      return Refuse(DropReason::kTypeConflict);
    }
  }
  *mapped = {.rule = nullptr, .name = sent_name, .labels = {}};
  return {.accepted = true};
}

// The declared type holds, whoever comes first. Observed gauges are read, and nobody else reports
// them.
Verdict Rules::FindFamily(SampleType type, SeriesSpec* spec, const DeclaredFamily** family) const {
  const CatalogIndex* const catalog = options_.catalog.get();
  if (catalog == nullptr) return {.accepted = true};
  *family = catalog->Find(spec->name);
  const bool conflicts = *family != nullptr ? !Fits((*family)->metric->type, type) ||
                                                  !(*family)->metric->observed.empty()
                                            : catalog->OwnerOfSample(spec->name) != nullptr;
  if (conflicts) {
    spec->violations.Add(Violation::kType);
    return Refuse(DropReason::kTypeConflict);
  }
  if (*family != nullptr || catalog->strictest() == CatalogMode::kOpen) return {.accepted = true};
  spec->violations.Add(Violation::kUndeclaredMetric);
  if (catalog->strictest() == CatalogMode::kEnforce) return Refuse(DropReason::kUndeclared);
  return {.accepted = true};
}

void Rules::UseFamily(const DeclaredFamily& family, SeriesSpec* spec) const {
  spec->rule = &family.rule;
  spec->kind = KindOf(family.metric->type);
  spec->layout = IsObserver(spec->kind) ? family_layouts_[family.number] : uint16_t{0};
  spec->ttl_ms = family.rule.ttl_ms > 0 ? family.rule.ttl_ms : defaults_.ttl_ms;
  spec->non_negative = family.metric->non_negative;
  if (family.metric->single_sender && family.catalog->mode != CatalogMode::kOpen) {
    spec->single_sender = family.metric->name;
  }
  spec->fold_label = family.fold_label;
  if (family.catalog->mode == CatalogMode::kEnforce) spec->family_limit = family.series_limit;
}

std::vector<SeriesSpec> Rules::DeclaredSeries() const {
  std::vector<SeriesSpec> series;
  if (options_.catalog == nullptr) return series;
  for (const auto& family : options_.catalog->families()) {
    SeriesSpec spec;
    spec.name = family->metric->name;
    UseFamily(*family, &spec);
    ForEachCombination(*family->metric, [&](const std::vector<Label>& labels) {
      spec.labels.clear();
      if (AppendLabels(labels, &spec).accepted) series.push_back(spec);
    });
  }
  return series;
}

std::vector<SeriesSpec> Rules::ObservedSeries() const {
  std::vector<SeriesSpec> series;
  if (options_.catalog == nullptr) return series;
  for (const auto& family : options_.catalog->families()) {
    for (const ObservedSource& source : family->metric->observed) {
      SeriesSpec spec;
      spec.name = family->metric->name;
      UseFamily(*family, &spec);
      std::vector<Label> labels;
      for (const auto& [name, value] : source.labels) {
        // An empty value is no label.
        if (!value.empty()) labels.push_back({name, value});
      }
      std::sort(labels.begin(), labels.end(),
                [](const Label& a, const Label& b) { return a.name < b.name; });
      AppendLabels(labels, &spec);
      series.push_back(std::move(spec));
    }
  }
  return series;
}

Verdict Rules::AppendLabels(const std::vector<Label>& labels, SeriesSpec* spec) const {
  size_t bytes = 0;
  for (const Label& label : labels) {
    if (IsReserved(label.name, spec->kind)) return Refuse(DropReason::kBadLabel);
    bytes += label.name.size() + label.value.size();
    if (!spec->labels.empty()) spec->labels.push_back(',');
    spec->labels.append(label.name).append("=\"");
    AppendEscapedLabelValue(label.value, &spec->labels);
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
