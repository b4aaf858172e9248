// A tap that copies lines for whoever records them, and never waits for him.

#ifndef TALLYD_DAEMON_CAPTURE_RING_H_
#define TALLYD_DAEMON_CAPTURE_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/line_tap.h"
#include "daemon/ring_positions.h"

namespace tallyd {

// A ring of bytes between one shard's thread, which writes, and the control thread, which reads.
// What finds no room is dropped and counted.
//
//   0            head % capacity          tail % capacity     capacity
//   |  free      |  whole lines, each with its LF  |  free    |
//
// Invariant: what lies between head and tail are whole lines. Whose turn a byte is, RingPositions
// says; tests/model has a mutant for each of its orders.
class CaptureRing final : public LineTap {
 public:
  // `capacity` is a power of two.
  explicit CaptureRing(size_t capacity) : bytes_(capacity), positions_(capacity) {}

  // Writer.
  void OnLines(Source source, std::string_view lines_untrusted) override;
  void OnBeat(int64_t /*now_ns*/) override {}

  // Reader. Appends at most `max_bytes` of whole lines and returns how many bytes these were; 0 if
  // there are none, or the first is longer.
  size_t Take(size_t max_bytes, std::string* lines);
  // Reader. Whether there is anything to take.
  bool empty() const { return positions_.Waiting().size == 0; }
  // Any thread.
  uint64_t dropped_lines() const { return dropped_lines_.load(std::memory_order_relaxed); }

 private:
  size_t PlaceOf(uint64_t position) const { return position & (bytes_.size() - 1); }
  void Copy(std::string_view text, uint64_t position);

  std::vector<char> bytes_;
  RingPositions<StdAtomics> positions_;
  std::atomic<uint64_t> dropped_lines_{0};  // the writer's; a number, on which no other data hangs
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CAPTURE_RING_H_
