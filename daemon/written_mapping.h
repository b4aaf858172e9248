// A mapping file as it is written, before defaults and older keys are settled: what stands between
// the YAML and a MappingConfig. No value means that the key is not there, or null.

#ifndef TALLYD_DAEMON_WRITTEN_MAPPING_H_
#define TALLYD_DAEMON_WRITTEN_MAPPING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/rules/mapping.h"

namespace tallyd {

struct DurationNs {
  int64_t ns = 0;
};

enum class WrittenAction : uint8_t { kMap, kDrop };

struct WrittenSummary {
  std::optional<std::vector<Quantile>> quantiles;
  std::optional<DurationNs> max_age;
  std::optional<uint32_t> age_buckets;
  std::optional<uint32_t> buf_cap;  // has no meaning here
};

struct WrittenHistogram {
  std::optional<std::vector<double>> buckets;
  std::optional<double> native_factor;
  std::optional<uint32_t> native_max_buckets;
};

// What the mappings and the defaults have in common.
struct WrittenObserver {
  std::optional<ObserverType> observer_type;
  std::optional<ObserverType> timer_type;  // legacy, as are the next two
  std::optional<std::vector<double>> buckets;
  std::optional<std::vector<Quantile>> quantiles;
  std::optional<MatchType> match_type;
  std::optional<DurationNs> ttl;
  std::optional<WrittenSummary> summary;
  std::optional<WrittenHistogram> histogram;
};

struct WrittenDefaults : WrittenObserver {
  std::optional<bool> glob_disable_ordering;
};

struct WrittenLabels {
  std::vector<std::pair<std::string, std::string>> labels;
};

struct WrittenRule : WrittenObserver {
  std::optional<std::string> match;
  std::optional<std::string> name;
  WrittenLabels labels;
  std::optional<bool> honor_labels;
  std::optional<MatchedType> matched_type;
  std::optional<WrittenAction> action;
  std::optional<double> scale;
  std::optional<std::string> help;
};

// What is said of the type, by the present key or the older one.
std::optional<ObserverType> TypeOf(const WrittenObserver& written);

// Who gives options of one kind and no type means that kind. (statsd_exporter takes summaries for
// all without a type.)
std::optional<ObserverType> IntendedType(const WrittenObserver& written);

// Sets the options and the ttl of `rule` that are written; others stay as they are. Empty lists and
// zeros are as good as nothing, here as in statsd_exporter.
void ApplyObserver(const WrittenObserver& written, MappingRule* rule);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WRITTEN_MAPPING_H_
