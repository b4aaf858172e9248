// What the names in an expression stand for: series of declared metrics, and recorded ones.

#ifndef TALLYD_DAEMON_CATALOG_DECLARED_NAMES_H_
#define TALLYD_DAEMON_CATALOG_DECLARED_NAMES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/rules/catalog.h"
#include "daemon/catalog/promql.h"

namespace tallyd {

// What a series of a metric is: a histogram has three kinds of them, a summary too.
enum class SeriesRole : uint8_t {
  kCounter,
  kGauge,
  kBucket,
  kSum,
  kCount,
  kQuantile,
  kWhole,  // the name of a histogram, under which there is no series
};

struct DeclaredName {
  const DeclaredMetric* metric = nullptr;
  SeriesRole role = SeriesRole::kGauge;
  std::set<std::string> labels;  // as exposed, le and quantile too; without those of the target

  // It only grows, and starts again at 0.
  bool grows() const { return role != SeriesRole::kGauge && role != SeriesRole::kQuantile; }
  // Of its values; empty: none. Buckets and counts are numbers of events.
  std::string unit() const;
};

// Labels that a series has from its scrape, whoever exposes it.
bool IsTargetLabel(const std::string& label);

// Names that every Prometheus has, or that tallyd itself exposes.
bool IsForeignName(const std::string& name);

// Immutable and therefore thread-safe. The catalog must outlive it.
class DeclaredNames {
 public:
  explicit DeclaredNames(const Catalog& catalog);

  // Null if no metric has it.
  const DeclaredName* Find(const std::string& name) const;
  // What is recorded under the name; null if nothing is, or if it cannot be read.
  const PromqlExpr* FindRecorded(const std::string& name) const;
  bool IsRecorded(const std::string& name) const { return recorded_.count(name) != 0; }
  // The declared name that is most like it; empty if none is.
  std::string Nearest(const std::string& name) const;

 private:
  void AddMetric(const DeclaredMetric& metric);

  std::map<std::string, DeclaredName> names_;
  struct Recorded {
    bool readable = false;
    PromqlExpr expr;
  };
  std::map<std::string, Recorded> recorded_;
};

// The label of the metric; null if it has none of that name.
const DeclaredLabel* FindLabel(const DeclaredMetric& metric, const std::string& name);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_DECLARED_NAMES_H_
