// What a line of the exposition costs: our encoder, the least that any encoder must do, and
// prometheus-cpp's TextSerializer beside each other.
//
//   build/release/bin/expose_bench
//
// Every benchmark renders kSeries series with four labels and reports the time of one line. The
// floor of a line is a copy of its rendered prefix, its number by std::to_chars and a line feed.
//
// The Protobuf benchmarks report time and bytes of a series, and beside them the floor: a copy of
// the very bytes, message by message. Their counterparts are written with protozero's writer, which
// is given the labels as pairs: it has no text to take apart.

#include <benchmark/benchmark.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <protozero/pbf_writer.hpp>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/expose/text.h"

namespace tallyd {
namespace {

constexpr int kSeries = 10'000;
constexpr size_t kPageBytes = 64 * 1024;
constexpr std::string_view kName = "http_server_requests";

std::vector<std::string> MakeLabels() {
  std::vector<std::string> labels;
  for (int i = 0; i < kSeries; ++i) {
    labels.push_back("env=\"production\",host=\"web-" + std::to_string(i % 100) +
                     "\",route=\"/v1/r" + std::to_string(i) + "\",status=\"200\"");
  }
  return labels;
}

const std::vector<std::string>& Labels() {
  static const std::vector<std::string> labels = MakeLabels();
  return labels;
}

// Three kinds of numbers: counts, milliseconds as seconds, and what long sums end up as.
enum Numbers { kIntegers, kDecimals, kRandom };

std::vector<double> MakeNumbers(int numbers) {
  std::mt19937_64 random(1);
  std::vector<double> values;
  for (int i = 0; i < kSeries; ++i) {
    const auto integer = static_cast<double>(random() % 10'000'000);
    switch (numbers) {
      case kIntegers:
        values.push_back(integer);
        break;
      case kDecimals:
        values.push_back(integer / 1000);
        break;
      default:
        values.push_back(std::uniform_real_distribution<>(0, 1e6)(random));
    }
  }
  return values;
}

// Pages end as the merger's do, and their memory is used again.
void StartPageIfFull(std::string* page) {
  if (page->size() >= kPageBytes) page->clear();
}

void ReportLines(benchmark::State& state, int lines_per_series = 1) {
  const auto lines = static_cast<double>(state.iterations()) * kSeries * lines_per_series;
  state.counters["ns_per_line"] =
      benchmark::Counter(lines * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_FloorInteger(benchmark::State& state) {
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::vector<std::string> prefixes;
  for (const std::string& label : labels) {
    prefixes.push_back(std::string(kName) + "{" + label + "} ");
  }
  std::vector<char> page(2 * kPageBytes);
  for (auto _ : state) {
    char* out = page.data();
    for (int i = 0; i < kSeries; ++i) {
      if (out - page.data() > static_cast<ptrdiff_t>(kPageBytes)) out = page.data();
      std::memcpy(out, prefixes[i].data(), prefixes[i].size());
      out += prefixes[i].size();
      out = std::to_chars(out, out + 32, static_cast<uint64_t>(numbers[i])).ptr;
      *out++ = '\n';
    }
    benchmark::DoNotOptimize(out);
    benchmark::ClobberMemory();
  }
  ReportLines(state);
}
BENCHMARK(BM_FloorInteger);

void BM_FloorDouble(benchmark::State& state) {
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(static_cast<int>(state.range(0)));
  std::vector<std::string> prefixes;
  for (const std::string& label : labels) {
    prefixes.push_back(std::string(kName) + "{" + label + "} ");
  }
  std::vector<char> page(2 * kPageBytes);
  for (auto _ : state) {
    char* out = page.data();
    for (int i = 0; i < kSeries; ++i) {
      if (out - page.data() > static_cast<ptrdiff_t>(kPageBytes)) out = page.data();
      std::memcpy(out, prefixes[i].data(), prefixes[i].size());
      out += prefixes[i].size();
      out = std::to_chars(out, out + 32, numbers[i]).ptr;
      *out++ = '\n';
    }
    benchmark::DoNotOptimize(out);
    benchmark::ClobberMemory();
  }
  ReportLines(state);
}
BENCHMARK(BM_FloorDouble)->ArgName("numbers")->Arg(kIntegers)->Arg(kDecimals)->Arg(kRandom);

void BM_Counter(benchmark::State& state) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kCounter};
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::string page;
  for (auto _ : state) {
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      encoder.Counter(family, labels[i], {.whole = static_cast<uint64_t>(numbers[i])}, &page);
    }
    benchmark::ClobberMemory();
  }
  ReportLines(state);
}
BENCHMARK(BM_Counter);

void BM_Gauge(benchmark::State& state) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kGauge};
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(static_cast<int>(state.range(0)));
  std::string page;
  for (auto _ : state) {
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      encoder.Gauge(family, labels[i], numbers[i], &page);
    }
    benchmark::ClobberMemory();
  }
  ReportLines(state);
}
BENCHMARK(BM_Gauge)->ArgName("numbers")->Arg(kIntegers)->Arg(kDecimals)->Arg(kRandom);

