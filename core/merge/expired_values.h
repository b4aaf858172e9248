// What series had counted that are gone: should they come back, they go on from there, and no
// counter ever goes backwards.

#ifndef TALLYD_CORE_MERGE_EXPIRED_VALUES_H_
#define TALLYD_CORE_MERGE_EXPIRED_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/merge/exponential_counts.h"
#include "core/merge/page_encoder.h"
#include "core/rules/rules.h"

namespace tallyd {

// What cells that are gone had counted.
struct CountedValue {
  CounterValue counter;
  double sum = 0;
  std::vector<uint64_t> buckets;
  ExponentialCounts window;
  uint32_t created_s = 0;  // SeriesRecord::created_s

  // What other cells of the same series had counted.
  void Add(const CountedValue& other);
};

// Invariant: what is kept takes about as many bytes as it may at most; past that the values that
// expired first are forgotten. Series are told apart by a seeded 64-bit hash of their identity, and
// one that has been of several shapes has a value of each. Thread-compatible: the merger thread
// only.
class ExpiredValues {
 public:
  explicit ExpiredValues(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  // What a series is, so that a value goes back to its like only.
  struct Shape {
    SeriesKind kind = SeriesKind::kCounter;
    uint16_t layout = 0;
    friend bool operator==(Shape, Shape) = default;
    template <class Hash>
    friend Hash AbslHashValue(Hash hash, Shape shape) {
      return Hash::combine(std::move(hash), shape.kind, shape.layout);
    }
  };

  void Keep(uint64_t hash, Shape shape, CountedValue value);
  // Moves the value out; false if there is none of this shape.
  bool Take(uint64_t hash, Shape shape, CountedValue* value);

  // Calls `visit(uint64_t hash, Shape, const CountedValue&)` for each, those that expired first
  // first.
  template <class Visit>
  void ForEach(Visit&& visit) const {
    for (const Record& record : order_) {
      if (NumberOf(record.hash, record.shape) != record.number) continue;
      if (record.shape.kind == SeriesKind::kCounter) {
        const Counter& counter = counters_.at(record.hash);
        CountedValue value;
        value.counter = counter.value;
        value.created_s = counter.created_s;
        visit(record.hash, record.shape, value);
      } else {
        visit(record.hash, record.shape, *observers_.at({record.hash, record.shape}).value);
      }
    }
  }

  uint64_t bytes() const { return bytes_; }
  size_t size() const { return counters_.size() + observers_.size(); }
  // Series that would start at 0 if they came back.
  uint64_t forgotten() const { return forgotten_; }

 private:
  struct Counter {
    CounterValue value;
    uint64_t number;
    uint32_t created_s;
  };
  struct Observer {
    std::unique_ptr<CountedValue> value;
    uint64_t number;
    uint64_t bytes;
  };
  struct Record {
    uint64_t hash;
    Shape shape;
    uint64_t number;  // of the Keep; the value may have been taken, or kept anew, since
  };
  // With its share of the table and of the order.
  static constexpr uint64_t kCounterBytes = 2 * sizeof(Counter) + sizeof(Record);

  static uint64_t BytesOf(const CountedValue& value);
  // Of the Keep that it is from; 0 if there is none.
  uint64_t NumberOf(uint64_t hash, Shape shape) const;
  void Erase(uint64_t hash, Shape shape);
  void ForgetOldest();
  void TidyOrder();

  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  uint64_t numbers_ = 0;
  uint64_t forgotten_ = 0;
  absl::flat_hash_map<uint64_t, Counter> counters_;
  absl::flat_hash_map<std::pair<uint64_t, Shape>, Observer> observers_;
  std::deque<Record> order_;  // oldest first
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_EXPIRED_VALUES_H_
