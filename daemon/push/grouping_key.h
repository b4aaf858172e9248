// The group of a Pushgateway that is ours.

#ifndef TALLYD_DAEMON_PUSH_GROUPING_KEY_H_
#define TALLYD_DAEMON_PUSH_GROUPING_KEY_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace tallyd {

// A value. The gateway gives these labels to every series of the group, over what the series has.
struct GroupingKey {
  std::string job;
  std::vector<std::pair<std::string, std::string>> labels;  // without the job; any order

  // What a gateway would refuse, or take for something else.
  absl::Status Check() const;

  // "/metrics/job/a/instance/b", the labels by name: one group has one path, however they are
  // given. A value of other characters than letters, digits, "_", "-" and "." is written in base64
  // for URLs (RFC 4648 section 5): percent-encoded slashes would be redirected away.
  std::string Path() const;

  bool Has(std::string_view label) const;
};

// Labels as rendered in the text formats, `a="b",c="d"`, with those that the group has as well
// renamed to exported_NAME, as Prometheus does on a scrape: the gateway would write over them, and
// series that differ in nothing else would be one.
std::string RenameGroupLabels(std::string_view labels, const GroupingKey& key);
// The same for one label, given all names of its series.
std::string ExportedName(std::string_view label, const std::vector<std::string_view>& others,
                         const GroupingKey& key);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_GROUPING_KEY_H_
