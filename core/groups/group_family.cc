#include "core/groups/group_family.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"
#include "core/rules/sanitize.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

constexpr size_t kHeapBlock = 32;

// A bound or a quantile as Go writes it, so that a histogram keeps its series when its pushes move
// here from a Pushgateway: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
std::string GoFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char text[64];
  const double magnitude = std::fabs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e6);
  const auto format = exponent ? std::chars_format::scientific : std::chars_format::fixed;
  return std::string(text, std::to_chars(text, text + sizeof(text), value, format).ptr);
}

absl::Status Refusal(const std::string& name, absl::string_view labels, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("collected metric \"", name, "\" {", labels, "} ", what));
}

// The group's labels over the metric's own, sorted by name.
absl::StatusOr<PushedLabels> JoinLabels(const std::string& name, PushedLabels labels,
                                        const Grouping& grouping) {
  const auto is_overridden = [&grouping](const auto& label) {
    return grouping.count(label.first) > 0;
  };
  labels.erase(std::remove_if(labels.begin(), labels.end(), is_overridden), labels.end());
  // The group's alone have the bound of whoever named it.
  if (!labels.empty() && labels.size() + grouping.size() > kMaxPushedLabels) {
    return Refusal(name, "",
                   absl::StrCat("has more than ", kMaxPushedLabels, " labels with its group's"));
  }
  labels.insert(labels.end(), grouping.begin(), grouping.end());
  const auto is_instance = [](const auto& label) { return label.first == "instance"; };
  if (std::none_of(labels.begin(), labels.end(), is_instance)) labels.emplace_back("instance", "");
  std::sort(labels.begin(), labels.end());
  const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto twice = std::adjacent_find(labels.begin(), labels.end(), same_name);
  if (twice != labels.end()) {
    return Refusal(name, "",
                   absl::StrCat("has two or more labels with the same name: ", twice->first));
  }
  return labels;
}

absl::StatusOr<std::string> RenderLabels(const std::string& name, FamilyType type,
                                         const PushedLabels& labels) {
  std::string rendered;
  for (const auto& [label, value] : labels) {
    const bool reserved = (type == FamilyType::kSummary && label == "quantile") ||
                          (type == FamilyType::kHistogram && label == "le");
    if (!IsLabelName(label) || label.compare(0, 2, "__") == 0) {
      return Refusal(name, rendered, absl::StrCat("has a label with an invalid name: ", label));
    }
    if (reserved) {
      return Refusal(name, rendered,
                     absl::StrCat("must not have an explicit \"", label, "\" label"));
    }
    if (!IsUtf8(value)) {
      return Refusal(name, rendered,
                     absl::StrCat("has a label named \"", label, "\" whose value is not utf8"));
    }
    if (!rendered.empty()) rendered.push_back(',');
    rendered.append(label).append("=\"");
    AppendEscapedLabelValue(value, &rendered);
    rendered.push_back('"');
  }
  return rendered;
}

// Buckets ascending, each bound once; what the last one at +Inf says is the count.
void Normalize(PushedDistribution* distribution) {
  std::vector<PushedBucket>& buckets = distribution->buckets;
  std::stable_sort(buckets.begin(), buckets.end(),
                   [](const PushedBucket& a, const PushedBucket& b) { return a.bound < b.bound; });
  std::vector<PushedBucket> kept;
  for (const PushedBucket& bucket : buckets) {
    if (!kept.empty() && kept.back().bound == bucket.bound) kept.pop_back();
    kept.push_back(bucket);
  }
  if (!kept.empty() && std::isinf(kept.back().bound) && kept.back().bound > 0) {
    distribution->count = kept.back().cumulative;
    kept.pop_back();
  }
  kept.shrink_to_fit();
  buckets = std::move(kept);
  std::vector<PushedQuantile>& quantiles = distribution->quantiles;
  std::stable_sort(quantiles.begin(), quantiles.end(),
                   [](const auto& a, const auto& b) { return a.quantile < b.quantile; });
  const auto same = [](const auto& a, const auto& b) { return a.quantile == b.quantile; };
  quantiles.erase(std::unique(quantiles.begin(), quantiles.end(), same), quantiles.end());
}

