#include "daemon/check_config.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "core/rules/mapping.h"
#include "core/shard/shard.h"
#include "daemon/descriptor_limit.h"
#include "daemon/memory_bound.h"
#include "daemon/rule_files.h"

namespace tallyd {
namespace {

// Lines of a name and a value, under headings.
class Report {
 public:
  void Heading(const std::string& text) {
    absl::StrAppend(&text_, text_.empty() ? "" : "\n", text, ":\n");
  }
  void Line(const std::string& name, const std::string& value) {
    absl::StrAppend(&text_, absl::StrFormat("  %-26s %s\n", name, value));
  }
  void AtMost(const std::string& name, uint64_t number, const std::string& unit) {
    Line(name, absl::StrCat("at most ", number, unit.empty() ? "" : " ", unit));
  }
  void Memory(const std::string& name, uint64_t bytes) { Line(name, InBytes(bytes)); }
  void Memories(const std::string& name, uint64_t first, uint64_t second) {
    Line(name, absl::StrCat(InBytes(first), "  ", InBytes(second)));
  }
  std::string Take() { return std::move(text_); }

 private:
  static std::string InBytes(uint64_t bytes) {
    return absl::StrFormat("%15d bytes %12.1f MiB", bytes,
                           static_cast<double>(bytes) / (uint64_t{1} << 20));
  }

