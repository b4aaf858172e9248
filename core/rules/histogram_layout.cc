#include "core/rules/histogram_layout.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace tallyd {
namespace {

constexpr int kMinSchema = -4;
constexpr int kMaxSchema = 8;

std::string ShortestText(double value) {
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

int8_t SchemaFor(double factor) {
  for (int schema = kMinSchema; schema < kMaxSchema; ++schema) {
    if (std::exp2(std::exp2(-schema)) <= factor) return static_cast<int8_t>(schema);
  }
  return kMaxSchema;
}

}  // namespace

HistogramLayout HistogramLayout::FromBounds(std::vector<double> bounds) {
  HistogramLayout layout;
  layout.bounds = std::move(bounds);
  layout.padded_bounds = layout.bounds;
  if (layout.padded_bounds.size() % 2 != 0) {
    layout.padded_bounds.push_back(std::numeric_limits<double>::infinity());
  }
  for (const double bound : layout.bounds) layout.les.push_back(ShortestText(bound));
  return layout;
}

HistogramLayout HistogramLayout::FromOptions(const HistogramOptions& options) {
  HistogramLayout layout = FromBounds(options.buckets);
  layout.schema = SchemaFor(options.native_factor);
  layout.window_buckets =
      static_cast<uint8_t>(std::clamp<uint32_t>(options.native_max_buckets, 1, kMaxWindowBuckets));
  return layout;
}

HistogramLayout HistogramLayout::FromOptions(const SummaryOptions& options) {
  HistogramLayout layout = FromBounds({});
  layout.schema = 5;
  for (const Quantile& quantile : options.quantiles) {
    layout.quantiles.push_back(quantile.quantile);
  }
  std::sort(layout.quantiles.begin(), layout.quantiles.end());
  // Two of the same would be two series of the same name.
  layout.quantiles.erase(std::unique(layout.quantiles.begin(), layout.quantiles.end()),
                         layout.quantiles.end());
  for (const double quantile : layout.quantiles) {
    layout.quantile_texts.push_back(ShortestText(quantile));
  }
  layout.max_age_ms = options.max_age_ms;
  layout.age_buckets = options.age_buckets;
  return layout;
}

HistogramLayout HistogramLayout::Default() { return FromOptions(HistogramOptions{}); }

}  // namespace tallyd
