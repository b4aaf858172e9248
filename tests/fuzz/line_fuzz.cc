// One datagram. The parser says of each line what the book says; the fast parser may decline a line
// but never read it differently; a shard fed with the bytes keeps its account; what the merger then
// shows is well formed.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"
#include "tests/core/merge/exposition.h"
#include "tests/core/merge/shard_feeder.h"
#include "tests/core/wire/reference_parser.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

class OneSample : public tallyd::SampleSink {
 public:
  void OnSample(const tallyd::Sample& sample) override {
    ++samples;
    last = sample;
  }
  void OnDrop(tallyd::DropReason) override { ++drops; }

  int samples = 0;
  int drops = 0;
  tallyd::Sample last;
};

// Holds each sample against the book's.
class ByTheBook : public tallyd::SampleSink {
 public:
  explicit ByTheBook(std::string_view line)
      : expected_(tallyd::ParseByTheBook(std::string(line))) {}

  void OnSample(const tallyd::Sample& sample) override {
    Check(seen_ < expected_.size() && tallyd::Agrees(expected_[seen_++], sample));
  }
  void OnDrop(tallyd::DropReason reason) override {
    Check(seen_ < expected_.size() && expected_[seen_++].drop == reason);
  }
  void CheckAllSeen() const { Check(seen_ == expected_.size()); }

 private:
  std::vector<tallyd::ReferenceSample> expected_;
  size_t seen_ = 0;
};

void CompareWithTheBook(std::string_view line) {
  static auto* parser = new tallyd::LineParser;
  ByTheBook book(line);
  parser->Parse(line, &book);
  book.CheckAllSeen();
}

bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

void CompareParsers(std::string_view line) {
  if (line.empty()) return;
  std::string padded(line);
  padded += '\n';
  padded.resize(padded.size() + tallyd::kReadPadding);
  tallyd::Sample fast;
  const char* const end = tallyd::ParseLineFast(padded.data(), &fast);
  if (end == nullptr) return;
  Check(end == padded.data() + line.size());
  OneSample rule;
  static auto* parser = new tallyd::LineParser;
  parser->Parse(line, &rule);
  Check(rule.samples == 1 && rule.drops == 0);
  Check(fast.type == rule.last.type && fast.name == rule.last.name && fast.tags == rule.last.tags);
  Check(SameBits(fast.value, rule.last.value) && SameBits(fast.rate, rule.last.rate));
  Check(fast.is_signed == rule.last.is_signed && fast.is_integer == rule.last.is_integer);
  Check(!fast.is_integer || fast.integer == rule.last.integer);
  Check(rule.last.repairs.bad_rates == 0 && rule.last.repairs.unknown_sections == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  size_t start = 0;
  while (start <= bytes.size() && size < 65'000) {
    const size_t end = bytes.find('\n', start);
    CompareWithTheBook(bytes.substr(start, end - start));
    CompareParsers(bytes.substr(start, end - start));
    if (end == std::string_view::npos) break;
    start = end + 1;
  }
  // Making a shard costs far more than feeding it: one for all inputs, its families and series
  // bounded by its limits.
  static auto* feeder = new tallyd::ShardFeeder({.shards = 2, .max_series = 500, .ttl_ms = 50});
  static int runs = 0;
  ++runs;
  feeder->Send(bytes, runs % 2);
  feeder->Advance(1'000'000);
  feeder->Turn();
  Check(feeder->Received() == feeder->Applied() + feeder->Dropped());
  if (runs % 32 == 0) {
    feeder->Merge();
    Check(tallyd::Exposition(feeder->Text()).ok());
  }
  return 0;
}
