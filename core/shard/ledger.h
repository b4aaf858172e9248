// The account of all samples of one shard.

#ifndef TALLYD_CORE_SHARD_LEDGER_H_
#define TALLYD_CORE_SHARD_LEDGER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/wire/event.h"
#include "core/wire/reason.h"

namespace tallyd {

// A number that one thread adds to and any thread reads. One location with one writer: readers
// never see it go backwards. Release and acquire: who sees it sees all that was added to other
// numbers before it, so that sums may be read in an order in which they make sense.
class LedgerCount {
 public:
  // Owner thread.
  void Add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_release);
  }
  // Owner thread.
  void Set(uint64_t n) { value_.store(n, std::memory_order_release); }
  // Any thread.
  uint64_t Get() const { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Invariant, whenever no batch is open: the sum of received samples over listeners = applied + the
// sum of dropped. One writer, the shard's owner, which counts a sample as received before it counts
// it as applied or dropped; thread-safe to read from any thread. Of numbers read while a batch is
// open, those received are no fewer than those accounted for if they are read after them.
struct Ledger {
  static constexpr size_t kMaxListeners = 64;

  struct Listener {
    LedgerCount datagrams;  // datagrams, frames or stream reads taken in
    LedgerCount bytes;
    LedgerCount samples;
    LedgerCount truncated;       // datagrams cut by our buffer
    LedgerCount kernel_dropped;  // datagrams the kernel dropped for want of buffer space
  };

  std::array<Listener, kMaxListeners> listeners;
  LedgerCount applied;
  LedgerCount folded;
  std::array<LedgerCount, kDropReasons> dropped;
  std::array<LedgerCount, kRepairReasons> repaired;
  std::array<LedgerCount, kEventKinds> events;  // well-formed ones; they are no samples
  LedgerCount live_series;                      // slots in use
  LedgerCount retired_slots;                    // slots waiting until the merger has passed
  LedgerCount keys;                             // entries of the key table
  LedgerCount key_bytes;                        // memory of the keys
  LedgerCount batches;

  LedgerCount& Dropped(DropReason reason) { return dropped[static_cast<size_t>(reason)]; }
  LedgerCount& Repaired(RepairReason reason) { return repaired[static_cast<size_t>(reason)]; }
};

// The account of one sender in one shard. Writer and readers as of the ledger. The sum over all
// senders of `samples` and of `dropped` is what the ledger has, whenever no batch is open.
struct SenderCounts {
  LedgerCount datagrams;    // datagrams, frames or lines of a stream taken in
  LedgerCount samples;      // received, the dropped ones included
  LedgerCount dropped;      // samples
  LedgerCount folded;       // applied samples that count in an overflow series
  LedgerCount series_made;  // series that began with a sample of this sender
  LedgerCount series;       // those of them that its budget is charged with now
};

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_LEDGER_H_
