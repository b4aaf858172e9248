#include "core/merge/state_codec.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/merge/byte_codec.h"
#include "core/rules/abseil_view.h"
#include "core/shard/cells.h"
#include "core/shard/set_cell.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tallyd {
namespace {

constexpr uint64_t kMagic = 0x31747379'6c6c6174;  // "tallyst1"
constexpr size_t kPreludeBytes = 24;
constexpr size_t kBlockHeadBytes = 24;
constexpr size_t kSummedBytes = 16;  // of either, those before the checksum
constexpr size_t kBlockBytes = 64 << 10;
constexpr uint32_t kMaxBlockBytes = 64 << 20;

constexpr int64_t kMaxUnixSeconds = UINT32_MAX;

enum class BlockKind : uint32_t { kHead = 1, kRecords = 2, kEnd = 3 };
enum class Record : uint8_t { kFamily = 1, kSeries = 2, kExpired = 3 };

uint64_t Sum(std::string_view a, std::string_view b) {
  return XXH3_64bits_withSeed(b.data(), b.size(), XXH3_64bits(a.data(), a.size()));
}

void AppendBlock(BlockKind kind, uint64_t number, std::string_view payload, std::string* out) {
  std::string head;
  ByteWriter writer(&head);
  writer.Fixed(static_cast<uint32_t>(kind));
  writer.Fixed(static_cast<uint32_t>(payload.size()));
  writer.Fixed(number);
  out->append(head);
  ByteWriter(out).Fixed(Sum(head, payload));
  out->append(payload);
}

// The bits of what a value has, so that most values are short.
constexpr uint8_t kHasWhole = 1;
constexpr uint8_t kHasRest = 2;
constexpr uint8_t kHasBuckets = 4;
constexpr uint8_t kHasWindow = 8;
constexpr uint8_t kHasSum = 16;

void Write(const ExponentialCounts& window, ByteWriter* out) {
  out->Signed(window.schema());
  out->Signed(window.lowest());
  out->Number(window.zero());
  out->Number(window.negative());
  out->Number(window.infinite());
  out->Number(window.buckets().size());
  for (const uint64_t count : window.buckets()) out->Number(count);
}

bool IsEmpty(const ExponentialCounts& window) {
  return window.buckets().empty() && window.zero() == 0 && window.negative() == 0 &&
         window.infinite() == 0;
}

void Write(const CountedValue& value, ByteWriter* out) {
  const bool has_buckets = std::any_of(value.buckets.begin(), value.buckets.end(),
                                       [](uint64_t count) { return count != 0; });
  const bool has_window = !IsEmpty(value.window);
  const auto has = static_cast<uint8_t>(
      (value.counter.whole != 0 ? kHasWhole : 0) | (value.counter.rest != 0 ? kHasRest : 0) |
      (has_buckets ? kHasBuckets : 0) | (has_window ? kHasWindow : 0) |
      (value.sum != 0 ? kHasSum : 0));
  out->Byte(has);
  if ((has & kHasWhole) != 0) out->Number(value.counter.whole);
  if ((has & kHasRest) != 0) out->Fixed(value.counter.rest);
  if (has_buckets) {
    out->Number(value.buckets.size());
    for (const uint64_t count : value.buckets) out->Number(count);
  }
  if ((has & kHasSum) != 0) out->Fixed(value.sum);
  if (has_window) Write(value.window, out);
}

// Counts stay within what a sum of them is bounded by.
uint64_t ReadCount(ByteReader* in) { return in->Number(HistogramCell::kMaxCount); }

ExponentialCounts ReadWindow(ByteReader* in) {
  constexpr int64_t kFarthest = 1 << 20;  // beyond any bucket that a double falls into
  constexpr int kLowestSchema = -10;
  const auto schema = static_cast<int>(in->Signed(kLowestSchema, Window::kMaxSchema));
  const auto lowest = static_cast<int32_t>(in->Signed(-kFarthest, kFarthest));
  const uint64_t zero = ReadCount(in);
  const uint64_t negative = ReadCount(in);
  const uint64_t infinite = ReadCount(in);
  std::vector<uint64_t> buckets(in->Count(1, ExponentialCounts::kMaxBuckets));
  for (uint64_t& count : buckets) count = ReadCount(in);
  return ExponentialCounts::Of(schema, lowest, zero, negative, infinite, std::move(buckets));
}

CountedValue ReadValue(ByteReader* in) {
  CountedValue value;
  const uint8_t has = in->Byte();
  if (has >= 32) in->Refuse();
  if ((has & kHasWhole) != 0) value.counter.whole = in->Number(CounterCell::kMaxWhole);
  if ((has & kHasRest) != 0) value.counter.rest = in->Fixed<double>();
  if (!(value.counter.rest >= 0)) in->Refuse();
  if ((has & kHasBuckets) != 0) {
    value.buckets.resize(in->Count(1, HistogramLayout::kMaxBounds + 1));
    for (uint64_t& count : value.buckets) count = ReadCount(in);
  }
  if ((has & kHasSum) != 0) value.sum = in->Fixed<double>();
  if ((has & kHasWindow) != 0) value.window = ReadWindow(in);
  return value;
}

void Write(const SavedLedger& ledger, ByteWriter* out) {
  const auto write = [out](const std::vector<SavedLedger::Number>& numbers) {
    out->Number(numbers.size());
    for (const SavedLedger::Number& number : numbers) {
      out->Text(number.name);
      out->Number(number.value);
    }
  };
  out->Number(ledger.listeners.size());
  for (const SavedLedger::Listener& listener : ledger.listeners) {
    out->Text(listener.name);
    write(listener.numbers);
  }
  write(ledger.numbers);
}

SavedLedger ReadLedger(ByteReader* in) {
  const auto read = [in](std::vector<SavedLedger::Number>* numbers) {
    numbers->resize(in->Count(2));
    for (SavedLedger::Number& number : *numbers) {
      number.name = in->Text();
      number.value = in->Number();
    }
  };
  SavedLedger ledger;
  ledger.listeners.resize(in->Count(2));
  for (SavedLedger::Listener& listener : ledger.listeners) {
    listener.name = in->Text();
    read(&listener.numbers);
  }
  read(&ledger.numbers);
  return ledger;
}

void Write(const HistogramLayout& layout, ByteWriter* out) {
  const auto write = [out](const std::vector<double>& numbers) {
    out->Number(numbers.size());
    for (const double number : numbers) out->Fixed(number);
  };
  write(layout.bounds);
  out->Signed(layout.schema);
  out->Byte(layout.window_buckets);
  write(layout.quantiles);
  out->Signed(layout.max_age_ms);
  out->Signed(layout.age_buckets);
}

HistogramLayout ReadLayout(ByteReader* in) {
  const auto read = [in](std::vector<double>* numbers) {
    numbers->resize(in->Count(sizeof(double)));
    for (double& number : *numbers) number = in->Fixed<double>();
  };
  HistogramLayout layout;
  read(&layout.bounds);
  layout.schema = static_cast<int8_t>(in->Signed(INT8_MIN, INT8_MAX));
  layout.window_buckets = in->Byte();
  read(&layout.quantiles);
  layout.max_age_ms = in->Signed(0, INT64_MAX);
  layout.age_buckets = static_cast<int>(in->Signed(0, INT32_MAX));
  if (layout.bounds.size() > HistogramLayout::kMaxBounds) in->Refuse();
  return layout;
}

void Write(const SavedHead& head, ByteWriter* out) {
  out->Fixed(head.session);
  out->Number(head.sequence);
  out->Number(head.is_final ? 1 : 0);
  out->Fixed(head.hash_seed);
  out->Text(head.boot_id);
  // A clock may show anything, and is no reason for the next process to refuse all the rest.
  out->Signed(std::clamp<int64_t>(head.unix_s, 0, kMaxUnixSeconds));
  out->Signed(head.now_ns);
  out->Number(head.layouts.size());
  for (const HistogramLayout& layout : head.layouts) Write(layout, out);
  out->Number(head.folded.size());
  for (const SavedTenancy& tenancy : head.folded) {
    out->Number(tenancy.shard);
    out->Number(tenancy.slot);
    out->Number(tenancy.generation);
  }
  Write(head.ledger, out);
  Write(head.inherited, out);
}

SavedHead ReadHead(ByteReader* in) {
  SavedHead head;
  head.session = in->Fixed<uint64_t>();
  head.sequence = in->Number();
  head.is_final = in->Bool();
  head.hash_seed = in->Fixed<uint64_t>();
  head.boot_id = in->Text();
  head.unix_s = in->Signed(0, kMaxUnixSeconds);
  head.now_ns = in->Signed(0, INT64_MAX);
  head.layouts.resize(in->Count(6));
  for (HistogramLayout& layout : head.layouts) layout = ReadLayout(in);
  head.folded.resize(in->Count(3));
  for (SavedTenancy& tenancy : head.folded) {
    tenancy.shard = static_cast<uint16_t>(in->Number(UINT16_MAX));
    tenancy.slot = static_cast<uint32_t>(in->Number(ShardMemory::kMaxSlots));
    tenancy.generation = static_cast<uint32_t>(in->Number(UINT32_MAX));
  }
  head.ledger = ReadLedger(in);
  head.inherited = ReadLedger(in);
  return head;
}

void Write(const SavedSet& set, ByteWriter* out) {
  out->Number(set.window);
  out->Number(set.hashes.size());
  for (const uint64_t hash : set.hashes) out->Fixed(hash);
  out->Number(set.registers.empty() ? 0 : 1);
  for (const uint8_t rank : set.registers) out->Byte(rank);
}

SavedSet ReadSet(ByteReader* in) {
  SavedSet set;
  set.window = static_cast<uint32_t>(in->Number(UINT32_MAX));
  set.hashes.resize(in->Count(sizeof(uint64_t)));
  for (uint64_t& hash : set.hashes) hash = in->Fixed<uint64_t>();
  if (!in->Bool()) return set;
  const std::string_view registers = in->Bytes(SetCell::kRegisters);
  set.registers.assign(registers.begin(), registers.end());
  return set;
}

// How a key is known.
constexpr uint8_t kNoKey = 0;
constexpr uint8_t kSpelled = 1;
constexpr uint8_t kLiteral = 2;

void Write(const SavedKey& key, ByteWriter* out) {
  out->Byte(!key.is_known ? kNoKey : key.is_literal ? kLiteral : kSpelled);
  if (!key.is_known) return;
  out->Byte(static_cast<uint8_t>(key.type));
  if (key.is_literal) return;  // the name and the labels of the series
  out->Text(key.name);
  out->Text(key.tags);
}

SavedKey ReadKey(const SavedSeries& series, ByteReader* in) {
  const uint8_t how = in->Byte();
  if (how > kLiteral) in->Refuse();
  SavedKey key;
  if (how == kNoKey) return key;
  key.is_known = true;
  key.is_literal = how == kLiteral;
  const uint8_t type = in->Byte();
  if (type < static_cast<uint8_t>(SampleType::kCounter) ||
      type > static_cast<uint8_t>(SampleType::kSet)) {
    in->Refuse();
  }
  key.type = static_cast<SampleType>(type);
  key.name = key.is_literal ? series.family : in->Text(UINT16_MAX);
  key.tags = key.is_literal ? series.labels : in->Text(UINT16_MAX);
  return key;
}

void WriteValueOf(const SavedSeries& series, ByteWriter* out) {
  switch (series.kind) {
    case SeriesKind::kGauge:
      return out->Fixed(series.gauge);
    case SeriesKind::kSet:
      return Write(series.set, out);
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      out->Fixed(series.carry);
      [[fallthrough]];
    case SeriesKind::kCounter:
      Write(series.base, out);
      Write(series.cells, out);
      return;
  }
}

void ReadValueOf(SavedSeries* series, ByteReader* in) {
  switch (series->kind) {
    case SeriesKind::kGauge:
      series->gauge = in->Fixed<double>();
      return;
    case SeriesKind::kSet:
      series->set = ReadSet(in);
      return;
    case SeriesKind::kHistogram:
    case SeriesKind::kSummary:
      series->carry = in->Fixed<double>();
      if (!std::isfinite(series->carry) || series->carry < 0) in->Refuse();
      [[fallthrough]];
    case SeriesKind::kCounter:
      series->base = ReadValue(in);
      series->cells = ReadValue(in);
      return;
  }
}

SeriesKind ReadKind(ByteReader* in) {
  const uint8_t kind = in->Byte();
  if (kind < static_cast<uint8_t>(SeriesKind::kCounter) ||
      kind > static_cast<uint8_t>(SeriesKind::kSummary)) {
    in->Refuse();
    return SeriesKind::kCounter;
  }
  return static_cast<SeriesKind>(kind);
}

// The layout of an observer, of which there are `layouts`.
uint16_t ReadLayoutNumber(SeriesKind kind, size_t layouts, ByteReader* in) {
  const auto number = static_cast<uint16_t>(in->Number(UINT16_MAX));
  if (IsObserver(kind) && number >= layouts) in->Refuse();
  return number;
}

absl::Status Broken(std::string_view what) {
  return absl::DataLossError(absl::StrCat("the saved state does not verify: ", View(what)));
}

// One pass over all blocks. `visitor` may be null.
class Decoder {
 public:
  explicit Decoder(StateVisitor* visitor) : visitor_(visitor) {}