const std::vector<double>& Bounds() {
  static const std::vector<double> bounds = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};
  return bounds;
}
constexpr int kHistogramLines = 14;

void BM_Histogram(benchmark::State& state) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kHistogram};
  std::vector<std::string> les;
  for (const double bound : Bounds()) {
    std::string le;
    AppendValue(bound, &le);
    les.push_back(le);
  }
  const std::vector<uint64_t> buckets(Bounds().size() + 1, 123);
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(kRandom);
  std::string page;
  for (auto _ : state) {
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      const HistogramValue value = {
          .bounds = Bounds(), .les = les, .buckets = buckets, .sum = numbers[i]};
      encoder.Histogram(family, labels[i], value, &page);
    }
    benchmark::ClobberMemory();
  }
  ReportLines(state, kHistogramLines);
}
BENCHMARK(BM_Histogram);

void BM_GzipOnTop(benchmark::State& state) {
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kGzip);
  const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kCounter};
  const std::vector<std::string>& labels = Labels();
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::string rendered;
  int lines = 0;
  for (; rendered.size() < kPageBytes; ++lines) {
    encoder.Counter(family, labels[lines], {.whole = static_cast<uint64_t>(numbers[lines])},
                    &rendered);
  }
  for (auto _ : state) {
    std::string page = rendered;
    encoder.Finish(&page);
    benchmark::DoNotOptimize(page.data());
  }
  state.counters["ns_per_line"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * lines * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_GzipOnTop);

void ReportSeries(benchmark::State& state, size_t bytes) {
  const auto series = static_cast<double>(state.iterations()) * kSeries;
  state.counters["ns_per_series"] =
      benchmark::Counter(series * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_series"] = static_cast<double>(bytes) / kSeries;
}

// Series of one kind, as protobuf and as text.
enum Kinds { kCounters, kHistogramsNative, kHistogramsBoth, kHistogramsClassic };

// A histogram of 5,000 values in some 46 exponential buckets.
struct NativeExample {
  NativeExample() {
    HistogramLayout layout = HistogramLayout::FromBounds(Bounds());
    std::vector<CellWord> words(HistogramCell::Words(layout.bounds.size()));
    HistogramCell cell(words.data(), layout);
    std::mt19937_64 random(4);
    std::lognormal_distribution<> values(-2, 0.5);
    for (int i = 0; i < 5'000; ++i) cell.Observe(values(random), 1);
    HistogramCell::WindowCounts window;
    if (!cell.ReadWindow(&window)) std::abort();
    counts.Add(window);
    MakeNativeHistogram(counts, NativeHistogram::kMaxBuckets, &native);
    buckets.resize(layout.bounds.size() + 1);
    cell.AddBuckets(buckets);
    les = layout.les;
    sum = cell.sum();
  }
  HistogramValue Value() const {
    return {.bounds = Bounds(), .les = les, .buckets = buckets, .sum = sum, .native = &native};
  }
  ExponentialCounts counts;
  NativeHistogram native;
  std::vector<uint64_t> buckets;
  std::vector<std::string> les;
  double sum = 0;
};

const NativeExample& Example() {
  static const NativeExample example;
  return example;
}

ProtobufEncoder EncoderOf(int kind) {
  switch (kind) {
    case kHistogramsNative:
      return {HistogramForm::kNative, ContentCoding::kIdentity};
    case kHistogramsClassic:
      return {HistogramForm::kClassic, ContentCoding::kIdentity};
    default:
      return {HistogramForm::kBoth, ContentCoding::kIdentity};
  }
}

void EncodeSeries(const PageEncoder& encoder, int kind, int i, double number, std::string* page) {
  const std::string& labels = Labels()[i];
  if (kind == kCounters) {
    const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kCounter};
    encoder.Counter(family, labels, {.whole = static_cast<uint64_t>(number)}, page);
  } else {
    const FamilyView family = {.name = kName, .help = "", .type = FamilyType::kHistogram};
    encoder.Histogram(family, labels, Example().Value(), page);
  }
}

size_t BytesOf(const PageEncoder& encoder, int kind, const std::vector<double>& numbers) {
  std::string all;
  for (int i = 0; i < kSeries; ++i) EncodeSeries(encoder, kind, i, numbers[i], &all);
  return all.size();
}

void BM_Protobuf(benchmark::State& state) {
  const auto kind = static_cast<int>(state.range(0));
  const ProtobufEncoder encoder = EncoderOf(kind);
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::string page;
  for (auto _ : state) {
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      EncodeSeries(encoder, kind, i, numbers[i], &page);
    }
    benchmark::ClobberMemory();
  }
  ReportSeries(state, BytesOf(encoder, kind, numbers));
}
BENCHMARK(BM_Protobuf)
    ->ArgName("kind")
    ->Arg(kCounters)
    ->Arg(kHistogramsNative)
    ->Arg(kHistogramsBoth)
    ->Arg(kHistogramsClassic);

