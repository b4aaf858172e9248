#include "daemon/handed_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"
#include "daemon/address.h"
#include "daemon/exit_code.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

constexpr std::string_view kStoredPrefix = "tallyd.listener.";
constexpr std::array<std::string_view, 7> kKinds = {
    "udp", "tcp", "unixgram", "unixstream", "unixseqpacket", "http", "push"};
constexpr size_t kMaxNameBytes = 255;

bool IsStored(const HandedFd& handed) { return absl::StartsWith(handed.name, View(kStoredPrefix)); }

// The kind that the name asks for; none if it says nothing about it.
std::optional<std::string_view> KindInName(const std::string& name) {
  std::string_view rest = name;
  if (absl::StartsWith(name, View(kStoredPrefix))) {
    rest.remove_prefix(kStoredPrefix.size());
    rest = rest.substr(0, rest.find('.'));
  }
  const auto* const kind = std::find(kKinds.begin(), kKinds.end(), rest);
  if (kind == kKinds.end()) return std::nullopt;
  return *kind;
}

// Of a listener's sockets. A fd name has no colon and nothing that cannot be printed.
std::string StoredName(std::string_view kind, std::string_view address) {
  std::string name = absl::StrCat(View(kStoredPrefix), View(kind), ".", View(address));
  for (char& c : name) {
    if (c == ':' || c < ' ' || c > '~') c = '-';
  }
  name.resize(std::min(name.size(), kMaxNameBytes));
  return name;
}

// What a descriptor is, as far as listeners tell each other apart.
struct Bound {
  int type = 0;  // 0: no socket, or none of ours
  bool is_unix = false;
  std::string path;  // of UNIX sockets
  SocketAddress address;
};

std::string PathOf(const sockaddr_un& address, socklen_t size) {
  const size_t begin = offsetof(sockaddr_un, sun_path);
  if (size <= begin) return "";
  std::string path(address.sun_path, size - begin);
  if (path.front() == '\0') return absl::StrCat("@", path.substr(1));
  return path.substr(0, path.find('\0'));
}

Bound Inspect(int fd) {
  Bound bound;
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  int type = 0;
  socklen_t type_size = sizeof(type);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    return bound;
  }
  if (storage.ss_family == AF_UNIX) {
    bound.is_unix = true;
    bound.path = PathOf(reinterpret_cast<const sockaddr_un&>(storage), size);
  } else if (storage.ss_family == AF_INET || storage.ss_family == AF_INET6) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::OfSocket(fd);
    if (!address.ok()) return bound;
    bound.address = *address;
  } else {
    return bound;
  }
  bound.type = type;
  return bound;
}

std::string Describe(const HandedFd& handed) {
  const Bound bound = Inspect(handed.fd.get());
  std::string what = "no socket";
  if (bound.type != 0) {
    const bool datagrams = bound.type == SOCK_DGRAM;
    const bool packets = bound.type == SOCK_SEQPACKET;
    const char* type = bound.is_unix ? (datagrams ? "unixgram"
                                        : packets ? "unixseqpacket"
                                                  : "unixstream")
                                     : (datagrams ? "udp" : "tcp");
    what = absl::StrCat(type, " ", bound.is_unix ? bound.path : bound.address.ToString());
  }
  return absl::StrCat("\"", handed.name, "\" (", what, ")");
}

// A listener whose address is understood.
struct Place {
  const WantedSocket* wanted;
  bool is_unix;
  SocketAddress address;
};

absl::StatusOr<Place> PlaceOf(const WantedSocket& wanted) {
  Place place{&wanted, absl::StartsWith(wanted.kind, "unix"), {}};
  if (place.is_unix) return place;
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(wanted.address);
  if (!address.ok()) return address.status();
  place.address = *address;
  return place;
}

bool SameHost(const SocketAddress& a, const SocketAddress& b) {
  return a.ToString().substr(0, a.ToString().rfind(':')) ==
         b.ToString().substr(0, b.ToString().rfind(':'));
}

// "[::]:8125" and "0.0.0.0:8125" are both what ":8125" asks for: a confined process may not see
// that the host has IPv6.
bool SameAddress(const SocketAddress& bound, const Place& place) {
  const std::string text = bound.ToString();
  if (text == place.address.ToString()) return true;
  if (!absl::StartsWith(place.wanted->address, ":")) return false;
  return text == absl::StrCat("[::]:", place.address.port()) ||
         text == absl::StrCat("0.0.0.0:", place.address.port());
}

bool Serves(const Bound& bound, std::optional<std::string_view> kind, const Place& place) {
  if (bound.type != place.wanted->type || bound.is_unix != place.is_unix) return false;
  if (kind.has_value() && *kind != place.wanted->kind) return false;
  if (place.is_unix) return bound.path == place.wanted->address;
  if (place.address.port() == 0) return kind.has_value() && SameHost(bound.address, place.address);
  return SameAddress(bound.address, place);
}

