// The relay: every line, as it came, to another StatsD server over UDP.

#ifndef TALLYD_DAEMON_RELAY_H_
#define TALLYD_DAEMON_RELAY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/shard/ledger.h"
#include "daemon/address.h"
#include "daemon/line_tap.h"
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
  static absl::StatusOr<std::shared_ptr<RelayTap>> Create(const SocketAddress& target,
                                                          size_t packet_bytes);

  void OnLines(Source source, std::string_view lines_untrusted) override;
  void OnBeat(int64_t now_ns) override;

  const Counts& counts() const { return counts_; }

 private:
  RelayTap(UniqueFd socket, size_t packet_bytes);

  void AddLine(std::string_view line_untrusted);
  void SendUnlessRefused();
  void Send();
  bool TrySend();
  void BeginPacket();
  void AskAndSettle();
  void Settle(bool refused);

  const UniqueFd socket_;  // connected, so that the kernel tells us of a target that is not there
  const size_t packet_bytes_;
  const std::unique_ptr<char[]> packet_;
  size_t packet_size_ = 0;
  uint64_t packet_lines_ = 0;
  // Of the packet sent last: the kernel says by the next call whether it was refused.
  uint64_t unsettled_lines_ = 0;
  int64_t refused_at_ns_ = 0;  // 0: not lately
  Counts counts_;
};

// The relay of the process: one tap for each shard. Thread-safe once it is made.
class Relay {
 public:
  // Looks the target up. Fails if it has no address or a socket cannot be opened.
  static absl::StatusOr<std::unique_ptr<Relay>> Create(const std::string& target,
                                                       size_t packet_bytes, size_t shards);

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
  explicit Relay(const std::string& target) : target_(target) {}

  const std::string target_;
  std::vector<std::shared_ptr<RelayTap>> taps_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_RELAY_H_
