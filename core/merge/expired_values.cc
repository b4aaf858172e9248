#include "core/merge/expired_values.h"

#include <algorithm>
#include <utility>

#include "core/shard/cells.h"

namespace tallyd {

void CountedValue::Add(const CountedValue& other) {
  // As within a cell, past 2^63 the integer part stays and the rest takes over.
  if (other.counter.whole > CounterCell::kMaxWhole - counter.whole) {
    counter.rest += static_cast<double>(other.counter.whole);
  } else {
    counter.whole += other.counter.whole;
  }
  counter.rest += other.counter.rest;
  sum += other.sum;
  buckets.resize(std::max(buckets.size(), other.buckets.size()));
  for (size_t i = 0; i < other.buckets.size(); ++i) {
    buckets[i] = HistogramCell::AddCounts(buckets[i], other.buckets[i]);
  }
  window.Add(other.window);
  if (created_s == 0) created_s = other.created_s;
}

uint64_t ExpiredValues::BytesOf(const CountedValue& value) {
  constexpr uint64_t kHeapBlock = 16;
  return 2 * sizeof(Observer) + sizeof(Record) + sizeof(CountedValue) + 3 * kHeapBlock +
         value.buckets.capacity() * sizeof(uint64_t) +
         value.window.buckets().capacity() * sizeof(uint64_t);
}

void ExpiredValues::Keep(uint64_t hash, Shape shape, CountedValue value) {
  Erase(hash, shape);
  const uint64_t number = ++numbers_;
  if (shape.kind == SeriesKind::kCounter) {
    counters_[hash] = {.value = value.counter, .number = number, .created_s = value.created_s};
    bytes_ += kCounterBytes;
  } else {
    const uint64_t bytes = BytesOf(value);
    observers_[{hash, shape}] = {.value = std::make_unique<CountedValue>(std::move(value)),
                                 .number = number,
                                 .bytes = bytes};
    bytes_ += bytes;
  }
  order_.push_back({hash, shape, number});
  while (bytes_ > max_bytes_) ForgetOldest();
  TidyOrder();
}

bool ExpiredValues::Take(uint64_t hash, Shape shape, CountedValue* value) {
  if (NumberOf(hash, shape) == 0) return false;
  if (shape.kind == SeriesKind::kCounter) {
    const Counter& counter = counters_.at(hash);
    value->counter = counter.value;
    value->created_s = counter.created_s;
  } else {
    *value = std::move(*observers_.at({hash, shape}).value);
  }
  Erase(hash, shape);
  return true;
}

uint64_t ExpiredValues::NumberOf(uint64_t hash, Shape shape) const {
  if (shape.kind == SeriesKind::kCounter) {
    const auto counter = counters_.find(hash);
    return counter == counters_.end() ? 0 : counter->second.number;
  }
  const auto observer = observers_.find({hash, shape});
  return observer == observers_.end() ? 0 : observer->second.number;
}

void ExpiredValues::Erase(uint64_t hash, Shape shape) {
  if (shape.kind == SeriesKind::kCounter) {
    bytes_ -= kCounterBytes * counters_.erase(hash);
    return;
  }
  const auto observer = observers_.find({hash, shape});
  if (observer == observers_.end()) return;
  bytes_ -= observer->second.bytes;
  observers_.erase(observer);
}

void ExpiredValues::ForgetOldest() {
  const Record& oldest = order_.front();
  if (NumberOf(oldest.hash, oldest.shape) == oldest.number) {
    Erase(oldest.hash, oldest.shape);
    ++forgotten_;
  }
  order_.pop_front();
}

// Records of values that were taken stay until they are the oldest, unless they are the most.
void ExpiredValues::TidyOrder() {
  if (order_.size() < 2 * size() + 1024) return;
  std::erase_if(order_, [this](const Record& record) {
    return NumberOf(record.hash, record.shape) != record.number;
  });
}

}  // namespace tallyd
