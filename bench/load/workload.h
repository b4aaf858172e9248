// What a load consists of: the parameters from which every packet follows.

#ifndef TALLYD_BENCH_LOAD_WORKLOAD_H_
#define TALLYD_BENCH_LOAD_WORKLOAD_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tallyd::bench {

// The kinds of series, in the order of `--mix`.
enum class Kind : uint8_t { kCounter = 0, kGauge = 1, kTimer = 2, kSet = 3 };
inline constexpr int kKinds = 4;

// Equal workloads (seed included) give equal packets, byte for byte, on every machine. A plain
// value.
struct Workload {
  uint64_t seed = 1;
  uint32_t series = 10'000;
  // DogStatsD tags a line. Without tags each series has a name of its own; with tags the series
  // share `names` names.
  uint32_t tags = 0;
  uint32_t names = 150;
  // Shares of the series by kind; only their proportions matter.
  std::array<uint32_t, kKinds> mix = {60, 20, 20, 0};
  // The longest payload of a packet, in bytes.
  uint32_t packet_bytes = 1432;
  // 0: as many as fit.
  uint32_t lines_per_packet = 0;
  // Values a line, for every kind but sets (which cannot be packed).
  uint32_t packing = 1;
  // The fraction of counter and timer lines that carry `|@0.5`: each of their values weighs 2.
  double sampled = 0;
  // The fraction of gauge lines that are signed changes rather than values.
  double gauge_changes = 0;
  // The first part of every metric name.
  std::string prefix = "load";
  // After this many lines all series get new names (a new generation). 0: never.
  uint64_t churn_lines = 0;
  // Sockets. All lines of one gauge leave through one of them, so that its last value is defined.
  uint32_t senders = 1;
  // Every series has one line in the ring, in the order of their numbers, rather than by chance.
  bool sequential = false;
  // Lines in the ring of prepared packets; 0: what DefaultRingLines() says.
  uint64_t ring_lines = 0;
};

// "W1" to "W5": the workloads of the results in bench/RESULTS.md.
absl::StatusOr<Workload> WorkloadPreset(absl::string_view name);

// "60:20:20" or "60:20:20:5": counters, gauges, timers and sets.
absl::StatusOr<std::array<uint32_t, kKinds>> ParseMix(absl::string_view text);

// Refuses what cannot be built: no series, a zero mix, characters in the prefix that would need
// more than the plain rules of names, sizes beyond any socket.
absl::Status Validate(const Workload& workload);

// Lines that the ring holds unless told otherwise: every series at least once, and enough of them
// that a loop over the ring looks random to a cache. `lines_wanted` (0: unknown) bounds it, since
// lines that are never sent need not be prepared.
uint64_t DefaultRingLines(const Workload& workload, uint64_t lines_wanted);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_WORKLOAD_H_