void Measure(GroupFamily* family) {
  constexpr size_t kLineBytes = 48;  // of text, beside name and labels
  family->bytes = sizeof(GroupFamily) + 2 * family->name.size() + 2 * family->help.size();
  for (const GroupSeries& series : family->series) {
    size_t lines = 1;
    // Labels once more in the index of the family.
    family->bytes += sizeof(GroupSeries) + series.labels.capacity() + 2 * kHeapBlock;
    if (series.distribution != nullptr) {
      const PushedDistribution& distribution = *series.distribution;
      lines += distribution.buckets.size() + distribution.quantiles.size() + 2;
      family->bytes += sizeof(PushedDistribution) + kHeapBlock +
                       distribution.buckets.capacity() * sizeof(PushedBucket) +
                       distribution.quantiles.capacity() * sizeof(PushedQuantile);
    }
    family->samples += lines;
    family->bytes += lines * (family->name.size() + series.labels.size() + kLineBytes);
  }
}

absl::Status MakeSeries(const std::string& name, FamilyType type, PushedMetric metric,
                        const Grouping& grouping, GroupSeries* series) {
  if (!metric.is_of_family_type) {
    return Refusal(name, "", absl::StrCat("is not a ", View(PushedTypeName(type))));
  }
  auto labels = JoinLabels(name, std::move(metric.labels), grouping);
  if (!labels.ok()) return labels.status();
  auto rendered = RenderLabels(name, type, *labels);
  if (!rendered.ok()) return rendered.status();
  series->labels = *std::move(rendered);
  series->value = metric.value;
  if (IsDistribution(type)) {
    Normalize(metric.distribution.get());
    series->distribution = std::move(metric.distribution);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const PushedDistribution>> AddUp(const std::string& name,
                                                                const PushedDistribution& earlier,
                                                                const PushedDistribution& later) {
  auto sum = std::make_unique<PushedDistribution>(later);
  const auto same_bound = [](const auto& a, const auto& b) { return a.bound == b.bound; };
  if (!std::equal(earlier.buckets.begin(), earlier.buckets.end(), later.buckets.begin(),
                  later.buckets.end(), same_bound)) {
    return Refusal(name, "",
                   "has other buckets than what was pushed before, so they do not add up");
  }
  for (size_t i = 0; i < sum->buckets.size(); ++i) {
    sum->buckets[i].cumulative += earlier.buckets[i].cumulative;
  }
  sum->count += earlier.count;
  sum->sum += earlier.sum;
  return std::unique_ptr<const PushedDistribution>(std::move(sum));
}

// For the encoders, which take what is between two bounds. Counts that go down wrap round, and so
// come out as they were when they are added up again.
struct HistogramParts {
  explicit HistogramParts(const PushedDistribution& distribution) {
    uint64_t below = 0;
    for (const PushedBucket& bucket : distribution.buckets) {
      bounds.push_back(bucket.bound);
      les.push_back(GoFloat(bucket.bound));
      buckets.push_back(bucket.cumulative - below);
      below = bucket.cumulative;
    }
    buckets.push_back(distribution.count - below);
  }
  std::vector<double> bounds;
  std::vector<std::string> les;
  std::vector<uint64_t> buckets;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const GroupFamily>> MakeGroupFamily(const std::string& name,
                                                                   PushedFamily family,
                                                                   const Grouping& grouping) {
  if (!IsMetricName(name)) {
    return absl::InvalidArgumentError(absl::StrCat("invalid metric name \"", name, "\""));
  }
  if (!IsUtf8(family.help)) return Refusal(name, "", "has a HELP text that is not utf8");
  auto made = std::make_shared<GroupFamily>();
  made->name = name;
  made->help = std::move(family.help);
  made->type = family.type;
  made->series.resize(family.metrics.size());
  absl::flat_hash_set<absl::string_view> seen;
  for (size_t i = 0; i < family.metrics.size(); ++i) {
    GroupSeries* const series = &made->series[i];
    const absl::Status status =
        MakeSeries(name, family.type, std::move(family.metrics[i]), grouping, series);
    if (!status.ok()) return status;
    if (!seen.insert(series->labels).second) {
      return Refusal(name, series->labels,
                     "was collected before with the same name and label values");
    }
  }
  Measure(made.get());
  return made;
}

absl::StatusOr<std::shared_ptr<const GroupFamily>> AddUp(const GroupFamily& earlier,
                                                         const GroupFamily& later) {
  if (earlier.type != later.type) {
    return Refusal(later.name, "", absl::StrCat("is not a ", View(PushedTypeName(earlier.type))));
  }
  absl::flat_hash_map<absl::string_view, const GroupSeries*> before;
  for (const GroupSeries& series : earlier.series) before.emplace(series.labels, &series);
  auto sum = std::make_shared<GroupFamily>();
  sum->name = later.name;
  sum->help = later.help;
  sum->type = later.type;
  const auto add = [&sum](const GroupSeries& series, double value) -> GroupSeries& {
    GroupSeries& added = sum->series.emplace_back();
    added.labels = series.labels;
    added.value = value;
    if (series.distribution != nullptr) {
      added.distribution = std::make_unique<PushedDistribution>(*series.distribution);
    }
    return added;
  };
  for (const GroupSeries& series : later.series) {
    const auto found = before.find(series.labels);
    if (found == before.end()) {
      add(series, series.value);
      continue;
    }
    const GroupSeries& other = *found->second;
    const bool adds = later.type == FamilyType::kCounter;
    GroupSeries& added = add(series, adds ? other.value + series.value : series.value);
    before.erase(found);
    if (series.distribution == nullptr) continue;
    auto both = AddUp(later.name, *other.distribution, *series.distribution);
    if (!both.ok()) return both.status();
    added.distribution = *std::move(both);
  }
  for (const auto& [labels, series] : before) add(*series, series->value);
  Measure(sum.get());
  return sum;
}

size_t ShownFamily::samples() const {
  size_t samples = 0;
  for (const auto& part : parts_) samples += part->samples;
  return samples;
}

PageBuffer ShownFamily::Render(const PageEncoder& encoder, size_t format,
                               bool stem_is_taken) const {
  const std::lock_guard lock(mu_);
  PageBuffer& kept = pages_.at(2 * format + (stem_is_taken ? 1 : 0));
  if (kept != nullptr) return kept;
  std::string page;
  Append(encoder, stem_is_taken, &page);
  if (encoder.frames_families()) encoder.EndFamily(0, 0, &page);
  kept = std::make_shared<const std::string>(std::move(page));
  return kept;
}

void ShownFamily::Append(const PageEncoder& encoder, bool stem_is_taken, std::string* page) const {
  const FamilyView view = {
      .name = name(), .help = parts_.front()->help, .type = type(), .stem_is_taken = stem_is_taken};
  encoder.Family(view, page);
  for (const auto& part : parts_) {
    for (const GroupSeries& series : part->series) RenderSeries(encoder, view, series, page);
  }
}

void ShownFamily::RenderSeries(const PageEncoder& encoder, const FamilyView& view,
                               const GroupSeries& series, std::string* page) const {
  switch (view.type) {
    case FamilyType::kCounter:
      return encoder.Counter(view, series.labels, {.whole = 0, .rest = series.value}, page);
    case FamilyType::kGauge:
    case FamilyType::kUntyped:
      return encoder.Gauge(view, series.labels, series.value, page);
    case FamilyType::kHistogram: {
      const HistogramParts parts(*series.distribution);
      HistogramValue value;
      value.bounds = parts.bounds;
      value.les = parts.les;
      value.buckets = parts.buckets;
      value.sum = series.distribution->sum;
      return encoder.Histogram(view, series.labels, value, page);
    }
    case FamilyType::kSummary: {
      std::vector<std::string> quantiles;
      std::vector<double> ranks;
      std::vector<double> values;
      for (const PushedQuantile& quantile : series.distribution->quantiles) {
        quantiles.push_back(GoFloat(quantile.quantile));
        ranks.push_back(quantile.quantile);
        values.push_back(quantile.value);
      }
      SummaryValue value;
      value.quantiles = quantiles;
      value.ranks = ranks;
      value.values = values;
      value.count = series.distribution->count;
      value.sum = series.distribution->sum;
      return encoder.Summary(view, series.labels, value, page);
    }
  }
}

}  // namespace tallyd
