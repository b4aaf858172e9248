#include "core/merge/state_saver.h"

#include <utility>

#include "core/shard/set_cell.h"

namespace tallyd {

std::string StateSaver::Save(SavedHead head, const ExpiredValues& expired, int64_t now_ns) {
  NumberLayouts(expired, &head);
  StateEncoder encoder(head);
  for (size_t section = 0; section < Snapshot::kSections; ++section) {
    for (const Page* page : pages_->section(section)) {
      for (const SeriesId id : page->series) SaveSeries(id, now_ns, &encoder);
    }
  }
  expired.ForEach([&](uint64_t hash, ExpiredValues::Shape shape, const CountedValue& value) {
    SavedExpired saved;
    saved.hash = hash;
    saved.kind = shape.kind;
    if (IsObserver(shape.kind)) saved.layout = layouts_.at(shape.layout);
    saved.value = value;
    encoder.Add(saved);
  });
  return encoder.Finish();
}

void StateSaver::NumberLayouts(const ExpiredValues& expired, SavedHead* head) {
  table_->ForEachFamily([&](const Family& family) {
    if (IsObserver(family.kind)) SavedLayout(family.layout, head);
  });
  expired.ForEach([&](uint64_t, ExpiredValues::Shape shape, const CountedValue&) {
    if (IsObserver(shape.kind)) SavedLayout(shape.layout, head);
  });
}

uint16_t StateSaver::SavedLayout(uint16_t layout, SavedHead* head) {
  const auto [found, is_new] =
      layouts_.try_emplace(layout, static_cast<uint16_t>(head->layouts.size()));
  if (is_new) head->layouts.push_back(book_->layout(layout));
  return found->second;
}

void StateSaver::SaveSeries(SeriesId id, int64_t now_ns, StateEncoder* encoder) {
  const SeriesRecord& record = table_->record(id);
  const Family& family = table_->family(record.family);
  const CountedValue* const base = cells_->BaseOf(id);
  // One that is declared and never had a sample is there again without us.
  if (record.cells == 0 && base == nullptr) return;
  SavedSeries saved;
  saved.family = family.name;
  saved.kind = family.kind;
  saved.labels = table_->labels(record);
  saved.created_s = record.created_s;
  saved.shard = record.shard;
  saved.key = KeyOf(record);
  if (IsObserver(family.kind)) {
    saved.layout = layouts_.at(family.layout);
    saved.carry = cells_->CarryOf(id);
  }
  switch (family.kind) {
    case SeriesKind::kCounter:
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      if (base != nullptr) saved.base = *base;
      saved.cells = cells_->CountedBy(id);
      // Quantiles are of a window that begins anew.
      if (family.kind == SeriesKind::kSummary) saved.base.window = saved.cells.window = {};
      break;
    case SeriesKind::kGauge:
      saved.gauge = cells_->Gauge(id);
      break;
    case SeriesKind::kSet: {
      const SetUnion members = cells_->MembersOf(id, now_ns);
      saved.set.window = SetCell::WindowAt(now_ns);
      saved.set.hashes = members.hashes();
      if (members.is_sketch()) {
        saved.set.registers.assign(members.registers().begin(), members.registers().end());
      }
      break;
    }
  }
  encoder->Add(saved);
}

SavedKey StateSaver::KeyOf(const SeriesRecord& record) const {
  SavedKey key;
  if (record.cells == 0) return key;
  const CellRef cell = table_->FirstCell(record);
  ShardMemory& memory = (*shards_)[cell.shard].memory();
  const SlotIdentity& identity = memory.identities()[cell.slot];
  const KeyView view = memory.KeyOf(identity);
  key.is_known = true;
  key.is_literal = view.is_literal;
  key.type = view.type;
  key.name = view.name;
  key.tags = view.tags;
  return key;
}

}  // namespace tallyd
