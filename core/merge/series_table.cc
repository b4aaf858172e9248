#include "core/merge/series_table.h"

#include <algorithm>
#include <cstring>

namespace tallyd {
namespace {

constexpr uint64_t kLabelBytes = uint64_t{32}
                                 << 30;  // reserved, not used: what 32-bit places reach

uint32_t Fold(uint64_t hash) { return static_cast<uint32_t>(hash ^ hash >> 32); }

}  // namespace

SeriesTable::SeriesTable()
    : label_pages_(kLabelBytes),
      label_memory_(label_pages_.As<char>()),
      label_places_(kLabelBytes) {}

// Unseeded would do here: what gets this far has passed the shards' seeded tables and bounds.
uint32_t SeriesTable::HashName(std::string_view name) {
  return Fold(XXH3_64bits_withSeed(name.data(), name.size(), 0x7461));
}

uint32_t SeriesTable::HashSeries(FamilyId family, std::string_view labels) {
  return Fold(XXH3_64bits_withSeed(labels.data(), labels.size(), family));
}

FamilyId SeriesTable::FindFamily(std::string_view name) const {
  const auto same = [&](const IdentityEntry& entry) {
    return families_[entry.slot_plus_one - 1].name == name;
  };
  const IdentityEntry* entry = family_index_.Find(HashName(name), same);
  return entry == nullptr ? kNoId : entry->slot_plus_one - 1;
}

FamilyId SeriesTable::InternFamily(const SeriesSpec& spec) {
  FamilyId id = FindFamily(spec.name);
  if (id != kNoId) return id;
  if (free_families_.empty()) {
    id = static_cast<FamilyId>(families_.size());
    families_.emplace_back();
  } else {
    id = free_families_.back();
    free_families_.pop_back();
  }
  Family& family = families_[id];
  family.name = spec.name;
  family.kind = spec.kind;
  family.layout = spec.layout;
  family_index_.Insert({HashName(spec.name), id + 1});
  return id;
}

SeriesId SeriesTable::FindIn(FamilyId family, uint32_t hash, std::string_view labels_of) const {
  const IdentityEntry* entry = index_.Find(hash, [&](const IdentityEntry& candidate) {
    const SeriesRecord& record = records_[candidate.slot_plus_one - 1];
    return record.family == family && labels(record) == labels_of;
  });
  return entry == nullptr ? kNoId : entry->slot_plus_one - 1;
}

SeriesId SeriesTable::Find(const SeriesSpec& spec) const {
  const FamilyId family = FindFamily(spec.name);
  if (family == kNoId) return kNoId;
  return FindIn(family, HashSeries(family, spec.labels), spec.labels);
}

SeriesId SeriesTable::Intern(const SeriesSpec& spec, bool* created) {
  const FamilyId family = InternFamily(spec);
  const uint32_t hash = HashSeries(family, spec.labels);
  SeriesId id = FindIn(family, hash, spec.labels);
  *created = id == kNoId;
  if (id != kNoId) return id;

  if (free_records_.empty()) {
    id = static_cast<SeriesId>(records_.size());
    records_.emplace_back();
  } else {
    id = free_records_.back();
    free_records_.pop_back();
  }
  SeriesRecord& record = records_[id];
  record = SeriesRecord{};
  record.family = family;
  record.labels_size = static_cast<uint32_t>(spec.labels.size());
  if (!label_places_.Allocate(spec.labels.size(), KeyPool::kLasting, &record.labels))
    throw std::bad_alloc();
  std::memcpy(label_memory_ + size_t{record.labels} * KeyMemory::kUnit, spec.labels.data(),
              spec.labels.size());
  index_.Insert({hash, id + 1});
  ++families_[family].size;
  return id;
}

void SeriesTable::Remove(SeriesId id) {
  SeriesRecord& record = records_[id];
  index_.Erase(HashSeries(record.family, labels(record)),
               [&](const IdentityEntry& entry) { return entry.slot_plus_one == id + 1; });
  label_places_.Free(record.labels, record.labels_size, KeyPool::kLasting);
  Family& family = families_[record.family];
  if (--family.size == 0) {
    family_index_.Erase(HashName(family.name), [&](const IdentityEntry& entry) {
      return entry.slot_plus_one == record.family + 1;
    });
    free_families_.push_back(record.family);
    family = Family{};
  }
  record = SeriesRecord{};
  free_records_.push_back(id);
}

// Cells stay in the order of their shards and slots, so that doubles are always added in the same
// order and an unchanged series renders to the same bytes.
void SeriesTable::AddCell(SeriesId id, CellRef cell) {
  SeriesRecord& record = records_[id];
  if (record.cells++ == 0) return SetFirst(&record, cell);
  std::vector<CellRef>& more = more_[id];
  if (cell < FirstCell(record)) {
    more.insert(more.begin(), FirstCell(record));
    SetFirst(&record, cell);
  } else {
    more.insert(std::upper_bound(more.begin(), more.end(), cell), cell);
  }
}

void SeriesTable::RemoveCell(SeriesId id, CellRef cell) {
  SeriesRecord& record = records_[id];
  --record.cells;
  if (record.cells == 0) return;
  std::vector<CellRef>& more = more_[id];
  if (FirstCell(record) == cell) {
    SetFirst(&record, more.front());
    more.erase(more.begin());
  } else {
    more.erase(std::find(more.begin(), more.end(), cell));
  }
  if (more.empty()) more_.erase(id);
}

}  // namespace tallyd
