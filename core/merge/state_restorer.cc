#include "core/merge/state_restorer.h"

#include <utility>

#include "core/shard/set_cell.h"

namespace tallyd {

StateRestorer::StateRestorer(const Options& options, std::vector<Shard*> shards, Merger* merger,
                             const RuleBook* book, const SeriesBudget* budget)
    : options_(options), shards_(std::move(shards)), merger_(merger), book_(book), budget_(budget) {
  for (Shard* shard : shards_) shard->BeginBatch(options.now_ns);
}

void StateRestorer::OnHead(SavedHead head) {
  head_ = std::move(head);
  for (const HistogramLayout& layout : head_.layouts) {
    uint16_t number = 0;
    const bool found = book_->FindLayoutIf(
        [&](const HistogramLayout& known) { return known.KeepsTheSameAs(layout); }, &number);
    layouts_.push_back(found ? number : kNoLayout);
  }
}

bool StateRestorer::LayoutOf(SeriesKind kind, uint16_t saved, uint16_t* layout) const {
  if (!IsObserver(kind)) return true;
  if (saved >= layouts_.size() || layouts_[saved] == kNoLayout) return false;
  *layout = static_cast<uint16_t>(layouts_[saved]);
  return true;
}

void StateRestorer::OnSeries(SavedSeries* series) {
  KeptSeries kept;
  kept.kind = series->kind;
  kept.name = series->family;
  kept.labels = series->labels;
  // One whose buckets nobody asks for any more is gone for good.
  if (!LayoutOf(series->kind, series->layout, &kept.layout)) {
    ++counts_.waiting;
    return;
  }
  if (series->kind == SeriesKind::kCounter || IsObserver(series->kind)) {
    CountedValue value = std::move(series->base);
    if (!options_.has_cells) value.Add(series->cells);
    value.created_s = series->created_s;
    merger_->Restore(budget_->HashOf(series->family, series->labels), series->kind, kept.layout,
                     value);
  }
  if (!series->key.is_known) return;
  kept.key = {.type = series->key.type,
              .name = series->key.name,
              .tags = series->key.tags,
              .is_literal = series->key.is_literal};
  kept.gauge = series->gauge;
  if (!options_.has_cells) kept.carry = series->carry;
  const bool in_window =
      options_.same_clock && series->set.window == SetCell::WindowAt(options_.now_ns);
  if (!in_window) series->set = {};
  if (series->key.is_literal) {
    literals_.push_back({.shard = series->shard,
                         .type = series->key.type,
                         .kind = series->kind,
                         .layout = kept.layout,
                         .name = std::string(series->family),
                         .labels = std::string(series->labels),
                         .gauge = kept.gauge,
                         .carry = kept.carry,
                         .set = std::move(series->set)});
    return;
  }
  kept.set_registers = series->set.registers;
  kept.set_hashes = series->set.hashes;
  RestoreSlot(series->shard, kept);
}

// In the shard that had it: a sender's datagrams come in there again, if the sockets are the same.
void StateRestorer::RestoreSlot(uint16_t shard, const KeptSeries& kept) {
  if (shards_[shard % shards_.size()]->Restore(kept)) {
    ++counts_.series;
  } else {
    ++counts_.waiting;
  }
}

void StateRestorer::OnExpired(SavedExpired* expired) {
  uint16_t layout = 0;
  // Hashes with another seed say nothing.
  if (!LayoutOf(expired->kind, expired->layout, &layout)) return;
  merger_->Restore(expired->hash, expired->kind, layout, expired->value);
  ++counts_.expired;
}

void StateRestorer::Finish() {
  for (const Literal& literal : literals_) {
    KeptSeries kept;
    kept.key = {
        .type = literal.type, .name = literal.name, .tags = literal.labels, .is_literal = true};
    kept.kind = literal.kind;
    kept.layout = literal.layout;
    kept.name = literal.name;
    kept.labels = literal.labels;
    kept.gauge = literal.gauge;
    kept.carry = literal.carry;
    kept.set_registers = literal.set.registers;
    kept.set_hashes = literal.set.hashes;
    RestoreSlot(literal.shard, kept);
  }
  literals_.clear();
  for (Shard* shard : shards_) shard->EndBatch();
}

}  // namespace tallyd
