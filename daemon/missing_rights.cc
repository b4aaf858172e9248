#include "daemon/missing_rights.h"

#include <sys/socket.h>
#include <unistd.h>

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

}  // namespace

std::vector<std::string> MissingRights(const Options& options) {
  std::vector<std::string> missing;
  if (!HasIpv6()) missing.push_back("no IPv6 here: only IPv4 addresses are served");
  if (!SeesItself()) {
    missing.push_back("/proc is hidden: process_* metrics and the names of senders are missing");
  } else if (AsksForSenders(options) && !SeesOthers()) {
    missing.push_back("other processes are hidden: senders are known by number, without names");
  }
  return missing;
}

}  // namespace tallyd
