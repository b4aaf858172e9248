#include "core/groups/group_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/expose/text.h"
#include "core/merge/family_names.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

constexpr char kPushTime[] = "push_time_seconds";
constexpr char kFailureTime[] = "push_failure_time_seconds";
constexpr std::array<std::string_view, 3> kSampleSuffixes = {"_count", "_sum", "_bucket"};
// Pages smaller than this are compressed together.
constexpr size_t kGzipUnit = size_t{64} << 10;

// Of "a_sum": "a"; empty if it ends otherwise.
std::string_view StemOf(std::string_view name, std::string_view* suffix) {
  for (const std::string_view end : kSampleSuffixes) {
    if (name.size() > end.size() && name.substr(name.size() - end.size()) == end) {
      *suffix = end;
      return name.substr(0, name.size() - end.size());
    }
  }
  return {};
}

// A summary has no buckets.
bool HasSamplesOf(FamilyType type, std::string_view suffix) {
  return type == FamilyType::kHistogram || (type == FamilyType::kSummary && suffix != "_bucket");
}

std::string KeyOf(GroupOwner owner, const Grouping& grouping) {
  std::string key(1, static_cast<char>('0' + static_cast<int>(owner)));
  for (const auto& [name, value] : grouping) {
    absl::StrAppend(&key, name, "=", value.size(), ":", value, ",");
  }
  return key;
}

// Of text that each series of the group has at least.
size_t LeastTextBytes(const Grouping& grouping) {
  size_t bytes = 0;
  for (const auto& [name, value] : grouping) bytes += name.size() + value.size();
  return bytes;
}

absl::Status NoRoom(const GroupLimits& limits) {
  return absl::ResourceExhaustedError(
      absl::StrCat("there is no room for more pushed series (at most ", limits.series, ")"));
}

bool IsOurOwn(std::string_view name) {
  return absl::StartsWith(View(name), "tallyd_") || absl::StartsWith(View(name), "process_");
}

std::shared_ptr<const GroupFamily> TimeFamily(const char* name, const char* help, double seconds,
                                              const Grouping& grouping) {
  PushedFamily family;
  family.help = help;
  family.type = FamilyType::kGauge;
  family.metrics.emplace_back().value = seconds;
  // Of labels that were checked.
  return *MakeGroupFamily(name, std::move(family), grouping);
}

bool IsHidden(const ShownFamily& family, const FamilyTypes* aggregates) {
  return aggregates != nullptr && ClashesWithAggregates(family.name(), family.type(), *aggregates);
}

// Whether a family of the aggregates or of the groups is called as a counter is without "_total".
bool StemIsTaken(const ShownFamily& family, const GroupsView& view, const FamilyTypes* aggregates) {
  const std::string stem(StemBefore(family.name(), kTotalSuffix));
  if (family.type() != FamilyType::kCounter || stem.empty()) return false;
  const auto before = [](const auto& a, const std::string& b) { return a->name() < b; };
  const auto found = std::lower_bound(view.families.begin(), view.families.end(), stem, before);
  if (found != view.families.end() && (*found)->name() == stem) return true;
  SeriesKind kind;
  return aggregates != nullptr && aggregates->Lookup(stem, &kind);
}

}  // namespace

bool ClashesWithAggregates(std::string_view name, FamilyType type, const FamilyTypes& aggregates) {
  SeriesKind kind;
  if (aggregates.Lookup(name, &kind)) return true;
  std::string_view suffix;
  const std::string_view stem = StemOf(name, &suffix);
  if (!stem.empty() && aggregates.Lookup(stem, &kind) && IsObserver(kind)) return true;
  const std::string text(name);
  if (IsDistribution(type)) {
    for (const std::string_view end : kSampleSuffixes) {
      if (aggregates.Lookup(text + std::string(end), &kind)) return true;
    }
  }
  // OpenMetrics calls that counter by this name.
  return aggregates.Lookup(text + "_total", &kind) && kind == SeriesKind::kCounter;
}

const DeclaredFamily* ClashesWithCatalog(std::string_view name, FamilyType type,
                                         const CatalogIndex& catalog) {
  if (const DeclaredFamily* const same = catalog.Find(name)) return same;
  if (const DeclaredFamily* const owner = catalog.OwnerOfSample(name)) return owner;
  const std::string text(name);
  if (IsDistribution(type)) {
    for (const std::string_view end : kSampleSuffixes) {
      if (const auto* const sample = catalog.Find(text + std::string(end))) return sample;
    }
  }
  // OpenMetrics calls that counter by this name.
  const DeclaredFamily* const total = catalog.Find(text + "_total");
  const bool counts = total != nullptr && total->metric->type == DeclaredType::kCounter;
  return counts ? total : nullptr;
}

