// Begins shards and merger with what another process saved.

#ifndef TALLYD_CORE_MERGE_STATE_RESTORER_H_
#define TALLYD_CORE_MERGE_STATE_RESTORER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/merge/merger.h"
#include "core/merge/saved_state.h"
#include "core/merge/state_codec.h"
#include "core/rules/rule_book.h"
#include "core/shard/series_budget.h"
#include "core/shard/shard.h"

namespace tallyd {

// Takes a state in: each series gets a slot in the shard that had it, by the key that led to it, so
// that it is there before its first sample, and expires as if that had come just now; what it had
// counted becomes the merger's base. A series that the present rules, types or limits would not
// make gets no slot: what it had counted waits, as of one that has expired.
//
// To be used between the making of shards and merger, and their threads. Thread-compatible.
class StateRestorer : public StateVisitor {
 public:
  struct Options {
    int64_t now_ns = 0;
    // Whether the cells come from elsewhere, and only the rest is taken from here.
    bool has_cells = false;
    // Whether times of the monotonic clock mean the same to us.
    bool same_clock = false;
  };
  struct Counts {
    uint64_t series = 0;   // that are there again
    uint64_t expired = 0;  // that would be, if samples came
    uint64_t waiting = 0;  // that the present rules or limits would not make
  };

  // Everything outlives this. There is a shard at least.
  StateRestorer(const Options& options, std::vector<Shard*> shards, Merger* merger,
                const RuleBook* book, const SeriesBudget* budget);

  void OnHead(SavedHead head) override;
  void OnSeries(SavedSeries* series) override;
  void OnExpired(SavedExpired* expired) override;
  // After all was told.
  void Finish();

  const SavedHead& head() const { return head_; }
  const Counts& counts() const { return counts_; }

 private:
  // An overflow series, for which its family must be there first.
  struct Literal {
    uint16_t shard;
    SampleType type;
    SeriesKind kind;
    uint16_t layout;
    std::string name;
    std::string labels;
    double gauge;
    double carry;
    SavedSet set;
  };
  static constexpr uint32_t kNoLayout = UINT32_MAX;

  bool LayoutOf(SeriesKind kind, uint16_t saved, uint16_t* layout) const;
  void RestoreSlot(uint16_t shard, const KeptSeries& kept);

  const Options options_;
  const std::vector<Shard*> shards_;
  Merger* const merger_;
  const RuleBook* const book_;
  const SeriesBudget* const budget_;
  SavedHead head_;
  std::vector<uint32_t> layouts_;  // by the state's numbers, the book's
  std::vector<Literal> literals_;
  Counts counts_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_STATE_RESTORER_H_
