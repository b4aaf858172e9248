// What taking a line apart costs, by dialect, as a shard does it: the fast parser first, LineParser
// for what it declines.
//
//   build/release/bin/parse_bench
//
// `fast` is the share of the lines that the fast parser takes. Names, values and tags differ from
// line to line, so that branches are predicted as well as they will be with real traffic, and no
// better.

#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/line.h"
#include "core/wire/line_fast.h"

namespace tallyd {
namespace {

constexpr int kLines = 4096;

class Counter : public SampleSink {
 public:
  void OnSample(const Sample& sample) override {
    benchmark::DoNotOptimize(sample.value);
    ++samples;
  }
  void OnDrop(DropReason) override { ++samples; }
  void OnEvent(EventKind) override { ++samples; }

  uint64_t samples = 0;
};

class Words {
 public:
  std::string Number(int digits) {
    uint64_t number = random_();
    for (int i = digits; i < 19; ++i) number /= 10;
    return std::to_string(number % 10'000'000);
  }
  std::string Name() { return "shop.checkout.step" + Number(2) + ".requests"; }
  std::string Type() {
    static constexpr std::string_view kTypes[] = {"c", "g", "ms", "h", "d"};
    return std::string(kTypes[random_() % 5]);
  }
  // Three tags, as "region=eu-12" each.
  std::string Tags(char separator) {
    std::string tags;
    for (const char* key : {"region", "host", "route"}) {
      if (!tags.empty()) tags += ',';
      tags.append(key).append(1, separator).append("value-").append(Number(3));
    }
    return tags;
  }

 private:
  std::mt19937_64 random_{20261121};
};

enum Shape {
  kEtsy,
  kSampled,
  kDogstatsd,
  kContainer,
  kInflux,
  kLibrato,
  kSignalfx,
  kSeveral,
  kPacked,
  kSet,
  kExponent,
  kEvent,
  kServiceCheck,
};

std::string MakeLine(Shape shape, Words* words) {
  const std::string value = ":" + words->Number(4) + "|";
  switch (shape) {
    case kEtsy:
      return words->Name() + value + words->Type();
    case kSampled:
      return words->Name() + value + "c|@0." + words->Number(2);
    case kDogstatsd:
      return words->Name() + value + words->Type() + "|#" + words->Tags(':');
    case kContainer:
      return words->Name() + value + words->Type() + "|#" + words->Tags(':') +
             "|c:ci-0123456789abcdef|e:it-false,cn-web|card:low";
    case kInflux:
      return words->Name() + "," + words->Tags('=') + value + words->Type();
    case kLibrato:
      return words->Name() + "#" + words->Tags('=') + value + words->Type();
    case kSignalfx:
      return words->Name() + "[" + words->Tags('=') + "]" + value + words->Type();
    case kSeveral:
      return words->Name() + value + "c:" + words->Number(3) + "|ms:" + words->Number(3) + "|g";
    case kPacked:
      return words->Name() + ":1:" + words->Number(2) + ":" + words->Number(3) + value + "ms|#" +
             words->Tags(':');
    case kSet:
      return words->Name() + ":user-" + words->Number(6) + "|s";
    case kExponent:
      return words->Name() + ":1.5e" + words->Number(1) + "|h";
    case kEvent:
      return "_e{8,12}:deployed|version 1.02|t:info|#" + words->Tags(':');
    case kServiceCheck:
      break;
  }
  return "_sc|" + words->Name() + "|0|h:web|#" + words->Tags(':');
}

void BM_Line(benchmark::State& state, Shape shape) {
  Words words;
  std::string lines;
  for (int i = 0; i < kLines; ++i) lines += MakeLine(shape, &words) + "\n";
  const size_t size = lines.size();
  lines.resize(size + kReadPadding);
  LineParser parser;
  Counter counter;
  uint64_t fast = 0;
  for (auto _ : state) {
    for (const char* line = lines.data(); line < lines.data() + size;) {
      Sample sample;
      const char* end = ParseLineFast(line, &sample);
      if (end != nullptr) {
        ++fast;
        benchmark::DoNotOptimize(sample.value);
      } else {
        end = static_cast<const char*>(std::memchr(line, '\n', size));
        parser.Parse(std::string_view(line, static_cast<size_t>(end - line)), &counter);
      }
      line = end + 1;
    }
  }
  const auto all = static_cast<double>(state.iterations()) * kLines;
  state.counters["ns_per_line"] =
      benchmark::Counter(all * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["samples_per_line"] = static_cast<double>(fast + counter.samples) / all;
  state.counters["fast"] = static_cast<double>(fast) / all;
  state.counters["bytes_per_line"] = static_cast<double>(size) / kLines;
}

BENCHMARK_CAPTURE(BM_Line, etsy, kEtsy);
BENCHMARK_CAPTURE(BM_Line, etsy_sampled, kSampled);
BENCHMARK_CAPTURE(BM_Line, etsy_several_samples, kSeveral);
BENCHMARK_CAPTURE(BM_Line, etsy_exponent, kExponent);
BENCHMARK_CAPTURE(BM_Line, etsy_set, kSet);
BENCHMARK_CAPTURE(BM_Line, dogstatsd_tags, kDogstatsd);
BENCHMARK_CAPTURE(BM_Line, dogstatsd_packed, kPacked);
BENCHMARK_CAPTURE(BM_Line, dogstatsd_container, kContainer);
BENCHMARK_CAPTURE(BM_Line, dogstatsd_event, kEvent);
BENCHMARK_CAPTURE(BM_Line, dogstatsd_service_check, kServiceCheck);
BENCHMARK_CAPTURE(BM_Line, influxdb, kInflux);
BENCHMARK_CAPTURE(BM_Line, librato, kLibrato);
BENCHMARK_CAPTURE(BM_Line, signalfx, kSignalfx);

}  // namespace
}  // namespace tallyd
