#include "bench/load/workload.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tallyd::bench {
namespace {

// Past this a ring repeats itself even under churn: 4 M lines of 90 bytes are 360 MB.
constexpr uint64_t kMostRingLines = 4'000'000;
constexpr uint64_t kFewestRingLines = 200'000;

constexpr uint32_t kMostTags = 32;
constexpr uint32_t kMostPacketBytes = 1 << 18;
constexpr uint32_t kMostSenders = 1024;
constexpr uint32_t kMostSeries = 50'000'000;

bool IsPlainPrefix(absl::string_view prefix) {
  if (prefix.empty() || !absl::ascii_isalpha(static_cast<unsigned char>(prefix[0]))) return false;
  return std::all_of(prefix.begin(), prefix.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '.';
  });
}

// Series of all generations are numbered by 32 bits.
bool GenerationsFit(const Workload& w) {
  if (w.churn_lines == 0) return true;
  const uint64_t lines = w.ring_lines > 0 ? w.ring_lines : DefaultRingLines(w, 0);
  return (lines / w.churn_lines + 1) * w.series <= UINT32_MAX;
}

bool IsFraction(double x) { return x >= 0 && x <= 1; }

}  // namespace

absl::StatusOr<Workload> WorkloadPreset(absl::string_view name) {
  Workload w;
  if (name == "W1") return w;
  if (name == "W3") {
    w.lines_per_packet = 1;
    return w;
  }
  w.tags = 4;
  if (name == "W2") return w;
  if (name == "W4") {
    w.packet_bytes = 8192;
    return w;
  }
  if (name == "W5") {
    w.series = 1'000'000;
    return w;
  }
  return absl::InvalidArgumentError(absl::StrCat("no workload is called ", name));
}

absl::StatusOr<std::array<uint32_t, kKinds>> ParseMix(absl::string_view text) {
  std::array<uint32_t, kKinds> mix = {};
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts.size() < 3 || parts.size() > mix.size()) {
    return absl::InvalidArgumentError("a mix is counters:gauges:timers[:sets]");
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &mix[i]) || mix[i] > 1'000'000) {
      return absl::InvalidArgumentError(absl::StrCat("not a share of a mix: ", parts[i]));
    }
  }
  return mix;
}

absl::Status Validate(const Workload& w) {
  if (w.series == 0 || w.series > kMostSeries) {
    return absl::InvalidArgumentError("the number of series is out of range");
  }
  if (std::accumulate(w.mix.begin(), w.mix.end(), uint64_t{0}) == 0) {
    return absl::InvalidArgumentError("the mix has no kind in it");
  }
  if (w.tags > kMostTags) return absl::InvalidArgumentError("too many tags");
  if (w.tags > 0 && w.names == 0) return absl::InvalidArgumentError("no metric names");
  if (w.packet_bytes > kMostPacketBytes) return absl::InvalidArgumentError("packets too large");
  if (w.packing == 0 || w.packing > 1000) {
    return absl::InvalidArgumentError("the values a line are out of range");
  }
  if (!IsFraction(w.sampled) || !IsFraction(w.gauge_changes)) {
    return absl::InvalidArgumentError("a fraction is outside of 0..1");
  }
  if (w.senders == 0 || w.senders > kMostSenders) {
    return absl::InvalidArgumentError("the number of senders is out of range");
  }
  if (!IsPlainPrefix(w.prefix)) {
    return absl::InvalidArgumentError("a prefix is a letter, then letters, digits, dots and _");
  }
  if (w.ring_lines > kMostRingLines * 25) {
    return absl::InvalidArgumentError("too many prepared lines");
  }
  if (!GenerationsFit(w)) return absl::InvalidArgumentError("too many generations of series");
  return absl::OkStatus();
}

uint64_t DefaultRingLines(const Workload& w, uint64_t lines_wanted) {
  if (w.sequential) return w.series;
  const uint64_t wanted = lines_wanted == 0 ? kMostRingLines : lines_wanted;
  if (w.churn_lines > 0) return std::min(wanted, kMostRingLines);
  return std::min(wanted, std::max(kFewestRingLines, uint64_t{w.series} * 2));
}

}  // namespace tallyd::bench