  absl::Status Decode(std::string_view rest) {
    rest.remove_prefix(kPreludeBytes);
    for (uint64_t number = 0;; ++number) {
      if (rest.size() < kBlockHeadBytes) return Broken("it ends before its last block");
      ByteReader head(rest.substr(0, kBlockHeadBytes));
      const auto kind = head.Fixed<uint32_t>();
      const auto size = head.Fixed<uint32_t>();
      const auto told_number = head.Fixed<uint64_t>();
      const auto sum = head.Fixed<uint64_t>();
      if (size > kMaxBlockBytes || size > rest.size() - kBlockHeadBytes || told_number != number) {
        return Broken("a block is cut or out of its place");
      }
      const std::string_view payload = rest.substr(kBlockHeadBytes, size);
      if (Sum(rest.substr(0, kSummedBytes), payload) != sum) return Broken("a checksum is wrong");
      rest.remove_prefix(kBlockHeadBytes + size);
      if (number == 0 && kind != static_cast<uint32_t>(BlockKind::kHead)) {
        return Broken("it has no head");
      }
      if (kind == static_cast<uint32_t>(BlockKind::kEnd)) {
        ByteReader end(payload);
        const bool whole = end.Fixed<uint64_t>() == number && end.ok() && end.at_end();
        return whole && rest.empty() ? absl::OkStatus() : Broken("something follows its end");
      }
      if (!ReadBlock(number, kind, payload)) return Broken("a block is not as it should be");
    }
  }

