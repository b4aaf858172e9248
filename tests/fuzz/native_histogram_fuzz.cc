// Whatever is observed, and whatever the labels: what a receiver decodes is a valid histogram, and
// each value is in its bucket.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/rules/sanitize.h"
#include "core/shard/cells.h"
#include "tests/core/expose/family_reader.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/input.h"

namespace tallyd {
namespace {

struct Observed {
  ExponentialCounts counts;
  std::vector<uint64_t> classic = std::vector<uint64_t>(4);
  double sum = 0;
  std::vector<double> values;
  bool each_once = true;  // no sample rates
};

// One cell's observations.
void ObserveCell(Input* input, Observed* observed) {
  HistogramLayout layout = HistogramLayout::FromBounds({-1, 0, 1});
  layout.schema = static_cast<int8_t>(input->Byte() % 13 - 4);
  layout.window_buckets = static_cast<uint8_t>(input->Byte() % 160 + 1);
  std::vector<CellWord> words(HistogramCell::Words(layout.bounds.size()));
  HistogramCell cell(words.data(), layout);
  for (int left = input->Byte(); left > 0 && !input->empty(); --left) {
    const bool sampled = input->Byte() % 16 == 0;
    const double value = input->Double();
    if (std::isnan(value)) continue;
    if (sampled) {
      observed->each_once = false;
      cell.ObserveSampled(value, std::fabs(input->Double()), 1);
    } else {
      observed->values.push_back(value);
      cell.Observe(value, 1);
    }
  }
  cell.AddBuckets(observed->classic);
  observed->sum += cell.sum();
  HistogramCell::WindowCounts window;
  Check(cell.ReadWindow(&window));
  observed->counts.Add(window);
}

void CheckBuckets(const PbHistogram& histogram, const Observed& observed) {
  if (!observed.each_once) return;
  PbBuckets positive;
  uint64_t negative = 0;
  for (const double value : observed.values) {
    if (value < -Window::kZeroThreshold) ++negative;
    if (!(value > Window::kZeroThreshold)) continue;
    ++positive[std::isinf(value) ? NativeHistogram::OverflowBucket(histogram.schema())
                                 : Window::BucketOf(value, histogram.schema())];
  }
  Check(histogram.sample_count() == observed.values.size());
  Check(PositiveBuckets(histogram) == positive);
  const PbBuckets negatives = NegativeBuckets(histogram).value();
  uint64_t shown = 0;
  for (const auto& [bucket, count] : negatives) shown += count;
  Check(shown == negative);
}

void CheckEncoding(Input input) {
  const std::string value = input.Text(200);
  const int max_buckets = input.Byte() % 81 + NativeHistogram::kMinMaxBuckets;
  Observed observed;
  for (int cells = input.Byte() % 4; cells >= 0; --cells) ObserveCell(&input, &observed);
  NativeHistogram native;
  MakeNativeHistogram(observed.counts, max_buckets, &native);
  Check(native.positive.deltas.size() + native.negative.deltas.size() <=
        static_cast<size_t>(max_buckets));

  const std::vector<double> bounds = {-1, 0, 1};
  const std::vector<std::string> les = {"-1", "0", "1"};
  const ProtobufEncoder encoder(HistogramForm::kBoth, ContentCoding::kIdentity);
  const FamilyView family = {.name = "h", .help = "", .type = FamilyType::kHistogram};
  std::string labels = "a=\"";
  AppendEscapedLabelValue(value, &labels);
  labels.append("\",b=\"c\"");
  std::string page;
  encoder.Family(family, &page);
  encoder.Histogram(family, labels,
                    {.bounds = bounds,
                     .les = les,
                     .buckets = observed.classic,
                     .sum = observed.sum,
                     .native = &native,
                     .created_s = 1},
                    &page);
  encoder.EndFamily(0, 0, &page);

  std::vector<PbFamily> families;
  Check(ReadFamilies(page, &families).empty());
  Check(families.size() == 1 && families[0].metric_size() == 1);
  Check(families[0].metric(0).label(0).value() == value);
  const PbHistogram& histogram = families[0].metric(0).histogram();
  Check(std::bit_cast<uint64_t>(histogram.sample_sum()) == std::bit_cast<uint64_t>(observed.sum));
  CheckBuckets(histogram, observed);
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallyd::CheckEncoding({data, size});
  return 0;
}
