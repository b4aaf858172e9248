// One shard as the merger sees it: which slots it has met, and what it last saw in them.

#ifndef TALLYD_CORE_MERGE_SHARD_READER_H_
#define TALLYD_CORE_MERGE_SHARD_READER_H_

#include <cstdint>
#include <vector>

#include "core/merge/series_table.h"
#include "core/shard/shard_memory.h"

namespace tallyd {

// Thread-compatible: the merger thread only.
class ShardReader {
 public:
  // What the merger remembers of a slot.
  struct SlotView {
    SlotTenancy seen;
    SeriesId series = kNoId;
    uint64_t mark = 0;  // of the cell's content when it was last read
    // Whether the same mark may stand for other content: the cell was read in the midst of a batch,
    // all samples of which leave the same mark.
    bool doubt = false;
  };

  explicit ShardReader(ShardMemory* memory) : memory_(memory) {}

  // Visits the slots of all chunks stamped since the last pass, in the order of their numbers, then
  // tells the owner how far it has read. `visit(slot, tenancy, SlotView*)` is called for each slot
  // whose state asks for it. Returns the number of chunks visited.
  template <class Visit>
  uint64_t Pass(Visit&& visit) {
    const uint64_t epoch = memory_->header().epoch.Acquire();
    const uint32_t chunks = memory_->header().chunk_count.Acquire();
    views_.resize(size_t{chunks} * ShardMemory::kSlotsPerChunk);
    uint64_t visited = 0;
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      if (memory_->chunks()[chunk].stamp.Read() <= merged_) continue;
      ++visited;
      const uint32_t first = chunk * ShardMemory::kSlotsPerChunk;
      for (uint32_t slot = first; slot < first + ShardMemory::kSlotsPerChunk; ++slot) {
        const SlotTenancy now = memory_->states()[slot].Acquire();
        SlotView& view = views_[slot];
        const SlotVisit what = VisitSlot(view.seen, now);
        if (!what.read && !what.fold) continue;
        visit(slot, what, &view);
        view.seen = now;
      }
      NoteDoubt(chunk, epoch);
    }
    merged_ = epoch;
    memory_->header().merged_epoch.Publish(epoch);
    return visited;
  }

  // The epoch up to which the last pass has read.
  uint64_t merged() const { return merged_; }
  ShardMemory& memory() const { return *memory_; }
  SlotView& view(uint32_t slot) { return views_[slot]; }

 private:
  // After the cells of a chunk were read: were they of a batch that is not published yet?
  void NoteDoubt(uint32_t chunk, uint64_t epoch) {
    // If a cell came from a batch after `epoch`, this fence makes that batch's stamp visible.
    StdAtomics::Fence(std::memory_order_acquire);
    const bool doubt = memory_->chunks()[chunk].stamp.Read() > epoch;
    const uint32_t first = chunk * ShardMemory::kSlotsPerChunk;
    for (uint32_t slot = first; slot < first + ShardMemory::kSlotsPerChunk; ++slot) {
      views_[slot].doubt = doubt;
    }
  }

  ShardMemory* memory_;
  uint64_t merged_ = 0;
  std::vector<SlotView> views_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_SHARD_READER_H_
