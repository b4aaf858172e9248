#include "daemon/migrate_check.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tallyd {
namespace {

const char* TypeName(MatchedType type) {
  switch (type) {
    case MatchedType::kAny:
      return "all types";
    case MatchedType::kCounter:
      return "counters";
    case MatchedType::kGauge:
      return "gauges";
    case MatchedType::kObserver:
      return "observers";
  }
  return "";
}

// What the two make of a name that fits the rule, its stars being s1, s2 and so on.
bool TemplatesDiffer(const MappingRule& rule) {
  MappingConfig config;
  config.rules.push_back(rule);
  config.rules[0].matched_type = MatchedType::kAny;
  const auto mapping = Mapping::Compile(std::move(config));
  if (!mapping.ok()) return false;
  std::string name;
  int star = 0;
  for (const char c : rule.match) {
    c == '*' ? name += absl::StrCat("s", ++star) : name += c;
  }
  Mapped ours;
  PeerMapped theirs;
  if (!(*mapping)->Map(name, SampleType::kCounter, &ours) ||
      !PeerMapping(*mapping).Map(name, MatchedType::kCounter, &theirs)) {
    return false;
  }
  return ours.name != theirs.name || ours.labels != theirs.labels;
}

// One rule has a defect for each type that it takes, mostly the same.
void AddDefects(const PeerMapping& mapping, std::vector<MappingFinding>* findings) {
  using Defect = PeerMapping::Defect;
  std::map<std::tuple<int, int, Defect::Kind>, std::vector<MatchedType>> types;
  for (const Defect& defect : mapping.defects()) {
    types[{defect.rule->line, defect.earlier->line, defect.kind}].push_back(defect.type);
  }
  for (const auto& [key, of] : types) {
    const auto& [line, earlier, kind] = key;
    const std::string whose =
        of.size() == 3
            ? ""
            : absl::StrCat(", for ",
                           absl::StrJoin(of, " and ", [](std::string* out, MatchedType type) {
                             out->append(TypeName(type));
                           }));
    MappingFinding finding;
    finding.line = line;
    if (kind == Defect::Kind::kHidden) {
      finding.category = PeerCategory::kRuleUnreachable;
      finding.message = absl::StrCat("never found there", whose,
                                     ": it is the beginning of the rule of line ", earlier);
    } else {
      finding.category = PeerCategory::kRuleMoved;
      finding.message = absl::StrCat("has the match of line ", earlier, " once more", whose,
                                     ", which comes in this one's place there");
    }
    findings->push_back(std::move(finding));
  }
}

// "file:12: message" as a finding.
MappingFinding FindingOf(PeerCategory category, const std::string& file, std::string_view text) {
  MappingFinding finding;
  finding.category = category;
  if (text.substr(0, file.size()) == file && text.substr(file.size(), 1) == ":") {
    text.remove_prefix(file.size() + 1);
  }
  size_t digits = 0;
  while (digits < std::min<size_t>(text.size(), 9) && text[digits] >= '0' && text[digits] <= '9') {
    finding.line = finding.line * 10 + (text[digits++] - '0');
  }
  if (digits > 0) {
    text.remove_prefix(digits);
    while (!text.empty() && (text[0] == ':' || text[0] == ' ')) text.remove_prefix(1);
  }
  finding.message = std::string(text);
  return finding;
}

std::string Rules(size_t count) { return absl::StrCat(count, count == 1 ? " rule" : " rules"); }

bool TakesObservers(const MappingRule& rule) {
  return !rule.drop &&
         (rule.matched_type == MatchedType::kAny || rule.matched_type == MatchedType::kObserver);
}

void AddObservers(const MappingConfig& config, std::vector<MappingFinding>* findings) {
  size_t silent = 0;
  size_t summaries = 0;
  for (const MappingRule& rule : config.rules) {
    if (!TakesObservers(rule)) continue;
    if (!rule.observer_type_given) ++silent;
    if (rule.observer_type == ObserverType::kSummary) ++summaries;
  }
  MappingFinding finding;
  if (!config.defaults.observer_type_given) {
    finding.category = PeerCategory::kDefaultObserver;
    finding.message =
        absl::StrCat("defaults has no observer_type: timers that no rule fits",
                     silent == 0 ? "" : absl::StrCat(", and those of ", Rules(silent), ","),
                     " are summaries there, histograms here");
    findings->push_back(finding);
  }
  if (summaries > 0 || config.defaults.observer_type == ObserverType::kSummary) {
    finding.category = PeerCategory::kSummaryError;
    finding.message =
        absl::StrCat(Rules(summaries), summaries == 1 ? " makes" : " make",
                     " summaries: quantile errors are of the rank there, of the value here");
    findings->push_back(finding);
  }
}

}  // namespace

