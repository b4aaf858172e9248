// The relay: every line, as it came, to another StatsD server over UDP.

#ifndef TALLYD_DAEMON_RELAY_H_
#define TALLYD_DAEMON_RELAY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/line_tap.h"
#include "daemon/loop.h"
#include "daemon/push/name_lookup.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// Relays the lines of one shard, in packets, with a socket and a buffer of its own, so that shards
// share nothing.
//
// A line goes as it came, whether or not it can be parsed; its end is LF whatever it was, and the
// end of a packet's last line is left out where there is no room for it. Empty lines are no lines.
// Nothing here waits: what the socket does not take at once is dropped. A target whose host says
// that nobody is there gets nothing for a while, since finding out costs more than sending.
//
// Invariant, after each beat: lines seen = lines + long_lines + dropped_lines.
class RelayTap final : public LineTap {
 public:
  // One writer, the shard's thread; any thread reads.
  struct Counts {
    LedgerCount packets;        // sent
    LedgerCount lines;          // in them
    LedgerCount long_lines;     // longer than a packet may be
    LedgerCount dropped_lines;  // in packets that the kernel or the target's host refused
  };

  // For how long a target that is not there gets nothing, but for one packet at each beat.
  static constexpr int64_t kRefusedNs = 100'000'000;

  // `packet_bytes` is the largest payload of a packet.
  explicit RelayTap(size_t packet_bytes);

  // Any thread, once. What is relayed before it is dropped, since nobody knows where to.
  absl::Status Connect(const SocketAddress& target);

  void OnLines(Source source, std::string_view lines_untrusted) override;
  void OnBeat(int64_t now_ns) override;

  const Counts& counts() const { return counts_; }

 private:
  void AddLine(std::string_view line_untrusted);
  void SendUnlessRefused();
  void Send();
  bool TrySend();
  void BeginPacket();
  void AskAndSettle();
  void Settle(bool refused);

  UniqueFd socket_;  // connected, so that the kernel tells us of a target that is not there
  // The same, once it is connected; -1 before. Release: whoever sees the number sees it connected.
  std::atomic<int> connected_{-1};
  const size_t packet_bytes_;
  const std::unique_ptr<char[]> packet_;
  size_t packet_size_ = 0;
  uint64_t packet_lines_ = 0;
  // Of the packet sent last: the kernel says by the next call whether it was refused.
  uint64_t unsettled_lines_ = 0;
  int64_t refused_at_ns_ = 0;  // 0: not lately
  Counts counts_;
};

// The relay of the process: one tap for each shard. Ingest does not wait for names: a target that
// is one is looked up while samples come in, again and again until it has an address.
//
// Made, started and stopped by the thread that runs the loop; taps and totals are for any thread.
class Relay {
 public:
  static constexpr absl::Duration kLookUpAgain = absl::Seconds(5);

  // `target` is "HOST:PORT" of good syntax.
  Relay(const std::string& target, size_t packet_bytes, size_t shards);

  // At once if the target is an address that has a route; else as soon as `loop`, which must
  // outlive this, has found one. Fails only if the target is not HOST:PORT.
  absl::Status Start(Loop* loop, NameLookup::Resolve resolve = NameLookup::SystemResolve);
  void Stop();

  struct Totals {
    uint64_t packets = 0;
    uint64_t lines = 0;
    uint64_t long_lines = 0;
    uint64_t dropped_lines = 0;
  };

  const std::string& target() const { return target_; }
  const std::vector<std::shared_ptr<RelayTap>>& taps() const { return taps_; }
  Totals totals() const;

 private:
  absl::Status Connect(const SocketAddress& address);
  void LookUp();
  void OnAddresses(const absl::StatusOr<NameLookup::Addresses>& found);

  const std::string target_;
  HostPort parts_;
  std::vector<std::shared_ptr<RelayTap>> taps_;
  std::unique_ptr<NameLookup> lookup_;  // null: there is nothing to look up
  std::unique_ptr<LoopTimer> again_;
  bool said_ = false;  // that there is no way to it
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RELAY_H_
