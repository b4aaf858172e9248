#include "bench/load/catalog.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace tallyd::bench {
namespace {

constexpr std::array<absl::string_view, 8> kServices = {
    "checkout", "catalog", "payments", "search", "accounts", "shipping", "frontend", "basket"};
constexpr std::array<absl::string_view, 6> kParts = {"database", "cache",  "http",
                                                     "queue",    "worker", "session"};
constexpr std::array<absl::string_view, 6> kMeasures = {"requests", "errors", "duration",
                                                        "bytes",    "depth",  "active"};
constexpr uint32_t kWordings = kServices.size() * kParts.size() * kMeasures.size();

// All tags but the last take their values from lists as short as this; the last tells the rest
// of the series apart.
struct TagWords {
  absl::string_view key;
  std::array<absl::string_view, 4> values;
};
constexpr std::array<TagWords, 3> kTagWords = {{
    {"env", {"prod", "staging", "canary", "dev"}},
    {"region", {"eu-west-1", "us-east-1", "ap-south-1", "eu-north-1"}},
    {"version", {"v1", "v2", "v3", "v4"}},
}};
constexpr uint32_t kValuesPerTag = 4;

uint32_t ValueDigit(uint32_t number, uint32_t tag) {
  return tag < 16 ? number >> (2 * tag) & (kValuesPerTag - 1) : 0;
}

}  // namespace

Catalog::Catalog(const Workload& w)
    : series_(w.series), tags_(w.tags), names_(std::min(w.names, w.series)), prefix_(w.prefix) {
  const uint64_t all = std::accumulate(w.mix.begin(), w.mix.end(), uint64_t{0});
  uint64_t sum = 0;
  for (int i = 0; i < kKinds; ++i) {
    sum += w.mix[i];
    share_ends_[i] = (sum << 32) / all;
  }
}

uint32_t Catalog::NameNumber(uint32_t series) const {
  const uint32_t number = series % series_;
  return tags_ == 0 ? number : number % names_;
}

Kind Catalog::KindOf(uint32_t series) const {
  // Multiples of the golden section are spread evenly over the circle, so that few names already
  // have nearly the shares asked for.
  const uint32_t place = NameNumber(series) * 2'654'435'769u;
  const auto kind = std::upper_bound(share_ends_.begin(), share_ends_.end(), uint64_t{place});
  return static_cast<Kind>(kind - share_ends_.begin());
}

void Catalog::AppendName(uint32_t series, std::string* out) const {
  const uint32_t name = NameNumber(series);
  const uint32_t part = name / kServices.size();
  absl::StrAppend(out, prefix_, ".", kServices[name % kServices.size()], ".",
                  kParts[part % kParts.size()], ".",
                  kMeasures[part / kParts.size() % kMeasures.size()]);
  if (tags_ == 0 || name >= kWordings) absl::StrAppend(out, ".web", name);
  if (tags_ == 0 && series >= series_) absl::StrAppend(out, ".g", series / series_);
}

std::string Catalog::TagKey(uint32_t tag) const {
  if (tag + 1 == tags_) return "host";
  return tag < kTagWords.size() ? std::string(kTagWords[tag].key) : absl::StrCat("tag", tag);
}

void Catalog::AppendTagValue(uint32_t series, uint32_t tag, std::string* out) const {
  const uint32_t number = series % series_ / names_;
  if (tag + 1 < tags_) {
    const uint32_t digit = ValueDigit(number, tag);
    if (tag < kTagWords.size()) {
      absl::StrAppend(out, kTagWords[tag].values[digit]);
    } else {
      absl::StrAppend(out, "value-", digit);
    }
    return;
  }
  const uint32_t rest = tag < 16 ? number >> (2 * tag) : 0;
  absl::StrAppend(out, "web-", absl::Dec(rest, absl::kZeroPad5));
  if (series >= series_) absl::StrAppend(out, "-g", series / series_);
}

void Catalog::AppendTags(uint32_t series, std::string* out) const {
  for (uint32_t tag = 0; tag < tags_; ++tag) {
    absl::StrAppend(out, tag == 0 ? "" : ",", TagKey(tag), ":");
    AppendTagValue(series, tag, out);
  }
}

std::string Catalog::Exposed(uint32_t series) const {
  std::string name;
  AppendName(series, &name);
  std::replace(name.begin(), name.end(), '.', '_');
  if (tags_ == 0) return name;
  std::vector<std::pair<std::string, std::string>> labels;
  for (uint32_t tag = 0; tag < tags_; ++tag) {
    labels.emplace_back(TagKey(tag), "");
    AppendTagValue(series, tag, &labels.back().second);
  }
  std::sort(labels.begin(), labels.end());
  const auto text = [](std::string* out, const std::pair<std::string, std::string>& label) {
    absl::StrAppend(out, label.first, "=\"", label.second, "\"");
  };
  return absl::StrCat(name, "{", absl::StrJoin(labels, ",", text), "}");
}

}  // namespace tallyd::bench
