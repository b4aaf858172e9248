#include "daemon/missing_rights.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

bool HasIpv6() { return UniqueFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)).valid(); }

// The first process is always there; whether we see it is the mount's choice.
bool SeesOthers() { return ::access("/proc/1/stat", R_OK) == 0; }

bool SeesItself() { return ::access("/proc/self/stat", R_OK) == 0; }

bool AsksForSenders(const Options& options) {
  return options.sender_identity &&
         !(options.unixgram.empty() && options.unixstream.empty() && options.unixseqpacket.empty());
}

bool HasAllowedUsers(const Options& options) {
  for (const auto* list : {&options.unixgram, &options.unixstream, &options.unixseqpacket}) {
    for (const ListenAddress& listen : *list) {
      if (!listen.allow_uids.empty()) return true;
    }
  }
  return false;
}

// In a user namespace of our own the kernel calls all users by one number that it does not map.
bool SeesAllUsers() {
  std::ifstream map("/proc/self/uid_map");
  uint64_t inside = 0;
  uint64_t outside = 0;
  uint64_t count = 0;
  if (!(map >> inside >> outside >> count)) return true;  // no such namespaces, or no /proc
  return inside == 0 && outside == 0 && count == UINT32_MAX;
}

}  // namespace

std::vector<std::string> MissingRights(const Options& options) {
  std::vector<std::string> missing;
  if (!HasIpv6()) missing.push_back("no IPv6 here: only IPv4 addresses are served");
  if (!SeesItself()) {
    missing.push_back("/proc is hidden: process_* metrics and the names of senders are missing");
  } else if (AsksForSenders(options) && !SeesOthers()) {
    missing.push_back("other processes are hidden: senders are known by number, without names");
  }
  if (HasAllowedUsers(options) && !SeesAllUsers()) {
    missing.push_back(
        "users of the host are not all known here (PrivateUsers=yes?): allow_uids refuses the "
        "others, even if they are listed");
  }
  return missing;
}

}  // namespace tallyd