 private:
  bool ReadBlock(uint64_t number, uint32_t kind, std::string_view payload) {
    ByteReader in(payload);
    if (kind == static_cast<uint32_t>(BlockKind::kHead)) {
      if (number != 0) return false;
      SavedHead head = ReadHead(&in);
      layouts_ = head.layouts.size();
      if (!in.ok() || !in.at_end()) return false;
      if (visitor_ != nullptr) visitor_->OnHead(std::move(head));
      return true;
    }
    if (kind != static_cast<uint32_t>(BlockKind::kRecords)) return false;
    has_family_ = false;
    while (in.ok() && !in.at_end()) ReadRecord(&in);
    return in.ok();
  }

  void ReadRecord(ByteReader* in) {
    switch (static_cast<Record>(in->Byte())) {
      case Record::kFamily:
        has_family_ = true;
        family_ = in->Text();
        kind_ = ReadKind(in);
        layout_ = ReadLayoutNumber(kind_, layouts_, in);
        return;
      case Record::kSeries:
        return ReadSeries(in);
      case Record::kExpired:
        return ReadExpired(in);
    }
    in->Refuse();
  }

  void ReadSeries(ByteReader* in) {
    if (!has_family_) return in->Refuse();
    SavedSeries series;
    series.family = family_;
    series.kind = kind_;
    series.layout = layout_;
    series.labels = in->Text();
    series.created_s = static_cast<uint32_t>(in->Number(UINT32_MAX));
    series.shard = static_cast<uint16_t>(in->Number(UINT16_MAX));
    series.key = ReadKey(series, in);
    ReadValueOf(&series, in);
    if (in->ok() && visitor_ != nullptr) visitor_->OnSeries(&series);
  }