  std::string text_;
};

std::string Joined(const std::vector<std::string>& list) {
  return list.empty() ? "off" : absl::StrJoin(list, ", ");
}

std::string Joined(const std::vector<ListenAddress>& list) {
  std::vector<std::string> texts;
  for (const ListenAddress& address : list) {
    std::vector<std::string> options;
    if (address.dialect == Dialect::kDogstatsd) options.emplace_back("dogstatsd");
    if (!address.allow_uids.empty()) {
      options.push_back(absl::StrCat("uids ", absl::StrJoin(address.allow_uids, " ")));
    }
    std::string& text = texts.emplace_back(address.address);
    if (!options.empty()) absl::StrAppend(&text, " (", absl::StrJoin(options, ", "), ")");
  }
  return Joined(texts);
}

std::string TagsRead(const TagDialects& tags) {
  std::vector<std::string> read;
  if (tags.dogstatsd) read.emplace_back("dogstatsd");
  if (tags.influxdb) read.emplace_back("influxdb");
  if (tags.librato) read.emplace_back("librato");
  if (tags.signalfx) read.emplace_back("signalfx");
  return Joined(read);
}

void DescribeListening(const Options& options, Report* report) {
  report->Heading("Listening");
  report->Line("udp", Joined(options.udp));
  report->Line("tcp", Joined(options.tcp));
  report->Line("unixgram", Joined(options.unixgram));
  report->Line("unixstream", Joined(options.unixstream));
  report->Line("unixseqpacket", Joined(options.unixseqpacket));
  report->Line("http", Joined(options.web));
  report->Line("pushes", Joined(options.push));
  report->Line("relay", options.relay_address.empty() ? "off" : options.relay_address);
  report->Line("tags", TagsRead(options.tags));
}

void DescribeMapping(const Options& options, const Mapping* mapping, Report* report) {
  report->Heading("Mapping");
  report->Line("file", mapping == nullptr ? "none" : options.mapping_config);
  if (mapping == nullptr) return;
  const MappingConfig& config = mapping->config();
  const auto globs =
      std::count_if(config.rules.begin(), config.rules.end(),
                    [](const MappingRule& rule) { return rule.match_type == MatchType::kGlob; });
  report->Line("rules", absl::StrCat(config.rules.size(), " (", globs, " glob, ",
                                     config.rules.size() - static_cast<size_t>(globs), " regex)"));
  report->Line("glob order", config.glob_disable_ordering ? "by literals" : "as in the file");
  report->Line("warnings", absl::StrCat(config.warnings.size()));
}

size_t Added(size_t a, size_t b) { return b > SIZE_MAX - a ? SIZE_MAX : a + b; }

std::string SeriesText(size_t series) {
  return series == SIZE_MAX ? "beyond counting" : absl::StrCat(series);
}

void DescribeCatalog(const CatalogIndex& catalogs, Report* report) {
  for (const Catalog& catalog : catalogs.catalogs()) {
    size_t from_start = 0;
    size_t most = 0;
    for (const DeclaredMetric& metric : catalog.metrics) {
      from_start = Added(from_start, metric.EnumerableSeries());
      most = Added(most, metric.MaxSeries());
    }
    report->Heading(absl::StrCat("Catalog ", catalog.file));
    report->Line("service", catalog.service);
    report->Line("mode", std::string(Name(catalog.mode)));
    report->Line("metrics", absl::StrCat(catalog.metrics.size()));
    report->Line("series from the start", SeriesText(from_start));
    report->Line("series inside all bounds", absl::StrCat("at most ", SeriesText(most)));
    report->Line("alerts", absl::StrCat(catalog.alerts.size()));
  }
}

void DescribeLimits(const Options& options, int connections, Report* report) {
  report->Heading("Limits");
  report->Line("shards", absl::StrCat(options.ShardCount()));
  const SeriesBudget::Limits budget = options.SeriesLimits();
  report->AtMost("series", budget.series, "");
  report->AtMost("series of a family", budget.family_series, "where no catalog has another bound");
  report->AtMost("series of a sender", budget.sender_series, "in each shard");
  report->AtMost("labels of all series", budget.label_bytes, "bytes");
  report->AtMost("keys", options.KeyLimit(), "in each shard");
  report->Line("series ttl", options.series_ttl == absl::ZeroDuration()
                                 ? "never"
                                 : absl::FormatDuration(options.series_ttl));
  report->AtMost("line", options.max_line_bytes, "bytes");
  report->AtMost("name", options.key_limits.name_bytes, "bytes");
  report->AtMost("tags of a line", options.key_limits.tags, "");
  report->AtMost("labels of a line", options.key_limits.label_bytes, "bytes");
  report->AtMost("key memory", ShardOptions{}.max_key_bytes, "bytes in each shard");
  report->AtMost("stream frame", kMaxStreamFrameBytes, "bytes");
  report->Line("begun frame or line",
               absl::StrCat("at most ", absl::FormatDuration(options.idle_timeout)));
  report->AtMost("connections of senders", static_cast<uint64_t>(connections), "");
  report->Line("receive buffer",
               absl::StrCat(options.ReadBufferBytes(), " bytes asked for each UDP socket"));
  report->AtMost("http requests", static_cast<uint64_t>(options.web_max_requests), "at a time");
  report->Line("merge interval", absl::FormatDuration(options.merge_interval));
  if (!options.push.empty()) {
    report->AtMost("body of a push", options.push_max_body_bytes, "bytes");
    report->AtMost("pushed groups", options.push_max_groups, "");
    report->AtMost("series of a group", options.push_max_group_series, "");
    report->AtMost("pushed series", options.push_max_series, "");
    report->Line("group ttl", options.push_group_ttl == absl::ZeroDuration()
                                  ? "never"
                                  : absl::FormatDuration(options.push_group_ttl));
  }
  if (options.relay_address.empty()) return;
  report->AtMost("relay packet", options.relay_packet_bytes, "bytes");
}

void DescribePushes(const Options& options, Report* report) {
  if (options.pushgateways.empty() && options.remote_writes.empty()) return;
  report->Heading("Pushing");
  for (const PushgatewayOptions& target : options.pushgateways) {
    report->Line("pushgateway",
                 absl::StrCat(target.name, ", every ", absl::FormatDuration(target.interval)));
  }
  for (const RemoteWriteOptions& target : options.remote_writes) {
    std::vector<std::string> labels;
    for (const auto& [name, value] : target.sender.external_labels) {
      if (!value.empty()) labels.push_back(absl::StrCat(name, "=", value));
    }
    report->Line(
        "remote write",
        absl::StrCat(target.name, ", every ", absl::FormatDuration(target.sender.interval),
                     ", with ", labels.empty() ? "no labels" : absl::StrJoin(labels, " ")));
  }
}

struct NamedKind {
  const char* name;
  BoundKind kind;
};

// What the files say.
struct Sources {
  const Mapping* mapping = nullptr;
  const CatalogIndex* catalog = nullptr;
};

// All rules that say how series are kept, in no order that matters.
std::vector<const MappingRule*> KeepingRules(const Sources& sources) {
  std::vector<const MappingRule*> rules;
  if (sources.mapping != nullptr) {
    rules.push_back(&sources.mapping->config().defaults);
    for (const MappingRule& rule : sources.mapping->config().rules) rules.push_back(&rule);
  }
  if (sources.catalog != nullptr) {
    for (const auto& family : sources.catalog->families()) rules.push_back(&family->rule);
  }
  return rules;
}

// Summaries there are only if rules ask for them.
std::vector<NamedKind> KindsFor(const Sources& sources) {
  std::vector<NamedKind> kinds = {{"counters", BoundKind::kCounters},
                                  {"gauges", BoundKind::kGauges},
                                  {"sets", BoundKind::kSets},
                                  {"histograms", BoundKind::kHistograms}};
  const std::vector<const MappingRule*> rules = KeepingRules(sources);
  if (std::any_of(rules.begin(), rules.end(), [](const MappingRule* rule) {
        return rule->observer_type == ObserverType::kSummary;
      })) {
    kinds.push_back({"summaries", BoundKind::kSummaries});
  }
  return kinds;
}

// The largest that any rule asks for.
SeriesShape ShapeFor(const Sources& sources, uint64_t bytes) {
  SeriesShape shape;
  if (sources.mapping != nullptr || sources.catalog != nullptr) shape.mapping_bytes = bytes;
  for (const MappingRule* rule : KeepingRules(sources)) {
    shape.histogram_bounds = std::max(shape.histogram_bounds, rule->histogram.buckets.size());
    shape.summary_quantiles = std::max(shape.summary_quantiles, rule->summary.quantiles.size());
    shape.summary_ages =
        std::max(shape.summary_ages, static_cast<size_t>(std::max(0, rule->summary.age_buckets)));
  }
  return shape;
}

// What memory comes to for series of one shape.
class MemoryOf {
 public:
  MemoryOf(const Options& options, int connections, const SeriesShape& shape)
      : parts_(BoundMemory(options, connections, shape)) {}

