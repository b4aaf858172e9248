// The merger: the one reader of all shards, and the owner of the series table.

#ifndef TALLYD_CORE_MERGE_MERGER_H_
#define TALLYD_CORE_MERGE_MERGER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/merge/page_encoder.h"
#include "core/merge/saved_state.h"
#include "core/merge/series_table.h"
#include "core/merge/snapshot.h"
#include "core/rules/rule_book.h"
#include "core/shard/family_types.h"
#include "core/shard/series_budget.h"
#include "core/shard/shard_memory.h"

namespace tallyd {

// What one pass did.
struct MergeStats {
  uint64_t chunks_visited = 0;
  uint64_t slots_visited = 0;
  uint64_t series_changed = 0;
  uint64_t series_added = 0;
  uint64_t series_removed = 0;
  uint64_t series_evicted = 0;  // that were asked to go, for others' sake
};

struct MergerOptions {
  // Under pressure counters and observers go that did not change for so long; 0: none go.
  int64_t evict_idle_ns = int64_t{3'600} * 1'000'000'000;
  // For the values of series that are gone, should they come back.
  uint64_t expired_bytes = uint64_t{64} << 20;
};

// A family some of whose samples are folded.
struct FoldedFamily {
  std::string name;
  std::vector<std::string> labels;  // that have too many values; empty: all samples without room
  // Whose sample was the last that found no room.
  FamilyTypes::SenderNote sender = {};
  uint64_t series = 0;  // that are admitted, of all shards; 0 if the family has no account
};

// A family of senders, as a whole.
struct FamilyStats {
  std::string name;
  FamilyType type = FamilyType::kCounter;
  uint64_t series = 0;
  uint64_t changes = 0;  // of its series, each counted once a merge; starts anew with the family
};

// Ownership: the series table, the pages and the caches of rendered pages are the merger thread's
// alone. Thread-compatible: one thread, the merger thread, calls everything; the snapshots it
// returns may go to any thread.
class Merger {
 public:
  // The shards' memories, and what they share, outlive the merger.
  Merger(std::vector<ShardMemory*> shards, RuleBook* book, FamilyTypes* families,
         SeriesBudget* budget, MergerOptions options = {});
  ~Merger();
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  // Merger thread. Reads what changed since the last pass in every shard. `now_ns` is the monotonic
  // clock, `unix_s` the wall clock in whole seconds: a new series is dated by the pass before. With
  // 0 it has no date.
  MergeStats Merge(int64_t now_ns, int64_t unix_s = 0);

  // Merger thread. Series that are there whatever is sent: shown at 0 until samples come, and never
  // removed. `series` as the rules of this sequence would make them. Replaces what was declared
  // before; what no cell feeds and is not declared any more goes.
  void Declare(const std::vector<SeriesSpec>& series, uint32_t rules_sequence);

  // Merger thread. The value of a declared gauge that nobody sends. False if it is not declared.
  bool Observe(const SeriesSpec& series, double value);

  // Before the first Merge, any thread. What a series had counted in another process, by
  // SeriesBudget::HashOf of its identity; of what is told several times, the sum. Whether or not it
  // comes back, nobody sees it go backwards.
  void Restore(uint64_t hash, SeriesKind kind, uint16_t layout, const CountedValue& value);

  // Merger thread. All that the last Merge shows, and what has expired, for another process to
  // begin with. `head` without its layouts and tenancies.
  std::string SaveState(SavedHead head);

  // Merger thread, once after each SaveState. The state that it gave when `sequence` was told is
  // kept safe: slots whose tenants it has may have others (MemorySession::holds_retired).
  void Release(uint64_t sequence);

  // Merger thread. Registers a format; pages rendered for it are kept, as long as nothing in them
  // changes, from one Render to the next. The encoder outlives the merger. At most kMaxVariants.
  static constexpr int kMaxVariants = 8;
  int AddVariant(const PageEncoder* encoder);

  // Merger thread. The state of the last Merge, in a format: renders only pages that changed since
  // this variant was last rendered.
  std::shared_ptr<const Snapshot> Render(int variant);

  // Merger thread. The state of the last Merge as `encoder` writes it, every page afresh, with
  // nothing kept: for pushes, which come less often than series change.
  std::shared_ptr<const Snapshot> RenderOnce(const PageEncoder& encoder);

  // Merger thread. Frees the rendered pages of a variant that nobody asks for any more.
  void ForgetPages(int variant);

  // Merger thread. Those with the most series, at most `count`, the largest first.
  std::vector<FamilyStats> LargestFamilies(size_t count) const;

  // Merger thread.
  uint64_t series() const;
  uint64_t families() const;
  // Series that expired and would start at 0 if they came back.
  uint64_t forgotten() const;
  std::vector<FoldedFamily> FoldedFamilies() const;
  uint64_t folded_families() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_MERGER_H_