void GroupsView::Append(const PageEncoder& encoder, const FamilyTypes* aggregates,
                        std::string* page) const {
  for (const auto& family : families) {
    if (IsHidden(*family, aggregates)) continue;
    family->Append(encoder, StemIsTaken(*family, *this, aggregates), page);
  }
}

size_t GroupsView::AppendPages(const PageEncoder& encoder, size_t format, bool gzip,
                               const FamilyTypes* aggregates,
                               std::vector<PageBuffer>* pages) const {
  size_t left_out = declared_families;
  std::string small;
  const auto flush = [&] {
    if (small.empty()) return;
    pages->push_back(std::make_shared<const std::string>(GzipMember(small)));
    small.clear();
  };
  for (const auto& family : families) {
    if (IsHidden(*family, aggregates)) {
      ++left_out;
      continue;
    }
    PageBuffer page = family->Render(encoder, format, StemIsTaken(*family, *this, aggregates));
    if (!gzip) {
      pages->push_back(std::move(page));
      continue;
    }
    small += *page;
    if (small.size() >= kGzipUnit) flush();
  }
  flush();
  return left_out;
}

GroupStore::GroupStore(const GroupLimits& limits, const FamilyTypes* aggregates)
    : limits_(limits), aggregates_(aggregates), view_(std::make_shared<const GroupsView>()) {}

GroupStore::~GroupStore() = default;

std::shared_ptr<const GroupsView> GroupStore::view() const {
  const std::lock_guard lock(mu_);
  return view_;
}

absl::Status GroupStore::Apply(Push push) {
  const std::string key = KeyOf(push.owner, push.grouping);
  const auto found = groups_.find(key);
  Group* group = found == groups_.end() ? nullptr : found->second.get();
  absl::StatusOr<Families> families = Check(&push, group);
  if (!families.ok()) {
    if (families.status().code() == absl::StatusCode::kInvalidArgument) NoteFailure(key, push);
    return families.status();
  }
  if (push.owner == GroupOwner::kPusher) {
    const double failure_time = group == nullptr ? 0 : group->failure_time;
    AddTimes(push.grouping, push.unix_seconds, failure_time, &*families);
  }
  absl::Status room = CheckRoom(*families, group, push.mode);
  if (!room.ok()) return room;

  group = FindOrMake(key, push.grouping);
  if (push.mode == PushMode::kReplaceGroup) Clear(group);
  group->push_time = push.unix_seconds;
  group->expires_ns = push.ttl_ns == 0 ? 0 : push.now_ns + push.ttl_ns;
  for (const auto& [name, family] : *families) Put(group, family);
  Publish();
  return absl::OkStatus();
}

// Makes families of what was pushed, and sees that they go together with all that will be there.
absl::StatusOr<GroupStore::Families> GroupStore::Check(Push* push, const Group* group) const {
  Families families;
  for (auto& [name, family] : push->families) {
    for (const PushedMetric& metric : family.metrics) {
      if (metric.has_timestamp) {
        return absl::InvalidArgumentError("pushed metrics must not have timestamps");
      }
    }
  }
  const size_t series_bytes = std::max<size_t>(1, LeastTextBytes(push->grouping));
  size_t room = limits_.bytes;
  for (auto& [name, family] : push->families) {
    if (push->owner == GroupOwner::kPusher && (name == kPushTime || name == kFailureTime)) continue;
    if (push->owner == GroupOwner::kPusher && IsOurOwn(name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "metric name \"", name, "\" is reserved: tallyd_ and process_ are its own metrics"));
    }
    // The group's labels stand in every series: a short push to a long path can be too much, which
    // is known before it takes the memory.
    if (family.metrics.size() > room / series_bytes) return NoRoom(limits_);
    room -= family.metrics.size() * series_bytes;
    auto made = MakeGroupFamily(name, std::move(family), push->grouping);
    if (!made.ok()) return made.status();
    if (push->mode == PushMode::kAdd && group != nullptr) {
      const auto earlier = group->families.find(name);
      if (earlier != group->families.end()) made = AddUp(*earlier->second, **made);
      if (!made.ok()) return made.status();
    }
    families.emplace(name, *std::move(made));
  }
  for (const auto& [name, family] : families) {
    const absl::Status status = CheckFamily(*family, families, group, push->mode);
    if (!status.ok()) return status;
  }
  return families;
}

