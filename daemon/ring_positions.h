// Where the writer and the reader of a ring stand: the protocol of CaptureRing, without its bytes,
// so that tests/model can run it.

#ifndef TALLYD_DAEMON_RING_POSITIONS_H_
#define TALLYD_DAEMON_RING_POSITIONS_H_

#include <atomic>
#include <cstdint>

#include "core/shard/atomics.h"

namespace tallyd {

// One name an order, so that a mutant can weaken exactly one.
struct RingOrders {
  static constexpr std::memory_order kTailStore = std::memory_order_release;
  static constexpr std::memory_order kTailLoad = std::memory_order_acquire;
  static constexpr std::memory_order kHeadStore = std::memory_order_release;
  static constexpr std::memory_order kHeadLoad = std::memory_order_acquire;
};

// Property: the reader reads a byte only once it is written, and the writer writes over a byte only
// once it was read.
//
// Invariant: head <= tail <= head + capacity; both only grow, and each has one writer.
template <class Atomics, class Orders = RingOrders>
class RingPositions {
 public:
  struct Run {
    uint64_t position;  // of the first byte
    uint64_t size;
  };

  explicit RingPositions(uint64_t capacity) : capacity_(capacity) {}

  // Writer. What is free; the reader is done with it.
  Run Free() const {
    const uint64_t tail = tail_.Load(std::memory_order_relaxed);  // ours
    return {tail, capacity_ - (tail - head_.Load(Orders::kHeadLoad))};
  }
  // Writer, once the bytes before `tail` are written.
  void PublishTail(uint64_t tail) { tail_.Store(tail, Orders::kTailStore); }

  // Reader. What is written and not taken yet.
  Run Waiting() const {
    const uint64_t head = head_.Load(std::memory_order_relaxed);  // ours
    return {head, tail_.Load(Orders::kTailLoad) - head};
  }
  // Reader, once the bytes before `head` are copied out.
  void PublishHead(uint64_t head) { head_.Store(head, Orders::kHeadStore); }

 private:
  typename Atomics::template Word<uint64_t> tail_;
  // Apart from the writer's cache line.
  alignas(64) typename Atomics::template Word<uint64_t> head_;
  const uint64_t capacity_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RING_POSITIONS_H_
