// Grouping keys: the labels that a push names its group by, in its path.

#ifndef TALLYD_CORE_GROUPS_GROUPING_H_
#define TALLYD_CORE_GROUPS_GROUPING_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tallyd {

// Label names and values, sorted. One of them is "job".
using Grouping = std::map<std::string, std::string, std::less<>>;

// Reads what stands behind "/metrics/" in a path that is percent-decoded: "job/NAME" or
// "job@base64/NAME", then pairs of label and value, of which those called LABEL@base64 have
// base64url values with or without padding. InvalidArgument in the Pushgateway's words, and for
// more labels than a series may have; NotFound if this is no path of a group.
absl::StatusOr<Grouping> ParseGrouping(std::string_view path_untrusted);

}  // namespace tallyd

#endif  // TALLYD_CORE_GROUPS_GROUPING_H_