  void ReadExpired(ByteReader* in) {
    SavedExpired expired;
    expired.hash = in->Fixed<uint64_t>();
    expired.kind = ReadKind(in);
    expired.layout = ReadLayoutNumber(expired.kind, layouts_, in);
    const auto created_s = static_cast<uint32_t>(in->Number(UINT32_MAX));
    expired.value = ReadValue(in);
    expired.value.created_s = created_s;
    if (in->ok() && visitor_ != nullptr) visitor_->OnExpired(&expired);
  }

  StateVisitor* const visitor_;
  size_t layouts_ = 0;
  bool has_family_ = false;
  std::string_view family_;
  SeriesKind kind_ = SeriesKind::kCounter;
  uint16_t layout_ = 0;
};

}  // namespace

StateEncoder::StateEncoder(const SavedHead& head) {
  ByteWriter out(&bytes_);
  out.Fixed(kMagic);
  out.Fixed(kStateVersion);
  out.Fixed(uint32_t{0});
  out.Fixed(uint64_t{XXH3_64bits(bytes_.data(), bytes_.size())});
  ByteWriter payload(&payload_);
  Write(head, &payload);
  AppendBlock(BlockKind::kHead, blocks_++, payload_, &bytes_);
  payload_.clear();
}

void StateEncoder::BeginRecord() {
  if (payload_.size() >= kBlockBytes) EndBlock();
}

