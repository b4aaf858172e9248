// The seam between the merger, which knows what changed, and the formats, which live in
// core/expose: the merger renders a page by telling an encoder its families and series in order.

#ifndef TALLYD_CORE_MERGE_PAGE_ENCODER_H_
#define TALLYD_CORE_MERGE_PAGE_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/merge/native_histogram.h"

namespace tallyd {

// Untyped families come from pushes alone; their samples are written as those of gauges.
enum class FamilyType : uint8_t {
  kCounter = 1,
  kGauge = 2,
  kHistogram = 3,
  kSummary = 4,
  kUntyped = 5
};

// Whether a series of it has a sum and a count.
constexpr bool IsDistribution(FamilyType type) {
  return type == FamilyType::kHistogram || type == FamilyType::kSummary;
}

// One family as the formats see it. The views live as long as the call they are passed to.
struct FamilyView {
  std::string_view name;  // sanitised: [a-zA-Z_][a-zA-Z0-9_]*
  std::string_view help;  // unescaped
  FamilyType type;
  // A family is called `name` less its suffix "_total". OpenMetrics then cannot call the counter
  // that, and shows it as unknown.
  bool stem_is_taken = false;
  // There is a family that is called as this one's `_created` lines would be.
  bool created_is_taken = false;
};

// A counter: an integer that is exact to 2^63 and, beside it, the sum of what was no integer.
struct CounterValue {
  uint64_t whole = 0;
  double rest = 0;
  int64_t created_s = 0;  // see PageEncoder
};

// A histogram with classic bounds. Invariant: there is no count; it is the sum of `buckets`.
struct HistogramValue {
  std::span<const double> bounds;     // ascending, finite, without +Inf
  std::span<const std::string> les;   // bounds as label values, shortest form
  std::span<const uint64_t> buckets;  // bounds.size() + 1, not cumulative; the last is +Inf
  double sum = 0;
  // The same observations by exponential buckets, if the encoder wants them. Its count is that of
  // `buckets` unless the cells were being written to.
  const NativeHistogram* native = nullptr;
  int64_t created_s = 0;  // see PageEncoder
};

// A summary: quantiles over a window, count and sum since the beginning.
struct SummaryValue {
  std::span<const std::string> quantiles;  // as label values, ascending
  std::span<const double> ranks;           // the quantiles as numbers
  std::span<const double> values;          // one for each; NaN where nothing is known
  uint64_t count = 0;
  double sum = 0;
  int64_t created_s = 0;  // see PageEncoder
};

// Writes families and series into a page. Thread-compatible; the merger thread uses it.
//
// `labels` are rendered and escaped as in the text formats, sorted by name, without braces:
// `a="b",c="d"`, or empty. Each series call follows its family's `Family` call, though not
// necessarily on the same page.
//
// `created_s` of a value is when the series was not there yet for the last time, in seconds of the
// wall clock; 0 if that is not known. What it counts, it has counted since.
class PageEncoder {
 public:
  virtual ~PageEncoder() = default;
  virtual void Family(const FamilyView& family, std::string* page) const = 0;
  virtual void Counter(const FamilyView& family, std::string_view labels, const CounterValue& value,
                       std::string* page) const = 0;
  virtual void Gauge(const FamilyView& family, std::string_view labels, double value,
                     std::string* page) const = 0;
  virtual void Histogram(const FamilyView& family, std::string_view labels,
                         const HistogramValue& value, std::string* page) const = 0;
  virtual void Summary(const FamilyView& family, std::string_view labels, const SummaryValue& value,
                       std::string* page) const = 0;
  // Whether histograms come with their native form, which costs to make.
  virtual bool wants_native_histograms() const { return false; }
  // Whether series come with one more that says when they were created, and so takes a name.
  virtual bool adds_created_series() const { return false; }
  // Whether the length of a family stands before its series. If so, EndFamily is called when the
  // last series of a family that begins on this page is on it, or the page is full: `begin` is
  // where `Family` began to write, `elsewhere` the number of bytes that follow on other pages.
  virtual bool frames_families() const { return false; }
  virtual void EndFamily(size_t /*begin*/, uint64_t /*elsewhere*/, std::string* /*page*/) const {}
  // Called once, when the page is complete: the place to compress it.
  virtual bool compresses() const = 0;
  virtual void Finish(std::string* page) const = 0;
};

}  // namespace tallyd

#endif  // TALLYD_CORE_MERGE_PAGE_ENCODER_H_
