#include "core/rules/catalog_claims.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/glob_tree.h"
#include "core/rules/mapping_check.h"

namespace tallyd {
namespace {

// Who says so first.
struct Claimant {
  const Catalog* catalog = nullptr;
  const DeclaredMetric* metric = nullptr;
  int line = 0;
};

std::string Shown(const Claimant& claimant) {
  return absl::StrCat(claimant.catalog->file, ":", claimant.line);
}

// What all catalogs claim, each of which is complained of only while complaints are wanted.
class Claims {
 public:
  explicit Claims(Complaints* complaints) : complaints_(complaints) {}

  void Add(const Catalog& catalog, bool complain) {
    complain_ = complain;
    for (const DeclaredMetric& metric : catalog.metrics) {
      if (metric.name.empty()) continue;
      AddNames({&catalog, &metric, LineOf(metric.key_lines, metric.line, "name")});
      AddSources({&catalog, &metric, LineOf(metric.key_lines, metric.line, "sources")});
    }
    for (const DeclaredAlert& alert : catalog.alerts) {
      AddOther("alerts.", alert.name, {&catalog, nullptr, alert.line});
    }
    for (const RecordingRule& rule : catalog.recording_rules) {
      AddOther("recording_rules.", rule.record, {&catalog, nullptr, rule.line});
    }
  }

  // A source is claimed by the first glob that takes it, among those of the same type: a glob's own
  // text, taken for a name, fits the globs that take all that it takes.
  void CheckSources() {
    std::vector<GlobTree::Rule> rules;
    for (size_t i = 0; i < sources_.size(); ++i) {
      rules.push_back({sources_[i].glob, MatchedTypeOf(sources_[i].claimant.metric->type),
                       static_cast<uint32_t>(i)});
    }
    const GlobTree tree(rules, /*ordered=*/true);
    for (size_t i = 0; i < sources_.size(); ++i) {
      if (!sources_[i].complain) continue;
      const uint32_t first = tree.Find(sources_[i].glob, SampleOf(rules[i].type));
      if (first < i) ComplainOfSource(sources_[i], sources_[first]);
    }
  }

 private:
  struct Source {
    std::string glob;
    Claimant claimant;
    bool complain = false;
  };

  static SampleType SampleOf(MatchedType type) {
    switch (type) {
      case MatchedType::kGauge:
        return SampleType::kGauge;
      case MatchedType::kObserver:
        return SampleType::kTimer;
      case MatchedType::kAny:
      case MatchedType::kCounter:
        break;
    }
    return SampleType::kCounter;
  }

  void AddNames(const Claimant& claimant) {
    const DeclaredMetric& metric = *claimant.metric;
    AddName(metric.name, claimant);
    switch (metric.type) {
      case DeclaredType::kCounter:
        // The family of the counter in OpenMetrics.
        if (WithoutTotal(metric.name) != metric.name) {
          AddName(WithoutTotal(metric.name), claimant);
        }
        break;
      case DeclaredType::kHistogram:
        AddName(absl::StrCat(metric.name, "_bucket"), claimant);
        [[fallthrough]];
      case DeclaredType::kSummary:
        AddName(absl::StrCat(metric.name, "_sum"), claimant);
        AddName(absl::StrCat(metric.name, "_count"), claimant);
        break;
      case DeclaredType::kGauge:
      case DeclaredType::kSet:
        break;
    }
  }

  void AddName(std::string_view name, const Claimant& claimant) {
    const auto [first, added] = names_.emplace(std::string(name), claimant);
    if (added || !complain_) return;
    const std::string& mine = claimant.metric->name;
    const std::string& theirs = first->second.metric->name;
    // One complaint for a pair of metrics.
    if (name != mine && first->second.metric == last_clash_) return;
    last_clash_ = first->second.metric;
    const std::string key = absl::StrCat("metrics.", mine, ".name");
    complaints_->Add(
        claimant.line, key,
        mine == theirs
            ? absl::StrCat("is declared at ", Shown(first->second), " already; keep one of them")
            : absl::StrCat("clashes with ", theirs, " at ", Shown(first->second), ", as both have ",
                           View(name), "; rename one of them"));
  }

  void AddSources(const Claimant& claimant) {
    for (std::string& source : claimant.metric->SourcesOrName()) {
      if (IsGlob(source)) sources_.push_back({std::move(source), claimant, complain_});
    }
  }

  void ComplainOfSource(const Source& source, const Source& first) {
    // Of equal names it is said already.
    if (source.claimant.metric->name == first.claimant.metric->name &&
        source.claimant.metric != first.claimant.metric) {
      return;
    }
    const std::string key = absl::StrCat("metrics.", source.claimant.metric->name, ".sources");
    const std::string what =
        source.claimant.metric == first.claimant.metric
            ? absl::StrCat(Quoted(source.glob), " is taken by ", Quoted(first.glob),
                           " beside it already; leave it out")
            : absl::StrCat(Quoted(source.glob), " is taken by ", Quoted(first.glob), " of ",
                           first.claimant.metric->name, " at ", Shown(first.claimant),
                           source.glob == first.glob
                               ? " already; a source feeds one metric of each type"
                               : " already; declare the narrower one first");
    complaints_->Add(source.claimant.line, key, what);
  }

  void AddOther(std::string_view kind, const std::string& name, const Claimant& claimant) {
    if (name.empty()) return;
    const std::string key = absl::StrCat(View(kind), name);
    const auto [first, added] = others_.emplace(key, claimant);
    if (added || !complain_) return;
    complaints_->Add(
        claimant.line, key,
        absl::StrCat("is declared at ", Shown(first->second), " already; keep one of them"));
  }

  Complaints* complaints_;
  bool complain_ = false;
  std::map<std::string, Claimant> names_;
  std::map<std::string, Claimant> others_;
  std::vector<Source> sources_;
  const DeclaredMetric* last_clash_ = nullptr;
};

}  // namespace

void CheckBeside(const std::vector<const Catalog*>& before, const Catalog& catalog,
                 Complaints* complaints) {
  Claims claims(complaints);
  for (const Catalog* earlier : before) claims.Add(*earlier, /*complain=*/false);
  claims.Add(catalog, /*complain=*/true);
  claims.CheckSources();
}

}  // namespace tallyd
