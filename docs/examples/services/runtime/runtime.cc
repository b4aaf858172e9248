// A durable-execution runtime in small: runtime PORT [--names-from-history]
//
// PORT is where tallyd listens for UDP on this host. Commands come on standard input, one a line,
// and each is answered with how many orchestrations are active:
//
//   start ORCHESTRATION ID         a new instance, which takes its first turn
//   turn ID ACTIVITY success|failed   an activity of it ends, and it takes another turn
//   end ID OUTCOME                 its last turn; OUTCOME is success or a kind of error
//
// Time is the runtime's own, so that what is shown can be foretold: a turn takes 20 ms, an activity
// 30 ms. The flag brings back what once was wrong; tests/e2e/test_service_runtime.py uses it.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "metrics.h"

namespace {

constexpr int64_t kTurnMs = 20;
constexpr int64_t kActivityMs = 30;

struct Event {
  std::string kind;
  std::string orchestration;  // of the event that starts one
};

struct Instance {
  std::string orchestration;
  std::vector<Event> history;
  int64_t turns = 0;
  int64_t elapsed_ms = 0;
};

// What a turn is given: which instance, of which orchestration, and what is new in its history.
struct WorkItem {
  Instance* instance = nullptr;
  std::string orchestration;
  std::vector<Event> history_delta;
};

// Only the first turn of an instance has the event that says what it is an instance of.
std::string NameInHistory(const std::vector<Event>& delta) {
  for (const Event& event : delta) {
    if (!event.orchestration.empty()) return event.orchestration;
  }
  return "unknown";
}

class Runtime {
 public:
  Runtime(Metrics* metrics, bool names_from_history)
      : metrics_(*metrics), names_from_history_(names_from_history) {
    metrics_.ActiveOrchestrations(0);
  }

  void Start(const std::string& orchestration, const std::string& id) {
    Instance& instance = instances_[id];
    instance.orchestration = orchestration;
    metrics_.OrchestrationStarted(orchestration);
    metrics_.ActiveOrchestrations(static_cast<int64_t>(instances_.size()));
    Turn({&instance, orchestration, {{"OrchestrationStarted", orchestration}}});
  }

  void ActivityEnded(const std::string& id, const std::string& activity, bool failed) {
    Instance& instance = instances_.at(id);
    metrics_.ActivityEnded(activity, failed, kActivityMs);
    instance.elapsed_ms += kActivityMs;
    Turn({&instance, instance.orchestration, {{"ActivityScheduled", ""}, {"ActivityEnded", ""}}});
  }

  void End(const std::string& id, const std::string& outcome) {
    const auto it = instances_.find(id);
    if (it == instances_.end()) return;
    Instance& instance = it->second;
    const WorkItem item{&instance, instance.orchestration, {{"OrchestrationEnded", ""}}};
    Turn(item);
    // The work item knows the name in each turn.
    const std::string name =
        names_from_history_ ? NameInHistory(item.history_delta) : item.orchestration;
    const auto events = static_cast<int64_t>(instance.history.size());
    metrics_.OrchestrationEnded(name, outcome, instance.elapsed_ms, instance.turns, events);
    instances_.erase(it);
    metrics_.ActiveOrchestrations(static_cast<int64_t>(instances_.size()));
  }

  size_t active() const { return instances_.size(); }

 private:
  static void Turn(const WorkItem& item) {
    Instance& instance = *item.instance;
    instance.history.insert(instance.history.end(), item.history_delta.begin(),
                            item.history_delta.end());
    ++instance.turns;
    instance.elapsed_ms += kTurnMs;
  }

  Metrics& metrics_;
  const bool names_from_history_;
  std::map<std::string, Instance> instances_;
};

void Obey(const std::string& line, Runtime* runtime) {
  std::istringstream words(line);
  std::string verb;
  std::string first;
  std::string second;
  std::string third;
  words >> verb >> first >> second >> third;
  if (verb == "start") {
    runtime->Start(first, second);
  } else if (verb == "turn") {
    runtime->ActivityEnded(first, second, third == "failed");
  } else if (verb == "end") {
    runtime->End(first, second);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: runtime PORT [--names-from-history]\n";
    return 2;
  }
  Metrics metrics(static_cast<uint16_t>(std::atoi(argv[1])));
  Runtime runtime(&metrics, argc > 2 && std::string_view(argv[2]) == "--names-from-history");
  std::string line;
  while (std::getline(std::cin, line)) {
    Obey(line, &runtime);
    std::cout << runtime.active() << std::endl;
  }
  return 0;
}
