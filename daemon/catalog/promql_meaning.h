// What an expression gives, as far as can be said without data.

#ifndef TALLYD_DAEMON_CATALOG_PROMQL_MEANING_H_
#define TALLYD_DAEMON_CATALOG_PROMQL_MEANING_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "daemon/catalog/declared_names.h"
#include "daemon/catalog/promql.h"

namespace tallyd {

struct PromqlMeaning {
  enum class Kind : uint8_t {
    kUnknown,
    kScalar,
    kGauge,
    kCounter,   // as it is kept: it only grows
    kFlow,      // the rate or the increase of counters
    kQuotient,  // of two that are no scalars
    kQuantile,
  };
  Kind kind = Kind::kUnknown;
  std::string flow;                 // of a flow: "rate[5m]"; empty: mixed
  std::set<std::string> metrics;    // declared ones that it is made of
  std::set<std::string> numerator;  // of a quotient
  std::set<std::string> denominator;
  // Those of its series; none if they cannot be known.
  std::optional<std::set<std::string>> labels;
  std::map<std::string, std::string> pinned;  // labels that a selector fixes, and how
  std::optional<std::string> unit;            // none: mixed, or not known

  bool is_scalar() const { return kind == Kind::kScalar; }
};

PromqlMeaning MeaningOf(const PromqlExpr& expr, const DeclaredNames& names);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_PROMQL_MEANING_H_
