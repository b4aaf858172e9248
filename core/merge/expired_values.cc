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
  Erase(hash, 0);
  const uint64_t number = ++numbers_;
  if (shape.kind == SeriesKind::kCounter) {
    counters_[hash] = {.value = value.counter, .number = number, .created_s = value.created_s};
    bytes_ += kCounterBytes;
  } else {
    const uint64_t bytes = BytesOf(value);
    observers_[hash] = {.value = std::make_unique<CountedValue>(std::move(value)),
                        .shape = shape,
                        .number = number,
                        .bytes = bytes};
    bytes_ += bytes;
  }
  order_.push_back({hash, number});
  while (bytes_ > max_bytes_) ForgetOldest();
  TidyOrder();
}

bool ExpiredValues::Take(uint64_t hash, Shape shape, CountedValue* value) {
  if (shape.kind == SeriesKind::kCounter) {
    const auto counter = counters_.find(hash);
    if (counter == counters_.end()) return false;
    value->counter = counter->second.value;
    value->created_s = counter->second.created_s;
    return Erase(hash, 0);
  }
  const auto observer = observers_.find(hash);
  if (observer == observers_.end()) return false;
  const Shape kept = observer->second.shape;
  if (kept.kind != shape.kind || kept.layout != shape.layout) return false;
  *value = std::move(*observer->second.value);
  return Erase(hash, 0);
}

bool ExpiredValues::Erase(uint64_t hash, uint64_t number) {
  if (const auto counter = counters_.find(hash);
      counter != counters_.end() && (number == 0 || counter->second.number == number)) {
    counters_.erase(counter);
    bytes_ -= kCounterBytes;
    return true;
  }
  if (const auto observer = observers_.find(hash);
      observer != observers_.end() && (number == 0 || observer->second.number == number)) {
    bytes_ -= observer->second.bytes;
    observers_.erase(observer);
    return true;
  }
  return false;
}

void ExpiredValues::ForgetOldest() {
  if (Erase(order_.front().hash, order_.front().number)) ++forgotten_;
  order_.pop_front();
}

// Records of values that were taken stay until they are the oldest, unless they are the most.
void ExpiredValues::TidyOrder() {
  if (order_.size() < 2 * size() + 1024) return;
  std::deque<Record> order;
  for (const Record& record : order_) {
    const auto counter = counters_.find(record.hash);
    const auto observer = observers_.find(record.hash);
    if ((counter != counters_.end() && counter->second.number == record.number) ||
        (observer != observers_.end() && observer->second.number == record.number)) {
      order.push_back(record);
    }
  }
  order_ = std::move(order);
}

}  // namespace tallyd
