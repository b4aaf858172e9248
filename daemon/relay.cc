#include "daemon/relay.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/log.h"

namespace tallyd {

RelayTap::RelayTap(size_t packet_bytes)
    : packet_bytes_(packet_bytes), packet_(std::make_unique<char[]>(packet_bytes)) {}

absl::Status RelayTap::Connect(const SocketAddress& target) {
  if (connected_.load(std::memory_order_relaxed) >= 0) return absl::OkStatus();
  absl::StatusOr<UniqueFd> socket = OpenSocket(target, SOCK_DGRAM);
  if (!socket.ok()) return socket.status();
  if (::connect(socket->get(), target.get(), target.size()) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot relay to ", target.ToString(), ": ", std::strerror(errno)));
  }
  socket_ = *std::move(socket);
  connected_.store(socket_.get(), std::memory_order_release);
  return absl::OkStatus();
}

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
  const int socket = connected_.load(std::memory_order_acquire);
  if (socket < 0) {
    errno = EDESTADDRREQ;
    return false;
  }
  return ::send(socket, packet_.get(), packet_size_, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
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

Relay::Relay(const std::string& target, size_t packet_bytes, size_t shards) : target_(target) {
  for (size_t i = 0; i < shards; ++i) taps_.push_back(std::make_shared<RelayTap>(packet_bytes));
}

absl::Status Relay::Start(Loop* loop, NameLookup::Resolve resolve) {
  absl::StatusOr<HostPort> parts = SplitHostPort(target_);
  if (!parts.ok()) return parts.status();
  parts_ = *std::move(parts);
  const absl::StatusOr<SocketAddress> address = SocketAddress::ParseNumeric(target_);
  if (address.ok() && Connect(*address).ok()) return absl::OkStatus();
  // There may be no way to it yet, when the host starts.
  lookup_ = std::make_unique<NameLookup>(loop, std::move(resolve));
  again_ = std::make_unique<LoopTimer>(*loop);
  LookUp();
  return absl::OkStatus();
}

void Relay::Stop() {
  lookup_.reset();
  if (again_) again_->cancel();
}

absl::Status Relay::Connect(const SocketAddress& address) {
  for (const auto& tap : taps_) {
    if (absl::Status status = tap->Connect(address); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void Relay::LookUp() {
  lookup_->Start(parts_.host, [this](const absl::StatusOr<NameLookup::Addresses>& found) {
    OnAddresses(found);
  });
}

void Relay::OnAddresses(const absl::StatusOr<NameLookup::Addresses>& found) {
  absl::Status status = found.status();
  if (status.ok()) {
    const std::string host = found->front().to_string();
    const auto address = SocketAddress::ParseNumeric(absl::StrCat("[", host, "]:", parts_.port));
    status = address.ok() ? Connect(*address) : address.status();
  }
  if (status.ok()) {
    LogInfo("relaying", {{"to", target_}, {"address", found->front().to_string()}});
    return;
  }
  if (!std::exchange(said_, true)) {
    LogWarn("nothing is relayed until there is a way to the target",
            {{"to", target_}, {"error", std::string(status.message())}});
  }
  again_->expires_after(absl::ToChronoMilliseconds(kLookUpAgain));
  again_->async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled && lookup_ != nullptr) LookUp();
  });
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
