#include "daemon/check_config.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "core/shard/shard.h"
#include "daemon/descriptor_limit.h"
#include "daemon/memory_bound.h"

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
    const bool dogstatsd = address.dialect == Dialect::kDogstatsd;
    texts.push_back(absl::StrCat(address.address, dogstatsd ? " (dogstatsd)" : ""));
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
  report->Line("relay", options.relay_address.empty() ? "off" : options.relay_address);
  report->Line("tags", TagsRead(options.tags));
}

void DescribeLimits(const Options& options, int connections, Report* report) {
  report->Heading("Limits");
  report->Line("shards", absl::StrCat(options.ShardCount()));
  report->AtMost("series", options.series_limit, "");
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
  if (options.relay_address.empty()) return;
  report->AtMost("relay packet", options.relay_packet_bytes, "bytes");
}

struct NamedKind {
  const char* name;
  SeriesKind kind;
};
constexpr NamedKind kKinds[] = {{"counters", SeriesKind::kCounter},
                                {"gauges", SeriesKind::kGauge},
                                {"sets", SeriesKind::kSet},
                                {"histograms", SeriesKind::kHistogram}};

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

void DescribeMemory(const Options& options, int connections, SeriesShape shape, Report* report) {
  const auto memory_of = [&](SeriesKind kind, uint64_t text_bytes) {
    SeriesShape other = shape;
    other.kind = kind;
    other.text_bytes = text_bytes;
    return MemoryOf(options, connections, other);
  };
  const NamedKind* worst = kKinds;
  for (const NamedKind& named : kKinds) {
    const uint64_t total = memory_of(named.kind, shape.text_bytes).total();
    if (total > memory_of(worst->kind, shape.text_bytes).total()) worst = &named;
  }
  report->Heading(absl::StrCat("Worst-case memory: ", options.series_limit, " series, all ",
                               worst->name, ", each in every shard, with ", shape.text_bytes,
                               " bytes of name and labels"));
  DescribeParts(memory_of(worst->kind, shape.text_bytes), report);

  const uint64_t longest = std::max(MaxTextBytes(options), shape.text_bytes);
  report->Heading("By the kind of series, together and total");
  for (const NamedKind& named : kKinds) {
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
  RaiseDescriptorLimit();  // as a start would
  const bool streams = options.tcp.size() + options.unixstream.size() > 0;
  const int connections = streams || !options.unixseqpacket.empty() ? ConnectionLimit() : 0;
  ConfigReport report;
  Report text;
  SeriesShape shape;
  DescribeListening(options, &text);
  DescribeLimits(options, connections, &text);
  DescribeMemory(options, connections, shape, &text);
  report.text = text.Take();
  return report;
}

}  // namespace tallyd
