// What a catalog may not say (docs/catalog.md, "What is refused").

#ifndef TALLYD_CORE_RULES_CATALOG_CHECK_H_
#define TALLYD_CORE_RULES_CATALOG_CHECK_H_

#include <cstddef>

#include "core/rules/catalog.h"
#include "core/rules/complaints.h"

namespace tallyd {

// Series that are there from the start, of one metric: as many as a family has room for.
inline constexpr size_t kMaxEnumerableSeries = 100'000;
// What `max` of a label may be.
inline constexpr size_t kMaxLabelValues = 1'000'000;

// Checks a catalog by itself. Keys of complaints are "metrics.NAME.unit", "alerts.NAME.for" ...
void CheckCatalog(const Catalog& catalog, Complaints* complaints);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CATALOG_CHECK_H_
