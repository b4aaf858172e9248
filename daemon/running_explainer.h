// Explains lines by the rules of a running daemon.

#ifndef TALLYD_DAEMON_RUNNING_EXPLAINER_H_
#define TALLYD_DAEMON_RUNNING_EXPLAINER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/shard/family_types.h"
#include "daemon/explain.h"

namespace tallyd {

// Keeps what it has built from the rules until others come. Thread-compatible.
class RunningExplainer {
 public:
  struct Question {
    std::string line_untrusted;
    bool as_json = true;
    Explainer::Options options;
    uint32_t sequence = 0;                  // of the rules
    const FamilyTypes* families = nullptr;  // of the daemon
    SeriesCount budget;
  };

  absl::StatusOr<std::string> Answer(const Question& question);

 private:
  std::unique_ptr<Explainer> explainer_;  // null before the first question
  uint32_t sequence_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RUNNING_EXPLAINER_H_
