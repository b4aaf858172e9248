#include "daemon/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace tallyd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Gauge(std::string name, std::string help, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  return {std::move(name), std::move(help), MetricType::Gauge, {metric}};
}

MetricFamily Counter(std::string name, std::string help, double value) {
  ClientMetric metric;
  metric.counter.value = value;
  return {std::move(name), std::move(help), MetricType::Counter, {metric}};
}

struct Memory {
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

std::optional<Memory> ReadMemory() {
  std::ifstream statm("/proc/self/statm");
  double virtual_pages = 0;
  double resident_pages = 0;
  if (!(statm >> virtual_pages >> resident_pages)) return {};
  const auto page = static_cast<double>(::sysconf(_SC_PAGESIZE));
  return Memory{.virtual_bytes = virtual_pages * page, .resident_bytes = resident_pages * page};
}

std::optional<double> CountOpenDescriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc/self/fd"), &::closedir);
  if (directory == nullptr) return {};
  int count = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;  // less the one that we read the directory by
}

double MaxDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<double>::infinity();
  }
  return static_cast<double>(limit.rlim_cur);
}

std::optional<double> BootTimeSeconds() {
  std::ifstream stat("/proc/stat");
  for (std::string word; stat >> word;) {
    double seconds = 0;
    if (word == "btime" && stat >> seconds) return seconds;
  }
  return {};
}

// Field 22 of /proc/self/stat, counted from behind the command's name, which may contain anything.
std::optional<double> StartAfterBootSeconds() {
  std::ifstream stat("/proc/self/stat");
  std::string line;
  if (!std::getline(stat, line)) return {};
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  constexpr int kFieldsBetween = 19;
  size_t at = name_end + 1;
  for (int i = 0; i < kFieldsBetween && at != std::string::npos; ++i) at = line.find(' ', at + 1);
  if (at == std::string::npos) return {};
  return std::strtod(line.c_str() + at, nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double StartTimeSeconds() {
  const std::optional<double> boot = BootTimeSeconds();
  const std::optional<double> after = StartAfterBootSeconds();
  return boot.has_value() && after.has_value() ? *boot + *after : 0;
}

}  // namespace

double ProcessCpuSeconds() {
  timespec cpu{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  return static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9;
}

double ProcessResidentBytes() {
  const std::optional<Memory> memory = ReadMemory();
  return memory.has_value() ? memory->resident_bytes : 0;
}

ProcessMetrics::ProcessMetrics() : start_time_seconds_(StartTimeSeconds()) {}

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  std::vector<MetricFamily> families;
  families.push_back(Counter("process_cpu_seconds_total",
                             "Total user and system CPU time spent in seconds.",
                             ProcessCpuSeconds()));
  families.push_back(
      Gauge("process_max_fds", "Maximum number of open file descriptors.", MaxDescriptors()));
  if (const std::optional<double> open = CountOpenDescriptors()) {
    families.push_back(Gauge("process_open_fds", "Number of open file descriptors.", *open));
  }
  if (const std::optional<Memory> memory = ReadMemory()) {
    families.push_back(Gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
                             memory->resident_bytes));
    families.push_back(Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.",
                             memory->virtual_bytes));
  }
  if (start_time_seconds_ > 0) {
    families.push_back(Gauge("process_start_time_seconds",
                             "Start time of the process since unix epoch in seconds.",
                             start_time_seconds_));
  }
  return families;
}

}  // namespace tallyd
