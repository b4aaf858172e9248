// The protocols between a shard's owner thread and the merger thread, and nothing else.
//
// Properties (proved over all executions of small instances by tests/model, which compiles this
// very file; each order of ShippedOrders has a mutant there that must fail):
//
//   publication   after a merge pass that acquired epoch e, every cell shows at least all adds of
//                 batches <= e, and no cell ever goes backwards;
//   retire/reuse  a slot's identity and its last value are seen together, a retired value is folded
//                 exactly once, and a slot is rewritten only when nobody can still read it;
//   clean cut     cells that a clean cut accepts are exactly the state at a batch boundary;
//   rewrite       data that are rewritten as a whole are never taken half old, half new, and never
//                 for what another header says of them;
//   dated         a value is never older than the time that is read for it;
//   renewal       rules whose number is read are complete;
//   runs          a total counts no change of a run later than the one that is read with it.
//
// Who writes what (if a word is not here, it is not shared):
//
//   word            writer  reader  store / load        what the reader must see
//   cell words      owner   merger  relaxed / relaxed   one location, one writer: coherence alone
//                                                       gives monotone reads
//   chunk stamp     owner   merger  relaxed / relaxed   ordered by the epoch; the fences make the
//                                                       clean cut
//   epoch           owner   merger  release / acquire   all cells and stamps of batches <= epoch
//   slot state      owner   merger  release / acquire   identity (plain data) and last value, on
//                                                       *every* store: a relaxed "retired" after a
//                                                       release "live" heads no release sequence,
//                                                       so its reader would be ordered after
//                                                       nothing
//   chunk count     owner   merger  release / acquire   the chunk heads below it (plain data)
//   merged epoch    merger  owner   release / acquire   the merger has finished its reads of every
//                                                       slot retired in a batch <= merged epoch
//   cell header     owner   merger  release / acquire   the data as the last rewrite left them. The
//                                                       odd version is stored relaxed, before a
//                                                       fence: whoever reads it takes nothing
//   time of a value owner   merger  release / acquire   the value of that time, or a later one
//   rules' number   owner   merger  release / acquire   the rules (plain data), which may be
//                                                       younger than the slot's state
//   total of runs   owner   merger  relaxed / relaxed   fences: the run of each change in it
//   released epoch  merger  owner   release / acquire   as the merged epoch, instead of it where
//                                                       retired slots are held
//   evictions asked merger  owner   relaxed / relaxed   nothing: a hint (ShardHeader)
//   eviction        merger  owner   relaxed / relaxed   nothing: a hint (EvictionWord)
//   note of a gauge merger  -       release / -         a process that comes after ours reads it
//
// Any of a cell's words is also zeroed, relaxed, by the owner when a tenant moves in: the slot
// state orders that for the merger, and the merged epoch orders it after the merger's notes. What
// shards share with each other (FamilyTypes), and counts that any thread reads (Ledger), are not
// between owner and merger and are explained where they are.

#ifndef TALLYD_CORE_SHARD_PROTOCOL_H_
#define TALLYD_CORE_SHARD_PROTOCOL_H_

#include <atomic>
#include <cstdint>

namespace tallyd {

// One name an order, so that a mutant can weaken exactly one.
struct ShippedOrders {
  static constexpr std::memory_order kEpochStore = std::memory_order_release;
  static constexpr std::memory_order kEpochLoad = std::memory_order_acquire;
  static constexpr std::memory_order kStateStore = std::memory_order_release;
  static constexpr std::memory_order kRetireStore = std::memory_order_release;
  static constexpr std::memory_order kStateLoad = std::memory_order_acquire;
  static constexpr std::memory_order kCountStore = std::memory_order_release;
  static constexpr std::memory_order kCountLoad = std::memory_order_acquire;
  static constexpr std::memory_order kMergedStore = std::memory_order_release;
  static constexpr std::memory_order kMergedLoad = std::memory_order_acquire;
  static constexpr std::memory_order kStampFence = std::memory_order_release;
  static constexpr std::memory_order kCutFence = std::memory_order_acquire;
  static constexpr std::memory_order kRewriteFence = std::memory_order_release;
  static constexpr std::memory_order kHeaderStore = std::memory_order_release;
  static constexpr std::memory_order kExtendStore = std::memory_order_release;
  static constexpr std::memory_order kHeaderLoad = std::memory_order_acquire;
  static constexpr std::memory_order kRewriteReadFence = std::memory_order_acquire;
  static constexpr std::memory_order kTimeStore = std::memory_order_release;
  static constexpr std::memory_order kTimeLoad = std::memory_order_acquire;
  static constexpr std::memory_order kRulesStore = std::memory_order_release;
  static constexpr std::memory_order kRulesLoad = std::memory_order_acquire;
  static constexpr std::memory_order kRunFence = std::memory_order_release;
  static constexpr std::memory_order kRunReadFence = std::memory_order_acquire;
};

// The number of the last batch whose effects are published. One per shard.
template <class Atomics, class Orders = ShippedOrders>
class BatchEpoch {
 public:
  // Owner thread. Publishes every cell and stamp written in batches <= `batch`.
  void Publish(uint64_t batch) { word_.Store(batch, Orders::kEpochStore); }
  // Merger thread.
  uint64_t Acquire() const { return word_.Load(Orders::kEpochLoad); }

