// Whatever families, labels and values there are: the text reads back as the same, protobuf decodes
// to the same, and OpenMetrics has the same samples and no end before the end.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/expose/protobuf.h"
#include "core/expose/text.h"
#include "core/groups/text_reader.h"
#include "core/rules/sanitize.h"
#include "core/wire/utf8.h"
#include "tests/core/expose/family_reader.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/input.h"

namespace tallyd {
namespace {

constexpr size_t kMaxFamilies = 8;
constexpr size_t kMaxSeries = 8;

// Sums of counts that no double, and no cumulative count, would round.
constexpr uint64_t kMostCounts = uint64_t{1} << 48;

const std::vector<double> kBounds = {-2.5, 0, 1e-3, 1e21};
const std::vector<std::string> kLes = {"-2.5", "0", "0.001", "1e+21"};
const std::vector<double> kRanks = {0.5, 0.99};
const std::vector<std::string> kQuantiles = {"0.5", "0.99"};

// Text that is UTF-8, as all labels and helps are by then.
std::string TakeText(Input* input) {
  std::string text = input->Bytes(input->Byte() % 32);
  return IsUtf8(text) ? text : "";
}

struct Series {
  std::map<std::string, std::string> labels;
  CounterValue counter;
  double number = 0;
  std::vector<uint64_t> buckets = std::vector<uint64_t>(5);
  std::vector<double> quantiles = std::vector<double>(2);
  uint64_t count = 0;

  uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t bucket : buckets) sum += bucket;
    return sum;
  }
};

struct Family {
  std::string name;
  std::string help;
  FamilyType type = FamilyType::kGauge;
  std::map<std::string, Series> series;  // by labels as rendered
};

std::string Rendered(const std::map<std::string, std::string>& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text.append(text.empty() ? "" : ",").append(name).append("=\"");
    AppendEscapedLabelValue(value, &text);
    text.push_back('"');
  }
  return text;
}

Series TakeSeries(Input* input) {
  Series series;
  for (int left = input->Byte() % 4; left > 0; --left) {
    // An empty value is no label, and nobody has one here.
    const std::string value = TakeText(input);
    if (!value.empty()) series.labels[std::string("l") + static_cast<char>('a' + left)] = value;
  }
  series.counter.whole = input->Integer();
  const double rest = std::fabs(input->Double());
  series.counter.rest = std::isfinite(rest) ? rest : 0;
  series.number = input->Double();
  for (uint64_t& bucket : series.buckets) bucket = input->Integer() % kMostCounts;
  for (double& quantile : series.quantiles) quantile = input->Double();
  series.count = input->Integer() % kMostCounts;
  return series;
}

std::vector<Family> TakeRegistry(Input* input) {
  std::vector<Family> families;
  for (size_t i = 0; i < kMaxFamilies && !input->empty(); ++i) {
    Family family;
    family.type = static_cast<FamilyType>(1 + input->Byte() % 4);
    // Names that no sample of another family has, in their order.
    family.name = std::string("family_") + static_cast<char>('a' + i);
    if (family.type == FamilyType::kCounter && input->Byte() % 2 == 0) family.name += "_total";
    family.help = TakeText(input);
    for (size_t left = 1 + input->Byte() % kMaxSeries; left > 0; --left) {
      Series series = TakeSeries(input);
      std::string labels = Rendered(series.labels);
      family.series.emplace(std::move(labels), std::move(series));
    }
    families.push_back(std::move(family));
  }
  return families;
}

void RenderSeries(const PageEncoder& encoder, const FamilyView& view, const std::string& labels,
                  const Series& series, std::string* page) {
  switch (view.type) {
    case FamilyType::kCounter:
      return encoder.Counter(view, labels, series.counter, page);
    case FamilyType::kGauge:
    case FamilyType::kUntyped:
      return encoder.Gauge(view, labels, series.number, page);
    case FamilyType::kHistogram:
      return encoder.Histogram(
          view, labels,
          {.bounds = kBounds, .les = kLes, .buckets = series.buckets, .sum = series.number}, page);
    case FamilyType::kSummary:
      return encoder.Summary(view, labels,
                             {.quantiles = kQuantiles,
                              .ranks = kRanks,
                              .values = series.quantiles,
                              .count = series.count,
                              .sum = series.number},
                             page);
  }
}

std::string Render(const std::vector<Family>& families, const PageEncoder& encoder) {
  std::string all;
  for (const Family& family : families) {
    std::string page;
    const FamilyView view = {.name = family.name, .help = family.help, .type = family.type};
    encoder.Family(view, &page);
    for (const auto& [labels, series] : family.series) {
      RenderSeries(encoder, view, labels, series, &page);
    }
    if (encoder.frames_families()) encoder.EndFamily(0, 0, &page);
    all += page;
  }
  return all;
}

