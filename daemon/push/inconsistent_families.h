// What a Pushgateway complains about when it refuses a push.

#ifndef TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_
#define TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tallyd {

// The families that a gateway's refusal names as inconsistent, a line for each, the likeliest
// first. Empty if it is no such refusal.
std::vector<std::vector<std::string>> InconsistentFamilies(std::string_view answer_untrusted);

// The families that are left out for a while since a gateway calls them inconsistent. Times are of
// the monotonic clock. Thread-compatible.
class RejectedFamilies {
 public:
  // Of each line of a refusal the likeliest name that is ours, until then. Returns those that were
  // not left out already: without any, another try would be refused again.
  std::vector<std::string> Add(std::string_view answer_untrusted, int64_t until_ns,
                               const std::function<bool(const std::string& name)>& is_ours);
  // Takes those in again whose time is over.
  void Forget(int64_t now_ns);

  bool Has(std::string_view name) const { return until_ns_.find(name) != until_ns_.end(); }
  std::vector<std::string> names() const;

 private:
  std::map<std::string, int64_t, std::less<>> until_ns_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_INCONSISTENT_FAMILIES_H_