 private:
  typename Atomics::template Word<uint64_t> word_;
};

// How far the merger has read a shard: the grace period of retired slots. One per shard.
template <class Atomics, class Orders = ShippedOrders>
class MergedEpoch {
 public:
  // Merger thread. At the end of a pass that began by acquiring `epoch`.
  void Publish(uint64_t epoch) { word_.Store(epoch, Orders::kMergedStore); }
  // Owner thread. What was retired in a batch <= the result may be rewritten. Acquire, so that the
  // owner's rewrite of plain identity bytes comes after the merger's last read of them.
  uint64_t Acquire() const { return word_.Load(Orders::kMergedLoad); }

 private:
  typename Atomics::template Word<uint64_t> word_;
};

// Append-only publication of plain records: those below the count never change their place.
template <class Atomics, class Orders = ShippedOrders>
class PublishedCount {
 public:
  // Owner thread. The records below `count` are complete.
  void Publish(uint32_t count) { word_.Store(count, Orders::kCountStore); }
  // Owner thread. Its own last store.
  uint32_t Own() const { return word_.Load(std::memory_order_relaxed); }
  // Merger thread.
  uint32_t Acquire() const { return word_.Load(Orders::kCountLoad); }

 private:
  typename Atomics::template Word<uint32_t> word_;
};

// The number of the last batch that wrote any cell of a chunk. Never cleared, never handed over.
template <class Atomics, class Orders = ShippedOrders>
class ChunkStamp {
 public:
  // Owner thread. Before the first cell of the chunk that batch `batch` writes. The fence orders
  // the stamp before those cells for whoever reads a cell first (see ReadCleanCut); the compare
  // makes it one store per chunk and batch.
  void Touch(uint64_t batch) {
    if (word_.Load(std::memory_order_relaxed) == batch) return;
    word_.Store(batch, std::memory_order_relaxed);
    Atomics::Fence(Orders::kStampFence);
  }
  // Merger thread. Relaxed is enough: the epoch orders stamps of finished batches, and one seen
  // early only costs a second visit.
  uint64_t Read() const { return word_.Load(std::memory_order_relaxed); }

 private:
  typename Atomics::template Word<uint64_t> word_;
};

// Reads the cells of one chunk with `read()` so that they are the state at a batch boundary: true
// if they are. False after `tries` attempts in a chunk that is being written: the caller then has
// cells that are each right but may be from the middle of a batch. Merger thread.
template <class Atomics, class Orders, class Read>
bool ReadCleanCut(const BatchEpoch<Atomics, Orders>& epoch,
                  const ChunkStamp<Atomics, Orders>& stamp, int tries, Read&& read) {
  for (int i = 0; i < tries; ++i) {
    const uint64_t finished = epoch.Acquire();
    const uint64_t before = stamp.Read();
    read();
    // If a cell came from a batch after `before`, this fence makes that batch's stamp visible.
    Atomics::Fence(Orders::kCutFence);
    if (stamp.Read() == before && before <= finished) return true;
  }
  return false;
}

// The header of data within a cell that change word by word, as cells do, and now and then are
// rewritten as a whole. Its upper 16 bits are a version, which this class alone counts: even, and
// odd while the data are being rewritten. The other bits say what the data mean.
//
// Invariant: data that a reader accepts are what its header says of them, or have since grown as
// cells do. A view of a word; the owner never waits, and the reader gives up after a few tries. It
// would be fooled by 2^15 rewrites during one look.
template <class Atomics, class Orders = ShippedOrders>
class VersionedHeader {
 public:
  using Word = typename Atomics::template Word<uint64_t>;
  static constexpr int kVersionShift = 48;