void StateEncoder::EndBlock() {
  if (payload_.empty()) return;
  AppendBlock(BlockKind::kRecords, blocks_++, payload_, &bytes_);
  payload_.clear();
  has_family_ = false;
}

void StateEncoder::Add(const SavedSeries& series) {
  BeginRecord();
  ByteWriter out(&payload_);
  if (!has_family_ || family_ != series.family || kind_ != series.kind ||
      layout_ != series.layout) {
    has_family_ = true;
    family_ = series.family;
    kind_ = series.kind;
    layout_ = series.layout;
    out.Byte(static_cast<uint8_t>(Record::kFamily));
    out.Text(family_);
    out.Byte(static_cast<uint8_t>(kind_));
    out.Number(layout_);
  }
  out.Byte(static_cast<uint8_t>(Record::kSeries));
  out.Text(series.labels);
  out.Number(series.created_s);
  out.Number(series.shard);
  Write(series.key, &out);
  WriteValueOf(series, &out);
}

void StateEncoder::Add(const SavedExpired& expired) {
  BeginRecord();
  ByteWriter out(&payload_);
  out.Byte(static_cast<uint8_t>(Record::kExpired));
  out.Fixed(expired.hash);
  out.Byte(static_cast<uint8_t>(expired.kind));
  out.Number(expired.layout);
  out.Number(expired.value.created_s);
  Write(expired.value, &out);
}

std::string StateEncoder::Finish() {
  EndBlock();
  ByteWriter(&payload_).Fixed(blocks_);
  AppendBlock(BlockKind::kEnd, blocks_, payload_, &bytes_);
  return std::move(bytes_);
}

absl::Status DecodeState(std::string_view bytes_untrusted, StateVisitor* visitor) {
  ByteReader prelude(bytes_untrusted.substr(0, kPreludeBytes));
  const auto magic = prelude.Fixed<uint64_t>();
  const auto version = prelude.Fixed<uint32_t>();
  prelude.Fixed<uint32_t>();
  const auto sum = prelude.Fixed<uint64_t>();
  if (!prelude.ok() || magic != kMagic) return Broken("it does not begin as one");
  if (XXH3_64bits(bytes_untrusted.data(), kSummedBytes) != sum) {
    return Broken("a checksum is wrong");
  }
  if (version != kStateVersion) {
    return absl::UnimplementedError(absl::StrCat("the saved state is of version ", version,
                                                 ", this program reads version ", kStateVersion));
  }
  // All of it or nothing: the visitor hears of it when every block was read once.
  absl::Status status = Decoder(nullptr).Decode(bytes_untrusted);
  if (!status.ok()) return status;
  return Decoder(visitor).Decode(bytes_untrusted);
}

}  // namespace tallyd
