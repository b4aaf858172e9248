// Everything that is wrong with a mapping file, so that its author mends it in one go.

#ifndef TALLYD_CORE_RULES_COMPLAINTS_H_
#define TALLYD_CORE_RULES_COMPLAINTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tallyd {

// Thread-compatible.
class Complaints {
 public:
  // More than these are only counted: who has so many mistakes has one, many times.
  static constexpr size_t kMaxShown = 20;

  // `text` says what is wrong and what to do.
  void Add(int line, std::string_view key, std::string_view text);
  bool empty() const { return complaints_.empty(); }
  size_t size() const { return complaints_.size(); }

  // In the order of the file, each "file:line: key: text"; the class is kInvalidArgument. Ok if
  // there are none.
  absl::Status ToStatus(std::string_view file) const;

 private:
  struct Complaint {
    int line;
    std::string text;
  };
  std::vector<Complaint> complaints_;
};

// Text of the file for a message: in quotes, escaped, and not longer than a line bears.
std::string Quoted(std::string_view text);

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_COMPLAINTS_H_
