// The packets of a load, prepared before the first is sent, and what each of them says.

#ifndef TALLYD_BENCH_LOAD_PLAN_H_
#define TALLYD_BENCH_LOAD_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "bench/load/catalog.h"
#include "bench/load/workload.h"

namespace tallyd::bench {

// What one line says. Values are integers, so that every sum of them is exact: counters as they
// are, gauges in quarters, timers in milliseconds, sets by the number of the member.
struct Line {
  uint32_t series;
  uint32_t first_value;  // into the values of the ring
  uint16_t value_count;
  bool sampled;  // `|@0.5`: each value weighs 2
  bool change;   // the values of a gauge line are changes
};

struct Packet {
  uint64_t offset;  // of the payload, in the bytes of the ring
  uint32_t size;    // of the payload, in bytes
  uint32_t first_line;
  uint32_t lines;
  uint32_t samples;
};

// How a packet leaves: alone in a datagram, behind its length, or with a line feed after it.
enum class Framing { kDatagram, kLengthPrefixed, kNewline };

// The packets of one sender, sent over and over in this order.
//
//   +--------+---------------------+----+--------+----------
//   | length |  line LF line ...   | LF | length |  ...
//   +--------+---------------------+----+--------+----------
//    4 bytes  the payload           so that each framing is one stretch of memory
//    LE
//
// Built once, then only read: thread-compatible.
class PacketRing {
 public:
  // Building. Starts a packet when `text` does not fit the last one any more.
  void Append(absl::string_view text, const Line& line, const Workload& workload);
  // Building. The index of the value, for Line::first_value.
  uint32_t AppendValue(int32_t value);
  // Building, last: packet number `seq` of the sending order shall be only the first `lines` lines
  // of what it would be, and nothing follows it.
  void CutAt(uint64_t seq, uint32_t lines);

  // The number of packets in the loop.
  size_t size() const { return looped_; }
  uint64_t lines() const { return looped_lines_; }
  uint64_t bytes() const { return bytes_.size(); }

  // The packet that is sent as number `seq`, counted from 0 through all loops.
  const Packet& At(uint64_t seq) const { return packets_[IndexAt(seq)]; }
  size_t IndexAt(uint64_t seq) const {
    return seq == cut_seq_ ? packets_.size() - 1 : static_cast<size_t>(seq % looped_);
  }
  // Every packet, the cut one included.
  absl::Span<const Packet> packets() const { return packets_; }

  absl::string_view Bytes(const Packet& packet, Framing framing) const;
  absl::string_view Payload(const Packet& packet) const {
    return Bytes(packet, Framing::kDatagram);
  }
  absl::Span<const Line> Lines(const Packet& packet) const {
    return absl::MakeSpan(lines_).subspan(packet.first_line, packet.lines);
  }
  absl::Span<const int32_t> Values(const Line& line) const {
    return absl::MakeSpan(values_).subspan(line.first_value, line.value_count);
  }

 private:
  static constexpr uint64_t kNever = ~uint64_t{0};

  void StartPacket();
  void SetLength(const Packet& packet);

  std::string bytes_;
  std::vector<Packet> packets_;
  std::vector<Line> lines_;
  std::vector<int32_t> values_;
  size_t looped_ = 0;
  uint64_t looped_lines_ = 0;
  uint64_t cut_seq_ = kNever;
};

// A workload's packets by sender.
struct Plan {
  Workload workload;
  Catalog catalog;
  std::vector<PacketRing> rings;
  // Lines in all rings together.
  uint64_t ring_lines = 0;
};

// Fails where the workload is not valid, a line does not fit a packet, or a sender would have
// nothing to send.
absl::StatusOr<Plan> BuildPlan(const Workload& workload);

// How many packets each sender sends so that `lines` lines are sent in all: whole loops first, then
// packets in turns, the last one cut to measure. Changes the rings (CutAt).
std::vector<uint64_t> QuotasForLines(uint64_t lines, Plan* plan);

}  // namespace tallyd::bench

#endif  // TALLYD_BENCH_LOAD_PLAN_H_
