// All layouts that any set of rules ever asked for.

#ifndef TALLYD_CORE_RULES_LAYOUT_TABLE_H_
#define TALLYD_CORE_RULES_LAYOUT_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/rules/histogram_layout.h"

namespace tallyd {

// A cell is what its layout says for as long as it lives, so layouts outlive the rules that asked
// for them and keep their numbers over reloads.
//
// Invariant: an entry is written once and never changes. The control thread alone interns; other
// threads may read an entry whose number has reached them by way of the rules that hold it.
class LayoutTable {
 public:
  static constexpr size_t kMax = 4096;  // CellClass has 12 bits for them

  // Control thread. The number of an equal layout, or of a new one; ResourceExhausted if all
  // numbers are taken.
  absl::StatusOr<uint16_t> Intern(const HistogramLayout& layout) {
    for (size_t i = 0; i < size_; ++i) {
      if (*layouts_[i] == layout) return static_cast<uint16_t>(i);
    }
    if (size_ == kMax) {
      return absl::ResourceExhaustedError(
          "more than 4096 different bucket and quantile lists since the start; restart tallyd");
    }
    layouts_[size_] = std::make_unique<const HistogramLayout>(layout);
    return static_cast<uint16_t>(size_++);
  }

  // Control thread. The number of the first layout for which `fits(const HistogramLayout&)` holds;
  // false if there is none.
  template <class Fits>
  bool FindIf(Fits&& fits, uint16_t* number) const {
    for (size_t i = 0; i < size_; ++i) {
      if (!fits(*layouts_[i])) continue;
      *number = static_cast<uint16_t>(i);
      return true;
    }
    return false;
  }

  // Any thread.
  const HistogramLayout& operator[](uint16_t number) const { return *layouts_[number]; }

 private:
  std::array<std::unique_ptr<const HistogramLayout>, kMax> layouts_;
  size_t size_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_LAYOUT_TABLE_H_
