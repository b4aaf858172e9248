// Connections that go on over a restart, with what was begun on them.

#ifndef TALLYD_DAEMON_HANDED_CONNECTIONS_H_
#define TALLYD_DAEMON_HANDED_CONNECTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/handed_fds.h"
#include "daemon/service_manager.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// A connection between two readers.
struct HandedConnection {
  UniqueFd fd;
  std::string listener;           // that accepted it: "unixstream:/run/tallyd/stream.sock"
  std::string partial_untrusted;  // the bytes of the frame or line that is begun, from its first
  int64_t partial_age_ns = 0;     // since it was begun or last continued; 0 if there is none
};

// Leaves connections with the manager. On an error none of them can be relied upon.
absl::Status StoreConnections(const std::vector<HandedConnection>& connections,
                              const ServiceManager& manager);
// The connections that a predecessor left. Those whose record is missing or damaged are closed with
// a warning, since nobody knows how far they were read. The manager still has them all: a start
// that fails leaves them to the next one.
std::vector<HandedConnection> TakeConnections(HandedFds* handed);
// Has the manager forget what a predecessor left. Before anything is read: from then on connections
// move, and nobody else may take them up where they were.
absl::Status ForgetConnections(const ServiceManager& manager);

// The records in memory, known by the kernel's number of each socket. Exposed for tests.
//
//   | "TLYCONN1" | number of records, 4 | records | XXH3-64 of all before it, 8 |
//   record: | socket cookie, 8 | age, 8 | length, 4, and listener | length, 4, and bytes |
//
// in the host's byte order: no other host reads them.
struct ConnectionRecord {
  uint64_t cookie = 0;
  std::string listener;
  std::string partial_untrusted;
  int64_t partial_age_ns = 0;
};
std::string EncodeRecords(const std::vector<ConnectionRecord>& records);
absl::StatusOr<std::vector<ConnectionRecord>> DecodeRecords(std::string_view bytes_untrusted);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_HANDED_CONNECTIONS_H_