// The text of the same series: of the histograms it has the classic buckets.
void BM_TextBeside(benchmark::State& state) {
  const auto kind = static_cast<int>(state.range(0));
  const TextEncoder encoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity);
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::string page;
  for (auto _ : state) {
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      EncodeSeries(encoder, kind, i, numbers[i], &page);
    }
    benchmark::ClobberMemory();
  }
  ReportSeries(state, BytesOf(encoder, kind, numbers));
}
BENCHMARK(BM_TextBeside)->ArgName("kind")->Arg(kCounters)->Arg(kHistogramsClassic);

void BM_ProtobufFloor(benchmark::State& state) {
  const auto kind = static_cast<int>(state.range(0));
  const ProtobufEncoder encoder = EncoderOf(kind);
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::vector<std::string> messages(kSeries);
  for (int i = 0; i < kSeries; ++i) EncodeSeries(encoder, kind, i, numbers[i], &messages[i]);
  std::vector<char> page(2 * kPageBytes);
  for (auto _ : state) {
    char* out = page.data();
    for (const std::string& message : messages) {
      if (out - page.data() > static_cast<ptrdiff_t>(kPageBytes)) out = page.data();
      std::memcpy(out, message.data(), message.size());
      out += message.size();
    }
    benchmark::DoNotOptimize(out);
    benchmark::ClobberMemory();
  }
  ReportSeries(state, BytesOf(encoder, kind, numbers));
}
BENCHMARK(BM_ProtobufFloor)
    ->ArgName("kind")
    ->Arg(kCounters)
    ->Arg(kHistogramsNative)
    ->Arg(kHistogramsBoth)
    ->Arg(kHistogramsClassic);

using LabelPairs = std::vector<std::pair<std::string, std::string>>;

std::vector<LabelPairs> MakeLabelPairs() {
  std::vector<LabelPairs> pairs;
  for (int i = 0; i < kSeries; ++i) {
    pairs.push_back({{"env", "production"},
                     {"host", "web-" + std::to_string(i % 100)},
                     {"route", "/v1/r" + std::to_string(i)},
                     {"status", "200"}});
  }
  return pairs;
}

void WriteLabels(const LabelPairs& labels, protozero::pbf_writer* metric) {
  for (const auto& [name, value] : labels) {
    protozero::pbf_writer label(*metric, 1);
    label.add_string(1, name);
    label.add_string(2, value);
  }
}

void WriteBuckets(const NativeBuckets& buckets, protozero::pbf_writer* histogram) {
  for (const BucketSpan& span : buckets.spans) {
    protozero::pbf_writer writer(*histogram, 12);
    writer.add_sint32(1, span.offset);
    writer.add_uint32(2, span.length);
  }
  histogram->add_packed_sint64(13, buckets.deltas.begin(), buckets.deltas.end());
}

