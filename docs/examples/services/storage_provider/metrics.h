// What the storage provider reports: a line is made on the stack and put into a batch; a full batch
// is one datagram, which the kernel takes at once or not at all. Nothing waits, nothing allocates.

#ifndef METRICS_H_
#define METRICS_H_

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "generated/storage_provider_metrics.h"

// Not to be shared between threads.
class Metrics {
 public:
  // `path` is the UNIX datagram socket of tallyd; with "", nothing is recorded.
  explicit Metrics(const std::string& path) : records_(!path.empty()) {
    socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    if (records_) {
      static_cast<void>(
          ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
    }
  }
  ~Metrics() { ::close(socket_); }
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void Fetched(int64_t ms) {
    Done<storage_provider_metrics::ProviderFetchOrchestrationItemDurationSeconds>(
        storage_provider_metrics::Operation::kFetch, ms);
  }
  void OrchestrationAcked(int64_t ms, int64_t retries) {
    Done<storage_provider_metrics::ProviderAckOrchestrationItemDurationSeconds>(
        storage_provider_metrics::Operation::kAckOrch, ms);
    if (records_ && retries > 0) {
      storage_provider_metrics::ProviderAckOrchestrationRetriesTotal::Add(
          *this, static_cast<double>(retries));
    }
  }
  void WorkerAcked(int64_t ms) {
    Done<storage_provider_metrics::ProviderAckWorkerDurationSeconds>(
        storage_provider_metrics::Operation::kAckWorker, ms);
  }
  void Enqueued(int64_t ms) {
    Done<storage_provider_metrics::ProviderEnqueueOrchestratorDurationSeconds>(
        storage_provider_metrics::Operation::kEnqueue, ms);
  }
  void Dequeued(int64_t ms) {
    Done<storage_provider_metrics::ProviderDequeueWorkerDurationSeconds>(
        storage_provider_metrics::Operation::kDequeueWorker, ms);
  }

  // Errors come as text from a database: what is in no list is sent as it is, and folded.
  void Failed(std::string_view operation, std::string_view error) {
    if (!records_) return;
    (*this)("provider.operations:1|c|#operation:" + std::string(operation));
    (*this)("provider.infrastructure_errors:1|c|#error_type:" + std::string(error) +
            ",operation:" + std::string(operation));
  }

  // Samples: recorded = sent + lost + those that wait for the batch to be full.
  int64_t recorded() const { return recorded_; }
  int64_t sent() const { return sent_; }
  int64_t lost() const { return lost_; }

  // The sink of the generated helpers.
  void operator()(std::string_view line) {
    ++recorded_;
    batch_(line);
  }
  void Flush() { batch_.Flush(); }

 private:
  struct Send {
    void operator()(std::string_view packet) const { metrics->Give(packet); }
    Metrics* metrics;
  };

  template <typename Duration>
  void Done(storage_provider_metrics::Operation operation, int64_t ms) {
    if (!records_) return;
    storage_provider_metrics::ProviderOperationsTotal::Add(*this, operation);
    Duration::Observe(*this, std::chrono::milliseconds(ms));
  }

  void Give(std::string_view packet) {
    const int64_t samples = 1 + std::count(packet.begin(), packet.end(), '\n');
    const bool taken = ::send(socket_, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0;
    (taken ? sent_ : lost_) += samples;
  }

  const bool records_;
  int socket_ = -1;
  int64_t recorded_ = 0;
  int64_t sent_ = 0;
  int64_t lost_ = 0;
  storage_provider_metrics::Batch<Send> batch_{Send{this}};
};

#endif  // METRICS_H_
