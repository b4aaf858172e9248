// The series that catalogs declare, shown before anybody sends them.

#ifndef TALLYD_DAEMON_CATALOG_SERIES_H_
#define TALLYD_DAEMON_CATALOG_SERIES_H_

#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <array>
#include <memory>

#include "core/rules/rules.h"
#include "daemon/merge_thread.h"
#include "daemon/observed_gauges.h"

namespace tallyd {

// Tells the merger which series there are from the start, and what observed
// gauges read. An observed series is there from its first good reading on until
// one fails: an old value would be a lie.
//
// Ownership: the control thread. The merger thread and the registry outlive it.
class CatalogSeries {
 public:
  CatalogSeries(MergeThread* merger, prometheus::Registry* registry);
  ~CatalogSeries();
  CatalogSeries(const CatalogSeries&) = delete;
  CatalogSeries& operator=(const CatalogSeries&) = delete;

  // From now on what the catalogs of `rules` declare. At the start and after
  // each reload.
  void Use(const Rules& rules);

 private:
  class Told;

  MergeThread* const merger_;
  std::array<prometheus::Counter*, kObservedFailures> failures_{};
  std::unique_ptr<ObservedGauges> gauges_;  // null before the first Use
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_SERIES_H_
