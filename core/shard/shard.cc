#include "core/shard/shard.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>

#include "core/shard/batch_pipeline.h"
#include "core/shard/cells.h"
#include "core/shard/series_slots.h"
#include "core/shard/set_cell.h"
#include "core/wire/line.h"
#include "core/wire/line_fast.h"

namespace tallyd {

namespace {

// Makes the session part of each sample's key.
class SessionSink : public SampleSink {
 public:
  SessionSink(std::string_view session, SampleSink* next) : session_(session), next_(next) {}

  void OnSample(const Sample& sample) override {
    // A key's size is kept in 16 bits.
    const size_t size = sample.name.size() + sample.tags.size() + session_.size() + 3;
    if (size > UINT16_MAX) return next_->OnDrop(DropReason::kTooLong);
    Sample in_session = sample;
    in_session.tags = TagsOf(sample.tags);
    next_->OnSample(in_session);
  }
  void OnDrop(DropReason reason) override { next_->OnDrop(reason); }
  void OnEvent(EventKind kind) override { next_->OnEvent(kind); }

  void ForgetKeys() { keys_.clear(); }

 private:
  // All samples of a line have the same tags mostly.
  std::string_view TagsOf(std::string_view sent) {
    const size_t size = sent.size() + 2 + session_.size();
    const bool same = !keys_.empty() && keys_.back().size() == size + kReadPadding &&
                      std::string_view(keys_.back()).substr(0, sent.size()) == sent;
    if (!same) {
      std::string& tags = keys_.emplace_back(sent);
      tags.append("|=").append(session_).append(kReadPadding, '\0');
    }
    return std::string_view(keys_.back()).substr(0, size);
  }

  const std::string_view session_;
  SampleSink* const next_;
  std::deque<std::string> keys_;  // of which samples may be pending
};

}  // namespace

// Puts the parts together: lines to samples (core/wire), samples to cells (BatchPipeline), keys to
// slots (SeriesSlots).
class Shard::Impl : public SampleSink {
 public:
  Impl(const ShardOptions& options, RuleBook* book, FamilyTypes* families, SeriesBudget* budget,
       std::unique_ptr<ShardMemory> memory)
      : index_(options.index),
        memory_(std::move(memory)),
        ledger_(memory_->ledger()),
        senders_(std::make_unique<SenderCounts[]>(Source::kMaxSenders)),
        slots_(options, book, families, budget, memory_.get(), senders_.get()),
        pipeline_(options.hash_seed, &slots_, memory_.get(), senders_.get()),
        parser_({.max_line_bytes = options.max_line_bytes, .tags = options.tags}) {}

  void BeginBatch(int64_t now_ns) {
    // Times of batches are distinct, so that a cell's touch tells batches apart.
    now_ns_ = std::max(now_ns, now_ns_ + 1);
    ++batch_;
    slots_.BeginBatch(batch_, now_ns_);
    pipeline_.BeginBatch(batch_, now_ns_, slots_.merge_seen_ns());
  }

  void Apply(Source source, char* datagram, size_t size) {
    source_ = source;
    samples_ = 0;
    const char* const end = datagram + size;
    // An LF after the last byte spares the parser all checks for the end.
    const char after = datagram[size];
    datagram[size] = '\n';
    for (const char* line = datagram; line < end;) line = ParseLine(line);
    datagram[size] = after;
    CountDatagram(source, size);
  }

  void ApplyTruncated(Source source, char* datagram, size_t size) {
    const std::string_view bytes(datagram, size);
    const size_t last = bytes.rfind('\n');
    const size_t whole = last == std::string_view::npos ? 0 : last + 1;
    Apply(source, datagram, whole);
    Ledger::Listener& listener = ledger_.listeners[source.listener];
    listener.bytes.Add(size - whole);
    listener.truncated.Add(1);
    Drop(source, DropReason::kTruncated);
  }