std::vector<MappingFinding> CheckMapping(const PeerMapping& mapping) {
  const MappingConfig& config = mapping.mapping().config();
  std::vector<MappingFinding> findings;
  for (const std::string& warning : config.warnings) {
    findings.push_back(FindingOf(PeerCategory::kLegacyKey, config.file, warning));
  }
  AddObservers(config, &findings);
  AddDefects(mapping, &findings);
  for (const MappingRule& rule : config.rules) {
    if (rule.drop || rule.match_type == MatchType::kRegex || !TemplatesDiffer(rule)) continue;
    findings.push_back(
        {PeerCategory::kTemplate, rule.line, "name or labels come out garbled there"});
  }
  std::stable_sort(
      findings.begin(), findings.end(),
      [](const MappingFinding& a, const MappingFinding& b) { return a.line < b.line; });
  return findings;
}

MigrateReport RefusedMapping(const std::string& file, const absl::Status& error) {
  MigrateReport report;
  report.mapping_file = file;
  report.mapping_loaded = false;
  for (const absl::string_view line : absl::StrSplit(error.message(), '\n', absl::SkipEmpty())) {
    report.mapping.push_back(
        FindingOf(PeerCategory::kMappingRefused, file, std::string_view(line.data(), line.size())));
  }
  return report;
}

absl::StatusOr<std::unique_ptr<MigrateCheck>> MigrateCheck::Create(Explainer::Options options) {
  auto explainer = Explainer::Create(std::move(options));
  if (!explainer.ok()) return explainer.status();
  return std::unique_ptr<MigrateCheck>(new MigrateCheck(*std::move(explainer)));
}

MigrateCheck::MigrateCheck(std::unique_ptr<Explainer> explainer)
    : explainer_(std::move(explainer)),
      peer_(explainer_->options().rules.tags, explainer_->peer_mapping()) {
  for (size_t i = 0; i < kPeerCategories; ++i) {
    findings_[i].category = static_cast<PeerCategory>(i);
  }
  const auto& peer_mapping = explainer_->peer_mapping();
  if (peer_mapping == nullptr) return;
  const MappingConfig& config = peer_mapping->mapping().config();
  report_.mapping_file = config.file;
  report_.rules = config.rules.size();
  report_.mapping = CheckMapping(*peer_mapping);
}

void MigrateCheck::Add(std::string_view line) {
  ++line_number_;
  report_.replayed = true;
  if (line.empty() || line == "\r" || line.substr(0, 2) == "# ") return;
  ++report_.lines;
  if (line.find_first_of(":|") == std::string_view::npos) return AddName(line);
  std::array<bool, kPeerCategories> seen{};
  const Explanation ours = explainer_->Read(line, &claims_);
  const PeerReading theirs = peer_.Read(line);
  Count(ours, theirs);
  Compare(ours, theirs, &seen);
  Finish(seen);
}

void MigrateCheck::AddName(std::string_view name) {
  ++report_.names;
  if (name.back() == '\r') name.remove_suffix(1);
  std::array<bool, kPeerCategories> seen{};
  for (const std::string_view type : {"c", "g", "ms"}) {
    const std::string line = std::string(name).append(":1|").append(type);
    FamilyTypes nobody(16, 1);  // the three would be each other's conflicts
    Compare(explainer_->Read(line, &nobody), peer_.ReadAlone(line), &seen);
  }
  Finish(seen);
}

void MigrateCheck::Count(const Explanation& ours, const PeerReading& theirs) {
  for (const ExplainedSample& sample : ours.samples) {
    if (!sample.accepted) continue;
    ++report_.samples_here;
    if (series_.size() < kMaxRemembered) {
      series_.insert(std::hash<std::string>()(sample.series));
    } else {
      series_full_ = true;
    }
  }
  for (const PeerSample& sample : theirs) {
    if (sample.taken() && sample.hazard != PeerHazard::kCrash) ++report_.samples_there;
  }
}

void MigrateCheck::Compare(const Explanation& ours, const PeerReading& theirs,
                           std::array<bool, kPeerCategories>* seen) {
  for (const PeerDifference& difference : DifferencesOf(ours, theirs)) {
    if (std::exchange((*seen)[static_cast<size_t>(difference.category)], true)) continue;
    Note(difference, ours.line);
  }
}

void MigrateCheck::Note(const PeerDifference& difference, std::string_view line) {
  MigrateFinding& finding = findings_[static_cast<size_t>(difference.category)];
  if (finding.lines++ > 0) return;
  finding.line_number = line_number_;
  finding.line = std::string(line.substr(0, kMaxExampleBytes));
  finding.first = difference;
}

void MigrateCheck::Finish(const std::array<bool, kPeerCategories>& seen) {
  if (std::find(seen.begin(), seen.end(), true) != seen.end()) ++report_.differing_lines;
}

MigrateReport MigrateCheck::Report() const {
  MigrateReport report = report_;
  report.series_here = series_.size();
  report.series_there = peer_.series();
  report.complete = !series_full_ && peer_.remembers_all();
  for (const MigrateFinding& finding : findings_) {
    if (finding.lines > 0) report.findings.push_back(finding);
  }
  return report;
}

}  // namespace tallyd