void BM_Protozero(benchmark::State& state) {
  const auto kind = static_cast<int>(state.range(0));
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  const std::vector<LabelPairs> pairs = MakeLabelPairs();
  const NativeHistogram& native = Example().native;
  std::string page;
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    for (int i = 0; i < kSeries; ++i) {
      StartPageIfFull(&page);
      const size_t before = page.size();
      protozero::pbf_writer family(page);
      {
        protozero::pbf_writer metric(family, 4);
        WriteLabels(pairs[i], &metric);
        if (kind == kCounters) {
          protozero::pbf_writer counter(metric, 3);
          counter.add_double(1, numbers[i]);
        } else {
          protozero::pbf_writer histogram(metric, 7);
          histogram.add_uint64(1, native.count);
          histogram.add_double(2, Example().sum);
          histogram.add_sint32(5, native.schema);
          histogram.add_double(6, native.zero_threshold);
          histogram.add_uint64(7, native.zero_count);
          WriteBuckets(native.positive, &histogram);
        }
      }
      bytes += page.size() - before;
    }
    benchmark::ClobberMemory();
  }
  ReportSeries(state, bytes);
}
BENCHMARK(BM_Protozero)->ArgName("kind")->Arg(kCounters)->Arg(kHistogramsNative);

// Making spans and deltas of a window.
void BM_MakeNativeHistogram(benchmark::State& state) {
  NativeHistogram native;
  for (auto _ : state) {
    MakeNativeHistogram(Example().counts, NativeHistogram::kMaxBuckets, &native);
    benchmark::DoNotOptimize(native.count);
  }
  state.counters["buckets"] = static_cast<double>(native.positive.deltas.size());
}
BENCHMARK(BM_MakeNativeHistogram);

void BM_GzipOnTopOfProtobuf(benchmark::State& state) {
  const auto kind = static_cast<int>(state.range(0));
  const ProtobufEncoder encoder = EncoderOf(kind);
  const std::vector<double> numbers = MakeNumbers(kIntegers);
  std::string rendered;
  int series = 0;
  for (; rendered.size() < kPageBytes; ++series) {
    EncodeSeries(encoder, kind, series, numbers[series], &rendered);
  }
  size_t bytes = 0;
  for (auto _ : state) {
    const std::string zipped = GzipMember(rendered);
    bytes = zipped.size();
    benchmark::DoNotOptimize(zipped.data());
  }
  state.counters["ns_per_series"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * series * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_series"] = static_cast<double>(bytes) / series;
}
BENCHMARK(BM_GzipOnTopOfProtobuf)->ArgName("kind")->Arg(kCounters)->Arg(kHistogramsNative);

prometheus::ClientMetric ReferenceMetric(int i) {
  prometheus::ClientMetric metric;
  metric.label = {{"env", "production"},
                  {"host", "web-" + std::to_string(i % 100)},
                  {"route", "/v1/r" + std::to_string(i)},
                  {"status", "200"}};
  return metric;
}

void SerializeReference(benchmark::State& state, const prometheus::MetricFamily& family,
                        int lines_per_series) {
  const prometheus::TextSerializer serializer;
  const std::vector<prometheus::MetricFamily> families = {family};
  for (auto _ : state) {
    const std::string text = serializer.Serialize(families);
    benchmark::DoNotOptimize(text.data());
  }
  ReportLines(state, lines_per_series);
}

void BM_PrometheusCppGauge(benchmark::State& state) {
  const std::vector<double> numbers = MakeNumbers(static_cast<int>(state.range(0)));
  prometheus::MetricFamily family{std::string(kName), "", prometheus::MetricType::Gauge, {}};
  for (int i = 0; i < kSeries; ++i) {
    family.metric.push_back(ReferenceMetric(i));
    family.metric.back().gauge.value = numbers[i];
  }
  SerializeReference(state, family, 1);
}
BENCHMARK(BM_PrometheusCppGauge)->ArgName("numbers")->Arg(kIntegers)->Arg(kDecimals)->Arg(kRandom);

void BM_PrometheusCppHistogram(benchmark::State& state) {
  const std::vector<double> numbers = MakeNumbers(kRandom);
  prometheus::MetricFamily family{std::string(kName), "", prometheus::MetricType::Histogram, {}};
  for (int i = 0; i < kSeries; ++i) {
    prometheus::ClientMetric metric = ReferenceMetric(i);
    uint64_t cumulative = 0;
    for (const double bound : Bounds()) {
      metric.histogram.bucket.push_back({cumulative += 123, bound});
    }
    metric.histogram.sample_count = cumulative + 123;
    metric.histogram.sample_sum = numbers[i];
    family.metric.push_back(metric);
  }
  SerializeReference(state, family, kHistogramLines);
}
BENCHMARK(BM_PrometheusCppHistogram);

}  // namespace
}  // namespace tallyd