absl::Status GroupStore::CheckFamily(const GroupFamily& family, const Families& families,
                                     const Group* group, PushMode mode) const {
  if (aggregates_ != nullptr && ClashesWithAggregates(family.name, family.type, *aggregates_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("metric name \"", family.name, "\" belongs to what tallyd aggregates itself"));
  }
  const DeclaredFamily* const declared =
      catalog_ == nullptr ? nullptr : ClashesWithCatalog(family.name, family.type, *catalog_);
  if (declared != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("metric name \"", family.name, "\" belongs to ", declared->metric->name,
                     ", which the catalog of ", declared->catalog->service, " declares"));
  }
  const auto found = index_.find(family.name);
  if (found != index_.end()) {
    const Index& index = found->second;
    const bool elsewhere = index.parts.size() > (index.parts.count(group) > 0 ? 1u : 0u);
    if (elsewhere && index.type != family.type) {
      return absl::InvalidArgumentError(absl::StrCat(
          "collected metric \"", family.name, "\" is not a ", View(PushedTypeName(index.type))));
    }
    for (const GroupSeries& series : family.series) {
      const auto same = index.series.find(series.labels);
      if (same == index.series.end() || same->second == group) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("collected metric \"", family.name, "\" {", series.labels,
                       "} was collected before with the same name and label values"));
    }
  }
  return CheckSuffixes(family, families, group, mode);
}

// Type of the family that will have this name once the push is in; false if there is none.
bool GroupStore::TypeAfter(const std::string& name, const Families& families, const Group* group,
                           PushMode mode, FamilyType* type) const {
  const auto pushed = families.find(name);
  if (pushed != families.end()) {
    *type = pushed->second->type;
    return true;
  }
  const auto found = index_.find(name);
  if (found == index_.end()) return false;
  const bool goes = mode == PushMode::kReplaceGroup && found->second.parts.count(group) > 0;
  *type = found->second.type;
  return found->second.parts.size() > (goes ? 1u : 0u);
}

// The samples of histograms and summaries have names of their own.
absl::Status GroupStore::CheckSuffixes(const GroupFamily& family, const Families& families,
                                       const Group* group, PushMode mode) const {
  const auto refuse = [&family](const std::string& other) {
    return absl::InvalidArgumentError(absl::StrCat("collected metric named \"", family.name,
                                                   "\" collides with previously collected metric "
                                                   "named \"",
                                                   other, "\""));
  };
  FamilyType type = FamilyType::kUntyped;
  std::string_view suffix;
  const std::string stem(StemOf(family.name, &suffix));
  if (!stem.empty() && TypeAfter(stem, families, group, mode, &type) &&
      HasSamplesOf(type, suffix)) {
    return refuse(stem);
  }
  for (const std::string_view end : kSampleSuffixes) {
    const std::string sample = family.name + std::string(end);
    if (HasSamplesOf(family.type, end) && TypeAfter(sample, families, group, mode, &type)) {
      return refuse(sample);
    }
  }
  return absl::OkStatus();
}

absl::Status GroupStore::CheckRoom(const Families& families, const Group* group,
                                   PushMode mode) const {
  if (group == nullptr && groups_.size() >= limits_.groups) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", limits_.groups, " groups already"));
  }
  size_t samples = group == nullptr ? 0 : group->samples;
  size_t bytes = group == nullptr ? 0 : group->bytes;
  const size_t others = samples_ - samples;
  const size_t others_bytes = bytes_ - bytes;
  if (mode == PushMode::kReplaceGroup) samples = bytes = 0;
  for (const auto& [name, family] : families) {
    if (group != nullptr && mode != PushMode::kReplaceGroup) {
      const auto former = group->families.find(name);
      if (former != group->families.end()) {
        samples -= former->second->samples;
        bytes -= former->second->bytes;
      }
    }
    samples += family->samples;
    bytes += family->bytes;
  }
  if (samples > limits_.group_series) {
    return absl::ResourceExhaustedError(absl::StrCat("the group would have ", samples,
                                                     " series; at most ", limits_.group_series,
                                                     " are allowed"));
  }
  if (others + samples > limits_.series || others_bytes + bytes > limits_.bytes) {
    return NoRoom(limits_);
  }
  return absl::OkStatus();
}