  uint64_t total() const { return TotalBytes(parts_); }
  uint64_t without_peers() const { return TotalBytesWithoutPeers(parts_); }
  const std::vector<MemoryPart>& parts() const { return parts_; }

 private:
  std::vector<MemoryPart> parts_;
};

void DescribeParts(const MemoryOf& memory, Report* report) {
  for (const MemoryPart& part : memory.parts()) {
    if (!part.for_peers) report->Memory(part.name, part.bytes);
  }
  report->Memory("together", memory.without_peers());
  for (const MemoryPart& part : memory.parts()) {
    if (part.for_peers) report->Memory(part.name, part.bytes);
  }
  report->Memory("total", memory.total());
}

BoundKind BoundKindOf(DeclaredType type) {
  switch (type) {
    case DeclaredType::kCounter:
      return BoundKind::kCounters;
    case DeclaredType::kGauge:
      return BoundKind::kGauges;
    case DeclaredType::kHistogram:
      return BoundKind::kHistograms;
    case DeclaredType::kSummary:
      return BoundKind::kSummaries;
    case DeclaredType::kSet:
      return BoundKind::kSets;
  }
  return BoundKind::kCounters;
}

// What the declared series take when all of them are there: by what as many series of one kind add
// to none.
void DescribeDeclaredMemory(const Options& options, int connections, const SeriesShape& shape,
                            const CatalogIndex& catalog, Report* report) {
  uint64_t bytes = 0;
  uint64_t series_left = options.series_limit;
  for (const auto& family : catalog.families()) {
    const uint64_t series = std::min<uint64_t>(family->metric->MaxSeries(), series_left);
    series_left -= series;
    SeriesShape own = shape;
    own.kind = BoundKindOf(family->metric->type);
    own.histogram_bounds = family->rule.histogram.buckets.size();
    Options with = options;
    with.series_limit = static_cast<uint32_t>(series);
    Options without = options;
    without.series_limit = 0;
    bytes += MemoryOf(with, connections, own).without_peers() -
             MemoryOf(without, connections, own).without_peers();
  }
  report->Heading("Of the worst-case memory, for the series inside all bounds of the catalogs");
  report->Memory("declared series", bytes);
}

void DescribeMemory(const Options& options, int connections, const SeriesShape& shape,
                    const std::vector<NamedKind>& kinds, Report* report) {
  const auto memory_of = [&](BoundKind kind, uint64_t text_bytes) {
    SeriesShape other = shape;
    other.kind = kind;
    other.text_bytes = text_bytes;
    return MemoryOf(options, connections, other);
  };
  const NamedKind* worst = kinds.data();
  for (const NamedKind& named : kinds) {
    const uint64_t total = memory_of(named.kind, shape.text_bytes).total();
    if (total > memory_of(worst->kind, shape.text_bytes).total()) worst = &named;
  }
  report->Heading(absl::StrCat("Worst-case memory: ", options.series_limit, " series, all ",
                               worst->name, ", each in every shard, with ", shape.text_bytes,
                               " bytes of name and labels"));
  DescribeParts(memory_of(worst->kind, shape.text_bytes), report);

  const uint64_t longest = std::max(MaxTextBytes(options), shape.text_bytes);
  report->Heading("By the kind of series, together and total");
  for (const NamedKind& named : kinds) {
    const MemoryOf memory = memory_of(named.kind, shape.text_bytes);
    report->Memories(named.name, memory.without_peers(), memory.total());
  }
  report->Heading(absl::StrCat("With the longest name and labels that so many series can have, ",
                               longest, " bytes"));
  const MemoryOf memory = memory_of(worst->kind, longest);
  report->Memories(worst->name, memory.without_peers(), memory.total());
  report->Heading("Besides, in the kernel");
  report->Memory("receive buffers", KernelBufferBytes(options));
}

}  // namespace

absl::StatusOr<ConfigReport> CheckConfig(const Options& options) {
  const size_t heap_before = ::mallinfo2().uordblks;
  auto rules = LoadRulesToStart(options);
  if (!rules.ok()) return rules.status();
  const size_t heap_after = ::mallinfo2().uordblks;
  RaiseDescriptorLimit();  // as a start would
  const bool streams = options.tcp.size() + options.unixstream.size() > 0;
  const int connections = streams || !options.unixseqpacket.empty() ? ConnectionLimit() : 0;

  const Mapping* const mapping = rules->mapping.get();
  const CatalogIndex* const catalog = rules->catalog.get();
  const Sources sources = {.mapping = mapping, .catalog = catalog};
  ConfigReport report;
  Report text;
  DescribeListening(options, &text);
  DescribeMapping(options, mapping, &text);
  if (catalog != nullptr) DescribeCatalog(*catalog, &text);
  DescribeLimits(options, connections, &text);
  DescribePushes(options, &text);
  const SeriesShape shape = ShapeFor(sources, heap_after - std::min(heap_before, heap_after));
  if (catalog != nullptr) DescribeDeclaredMemory(options, connections, shape, *catalog, &text);
  DescribeMemory(options, connections, shape, KindsFor(sources), &text);
  report.text = text.Take();
  if (mapping != nullptr) report.warnings = mapping->config().warnings;
  return report;
}

}  // namespace tallyd
