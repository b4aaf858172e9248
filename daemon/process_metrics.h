// The process_* families that every Prometheus client library shows.

#ifndef TALLYD_DAEMON_PROCESS_METRICS_H_
#define TALLYD_DAEMON_PROCESS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace tallyd {

// Of this process; 0 where the kernel does not tell.
double ProcessCpuSeconds();
double ProcessResidentBytes();

// Reads CPU time, memory and descriptors of this process from the kernel. What the kernel does not
// tell is left out. Thread-safe: it has no state but the start time, which never changes.
class ProcessMetrics : public prometheus::Collectable {
 public:
  ProcessMetrics();

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  double start_time_seconds_;  // of the wall clock; 0 if unknown
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PROCESS_METRICS_H_
