// The series of a workload: what each is called on the wire and at a scrape.

#ifndef TALLYD_BENCH_LOAD_CATALOG_H_
#define TALLYD_BENCH_LOAD_CATALOG_H_

#include <array>
#include <cstdint>
#include <string>

#include "bench/load/workload.h"

namespace tallyd::bench {

// Names are a function of the series' number, so that a million of them cost no memory. Numbers
// run on through the generations of a churning workload: series n of generation g is
// g * workload.series + n. Immutable after construction: thread-safe.
class Catalog {
 public:
  explicit Catalog(const Workload& workload);

  // All series of one metric name are of one kind, whatever their generation.
  Kind KindOf(uint32_t series) const;

  // Appends the metric name as sent: "load.checkout.cache.requests.web17".
  void AppendName(uint32_t series, std::string* out) const;
  // Appends the tags as sent, without "|#": "env:prod,region:eu-west-1". Nothing without tags.
  void AppendTags(uint32_t series, std::string* out) const;

  // What a scrape shows: the name with its dots as "_", labels sorted by name.
  std::string Exposed(uint32_t series) const;

 private:
  // The metric name's number: all that its text and kind depend on, generations apart.
  uint32_t NameNumber(uint32_t series) const;
  std::string TagKey(uint32_t tag) const;
  void AppendTagValue(uint32_t series, uint32_t tag, std::string* out) const;

  uint32_t series_;
  uint32_t tags_;
  uint32_t names_;
  std::string prefix_;
  // Upper ends of the kinds' shares of [0, 2^32).
  std::array<uint64_t, kKinds> share_ends_;
};

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_CATALOG_H_
