// Writes what the merger knows as a saved state.

#ifndef TALLYD_CORE_MERGE_STATE_SAVER_H_
#define TALLYD_CORE_MERGE_STATE_SAVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/merge/cell_reader.h"
#include "core/merge/expired_values.h"
#include "core/merge/page_directory.h"
#include "core/merge/saved_state.h"
#include "core/merge/series_table.h"
#include "core/merge/shard_reader.h"
#include "core/merge/state_codec.h"
#include "core/rules/rule_book.h"

namespace tallyd {

// Thread-compatible: the merger thread only, between two passes.
class StateSaver {
 public:
  StateSaver(const SeriesTable* table, const PageDirectory* pages, CellReader* cells,
             const std::vector<ShardReader>* shards, const RuleBook* book)
      : table_(table), pages_(pages), cells_(cells), shards_(shards), book_(book) {}

  // `now_ns` is when the last pass began.
  std::string Save(SavedHead head, const ExpiredValues& expired, int64_t now_ns);

 private:
  void NumberLayouts(const ExpiredValues& expired, SavedHead* head);
  uint16_t SavedLayout(uint16_t layout, SavedHead* head);
  void SaveSeries(SeriesId id, int64_t now_ns, StateEncoder* encoder);
  SavedKey KeyOf(const SeriesRecord& record) const;

  const SeriesTable* table_;
  const PageDirectory* pages_;
  CellReader* cells_;
  const std::vector<ShardReader>* shards_;
  const RuleBook* book_;
  absl::flat_hash_map<uint16_t, uint16_t> layouts_;  // from the book's numbers to the state's
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_STATE_SAVER_H_
