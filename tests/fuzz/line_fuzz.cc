// One datagram. The fast parser may decline a line but never read it differently from the rule; a
// shard fed with the bytes keeps its account; what the merger then shows is well formed.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"
#include "tests/core/merge/shard_feeder.h"

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
  tallyd::LineParser parser;
  parser.Parse(line, &rule);
  Check(rule.samples == 1 && rule.drops == 0);
  Check(fast.type == rule.last.type && fast.name == rule.last.name && fast.tags == rule.last.tags);
  Check(SameBits(fast.value, rule.last.value) && SameBits(fast.rate, rule.last.rate));
  Check(fast.is_signed == rule.last.is_signed && fast.is_integer == rule.last.is_integer);
  Check(!fast.is_integer || fast.integer == rule.last.integer);
  Check(rule.last.repairs.bad_rates == 0 && rule.last.repairs.unknown_sections == 0);
}

void CheckExposition(const std::string& text) {
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = text.find('\n', start);
    Check(end != std::string::npos);
    const std::string_view line(text.data() + start, end - start);
    Check(line.size() > 2 && (line[0] == '#' || line.find(' ') != std::string_view::npos));
    start = end + 1;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  size_t start = 0;
  while (start <= bytes.size() && size < 65'000) {
    const size_t end = bytes.find('\n', start);
    CompareParsers(bytes.substr(start, end - start));
    if (end == std::string_view::npos) break;
    start = end + 1;
  }
  // Making a shard costs far more than feeding it: one for all inputs, its families and series
  // bounded by its limits.
  static auto* feeder = new tallyd::ShardFeeder({.shards = 1, .max_series = 5000, .ttl_ms = 50});
  feeder->Send(bytes);
  feeder->Advance(1'000'000);
  feeder->Turn();
  Check(feeder->Received() == feeder->Applied() + feeder->Dropped());
  static int runs = 0;
  if (++runs % 16 == 0) {
    feeder->Merge();
    CheckExposition(feeder->Text());
  }
  return 0;
}
