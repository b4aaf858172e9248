#include "daemon/descriptor_limit.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>

namespace tallyd {
namespace {

constexpr int kMaxConnections = 16'384;
// For as many HTTP connections as there may be, and some files.
constexpr int kReserve = 1'100;

int OpenDescriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return kReserve;  // hidden; a guess
  int count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

}  // namespace

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int ConnectionLimit(int open_connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kReserve;
  const int most = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
  const int left = std::max(2, most - OpenDescriptors() + open_connections);
  return std::min(kMaxConnections, left - std::min(kReserve, left / 2));
}

}  // namespace tallyd
