// How long a shard sleeps between two drains of its UDP sockets.
//
// Waking a thread for each datagram costs more than all else that is done with it, so a shard that
// found data does not wait for the next datagram but sleeps a bounded moment and then takes all
// that has come meanwhile. The bound keeps the receive buffer from filling and samples from getting
// old.

#ifndef TALLYD_DAEMON_NAP_POLICY_H_
#define TALLYD_DAEMON_NAP_POLICY_H_

#include <cstdint>

namespace tallyd {

// Pure arithmetic; the clock comes from outside. Thread-compatible.
class NapPolicy {
 public:
  // The loop counts its time-outs in milliseconds, so naps are whole ones.
  static constexpr int64_t kMinNs = 1'000'000;
  static constexpr int64_t kMaxNs = 5'000'000;
  // The fastest that a buffer was seen to fill: 300,000 small datagrams a second, for each of which
  // the kernel charges 832 bytes.
  static constexpr int64_t kWorstBytesPerSecond = 250'000'000;

  // `buffer_bytes` is the effective receive buffer of the smallest socket. No nap is so long that
  // the worst rate could fill two thirds of it; with a very small one there are none.
  explicit NapPolicy(int64_t buffer_bytes);

  struct Drain {
    int64_t queued_bytes =
        0;                // most that a socket held, as charged by the kernel, before the drain
    bool emptied = true;  // false: there may be more
  };

  // After a drain that found data: how long to sleep, or 0 to drain again at once.
  int64_t AfterDrain(const Drain& drain);
  // After a wait, of `waited_ns`, that a datagram ended. Datagrams that come shortly after the
  // shard has gone over to waiting for them are worth longer naps.
  void AfterWait(int64_t waited_ns);

 private:
  int64_t buffer_bytes_;
  int64_t max_ns_;
  int64_t next_ns_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_NAP_POLICY_H_