bool Same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

double ValueOf(const Family& family, const Series& series) {
  if (family.type != FamilyType::kCounter) return series.number;
  return static_cast<double>(series.counter.whole) + series.counter.rest;
}

void CheckDistribution(const Family& family, const PushedDistribution& found,
                       const Series& series) {
  Check(Same(found.sum, series.number));
  if (family.type == FamilyType::kSummary) {
    Check(found.count == series.count && found.quantiles.size() == kRanks.size());
    for (size_t i = 0; i < kRanks.size(); ++i) {
      Check(found.quantiles[i].quantile == kRanks[i]);
      Check(Same(found.quantiles[i].value, series.quantiles[i]));
    }
    return;
  }
  Check(found.count == series.total());
  uint64_t cumulative = 0;
  size_t finite = 0;
  for (const PushedBucket& bucket : found.buckets) {
    if (std::isinf(bucket.bound)) {
      Check(bucket.cumulative == series.total());
      continue;
    }
    Check(finite < kBounds.size() && bucket.bound == kBounds[finite]);
    cumulative += series.buckets[finite++];
    Check(bucket.cumulative == cumulative);
  }
  Check(finite == kBounds.size());
}

void CheckText(const std::vector<Family>& families, const std::string& text) {
  const auto read = ReadPushedText(text, 1'000'000);
  Check(read.ok() && read->size() == families.size());
  for (const Family& family : families) {
    const auto found = read->find(family.name);
    Check(found != read->end() && found->second.type == family.type);
    Check(found->second.metrics.size() == family.series.size());
    for (const PushedMetric& metric : found->second.metrics) {
      const std::map<std::string, std::string> labels(metric.labels.begin(), metric.labels.end());
      const auto series = family.series.find(Rendered(labels));
      Check(series != family.series.end());
      if (metric.distribution == nullptr) {
        Check(Same(metric.value, ValueOf(family, series->second)));
      } else {
        CheckDistribution(family, *metric.distribution, series->second);
      }
    }
  }
}

void CheckMetric(const Family& family, const io::prometheus::client::Metric& metric,
                 const Series& series) {
  switch (family.type) {
    case FamilyType::kCounter:
      return Check(Same(metric.counter().value(), ValueOf(family, series)));
    case FamilyType::kGauge:
    case FamilyType::kUntyped:
      return Check(Same(metric.gauge().value(), series.number));
    case FamilyType::kHistogram:
      Check(metric.histogram().sample_count() == series.total());
      return Check(Same(metric.histogram().sample_sum(), series.number));
    case FamilyType::kSummary:
      Check(metric.summary().sample_count() == series.count);
      return Check(Same(metric.summary().sample_sum(), series.number));
  }
}

void CheckProtobuf(const std::vector<Family>& families, const std::string& bytes) {
  std::vector<PbFamily> read;
  Check(ReadFamilies(bytes, &read).empty() && read.size() == families.size());
  for (size_t i = 0; i < families.size(); ++i) {
    Check(read[i].name() == families[i].name && read[i].help() == families[i].help);
    Check(static_cast<size_t>(read[i].metric_size()) == families[i].series.size());
    for (const auto& metric : read[i].metric()) {
      std::map<std::string, std::string> labels;
      for (const auto& label : metric.label()) labels[label.name()] = label.value();
      const auto series = families[i].series.find(Rendered(labels));
      Check(series != families[i].series.end());
      CheckMetric(families[i], metric, series->second);
    }
  }
}

std::vector<std::string_view> SampleLines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    Check(end != std::string_view::npos);
    const std::string_view line = text.substr(0, end);
    Check(line != "# EOF" && !line.empty());
    if (line[0] != '#') lines.push_back(line);
    text.remove_prefix(end + 1);
  }
  return lines;
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tallyd;
  Input input(data, size);
  const std::vector<Family> families = TakeRegistry(&input);
  const std::string text =
      Render(families, TextEncoder(TextFormat::kPrometheus004, ContentCoding::kIdentity));
  CheckText(families, text);
  CheckProtobuf(families, Render(families, ProtobufEncoder(HistogramForm::kClassic,
                                                           ContentCoding::kIdentity)));
  const std::string open_metrics =
      Render(families, TextEncoder(TextFormat::kOpenMetrics100, ContentCoding::kIdentity));
  Check(IsUtf8(open_metrics));
  Check(SampleLines(open_metrics) == SampleLines(text));
  return 0;
}