  void ApplyInSession(Source source, std::string_view session, std::string_view datagram) {
    source_ = source;
    samples_ = 0;
    const size_t size = datagram.size();
    SessionSink sink(session, this);
    while (!datagram.empty()) {
      const std::string_view line = datagram.substr(0, datagram.find('\n'));
      parser_.Parse(line, &sink);
      // The texts of its keys are the next line's.
      pipeline_.Flush();
      sink.ForgetKeys();
      datagram.remove_prefix(std::min(line.size() + 1, datagram.size()));
    }
    CountDatagram(source, size);
  }

  void Drop(Source source, DropReason reason) {
    ledger_.listeners[source.listener].samples.Add(1);
    senders_[source.sender].samples.Add(1);
    pipeline_.CountDrop(reason, source.sender);
  }

  void Refuse(Source source, std::string_view datagram, DropReason reason) {
    source_ = source;
    samples_ = 0;
    const size_t size = datagram.size();
    while (!datagram.empty()) {
      const size_t line = std::min(datagram.find('\n'), datagram.size());
      if (line > 0) OnDrop(reason);
      datagram.remove_prefix(std::min(line + 1, datagram.size()));
    }
    CountDatagram(source, size);
  }

  bool Restore(const KeptSeries& kept) {
    uint32_t slot = 0;
    if (!slots_.Restore(kept, &slot)) return false;
    CellWord* const cell = memory_->CellOf(slot);
    const ChunkHead& chunk = memory_->chunks()[slot / ShardMemory::kSlotsPerChunk];
    switch (kept.kind) {
      case SeriesKind::kGauge:
        GaugeCell(cell).Set(kept.gauge, now_ns_);
        break;
      case SeriesKind::kSet:
        SetCell(cell).AddAll(kept.set_registers, kept.set_hashes, now_ns_);
        return true;  // it has noted the time
      case SeriesKind::kHistogram:
      case SeriesKind::kSummary:
        // It may be told several parts of one series.
        AddCarry(HistogramCell(cell, slots_.LayoutOf(chunk.cell_class)), kept.carry);
        StoreWord(cell[0], static_cast<uint64_t>(now_ns_));
        return true;
      case SeriesKind::kCounter:
        break;
    }
    if (chunk.cell_class.expires()) {
      StoreWord(cell[chunk.cell_words - 1], static_cast<uint64_t>(now_ns_));
    }
    return true;
  }

  void EndBatch() {
    pipeline_.Flush();
    slots_.Expire(SeriesSlots::kExpireStep);
    pipeline_.AddCountsTo(&ledger_);
    slots_.AddCountsTo(&ledger_);
    ledger_.batches.Add(1);
    memory_->header().epoch.Publish(batch_);
  }

  void Turn(int64_t now_ns) {
    BeginBatch(now_ns);
    slots_.Expire(SeriesSlots::kExpireTurn);
    EndBatch();
  }

  void UseRules(uint16_t generation) { slots_.UseRules(generation); }
  void ForgetSender(uint16_t sender) { slots_.ForgetSender(sender); }

  void OnSample(const Sample& sample) override {
    ++samples_;
    pipeline_.Add(sample, source_);
  }
  void OnDrop(DropReason reason) override {
    ++samples_;
    pipeline_.CountDrop(reason, source_.sender);
  }
  void OnEvent(EventKind kind) override { ledger_.events[static_cast<size_t>(kind)].Add(1); }

  Ledger& ledger() { return ledger_; }
  const SenderCounts& sender_counts(uint16_t sender) const { return senders_[sender]; }
  ViolationLog& violations() { return slots_.violations(); }
  ShardMemory& memory() { return *memory_; }
  int index() const { return index_; }

 private:
  // Of the datagram that was read.
  void CountDatagram(Source source, size_t size) {
    Ledger::Listener& listener = ledger_.listeners[source.listener];
    listener.datagrams.Add(1);
    listener.bytes.Add(size);
    listener.samples.Add(samples_);
    SenderCounts& sender = senders_[source.sender];
    sender.datagrams.Add(1);
    sender.samples.Add(samples_);
  }
  static void AddCarry(HistogramCell cell, double carry) { cell.set_carry(cell.carry() + carry); }

