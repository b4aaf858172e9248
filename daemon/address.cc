#include "daemon/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/types.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/exit_code.h"

namespace tallyd {
namespace {

bool HostHasIpv6() { return UniqueFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)).valid(); }

std::string AnyHost() { return HostHasIpv6() ? "::" : "0.0.0.0"; }

bool IsAnyIpv6(const SocketAddress& address) {
  if (address.family() != AF_INET6) return false;
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address.get());
  return IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
}

}  // namespace

absl::StatusOr<HostPort> SplitHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    return UsageError(absl::StrCat("address \"", text, "\" has no port (write host:port)"));
  }
  HostPort parts;
  parts.host = text.substr(0, colon);
  const bool bracketed =
      parts.host.size() >= 2 && parts.host.front() == '[' && parts.host.back() == ']';
  if (bracketed) parts.host = parts.host.substr(1, parts.host.size() - 2);
  if (!bracketed && parts.host.find(':') != std::string::npos) {
    return UsageError(absl::StrCat("address \"", text, "\": write IPv6 as [address]:port"));
  }
  uint32_t port = 0;
  const bool digits = text.find_first_not_of("0123456789", colon + 1) == std::string::npos;
  if (!digits || !absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65'535) {
    return UsageError(absl::StrCat("address \"", text, "\": the port is not a number to 65535"));
  }
  parts.port = static_cast<uint16_t>(port);
  return parts;
}

absl::StatusOr<SocketAddress> SocketAddress::Parse(const std::string& text) {
  return ParseWith(0, text);
}

absl::StatusOr<SocketAddress> SocketAddress::ParseNumeric(const std::string& text) {
  return ParseWith(AI_NUMERICHOST, text);
}

absl::StatusOr<SocketAddress> SocketAddress::ParseWith(int flags, const std::string& text) {
  absl::StatusOr<HostPort> parts = SplitHostPort(text);
  if (!parts.ok()) return parts.status();
  const std::string host = parts->host.empty() ? AnyHost() : parts->host;

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;  // only so that each address comes once
  hints.ai_flags = AI_NUMERICSERV | AI_PASSIVE | flags;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), absl::StrCat(parts->port).c_str(), &hints, &found);
  if (error != 0) {
    return UsageError(absl::StrCat("address \"", text, "\": ", ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  SocketAddress address;
  std::memcpy(&address.storage_, found->ai_addr, found->ai_addrlen);
  address.size_ = found->ai_addrlen;
  return address;
}

absl::Status SocketAddress::CheckSyntax(const std::string& text) {
  return SplitHostPort(text).status();
}

absl::StatusOr<SocketAddress> SocketAddress::OfSocket(int fd) {
  SocketAddress address;
  address.size_ = sizeof(address.storage_);
  auto* storage = reinterpret_cast<sockaddr*>(&address.storage_);
  if (::getsockname(fd, storage, &address.size_) != 0) {
    return absl::InternalError(absl::StrCat("getsockname: ", std::strerror(errno)));
  }
  return address;
}

std::string SocketAddress::ToString() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage_);
    ::inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
    return absl::StrCat(host, ":", port());
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage_);
  ::inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
  return absl::StrCat("[", host, "]:", port());
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
}

absl::StatusOr<UniqueFd> OpenSocket(const SocketAddress& address, int type) {
  UniqueFd fd(::socket(address.family(), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return absl::InternalError(
        absl::StrCat("cannot open a socket for ", address.ToString(), ": ", std::strerror(errno)));
  }
  if (IsAnyIpv6(address)) {
    const int off = 0;
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  return fd;
}

absl::Status BindSocket(int fd, const SocketAddress& address, const std::string& kind) {
  if (::bind(fd, address.get(), address.size()) == 0) return absl::OkStatus();
  return InUseError(
      absl::StrCat("cannot listen on ", kind, " ", address.ToString(), ": ", std::strerror(errno)));
}

}  // namespace tallyd
