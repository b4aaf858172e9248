// The targets of remote write, as the configuration says them.

#ifndef TALLYD_DAEMON_REMOTE_WRITE_CONFIG_H_
#define TALLYD_DAEMON_REMOTE_WRITE_CONFIG_H_

#include <string>
#include <vector>

#include "daemon/flags.h"
#include "daemon/push/remote_write_options.h"
#include "daemon/push_config.h"

namespace tallyd {

// Reads the targets of the flag "push.remote-write", a list of maps:
//
//   - url: https://prometheus:9090/api/v1/write    # the only one that must be there
//     name: main                                   # in metrics and logs; else the URL
//     interval: 15s
//     timeout: 10s                                 # of a request in all
//     external_labels: {instance: host1, site: a}  # job and instance have defaults; "" is none
//     histograms: classic                          # or native, or both
//     protocol: "1.0"                              # or "2.0"
//     families: {include: ["app_*"], exclude: ["*_debug_*"]}
//     max_age: 5m
//     stale_markers: true
//     on_exit: stale                               # or keep
//     own_metrics: true
//     connections: 4
//     headers: {X-Scope-OrgID: tenant}
//     basic_auth, bearer_token_file, tls           # as in push.pushgateway
//
// and of "push.remote-write-url", the URL of one more that has nothing but the defaults. What is
// wrong is added to `problems`, each with its origin.
std::vector<RemoteWriteOptions> ReadRemoteWrites(const FlagValues& values,
                                                 const PushDefaults& defaults,
                                                 std::vector<std::string>* problems);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_REMOTE_WRITE_CONFIG_H_
