// An options byte and one datagram. The parser says of each line what the book says, whichever
// dialects are on; the fast parser may decline a line but never read it differently; a shard fed
// with the bytes keeps its account; what the merger then shows is well formed.
//
// The options byte: bits 0 to 3 switch DogStatsD, InfluxDB, Librato and SignalFx tags off, bit 4
// limits lines to 40 bytes. So "@" is all of it as it is by default.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"
#include "tests/core/merge/exposition.h"
#include "tests/core/merge/shard_feeder.h"
#include "tests/core/wire/reference_parser.h"
#include "tests/fuzz/check.h"

namespace {

using tallyd::Check;

tallyd::LineOptions OptionsOf(uint8_t byte) {
  tallyd::LineOptions options;
  options.tags = {.dogstatsd = (byte & 1) == 0,
                  .influxdb = (byte & 2) == 0,
                  .librato = (byte & 4) == 0,
                  .signalfx = (byte & 8) == 0};
  if ((byte & 16) != 0) options.max_line_bytes = 40;
  return options;
}

tallyd::LineParser* ParserFor(uint8_t options) {
  static auto* parsers = new std::array<std::unique_ptr<tallyd::LineParser>, 32>;
  auto& parser = (*parsers)[options & 31];
  if (parser == nullptr) parser = std::make_unique<tallyd::LineParser>(OptionsOf(options));
  return parser.get();
}

void CompareWithTheBook(std::string_view line, uint8_t options) {
  tallyd::Comparison book(std::string(line), OptionsOf(options));
  ParserFor(options)->Parse(line, &book);
  Check(book.ok());
}

class OneSample : public tallyd::SampleSink {
 public:
  void OnSample(const tallyd::Sample& sample) override {
    ++samples;
    last = sample;
  }
  void OnDrop(tallyd::DropReason reason) override {
    ++drops;
    last_drop = reason;
  }
  void OnEvent(tallyd::EventKind) override { ++events; }

  int samples = 0;
  int drops = 0;
  int events = 0;
  tallyd::Sample last;
  tallyd::DropReason last_drop{};
};

bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

// The fast parser leaves lines of mixed dialects to the rules, so the rule it is held against is
// the parser that knows no tags in names.
void CompareParsers(std::string_view line, uint8_t options_byte) {
  constexpr uint8_t kNoNameTags = 2 | 4 | 8;
  if (line.empty()) return;
  std::string padded(line);
  padded += '\n';
  padded.resize(padded.size() + tallyd::kReadPadding);
  tallyd::Sample fast;
  const char* const end = tallyd::ParseLineFast(padded.data(), &fast);
  if (end == nullptr) return;
  Check(end == padded.data() + line.size());
  OneSample rule;
  ParserFor(kNoNameTags)->Parse(line, &rule);
  Check(rule.samples == 1 && rule.drops == 0 && rule.events == 0);
  Check(fast.type == rule.last.type && fast.name == rule.last.name && fast.tags == rule.last.tags);
  Check(SameBits(fast.value, rule.last.value) && SameBits(fast.rate, rule.last.rate));
  Check(fast.is_signed == rule.last.is_signed && fast.is_integer == rule.last.is_integer);
  Check(!fast.is_integer || fast.integer == rule.last.integer);
  Check(rule.last.repairs.bad_rates == 0 && fast.repairs.bad_rates == 0);
  Check(rule.last.repairs.unknown_sections == fast.repairs.unknown_sections);
  Check(!fast.continues && !rule.last.continues);

  const uint8_t options = options_byte & 15;  // the caller looks to the length of the line
  OneSample mixed;
  ParserFor(options)->Parse(line, &mixed);
  if (mixed.drops == 0) return;
  Check(mixed.last_drop == tallyd::DropReason::kMixedTagDialects && !fast.tags.empty() &&
        tallyd::HasGoodNameTag(fast.name, OptionsOf(options).tags));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t options = data[0];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  size_t start = 0;
  while (start <= bytes.size() && size < 65'000) {
    const size_t end = bytes.find('\n', start);
    CompareWithTheBook(bytes.substr(start, end - start), options);
    CompareParsers(bytes.substr(start, end - start), options);
    if (end == std::string_view::npos) break;
    start = end + 1;
  }
  // Making a shard costs far more than feeding it: one for all inputs, its families and series
  // bounded by its limits.
  static auto* feeder = new tallyd::ShardFeeder(
      {.shards = 2, .limits = {.series = 500, .family_series = 50}, .ttl_ms = 50});
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
