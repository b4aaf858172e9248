#include "daemon/push/name_lookup.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tallyd {
namespace {

namespace ip = boost::asio::ip;

ip::address AddressOf(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof(v4));
    return ip::address_v4(ntohl(v4.sin_addr.s_addr));
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, address, sizeof(v6));
  ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
  return ip::address_v6(bytes, v6.sin6_scope_id);
}

// Signals belong to the threads that wait for them.
void BlockSignals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

// What the lookup's thread may still touch when the owner is gone. Invariant: `loop` is null from
// the moment on that the owner is.
struct NameLookup::Shared {
  std::mutex mu;
  Loop* loop = nullptr;
  bool under_way = false;
  Done done;  // null: nobody wants to know any more
};

NameLookup::NameLookup(Loop* loop, Resolve resolve)
    : loop_(loop), resolve_(std::move(resolve)), shared_(std::make_shared<Shared>()) {
  shared_->loop = loop;
}

NameLookup::~NameLookup() {
  const std::lock_guard lock(shared_->mu);
  shared_->loop = nullptr;
  shared_->done = nullptr;
}

void NameLookup::Forget() {
  const std::lock_guard lock(shared_->mu);
  shared_->done = nullptr;
}

void NameLookup::Start(const std::string& host, Done done) {
  boost::system::error_code not_numeric;
  const ip::address numeric = ip::make_address(host, not_numeric);
  if (!not_numeric) {
    boost::asio::post(*loop_, [done = std::move(done), numeric] { done(Addresses{numeric}); });
    return;
  }
  const auto refuse = [&](const std::string& why) {
    boost::asio::post(*loop_, [done = std::move(done), why] { done(absl::UnavailableError(why)); });
  };
  {
    const std::lock_guard lock(shared_->mu);
    if (shared_->under_way) {
      return refuse(absl::StrCat("the name servers have not answered yet about ", host));
    }
    shared_->under_way = true;
  }
  // Runs on the new thread, and ends on the loop if there still is one.
  const auto look_up = [shared = shared_, resolve = resolve_, host] {
    BlockSignals();
    absl::StatusOr<Addresses> addresses = resolve(host);
    const std::lock_guard lock(shared->mu);
    if (shared->loop == nullptr) return;
    boost::asio::post(*shared->loop, [shared, addresses = std::move(addresses)]() mutable {
      Done wanted;
      {
        const std::lock_guard inner(shared->mu);
        shared->under_way = false;
        wanted.swap(shared->done);
      }
      if (wanted) wanted(std::move(addresses));
    });
  };
  try {
    {
      const std::lock_guard lock(shared_->mu);
      shared_->done = done;  // a copy: it may have to be refused yet
    }
    std::thread(look_up).detach();
  } catch (const std::system_error& error) {
    const std::lock_guard lock(shared_->mu);
    shared_->under_way = false;
    shared_->done = nullptr;
    refuse(absl::StrCat("no thread to look up ", host, ": ", error.what()));
  }
}

absl::StatusOr<NameLookup::Addresses> NameLookup::SystemResolve(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("cannot look up ", host, ": ", gai_strerror(error)));
  }
  Addresses addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    const ip::address address = AddressOf(info->ai_addr);
    const bool known = std::find(addresses.begin(), addresses.end(), address) != addresses.end();
    if (!known) addresses.push_back(address);
  }
  ::freeaddrinfo(found);
  if (addresses.empty()) {
    return absl::UnavailableError(absl::StrCat("cannot look up ", host, ": it has no address"));
  }
  return addresses;
}

}  // namespace tallyd
