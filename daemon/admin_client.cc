#include "daemon/admin_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "daemon/clock.h"

namespace tallyd {
namespace {

constexpr int kPollMs = 200;
constexpr size_t kMaxHeaderBytes = 64 * 1024;
constexpr size_t kMaxRefusalBytes = 64 * 1024;

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" is not of 1 to ",
                                                   sizeof(address.sun_path) - 1, " bytes"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// The number in "HTTP/1.1 200 OK", or 0.
int StatusCodeOf(const std::string& header) {
  int code = 0;
  return std::sscanf(header.c_str(), "HTTP/1.%*d %d", &code) == 1 ? code : 0;
}

}  // namespace

absl::StatusOr<AdminClient> AdminClient::Connect(const std::string& path, absl::Duration timeout) {
  const absl::StatusOr<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.status();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  AdminClient client(path, std::move(fd));
  if (!client.fd_.valid()) return client.Error("cannot open a socket");
  if (timeout != absl::InfiniteDuration()) {
    client.deadline_ns_ = MonotonicNs() + absl::ToInt64Nanoseconds(timeout);
    const timeval wait = absl::ToTimeval(timeout);  // connecting waits where many do
    ::setsockopt(client.fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  }
  const auto* target = reinterpret_cast<const sockaddr*>(&*address);
  if (::connect(client.fd_.get(), target, sizeof(*address)) != 0) {
    return client.Error("cannot reach tallyd");
  }
  return client;
}

absl::Status AdminClient::Error(const std::string& what) const {
  return absl::UnavailableError(absl::StrCat(what, " on ", path_, ": ", std::strerror(errno)));
}

absl::Status AdminClient::Send(const std::string& text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t size = ::send(fd_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error("cannot send the request");
    sent += static_cast<size_t>(size);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> AdminClient::Receive(const std::function<bool()>& stop) {
  std::array<char, 65'536> buffer;
  while (true) {
    if (!stopped_ && stop && stop()) {
      stopped_ = true;
      ::shutdown(fd_.get(), SHUT_WR);
    }
    if (MonotonicNs() > deadline_ns_) {
      return absl::DeadlineExceededError(absl::StrCat("tallyd does not answer on ", path_));
    }
    pollfd readable{fd_.get(), POLLIN, 0};
    if (::poll(&readable, 1, kPollMs) <= 0) continue;
    const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size >= 0) return std::string(buffer.data(), static_cast<size_t>(size));
    if (errno != EINTR) return Error("cannot read the answer");
  }
}

absl::Status AdminClient::Get(const std::string& target, const Body& body,
                              const std::function<bool()>& stop) {
  absl::Status status = Send(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: tallyd\r\n\r\n"));
  if (!status.ok()) return status;
  std::string header;
  size_t end = std::string::npos;
  while ((end = header.find("\r\n\r\n")) == std::string::npos) {
    const absl::StatusOr<std::string> bytes = Receive(stop);
    if (!bytes.ok()) return bytes.status();
    if (bytes->empty() || header.size() > kMaxHeaderBytes) {
      return absl::UnavailableError(absl::StrCat("what answers on ", path_, " is no tallyd"));
    }
    header += *bytes;
  }
  std::string text = header.substr(end + 4);
  const bool refused = StatusCodeOf(header) != 200;
  std::string refusal;
  while (true) {
    if (refused) {
      refusal += text;
    } else if (!text.empty()) {
      status = body(text);
      if (!status.ok()) return status;
    }
    if (refusal.size() > kMaxRefusalBytes) break;
    absl::StatusOr<std::string> bytes = Receive(stop);
    if (!bytes.ok()) return bytes.status();
    if (bytes->empty()) break;
    text = *std::move(bytes);
  }
  if (!refused) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("tallyd refuses: ", absl::StripAsciiWhitespace(refusal)));
}

std::string PercentEncoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        (c != 0 && std::strchr("-._~", c) != nullptr)) {
      encoded.push_back(c);
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace tallyd
