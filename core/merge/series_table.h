// All series, interned over shards: families, labels, and which cells each series is made of.

#ifndef TALLYD_CORE_MERGE_SERIES_TABLE_H_
#define TALLYD_CORE_MERGE_SERIES_TABLE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/rules/rules.h"
#include "core/shard/key_memory.h"
#include "core/shard/key_table.h"
#include "core/shard/reserved_pages.h"

namespace tallyd {

using SeriesId = uint32_t;
using FamilyId = uint32_t;
using PageId = uint32_t;
inline constexpr uint32_t kNoId = UINT32_MAX;

// One cell of a series: a slot of a shard.
struct CellRef {
  uint16_t shard = 0;
  uint32_t slot = 0;
  friend auto operator<=>(const CellRef&, const CellRef&) = default;
};

struct Family {
  std::string name;
  SeriesKind kind = SeriesKind::kCounter;
  uint16_t layout = 0;        // of observers
  uint32_t sequence = 0;      // of the rules that made kind and layout
  uint32_t help = 0;          // the merger knows the text
  uint32_t lines = 1;         // that a series takes in the text formats
  bool non_negative = false;  // a gauge that is shown as 0 at least
  uint32_t size = 0;          // series; 0: the place is free
  uint64_t changes = 0;       // of its series, seen by merges
  SeriesId first = kNoId;     // the one that the family's header goes before
  PageId last_page = kNoId;   // the page of its last series
};

// 32 bytes: there may be millions. Most series have one cell, which is kept here.
struct SeriesRecord {
  FamilyId family = kNoId;
  PageId page = kNoId;
  uint32_t labels = 0;  // place in the label memory
  uint32_t labels_size = 0;
  uint32_t created_s = 0;  // wall clock, when it was not there yet; 0 if not known
  uint32_t slot = 0;       // the first cell
  uint16_t shard = 0;
  uint16_t cells = 0;      // how many; those after the first are in more_
  uint32_t changed_s = 0;  // when its value was last seen to change, in s of the monotonic clock
};

// Thread-compatible: the merger thread only.
class SeriesTable {
 public:
  SeriesTable();
  SeriesTable(const SeriesTable&) = delete;
  SeriesTable& operator=(const SeriesTable&) = delete;

  // The series of `spec`, made if there is none: then `*created`, and it has no page yet.
  SeriesId Intern(const SeriesSpec& spec, bool* created);
  // kNoId if there is none.
  SeriesId Find(const SeriesSpec& spec) const;
  // Removes a series that has no cells and is on no page; its family too if it was the last.
  void Remove(SeriesId id);

  void AddCell(SeriesId id, CellRef cell);
  void RemoveCell(SeriesId id, CellRef cell);
  CellRef FirstCell(const SeriesRecord& record) const { return {record.shard, record.slot}; }
  // Calls `visit(CellRef)` for each cell.
  template <class Visit>
  void ForEachCell(SeriesId id, Visit&& visit) const {
    const SeriesRecord& record = records_[id];
    if (record.cells == 0) return;
    visit(FirstCell(record));
    if (record.cells == 1) return;
    for (const CellRef cell : more_.at(id)) visit(cell);
  }

  // Calls `visit(SeriesId, const SeriesRecord&)` for each series.
  template <class Visit>
  void ForEach(Visit&& visit) const {
    for (SeriesId id = 0; id < records_.size(); ++id) {
      if (records_[id].family != kNoId) visit(id, records_[id]);
    }
  }

  SeriesRecord& record(SeriesId id) { return records_[id]; }
  const SeriesRecord& record(SeriesId id) const { return records_[id]; }
  Family& family(FamilyId id) { return families_[id]; }
  const Family& family(FamilyId id) const { return families_[id]; }
  const Family& family_of(SeriesId id) const { return families_[records_[id].family]; }
  const char* labels_at(const SeriesRecord& record) const {
    return label_memory_ + size_t{record.labels} * KeyMemory::kUnit;
  }
  std::string_view labels(const SeriesRecord& record) const {
    return {labels_at(record), record.labels_size};
  }
  // Calls `visit(const Family&)` for each family.
  template <class Visit>
  void ForEachFamily(Visit&& visit) const {
    for (const Family& family : families_) {
      if (family.size != 0) visit(family);
    }
  }
  // kNoId if there is none.
  FamilyId FindFamily(std::string_view name) const;

  uint64_t series() const { return index_.size(); }
  uint64_t families() const { return family_index_.size(); }

 private:
  FamilyId InternFamily(const SeriesSpec& spec);
  static void SetFirst(SeriesRecord* record, CellRef cell) {
    record->shard = cell.shard;
    record->slot = cell.slot;
  }
  SeriesId FindIn(FamilyId family, uint32_t hash, std::string_view labels_of) const;
  static uint32_t HashName(std::string_view name);
  static uint32_t HashSeries(FamilyId family, std::string_view labels);

  ReservedPages label_pages_;
  char* label_memory_;
  KeyMemory label_places_;
  std::vector<SeriesRecord> records_;
  std::vector<SeriesId> free_records_;
  std::deque<Family> families_;
  std::vector<FamilyId> free_families_;
  mutable IdentityTable index_;         // series, by id + 1
  mutable IdentityTable family_index_;  // families, by id + 1
  absl::flat_hash_map<SeriesId, std::vector<CellRef>> more_;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_SERIES_TABLE_H_