// Whether a listener of this kind can read several sockets.
bool Shares(const WantedSocket& wanted) { return wanted.kind != "http" && wanted.kind != "push"; }

}  // namespace

std::vector<WantedSocket> WantedSockets(const Options& options) {
  std::vector<WantedSocket> wanted;
  const auto add = [&wanted](const char* kind, int type, const std::vector<ListenAddress>& list) {
    for (const ListenAddress& listen : list) wanted.push_back({kind, type, listen.address});
  };
  add("udp", SOCK_DGRAM, options.udp);
  add("tcp", SOCK_STREAM, options.tcp);
  add("unixgram", SOCK_DGRAM, options.unixgram);
  add("unixstream", SOCK_STREAM, options.unixstream);
  add("unixseqpacket", SOCK_SEQPACKET, options.unixseqpacket);
  for (const std::string& address : options.web) wanted.push_back({"http", SOCK_STREAM, address});
  for (const std::string& address : options.push) wanted.push_back({"push", SOCK_STREAM, address});
  return wanted;
}

absl::StatusOr<HandedSockets> HandedSockets::Match(HandedFds* fds,
                                                   const std::vector<WantedSocket>& wanted,
                                                   const ServiceManager* manager) {
  HandedSockets sockets;
  sockets.manager_ = manager;
  std::vector<HandedFd> handed = fds->TakeIf(
      [](const HandedFd& fd) { return IsStored(fd) || !HandedFds::IsOwnName(fd.name); });
  if (handed.empty()) return sockets;

  std::vector<Place> places;
  for (const WantedSocket& socket : wanted) {
    const absl::StatusOr<Place> place = PlaceOf(socket);
    if (!place.ok()) return place.status();
    places.push_back(*place);
    sockets.matched_.push_back({socket, {}});
  }
  std::vector<std::string> problems;
  for (HandedFd& fd : handed) {
    const Bound bound = Inspect(fd.fd.get());
    const auto kind = KindInName(fd.name);
    const auto place = std::find_if(places.begin(), places.end(), [&](const Place& candidate) {
      const auto index = static_cast<size_t>(&candidate - places.data());
      const bool has_room = sockets.matched_[index].sockets.empty() || Shares(*candidate.wanted);
      return has_room && Serves(bound, kind, candidate);
    });
    if (place == places.end() && IsStored(fd)) {
      LogWarn("a socket of the former process serves no listener any more and is closed",
              {{"socket", Describe(fd)}});
      if (manager != nullptr) manager->Remove(fd.name).IgnoreError();
      continue;
    }
    if (place == places.end()) {
      problems.push_back(Describe(fd));
      continue;
    }
    Matched& matched = sockets.matched_[static_cast<size_t>(place - places.begin())];
    ::fcntl(fd.fd.get(), F_SETFL, ::fcntl(fd.fd.get(), F_GETFL) | O_NONBLOCK);
    matched.sockets.push_back(std::move(fd));
  }
  if (problems.empty()) return sockets;
  return UsageError(absl::StrCat("handed in, but no configured listener takes it: ",
                                 absl::StrJoin(problems, ", ")));
}

std::vector<UniqueFd> HandedSockets::Take(std::string_view kind, std::string_view address) {
  std::vector<UniqueFd> taken;
  for (Matched& matched : matched_) {
    if (matched.wanted.kind != kind || matched.wanted.address != address) continue;
    for (HandedFd& socket : matched.sockets) taken.push_back(std::move(socket.fd));
    matched.sockets.clear();
  }
  return taken;
}

bool HandedSockets::AreOurs(std::string_view kind, std::string_view address) const {
  for (const Matched& matched : matched_) {
    if (matched.wanted.kind != kind || matched.wanted.address != address) continue;
    return std::all_of(matched.sockets.begin(), matched.sockets.end(), IsStored);
  }
  return false;
}

void HandedSockets::Keep(std::string_view kind, std::string_view bound_address,
                         const UniqueFd& fd) const {
  if (!keeps()) return;
  const absl::Status status = manager_->Store(StoredName(kind, bound_address), fd.get());
  if (status.ok()) return;
  LogWarn("a socket will not outlive this process",
          {{"listener", absl::StrCat(View(kind), ":", View(bound_address))},
           {"error", std::string(status.message())}});
}

void HandedSockets::Forget(std::string_view kind, std::string_view bound_address) const {
  if (keeps()) manager_->Remove(StoredName(kind, bound_address)).IgnoreError();
}

}  // namespace tallyd
