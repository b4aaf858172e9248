// The account that tally-load gives of what it sent.

#ifndef TALLYD_BENCH_LOAD_ACCOUNT_H_
#define TALLYD_BENCH_LOAD_ACCOUNT_H_

#include <cstdint>
#include <map>
#include <string>

#include "bench/load/latency.h"
#include "bench/load/plan.h"

namespace tallyd::bench {

struct Counts {
  uint64_t packets = 0;
  uint64_t lines = 0;
  uint64_t samples = 0;
  uint64_t bytes = 0;  // of payload

  void Add(const Packet& packet) {
    ++packets;
    lines += packet.lines;
    samples += packet.samples;
    bytes += packet.size;
  }
  Counts& operator+=(const Counts& other) {
    packets += other.packets;
    lines += other.lines;
    samples += other.samples;
    bytes += other.bytes;
    return *this;
  }
};

// Offered = sent + all that was refused. "Sent" is what the kernel took: over UDP it may still drop
// it at the receiver's socket, which only the receiver can count. A plain value.
struct Account {
  Counts sent;
  std::map<int, Counts> refused;  // by errno
  double seconds = 0;
  double lines_per_second_asked = 0;  // 0: flat out
  // How much later than asked the last packet was, because the sender could not keep up.
  double behind_seconds = 0;
  double cpu_user_ns = 0;
  double cpu_sys_ns = 0;
  LatencyHistogram latency;  // empty unless asked for
};

// One JSON object of one line. Rates and CPU are per line offered.
std::string AccountJson(const Account& account, const Plan& plan, const std::string& url);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_ACCOUNT_H_
