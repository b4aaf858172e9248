#include "daemon/push/http_url.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

constexpr size_t kMaxUrlBytes = 4096;
constexpr size_t kMaxHostBytes = 253;  // RFC 1035 section 2.3.4

absl::Status Bad(const char* what) { return absl::InvalidArgumentError(what); }

bool IsVisible(char c) { return c > ' ' && c < '\x7f'; }

bool IsHostChar(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
}

bool IsAddressChar(char c) {
  return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == ':' || c == '.';
}

// Takes "http://" or "https://" off.
bool TakeScheme(std::string_view* rest, bool* tls) {
  const size_t end = rest->find("://");
  if (end == std::string_view::npos) return false;
  const std::string scheme = absl::AsciiStrToLower(absl::string_view(rest->data(), end));
  if (scheme != "http" && scheme != "https") return false;
  *tls = scheme == "https";
  rest->remove_prefix(end + 3);
  return true;
}

absl::Status ReadPort(std::string_view text, HttpUrl* url) {
  int port = 0;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &port) || port < 1 ||
      port > 65535) {
    return Bad("the port is not in 1 to 65535");
  }
  url->port = std::to_string(port);
  return absl::OkStatus();
}

absl::Status ReadAuthority(std::string_view authority, HttpUrl* url) {
  if (authority.find('@') != std::string_view::npos) {
    return Bad("a user or password does not belong in a URL, where it would show in logs");
  }
  const bool bracketed = !authority.empty() && authority.front() == '[';
  const size_t end = bracketed ? authority.find(']') : authority.find(':');
  if (bracketed && end == std::string_view::npos) return Bad("an address without its \"]\"");
  url->host = std::string(authority.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end));
  const bool host_ok =
      std::all_of(url->host.begin(), url->host.end(), bracketed ? IsAddressChar : IsHostChar);
  if (url->host.empty()) return Bad("there is no host");
  if (!host_ok || url->host.size() > kMaxHostBytes) return Bad("the host is not a name or address");
  url->port = url->tls ? "443" : "80";
  std::string_view rest = authority.substr(std::min(authority.size(), bracketed ? end + 1 : end));
  if (rest.empty()) return absl::OkStatus();
  if (rest.front() != ':') return Bad("the host is not a name or address");
  return ReadPort(rest.substr(1), url);
}

}  // namespace

absl::StatusOr<HttpUrl> HttpUrl::Parse(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return Bad("longer than 4096 bytes");
  if (!std::all_of(text.begin(), text.end(), IsVisible)) {
    return Bad("white space, control characters and what is not ASCII must be percent-encoded");
  }
  if (text.find('#') != std::string_view::npos) return Bad("a fragment means nothing to a server");
  HttpUrl url;
  std::string_view rest = text;
  if (!TakeScheme(&rest, &url.tls)) return Bad("does not begin with http:// or https://");
  const size_t end = std::min(rest.size(), rest.find_first_of("/?"));
  const absl::Status status = ReadAuthority(rest.substr(0, end), &url);
  if (!status.ok()) return status;
  url.path = std::string(rest.substr(end));
  if (absl::StartsWith(url.path, "?")) url.path.insert(0, "/");
  return url;
}

std::string HttpUrl::Authority() const {
  const bool bracketed = host.find(':') != std::string::npos;
  const std::string name = bracketed ? absl::StrCat("[", host, "]") : host;
  return port == (tls ? "443" : "80") ? name : absl::StrCat(name, ":", port);
}

std::string HttpUrl::ToString() const {
  return absl::StrCat(tls ? "https://" : "http://", Authority(), path.substr(0, path.find('?')));
}

}  // namespace tallyd