  explicit VersionedHeader(Word& word) : word_(word) {}

  static constexpr uint16_t VersionOf(uint64_t header) {
    return static_cast<uint16_t>(header >> kVersionShift);
  }

  // Owner thread. Its own last store.
  uint64_t Own() const { return word_.Load(std::memory_order_relaxed); }
  // Owner thread. `rewrite()` makes the data what `header`, its version apart, says of them.
  template <class Rewriting>
  void Rewrite(uint64_t header, Rewriting&& rewrite) {
    const int version = VersionOf(Own());
    word_.Store(WithVersion(header, version + 1), std::memory_order_relaxed);
    // Whoever sees a rewritten word sees the odd version when it looks again.
    Atomics::Fence(Orders::kRewriteFence);
    rewrite();
    // Whoever sees this version sees all that was rewritten.
    word_.Store(WithVersion(header, version + 2), Orders::kHeaderStore);
  }
  // Owner thread. Another header of the same data: of what it says in addition, all is zero so far.
  // An order of its own, since it looks as if nothing hung on it: a relaxed store would head no
  // release sequence, and whoever reads it must still see the last rewrite.
  void Extend(uint64_t header) {
    word_.Store(WithVersion(header, VersionOf(Own())), Orders::kExtendStore);
  }

  // Merger thread. Calls `read(header)` until the data that it read are what the header says: true
  // if they are. An odd version is read as well, only to be refused: that gives the owner the time
  // to finish.
  template <class Read>
  bool ReadWhole(int tries, Read&& read) const {
    for (int i = 0; i < tries; ++i) {
      const uint64_t header = word_.Load(Orders::kHeaderLoad);
      read(header);
      // If a word came from a later rewrite, this fence makes its odd version visible.
      Atomics::Fence(Orders::kRewriteReadFence);
      const auto version = VersionOf(word_.Load(std::memory_order_relaxed));
      if (version == VersionOf(header) && version % 2 == 0) return true;
    }
    return false;
  }

 private:
  static constexpr uint64_t WithVersion(uint64_t header, int version) {
    constexpr uint64_t kRest = (uint64_t{1} << kVersionShift) - 1;
    return (header & kRest) | static_cast<uint64_t>(version) << kVersionShift;
  }

  Word& word_;
};

// A value and the time that it is from. Who sees a time sees the value of that time, or a later
// one. A view of two words.
template <class Atomics, class Orders = ShippedOrders>
class DatedWord {
 public:
  using Word = typename Atomics::template Word<uint64_t>;

  DatedWord(Word& value, Word& time) : value_(value), time_(time) {}

  // Owner thread.
  void Store(uint64_t value, uint64_t time) {
    value_.Store(value, std::memory_order_relaxed);
    time_.Store(time, Orders::kTimeStore);
  }
  // Merger thread. Before Read().
  uint64_t AcquireTime() const { return time_.Load(Orders::kTimeLoad); }
  // Merger thread.
  uint64_t Read() const { return value_.Load(std::memory_order_relaxed); }

 private:
  Word& value_;
  Word& time_;
};

// The number of the rules that read a live slot's key. The owner may exchange it for that of newer
// ones by which the key means the same; the merger may hear of them by this word alone. A view of a
// word.
template <class Atomics, class Orders = ShippedOrders>
class RulesNumber {
 public:
  using Word = typename Atomics::template Word<uint16_t>;

  explicit RulesNumber(Word& word) : word_(word) {}

  // Owner thread. The rules are complete, and stay while a slot has their number.
  void Publish(uint16_t number) { word_.Store(number, Orders::kRulesStore); }
  // Owner thread. Its own last store.
  uint16_t Own() const { return word_.Load(std::memory_order_relaxed); }
  // Merger thread, after acquiring the slot's state.
  uint16_t Acquire() const { return word_.Load(Orders::kRulesLoad); }

