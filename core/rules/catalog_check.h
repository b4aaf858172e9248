// What a catalog may not say (docs/catalog.md, "What is refused").

#ifndef TALLYD_CORE_RULES_CATALOG_CHECK_H_
#define TALLYD_CORE_RULES_CATALOG_CHECK_H_

#include <string_view>
#include <vector>

#include "core/rules/catalog.h"
#include "core/rules/complaints.h"

namespace tallyd {

// Series that are there from the start, of one metric: as many as a family has room for.
inline constexpr size_t kMaxEnumerableSeries = 100'000;
// What `max` of a label may be.
inline constexpr size_t kMaxLabelValues = 1'000'000;

// Checks a catalog by itself. Keys of complaints are "metrics.NAME.unit", "alerts.NAME.for" ...
void CheckCatalog(const Catalog& catalog, Complaints* complaints);

// Checks that `catalog` declares nothing that one of `before` declares already: names of metrics
// and of their samples, sources, alerts, recorded names.
void CheckBeside(const std::vector<const Catalog*>& before, const Catalog& catalog,
                 Complaints* complaints);

// The line where a key stands, or `line` if it is not there.
int LineOf(const std::vector<KeyLine>& key_lines, int line, std::string_view key);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CATALOG_CHECK_H_
