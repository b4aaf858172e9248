#include "core/rules/histogram_layout.h"

#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace tallyd {

HistogramLayout HistogramLayout::FromBounds(std::vector<double> bounds) {
  HistogramLayout layout;
  layout.bounds = std::move(bounds);
  layout.padded_bounds = layout.bounds;
  if (layout.padded_bounds.size() % 2 != 0) {
    layout.padded_bounds.push_back(std::numeric_limits<double>::infinity());
  }
  for (const double bound : layout.bounds) {
    std::array<char, 32> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), bound).ptr;
    layout.les.emplace_back(text.data(), end);
  }
  return layout;
}

HistogramLayout HistogramLayout::Default() {
  return FromBounds({.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10});
}

}  // namespace tallyd
