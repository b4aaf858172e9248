#include "daemon/relay.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/clock.h"

namespace tallyd {

absl::StatusOr<std::shared_ptr<RelayTap>> RelayTap::Create(const SocketAddress& target,
                                                           size_t packet_bytes) {
  absl::StatusOr<UniqueFd> socket = OpenSocket(target, SOCK_DGRAM);
  if (!socket.ok()) return socket.status();
  if (::connect(socket->get(), target.get(), target.size()) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot relay to ", target.ToString(), ": ", std::strerror(errno)));
  }
  return std::shared_ptr<RelayTap>(new RelayTap(*std::move(socket), packet_bytes));
}

RelayTap::RelayTap(UniqueFd socket, size_t packet_bytes)
    : socket_(std::move(socket)),
      packet_bytes_(packet_bytes),
      packet_(std::make_unique<char[]>(packet_bytes)) {}

void RelayTap::OnLines(Source, std::string_view lines_untrusted) {
  std::string_view rest = lines_untrusted;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!line.empty()) AddLine(line);
  }
}

void RelayTap::AddLine(std::string_view line_untrusted) {
  if (line_untrusted.size() > packet_bytes_) {
    counts_.long_lines.Add(1);
    return;
  }
  if (line_untrusted.size() > packet_bytes_ - packet_size_) SendUnlessRefused();
  std::memcpy(packet_.get() + packet_size_, line_untrusted.data(), line_untrusted.size());
  packet_size_ += line_untrusted.size();
  if (packet_size_ < packet_bytes_) packet_[packet_size_++] = '\n';
  ++packet_lines_;
}

void RelayTap::OnBeat(int64_t) {
  if (packet_lines_ > 0) Send();
  AskAndSettle();
}

void RelayTap::SendUnlessRefused() {
  if (refused_at_ns_ == 0 || MonotonicNs() - refused_at_ns_ >= kRefusedNs) return Send();
  counts_.dropped_lines.Add(packet_lines_);
  BeginPacket();
}

void RelayTap::Send() {
  // What was refused before the pause says nothing about now.
  if (refused_at_ns_ != 0) AskAndSettle();
  refused_at_ns_ = 0;
  bool sent = TrySend();
  if (!sent && errno == ECONNREFUSED) {
    // This is the answer to an earlier packet, and was given instead of sending this one.
    Settle(true);
    sent = TrySend();
  }
  Settle(false);
  if (sent) {
    unsettled_lines_ = packet_lines_;
  } else {
    counts_.dropped_lines.Add(packet_lines_);
  }
  BeginPacket();
}

void RelayTap::BeginPacket() {
  packet_size_ = 0;
  packet_lines_ = 0;
}

bool RelayTap::TrySend() {
  return ::send(socket_.get(), packet_.get(), packet_size_, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void RelayTap::AskAndSettle() {
  if (unsettled_lines_ == 0) return;
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  Settle(error == ECONNREFUSED);
}

void RelayTap::Settle(bool refused) {
  if (refused) refused_at_ns_ = MonotonicNs();
  if (unsettled_lines_ == 0) return;
  if (refused) {
    counts_.dropped_lines.Add(unsettled_lines_);
  } else {
    refused_at_ns_ = 0;
    counts_.packets.Add(1);
    counts_.lines.Add(unsettled_lines_);
  }
  unsettled_lines_ = 0;
}

absl::StatusOr<std::unique_ptr<Relay>> Relay::Create(const std::string& target, size_t packet_bytes,
                                                     size_t shards) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(target);
  if (!address.ok()) {
    // Names may come and go, so this is no fault of the flag.
    return absl::UnavailableError(absl::StrCat("cannot relay: ", address.status().message()));
  }
  std::unique_ptr<Relay> relay(new Relay(target));
  for (size_t i = 0; i < shards; ++i) {
    absl::StatusOr<std::shared_ptr<RelayTap>> tap = RelayTap::Create(*address, packet_bytes);
    if (!tap.ok()) return tap.status();
    relay->taps_.push_back(*std::move(tap));
  }
  return relay;
}

Relay::Totals Relay::totals() const {
  Totals totals;
  for (const auto& tap : taps_) {
    totals.packets += tap->counts().packets.Get();
    totals.lines += tap->counts().lines.Get();
    totals.long_lines += tap->counts().long_lines.Get();
    totals.dropped_lines += tap->counts().dropped_lines.Get();
  }
  return totals;
}

}  // namespace tallyd