  // Takes in the line at `line`, which an LF ends; returns the start of the next.
  const char* ParseLine(const char* line) {
    if (*line == '\n') return line + 1;
    Sample sample;
    if (const char* end = ParseLineFast(line, &sample);
        end != nullptr && static_cast<size_t>(end - line) <= parser_.max_line_bytes()) {
      ++samples_;
      pipeline_.Add(sample, source_);
      return end + 1;
    }
    const auto* end = static_cast<const char*>(std::memchr(line, '\n', SIZE_MAX / 2));
    const bool used_scratch =
        parser_.Parse(std::string_view(line, static_cast<size_t>(end - line)), this);
    // The scratch space is the next such line's: its samples must be done with before.
    if (used_scratch) pipeline_.Flush();
    return end + 1;
  }

  const int index_;
  const std::unique_ptr<ShardMemory> memory_;
  Ledger& ledger_;                                 // in memory_
  const std::unique_ptr<SenderCounts[]> senders_;  // by Source::sender
  SeriesSlots slots_;
  BatchPipeline pipeline_;
  LineParser parser_;

  Source source_;         // of the datagram being read
  uint64_t samples_ = 0;  // of it
  uint64_t batch_ = 0;
  int64_t now_ns_ = 0;
};

absl::StatusOr<std::unique_ptr<Shard>> Shard::Create(const ShardOptions& options, RuleBook* book,
                                                     FamilyTypes* families, SeriesBudget* budget) {
  // Cells are bounded by the slots; this is room for every one of them to be a histogram.
  constexpr uint64_t kCellBytes = uint64_t{32} << 30;
  auto memory = ShardMemory::Create(options.max_key_bytes, kCellBytes, options.memory_fd);
  if (!memory.ok()) return memory.status();
  (*memory)->header().hash_seed = budget->seed();
  (*memory)->header().session = options.session;
  return std::unique_ptr<Shard>(
      new Shard(std::make_unique<Impl>(options, book, families, budget, *std::move(memory))));
}

Shard::Shard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Shard::~Shard() = default;

void Shard::BeginBatch(int64_t now_ns) { impl_->BeginBatch(now_ns); }
void Shard::Apply(Source source, char* datagram, size_t size) {
  impl_->Apply(source, datagram, size);
}
void Shard::ApplyTruncated(Source source, char* datagram, size_t size) {
  impl_->ApplyTruncated(source, datagram, size);
}
void Shard::ApplyInSession(Source source, std::string_view session, const char* datagram,
                           size_t size) {
  impl_->ApplyInSession(source, session, std::string_view(datagram, size));
}
void Shard::Drop(Source source, DropReason reason) { impl_->Drop(source, reason); }
void Shard::Refuse(Source source, std::string_view datagram, DropReason reason) {
  impl_->Refuse(source, datagram, reason);
}
bool Shard::Restore(const KeptSeries& kept) { return impl_->Restore(kept); }
void Shard::EndBatch() { impl_->EndBatch(); }
void Shard::Turn(int64_t now_ns) { impl_->Turn(now_ns); }
void Shard::ForgetSender(uint16_t sender) { impl_->ForgetSender(sender); }
void Shard::UseRules(uint16_t generation) { impl_->UseRules(generation); }
Ledger& Shard::ledger() { return impl_->ledger(); }
const Ledger& Shard::ledger() const { return impl_->ledger(); }
const SenderCounts& Shard::sender_counts(uint16_t sender) const {
  return impl_->sender_counts(sender);
}
ViolationLog& Shard::violations() { return impl_->violations(); }

ShardMemory& Shard::memory() { return impl_->memory(); }
int Shard::index() const { return impl_->index(); }

}  // namespace tallyd
