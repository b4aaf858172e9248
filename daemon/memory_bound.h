// How much memory the process can come to use: every bound that it keeps, times what is bounded.

#ifndef TALLYD_DAEMON_MEMORY_BOUND_H_
#define TALLYD_DAEMON_MEMORY_BOUND_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/options.h"

namespace tallyd {

// What costs memory in a way of its own; in the order of the report.
enum class BoundKind { kCounters, kGauges, kSets, kHistograms, kSummaries };

// What the series are like, as far as it is not for the flags to say.
struct SeriesShape {
  BoundKind kind = BoundKind::kCounters;
  uint64_t text_bytes = 256;     // name and labels of a series on the average, as sent and as shown
  size_t histogram_bounds = 11;  // classic ones, +Inf not counted
  size_t summary_quantiles = 3;
  size_t summary_ages = 5;
  uint64_t mapping_bytes = 0;  // compiled rules
};

struct MemoryPart {
  std::string name;
  uint64_t bytes = 0;
  bool for_peers = false;  // only as far as peers are slow, or mean harm
};

// What is resident at most when `options.series_limit` series of this shape are there, each of them
// in every shard, under as many spellings as are remembered, in pages of every format, and with
// readers as slow as they may be. What the kernel keeps for sockets is not in it.
//
// It is an upper bound of each part by itself; they are hardly ever all reached at once.
std::vector<MemoryPart> BoundMemory(const Options& options, int connections,
                                    const SeriesShape& shape);
uint64_t TotalBytes(const std::vector<MemoryPart>& parts);
uint64_t TotalBytesWithoutPeers(const std::vector<MemoryPart>& parts);

// The longest text on the average that so many series can have, by the limits and the key memory.
uint64_t MaxTextBytes(const Options& options);

// What pushed groups may have together, in memory and as text of one format.
uint64_t StoredGroupBytes(const Options& options);

// What the kernel may hold for the UDP sockets.
uint64_t KernelBufferBytes(const Options& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MEMORY_BOUND_H_
