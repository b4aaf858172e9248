#include "bench/load/account.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace tallyd::bench {
namespace {

// ECONNREFUSED rather than its sentence. strerrorname_np is glibc's alone, like all of tallyd.
std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : absl::StrCat("errno-", error);
}

std::string CountsJson(const Counts& c) {
  return absl::StrFormat(R"("packets":%d,"lines":%d,"samples":%d,"bytes":%d)", c.packets, c.lines,
                         c.samples, c.bytes);
}

std::string RefusedJson(const std::map<int, Counts>& refused) {
  return absl::StrJoin(refused, ",", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, "\"", ErrnoName(entry.first), "\":{", CountsJson(entry.second), "}");
  });
}

std::string LatencyJson(const LatencyHistogram& latency) {
  if (latency.count() == 0) return "null";
  return absl::StrFormat(R"({"count":%d,"p50":%d,"p99":%d,"p999":%d,"max":%d})", latency.count(),
                         latency.QuantileNs(0.5), latency.QuantileNs(0.99),
                         latency.QuantileNs(0.999), latency.max_ns());
}

std::string WorkloadJson(const Plan& plan) {
  const Workload& w = plan.workload;
  Counts prepared;
  for (const PacketRing& ring : plan.rings) {
    for (size_t i = 0; i < ring.size(); ++i) prepared.Add(ring.At(i));
  }
  return absl::StrFormat(
      R"({"seed":%d,"series":%d,"tags":%d,"names":%d,"mix":"%s","packet_size":%d,)"
      R"("lines_per_packet":%d,"packing":%d,"sample_rates":%g,"gauge_deltas":%g,"prefix":"%s",)"
      R"("churn":%d,"senders":%d,"sequential":%s,"prepared":{%s}})",
      w.seed, w.series, w.tags, w.tags == 0 ? w.series : w.names, absl::StrJoin(w.mix, ":"),
      w.packet_bytes, w.lines_per_packet, w.packing, w.sampled, w.gauge_changes, w.prefix,
      w.churn_lines, w.senders, w.sequential ? "true" : "false", CountsJson(prepared));
}

}  // namespace

std::string AccountJson(const Account& account, const Plan& plan, const std::string& url) {
  Counts refused;
  for (const auto& [error, counts] : account.refused) refused += counts;
  const auto offered = static_cast<double>(account.sent.lines + refused.lines);
  const double lines = offered > 0 ? offered : 1;
  const double seconds = account.seconds > 0 ? account.seconds : 1;
  return absl::StrFormat(
      R"({"to":"%s",%s,"refused_total":{%s},"refused":{%s},"seconds":%.6f,"lines_per_s":%.0f,)"
      R"("packets_per_s":%.0f,"lines_per_s_asked":%.0f,"behind_s":%.6f,)"
      R"("cpu_ns_per_line":%.2f,"cpu_user_ns_per_line":%.2f,"cpu_sys_ns_per_line":%.2f,)"
      R"("send_ns":%s,"workload":%s})",
      url, CountsJson(account.sent), CountsJson(refused), RefusedJson(account.refused),
      account.seconds, offered / seconds,
      static_cast<double>(account.sent.packets + refused.packets) / seconds,
      account.lines_per_second_asked, account.behind_seconds,
      (account.cpu_user_ns + account.cpu_sys_ns) / lines, account.cpu_user_ns / lines,
      account.cpu_sys_ns / lines, LatencyJson(account.latency), WorkloadJson(plan));
}

}  // namespace tallyd::bench
