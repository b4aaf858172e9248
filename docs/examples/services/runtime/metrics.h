// What the runtime reports. DUROXIDE_METRICS=0 compiles it away: the calls stay, and do nothing.
// Both are one class to the runtime, and both are built and run by
// tests/e2e/test_service_runtime.py.

#ifndef METRICS_H_
#define METRICS_H_

#ifndef DUROXIDE_METRICS
#define DUROXIDE_METRICS 1
#endif

#include <cstdint>
#include <string>

#if DUROXIDE_METRICS

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string_view>

#include "generated/runtime_metrics.h"

// Sends over UDP, and never waits. Not to be shared between threads.
class Metrics {
 public:
  explicit Metrics(uint16_t port) : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    static_cast<void>(
        ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
  }
  ~Metrics() { ::close(socket_); }
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The number as it is, not a change of it: what is lost on the way is right again with the next.
  void ActiveOrchestrations(int64_t count) {
    runtime_metrics::DuroxideActiveOrchestrations::Set(*this, static_cast<double>(count));
  }

  void OrchestrationStarted(const std::string& name) {
    if (const auto known = Known(name)) {
      runtime_metrics::DuroxideOrchestrationStartsTotal::Add(*this, *known);
    }
  }

  void OrchestrationEnded(const std::string& name, const std::string& outcome, int64_t ms,
                          int64_t turns, int64_t history_events) {
    const auto known = Known(name);
    const bool failed = outcome != "success";
    if (!known) {
      EndedWithoutName(name, failed);
      return;
    }
    runtime_metrics::DuroxideOrchestrationCompletionsTotal::Add(
        *this, *known,
        failed ? runtime_metrics::Outcome::kFailed : runtime_metrics::Outcome::kSuccess);
    if (failed) {
      runtime_metrics::DuroxideOrchestrationFailuresTotal::Add(*this, ErrorOf(outcome), *known);
    }
    runtime_metrics::DuroxideOrchestrationDurationSeconds::Observe(*this, *known,
                                                                   std::chrono::milliseconds(ms));
    runtime_metrics::DuroxideOrchestrationTurns::Observe(*this, *known, static_cast<double>(turns));
    runtime_metrics::DuroxideOrchestrationHistoryEvents::Observe(
        *this, *known, static_cast<double>(history_events));
  }

  void ActivityEnded(const std::string& name, bool failed, int64_t ms) {
    runtime_metrics::DuroxideActivityExecutionsTotal::Add(
        *this, name,
        failed ? runtime_metrics::Outcome::kFailed : runtime_metrics::Outcome::kSuccess);
    runtime_metrics::DuroxideActivityDurationSeconds::Observe(*this, name,
                                                              std::chrono::milliseconds(ms));
  }

  // The sink of the generated helpers.
  void operator()(std::string_view line) const {
    static_cast<void>(::send(socket_, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
  }

 private:
  static std::optional<runtime_metrics::OrchestrationName> Known(std::string_view name) {
    using runtime_metrics::OrchestrationName;
    for (const auto known : {OrchestrationName::kCreateInstance, OrchestrationName::kDeleteInstance,
                             OrchestrationName::kInstanceActor}) {
      if (runtime_metrics::Text(known) == name) return known;
    }
    return std::nullopt;
  }

  static runtime_metrics::ErrorType ErrorOf(std::string_view outcome) {
    using runtime_metrics::ErrorType;
    if (outcome == "infrastructure_error") return ErrorType::kInfrastructureError;
    return outcome == "config_error" ? ErrorType::kConfigError : ErrorType::kAppError;
  }

  // The helpers take no name that is not declared: this is a line that somebody wrote by hand.
  void EndedWithoutName(const std::string& name, bool failed) {
    (*this)("duroxide.orchestration.completions:1|c|#orchestration_name:" + name +
            ",outcome:" + (failed ? "failed" : "success"));
  }

  const int socket_;
};

#else

class Metrics {
 public:
  explicit Metrics(uint16_t /*port*/) {}
  void ActiveOrchestrations(int64_t /*count*/) {}
  void OrchestrationStarted(const std::string& /*name*/) {}
  void OrchestrationEnded(const std::string& /*name*/, const std::string& /*outcome*/,
                          int64_t /*ms*/, int64_t /*turns*/, int64_t /*history_events*/) {}
  void ActivityEnded(const std::string& /*name*/, bool /*failed*/, int64_t /*ms*/) {}
};

#endif  // DUROXIDE_METRICS

#endif  // METRICS_H_
