// Takes over what a process that ended without notice had in its shards' memories.

#ifndef TALLYD_CORE_MERGE_MEMORY_RECOVERY_H_
#define TALLYD_CORE_MERGE_MEMORY_RECOVERY_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/merge/gauge_merge.h"
#include "core/merge/merger.h"
#include "core/merge/saved_state.h"
#include "core/merge/state_restorer.h"
#include "core/rules/rule_book.h"
#include "core/shard/series_budget.h"
#include "core/shard/shard.h"
#include "core/shard/shard_memory.h"

namespace tallyd {

// Adds to what a StateRestorer has taken from the saved state: cells of slots that are live, or
// retired and not yet part of that state.
//
// Nothing in a memory is trusted: each offset, length, kind and number is checked before it is
// used, and a slot that does not pass is left out and counted. What a memory can do is to tell
// wrong numbers, of the series that it names.
//
// A cell is of the series that it counted for. Where the present rules make another one of its key,
// or none, what it had counted waits, as of a series that has expired.
//
// To be used like StateRestorer, after it. Thread-compatible.
class MemoryRecovery {
 public:
  struct Counts {
    uint64_t cells = 0;     // that were taken over
    uint64_t saved = 0;     // retired ones that the saved state has already
    uint64_t unusable = 0;  // that did not pass, or that the present rules would make otherwise
  };

  MemoryRecovery(const StateRestorer::Options& options, std::vector<Shard*> shards, Merger* merger,
                 const RuleBook* book, const SeriesBudget* budget);

  // `saved` are the tenancies that are in the saved state's bases; of another process than that
  // which saved it there are none. A series that is not in that state was made after `created_s`.
  void Read(ShardMemory* memory_untrusted, const std::vector<SavedTenancy>& saved,
            uint32_t created_s);
  // After all memories.
  void Finish();

  const Counts& counts() const { return counts_; }

 private:
  struct Chunk {
    SeriesKind kind = SeriesKind::kCounter;
    uint16_t layout = 0;  // the book's number
    uint32_t cell_words = 0;
    CellWord* cells = nullptr;

    CellWord* CellOf(uint32_t slot) const {
      return cells + size_t{slot % ShardMemory::kSlotsPerChunk} * cell_words;
    }
  };
  struct Gauge {
    bool is_live = false;  // a cell of it is, the first of which is kept
    uint32_t shard = 0;
    KeptSeries kept;
    std::vector<GaugeReading> readings;
    std::string texts[4];  // key name, key tags, name, labels
  };

  bool ReadChunk(ShardMemory* memory, uint32_t chunk, Chunk* read) const;
  bool FindLayout(uint64_t hash, uint16_t* layout) const;
  bool ReadKey(ShardMemory* memory, uint32_t slot, KeyView* key) const;
  bool ReadSlot(ShardMemory* memory, const Chunk& chunk, uint32_t slot, bool live,
                uint32_t created_s);
  bool KeepForItsSeries(ShardMemory* memory, const Chunk& chunk, uint32_t slot, uint32_t created_s);
  CountedValue ReadCounted(const Chunk& chunk, CellWord* cell) const;
  void TakeGauge(uint32_t shard, bool live, const KeptSeries& kept, CellWord* cell);

  const StateRestorer::Options options_;
  const std::vector<Shard*> shards_;
  Merger* const merger_;
  const RuleBook* const book_;
  const SeriesBudget* const budget_;
  const Rules* const rules_;
  std::map<std::pair<std::string, std::string>, Gauge> gauges_;  // by name and labels
  Counts counts_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_MEMORY_RECOVERY_H_
