#include "daemon/push/job_groups.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

constexpr std::string_view kJob = "job=\"";
constexpr std::string_view kInstance = "instance=\"";

// `a="b"`, one for each label, in the order in which they stand: by name.
std::vector<std::string_view> Split(std::string_view rest) {
  std::vector<std::string_view> split;
  while (!rest.empty()) {
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos) break;
    size_t end = equals + 2;
    while (end < rest.size() && rest[end] != '"') end += rest[end] == '\\' ? 2 : 1;
    end = std::min(end + 1, rest.size());
    split.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return split;
}

// What groups are looked up by: enough that few have it in common.
template <typename Labels>
std::string NameOf(const Labels& labels, bool with_instance) {
  std::string name;
  for (const std::string_view label : labels) {
    if (label.starts_with(kJob)) name.append(label);
  }
  for (const std::string_view label : labels) {
    if (with_instance && label.starts_with(kInstance)) name.append(",").append(label);
  }
  return name;
}

}  // namespace

GroupingKey KeyOfJob(const Grouping& labels) {
  GroupingKey key;
  for (const auto& [name, value] : labels) {
    if (name == "job") {
      key.job = value;
    } else {
      key.labels.emplace_back(name, value);
    }
  }
  return key;
}

JobGroupIndex::JobGroupIndex(const std::vector<Grouping>& groups) {
  for (const Grouping& group : groups) {
    std::vector<std::string> labels;
    for (const auto& [name, value] : group) {
      std::string label = absl::StrCat(name, "=\"");
      AppendEscapedLabelValue(value, &label);
      labels.push_back(label + "\"");
    }
    std::sort(labels.begin(), labels.end());
    by_name_[NameOf(labels, true)].push_back(static_cast<int>(groups_.size()));
    groups_.push_back(std::move(labels));
  }
}

int JobGroupIndex::Find(std::string_view labels) const {
  // Most series are nobody's.
  if (groups_.empty() || labels.find(kJob) == std::string_view::npos) return kNobodys;
  std::vector<std::string_view> split = Split(labels);
  std::sort(split.begin(), split.end());
  int best = kNobodys;
  size_t most = 0;
  for (const bool with_instance : {true, false}) {
    const auto found = by_name_.find(NameOf(split, with_instance));
    if (found == by_name_.end()) continue;
    for (const int place : found->second) {
      const auto& group = groups_[static_cast<size_t>(place)];
      if (group.size() <= most) continue;
      if (!std::includes(split.begin(), split.end(), group.begin(), group.end())) continue;
      best = place;
      most = group.size();
    }
  }
  return best;
}

JobGroupEncoder::JobGroupEncoder(std::shared_ptr<const JobGroupIndex> index)
    : index_(std::move(index)),
      text_(TextFormat::kPrometheus004, ContentCoding::kIdentity),
      groups_(index_->size()) {}

std::string* JobGroupEncoder::TextOf(const FamilyView& family, std::string_view labels) const {
  const int place = index_->Find(labels);
  if (place == JobGroupIndex::kNobodys) return nullptr;
  std::vector<FamilyText>& families = groups_[static_cast<size_t>(place)];
  if (families.empty() || families.back().name != family.name) {
    families.push_back({.name = std::string(family.name), .text = {}});
    text_.Family(family, &families.back().text);
  }
  ++families.back().series;
  return &families.back().text;
}

void JobGroupEncoder::Counter(const FamilyView& family, std::string_view labels,
                              const CounterValue& value, std::string*) const {
  if (std::string* const text = TextOf(family, labels)) text_.Counter(family, labels, value, text);
}

void JobGroupEncoder::Gauge(const FamilyView& family, std::string_view labels, double value,
                            std::string*) const {
  if (std::string* const text = TextOf(family, labels)) text_.Gauge(family, labels, value, text);
}

void JobGroupEncoder::Histogram(const FamilyView& family, std::string_view labels,
                                const HistogramValue& value, std::string*) const {
  if (std::string* const text = TextOf(family, labels)) {
    text_.Histogram(family, labels, value, text);
  }
}

void JobGroupEncoder::Summary(const FamilyView& family, std::string_view labels,
                              const SummaryValue& value, std::string*) const {
  if (std::string* const text = TextOf(family, labels)) text_.Summary(family, labels, value, text);
}

}  // namespace tallyd