void GroupStore::NoteFailure(const std::string& key, const Push& push) {
  if (push.owner != GroupOwner::kPusher) return;
  if (groups_.count(key) == 0 && groups_.size() >= limits_.groups) return;
  Group* const group = FindOrMake(key, push.grouping);
  // A group that never had a push goes like one that had.
  if (group->push_time == 0 && push.ttl_ns != 0) group->expires_ns = push.now_ns + push.ttl_ns;
  group->failure_time = push.unix_seconds;
  Families times;
  AddTimes(group->grouping, group->push_time, group->failure_time, &times);
  for (const auto& [name, family] : times) Put(group, family);
  Publish();
}

void GroupStore::AddTimes(const Grouping& grouping, double push_time, double failure_time,
                          Families* families) {
  (*families)[kPushTime] =
      TimeFamily(kPushTime, "When this group was last pushed, in Unix time; 0 for never.",
                 push_time, grouping);
  (*families)[kFailureTime] = TimeFamily(
      kFailureTime,
      "When a push to this group was last refused as inconsistent, in Unix time; 0 for never.",
      failure_time, grouping);
}

GroupStore::Group* GroupStore::FindOrMake(const std::string& key, const Grouping& grouping) {
  std::unique_ptr<Group>& group = groups_[key];
  if (group == nullptr) {
    group = std::make_unique<Group>();
    group->grouping = grouping;
  }
  return group.get();
}

void GroupStore::Put(Group* group, const FamilyPtr& family) {
  Remove(group, family->name);
  if (family->series.empty()) return;
  group->families[family->name] = family;
  group->samples += family->samples;
  group->bytes += family->bytes;
  samples_ += family->samples;
  bytes_ += family->bytes;
  Index& index = index_[family->name];
  index.type = family->type;
  index.parts[group] = family;
  index.shown = nullptr;
  for (const GroupSeries& series : family->series) index.series.emplace(series.labels, group);
}

void GroupStore::Remove(Group* group, const std::string& name) {
  const auto node = group->families.extract(name);
  if (node.empty()) return;
  const FamilyPtr& family = node.mapped();
  group->samples -= family->samples;
  group->bytes -= family->bytes;
  samples_ -= family->samples;
  bytes_ -= family->bytes;
  const auto found = index_.find(name);
  Index& index = found->second;
  for (const GroupSeries& series : family->series) index.series.erase(series.labels);
  index.parts.erase(group);
  index.shown = nullptr;
  if (index.parts.empty()) index_.erase(found);
}

void GroupStore::Clear(Group* group) {
  while (!group->families.empty()) Remove(group, std::string(group->families.begin()->first));
}

void GroupStore::Delete(GroupOwner owner, const Grouping& grouping) {
  const auto found = groups_.find(KeyOf(owner, grouping));
  if (found == groups_.end()) return;
  Clear(found->second.get());
  groups_.erase(found);
  Publish();
}

std::map<std::string, std::string> GroupStore::TextOf(GroupOwner owner,
                                                      const Grouping& grouping) const {
  std::map<std::string, std::string> texts;
  const auto found = groups_.find(KeyOf(owner, grouping));
  if (found == groups_.end()) return texts;
  const TextEncoder encoder(TextFormat::kPrometheus004, ContentCoding::kIdentity);
  for (const auto& [name, family] : found->second->families) {
    texts[name] = *ShownFamily({family}).Render(encoder, 0, false);
  }
  return texts;
}

size_t GroupStore::Expire(int64_t now_ns) {
  size_t expired = 0;
  for (auto group = groups_.begin(); group != groups_.end();) {
    if (group->second->expires_ns == 0 || group->second->expires_ns > now_ns) {
      ++group;
      continue;
    }
    Clear(group->second.get());
    group = groups_.erase(group);
    ++expired;
  }
  if (expired > 0) Publish();
  return expired;
}

void GroupStore::SetCatalog(std::shared_ptr<const CatalogIndex> catalog) {
  catalog_ = std::move(catalog);
  Publish();
}

void GroupStore::Publish() {
  auto view = std::make_shared<GroupsView>();
  for (auto& [name, index] : index_) {
    if (catalog_ != nullptr && ClashesWithCatalog(name, index.type, *catalog_) != nullptr) {
      ++view->declared_families;
      continue;
    }
    if (index.shown == nullptr) {
      std::vector<FamilyPtr> parts;
      for (const auto& [group, part] : index.parts) parts.push_back(part);
      index.shown = std::make_shared<const ShownFamily>(std::move(parts));
    }
    view->families.push_back(index.shown);
  }
  view->groups = groups_.size();
  view->samples = samples_;
  view->bytes = bytes_;
  const std::lock_guard lock(mu_);
  view_ = std::move(view);
}

}  // namespace tallyd
