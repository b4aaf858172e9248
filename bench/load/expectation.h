// The exact totals that a receiver must show for what the kernel took from the sender.

#ifndef TALLYD_BENCH_LOAD_EXPECTATION_H_
#define TALLYD_BENCH_LOAD_EXPECTATION_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "bench/load/plan.h"

namespace tallyd::bench {

// What became of each packet that one sender offered, in the order of sending. Owner thread only.
class AcceptanceLog {
 public:
  void AddAccepted(size_t packets) { accepted_.insert(accepted_.end(), packets, true); }
  void AddRefused() { accepted_.push_back(false); }
  uint64_t offered() const { return accepted_.size(); }
  bool WasAccepted(uint64_t seq) const { return accepted_[seq]; }

 private:
  std::vector<bool> accepted_;
};

// Upper bounds of the default buckets in milliseconds; the last bucket is +Inf.
inline constexpr std::array<int32_t, 11> kBucketTopsMs = {5,   10,   25,   50,   100,   250,
                                                          500, 1000, 2500, 5000, 10'000};

// What one series must show. Integers in the units of Line, so every field is exact.
struct SeriesTotal {
  Kind kind = Kind::kCounter;
  // The counter, the gauge in quarters, the timers' sum in milliseconds, or the set's members.
  int64_t value = 0;
  // Timers only: observations at or below each bound, cumulative, the last being the count.
  std::array<uint64_t, kBucketTopsMs.size() + 1> buckets = {};
};

// Totals by series, of those with at least one accepted line. Built once, then only read.
class Expectation {
 public:
  // One log for each ring of the plan, in the same order.
  Expectation(const Plan& plan, const std::vector<AcceptanceLog>& logs);

  const absl::flat_hash_map<uint32_t, SeriesTotal>& totals() const { return totals_; }

  // One JSON object a line, ordered by series number:
  //   {"series":"a_b{k=\"v\"}","type":"counter","value":123}
  //   {"series":"a_c","type":"gauge","value":12.25}
  //   {"series":"a_d","type":"set","value":7}
  //   {"series":"a_e","type":"histogram","count":3,"sum":0.125,"buckets":{"0.005":1,...,"+Inf":3}}
  // Counters, gauges, sets, counts and buckets are exact. A histogram's sum is the double nearest
  // to the true sum in seconds; a receiver that adds up seconds as doubles may differ by its own
  // roundings, so compare sums with a relative tolerance (1e-9 is ample).
  absl::Status WriteTo(const std::string& path) const;

 private:
  // Adds the packet's lines of all kinds but gauges, where only the number of times matters.
  void AddTimes(const PacketRing& ring, const Packet& packet, uint64_t times);
  // Applies the packet's gauge lines, where the order of packets matters.
  void ApplyGauges(const PacketRing& ring, const Packet& packet);
  void AddRing(const PacketRing& ring, const AcceptanceLog& log);
  SeriesTotal& TotalOf(uint32_t series, Kind kind);
  void FinishSetsAndBuckets();

  const Catalog& catalog_;
  absl::flat_hash_map<uint32_t, SeriesTotal> totals_;
  absl::flat_hash_map<uint32_t, absl::flat_hash_set<int32_t>> members_;
};

// One line of the file, without its line feed.
std::string ExpectationLine(const std::string& series, const SeriesTotal& total);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_EXPECTATION_H_
