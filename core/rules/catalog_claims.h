// What several catalogs may not claim at once (docs/catalog.md, "What is refused").

#ifndef TALLYD_CORE_RULES_CATALOG_CLAIMS_H_
#define TALLYD_CORE_RULES_CATALOG_CLAIMS_H_

#include <vector>

#include "core/rules/catalog.h"
#include "core/rules/complaints.h"

namespace tallyd {

// Checks that `catalog` declares nothing that one of `before` declares already: names of metrics
// and of their samples, sources, alerts, recorded names.
void CheckBeside(const std::vector<const Catalog*>& before, const Catalog& catalog,
                 Complaints* complaints);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_CATALOG_CLAIMS_H_
