#include "daemon/receive_ring.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/wire/sample.h"
#include "daemon/clock.h"

namespace tallyd {

absl::StatusOr<std::unique_ptr<ReceiveRing>> ReceiveRing::Create(int messages,
                                                                 size_t buffer_bytes) {
  static_assert(kStrideSkew >= kReadPadding);
  const size_t size = Stride(buffer_bytes) * static_cast<size_t>(messages);
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for receive buffers: ", std::strerror(errno)));
  }
  return std::unique_ptr<ReceiveRing>(
      new ReceiveRing(static_cast<char*>(base), messages, buffer_bytes));
}

ReceiveRing::ReceiveRing(char* base, int messages, size_t buffer_bytes)
    : base_(base),
      buffer_bytes_(buffer_bytes),
      vectors_(static_cast<size_t>(messages)),
      headers_(static_cast<size_t>(messages)),
      controls_(static_cast<size_t>(messages)) {
  for (size_t i = 0; i < headers_.size(); ++i) {
    vectors_[i] = {base_ + i * Stride(buffer_bytes_), buffer_bytes_};
    headers_[i] = {};
    headers_[i].msg_hdr.msg_iov = &vectors_[i];
    headers_[i].msg_hdr.msg_iovlen = 1;
    headers_[i].msg_hdr.msg_control = controls_[i].bytes.data();
  }
}

ReceiveRing::~ReceiveRing() { ::munmap(base_, Stride(buffer_bytes_) * headers_.size()); }

int ReceiveRing::Receive(int fd, Senders senders) {
  if (std::exchange(senders_, senders) != senders) used_ = headers_.size();
  const size_t room = senders == Senders::kTell ? sizeof(Control) : 0;
  // The kernel writes these fields, and reads the lengths.
  for (size_t i = 0; i < used_; ++i) {
    headers_[i].msg_hdr.msg_namelen = 0;
    headers_[i].msg_hdr.msg_controllen = room;
    headers_[i].msg_hdr.msg_flags = 0;
  }
  used_ = 0;
  const int count = ::recvmmsg(fd, headers_.data(), static_cast<unsigned>(headers_.size()),
                               MSG_DONTWAIT, nullptr);
  if (count > 0) used_ = static_cast<size_t>(count);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
  return count;
}

ReceiveRing::Message ReceiveRing::message(int i) const {
  const mmsghdr& header = headers_[static_cast<size_t>(i)];
  return {static_cast<char*>(vectors_[static_cast<size_t>(i)].iov_base), header.msg_len,
          (header.msg_hdr.msg_flags & MSG_TRUNC) != 0};
}

Credentials ReceiveRing::sender(int i) const {
  const msghdr& header = headers_[static_cast<size_t>(i)].msg_hdr;
  if (header.msg_controllen < CMSG_LEN(sizeof(ucred))) return {};
  const cmsghdr* const control = CMSG_FIRSTHDR(&header);
  if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_CREDENTIALS) return {};
  ucred credentials{};
  std::memcpy(&credentials, CMSG_DATA(control), sizeof(credentials));
  return Credentials::Of(credentials);
}

void ApplyBatch(const ReceiveRing& ring, int count, Source source, Shard* shard, LineTaps* taps,
                SenderTable* senders, SenderGate* gate) {
  const int64_t now_ns = MonotonicNs();
  shard->BeginBatch(now_ns);
  for (int i = 0; i < count; ++i) {
    const ReceiveRing::Message message = ring.message(i);
    if (senders != nullptr) {
      const Credentials who = ring.sender(i);
      if (gate != nullptr && !gate->Admits(who)) {
        source.sender = SenderTable::kUnknown;
        shard->Refuse(source, {message.bytes_untrusted, message.size}, DropReason::kUnauthorized);
        continue;
      }
      source.sender = senders->NumberOf(who, now_ns);
    }
    if (message.truncated) {
      taps->OnTruncated(source, message.bytes_untrusted, message.size);
      shard->ApplyTruncated(source, message.bytes_untrusted, message.size);
    } else {
      taps->OnLines(source, message.bytes_untrusted, message.size);
      shard->Apply(source, message.bytes_untrusted, message.size);
    }
  }
  shard->EndBatch();
}

}  // namespace tallyd
