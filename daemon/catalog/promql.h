// PromQL as a tree: enough of the grammar to say what an expression looks at and how.
//
// Written against the language of Prometheus 2.42. Not read: @ modifiers, and native histograms'
// literals. promtool stays the judge of what is valid; who reads a tree may rely on what is said
// below, and on nothing that needs data.

#ifndef TALLYD_DAEMON_CATALOG_PROMQL_H_
#define TALLYD_DAEMON_CATALOG_PROMQL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tallyd {

struct PromqlMatcher {
  std::string label;
  std::string op;  // = != =~ !~
  std::string value;
};

// A node. Brackets are not nodes: the shape of the tree says where they stood.
struct PromqlExpr {
  enum class Kind : uint8_t {
    kNumber,       // number
    kText,         // name
    kSelector,     // name, matchers; range_ms if it selects ranges
    kSubquery,     // children[0], range_ms
    kCall,         // name, children
    kAggregation,  // name, grouping, children; the last child is what is aggregated
    kBinary,       // name is the operator, two children
    kNegation,     // children[0]
  };
  enum class Grouping : uint8_t { kNone, kBy, kWithout };
  enum class Matching : uint8_t { kAll, kOn, kIgnoring };
  enum class Many : uint8_t { kNone, kLeft, kRight };

  // A range that is a variable of a dashboard ("$__rate_interval").
  static constexpr int64_t kVariableRange = -1;

  Kind kind = Kind::kNumber;
  double number = 0;
  std::string name;
  std::vector<PromqlMatcher> matchers;
  int64_t range_ms = 0;  // 0: no range
  Grouping grouping = Grouping::kNone;
  std::vector<std::string> grouping_labels;
  bool returns_bool = false;  // a comparison that gives 0 and 1 instead of leaving out
  Matching matching = Matching::kAll;
  std::vector<std::string> matching_labels;
  Many many = Many::kNone;  // group_left, group_right
  std::vector<std::string> included_labels;
  std::vector<PromqlExpr> children;

  bool is_comparison() const;
  bool is_set_operation() const;  // and, or, unless
};

// The error says what is wrong and after which text.
absl::StatusOr<PromqlExpr> ParsePromql(std::string_view text_untrusted);

// Whether a function's last argument that is no number is a range (rate, the _over_time ones).
bool TakesRange(std::string_view function);

// "5m", "1h30m", "500ms" in milliseconds; 0 if it is no duration.
int64_t PromqlDurationMs(std::string_view text);

// The shortest way to write it; "0s" for nothing.
std::string PromqlDuration(int64_t ms);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_PROMQL_H_