 private:
  Word& word_;
};

// A total that changes in runs: with it, what it was when the present run began, and when that was.
//
// Invariant of a reading: its base is that of its run or of a later one, its total has no change of
// a later one. So whoever asks what came after some moment, and takes the base if the run is later
// than that and else the total, is told what an undivided look would have told, at most with a
// total that is still behind the base. The other way round, an old base with a new time, changes
// from before the moment would count, and for good. A view of three words.
template <class Atomics, class Orders = ShippedOrders>
class TotalOfRuns {
 public:
  using Word = typename Atomics::template Word<uint64_t>;
  struct Reading {
    uint64_t total = 0;
    uint64_t base = 0;
    uint64_t time = 0;
  };

  TotalOfRuns(Word& total, Word& base, Word& time) : total_(total), run_(base, time), time_(time) {}

  // Owner thread. Its own last stores.
  uint64_t OwnTotal() const { return total_.Load(std::memory_order_relaxed); }
  uint64_t OwnTime() const { return time_.Load(std::memory_order_relaxed); }
  // Owner thread. What follows is of a run that begins now.
  void BeginRun(uint64_t time) {
    run_.Store(OwnTotal(), time);
    // Whoever sees a change of the run sees that it began.
    Atomics::Fence(Orders::kRunFence);
  }
  // Owner thread.
  void Change(uint64_t total) { total_.Store(total, std::memory_order_relaxed); }

  // Merger thread.
  Reading Read() const {
    Reading reading;
    reading.total = total_.Load(std::memory_order_relaxed);
    // If the total has a change of a later run, this fence makes that run's time visible.
    Atomics::Fence(Orders::kRunReadFence);
    reading.time = run_.AcquireTime();
    reading.base = run_.Read();
    return reading;
  }

 private:
  Word& total_;
  DatedWord<Atomics, Orders> run_;
  Word& time_;
};

enum class SlotLife : uint32_t { kFree = 0, kLive = 1, kRetired = 2 };

// Generation and life of a slot in one word. A slot is free until first used, and between two uses;
// each use is a generation of its own, so that a reader can tell the next tenant from the last.
struct SlotTenancy {
  uint32_t word = 0;

  static constexpr SlotTenancy Make(uint32_t generation, SlotLife life) {
    return {generation << 2 | static_cast<uint32_t>(life)};
  }
  constexpr uint32_t generation() const { return word >> 2; }
  constexpr SlotLife life() const { return static_cast<SlotLife>(word & 3); }
  friend constexpr bool operator==(SlotTenancy, SlotTenancy) = default;
};

template <class Atomics, class Orders = ShippedOrders>
class SlotState {
 public:
  // Owner thread. Identity is written and cells are zero: the slot is the next generation's.
  void PublishLive(uint32_t generation) {
    word_.Store(SlotTenancy::Make(generation, SlotLife::kLive).word, Orders::kStateStore);
  }
  // Owner thread. No cell of this generation is written after this.
  void PublishRetired(uint32_t generation) {
    word_.Store(SlotTenancy::Make(generation, SlotLife::kRetired).word, Orders::kRetireStore);
  }
  // Owner thread. The tenancy is over and counted elsewhere: what is in the slot means nothing.
  void PublishFree(uint32_t generation) {
    word_.Store(SlotTenancy::Make(generation, SlotLife::kFree).word, Orders::kStateStore);
  }
  // Owner thread. Its own last store.
  SlotTenancy Own() const { return {word_.Load(std::memory_order_relaxed)}; }
  // Merger thread.
  SlotTenancy Acquire() const { return {word_.Load(Orders::kStateLoad)}; }

 private:
  typename Atomics::template Word<uint32_t> word_;
};

// What a merger that last saw `seen` does on meeting `now` in the same slot. `seen` must be kept as
// `now` afterwards. Nothing is read of a slot for which this says nothing.
struct SlotVisit {
  bool adopt = false;  // a tenant not met before: read its identity
  bool read = false;   // cells are current: read them
  bool fold = false;   // the tenant is gone: these are its last values, add them to the base
};

constexpr SlotVisit VisitSlot(SlotTenancy seen, SlotTenancy now) {
  if (now.life() == SlotLife::kFree) return {};
  // A retired tenant is folded when it is first met so, and never looked at again: its memory
  // belongs to the owner as soon as the merged epoch says that we have been here.
  if (now.life() == SlotLife::kRetired && seen == now) return {};
  return {.adopt = seen.generation() != now.generation(),
          .read = now.life() == SlotLife::kLive,
          .fold = now.life() == SlotLife::kRetired};
}

}  // namespace tallyd

#endif  // TALLYD_CORE_SHARD_PROTOCOL_H_
