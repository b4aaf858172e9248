#include "core/rules/histogram_layout.h"

#include <array>
#include <charconv>
#include <utility>

namespace tallyd {

HistogramLayout HistogramLayout::FromBounds(std::vector<double> bounds) {
  HistogramLayout layout;
  layout.bounds = std::move(bounds);
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
