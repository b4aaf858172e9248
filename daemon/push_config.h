// The targets of pushes, as the configuration says them.

#ifndef TALLYD_DAEMON_PUSH_CONFIG_H_
#define TALLYD_DAEMON_PUSH_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/flags.h"
#include "daemon/push/pushgateway_options.h"

namespace tallyd {

// A gateway keeps all series in memory, and checks every one of a group against every other on each
// push and scrape.
inline constexpr uint64_t kMaxPushgatewaySeries = 100'000;
inline constexpr size_t kMaxPushTargets = 16;
// A request that a target may take so long for holds its bytes in memory so long.
inline constexpr absl::Duration kMaxPushTimeout = absl::Minutes(5);

// What holds for targets that do not say otherwise. A value.
struct PushDefaults {
  std::string job = "tallyd";
  std::string instance;  // empty: the host's name
  absl::Duration interval = absl::Seconds(15);
  bool delete_on_exit = false;
  bool own_metrics = false;
  uint64_t max_series = 0;    // 0: as many as there may be series
  uint64_t series_limit = 0;  // as many there may be
};

// The label instance of what this host pushes.
std::string InstanceOf(const PushDefaults& defaults);

// Reads an option about access to a target: "basic_auth.username", "tls.ca_file" ... False: it is
// none of those.
bool ReadPushAccess(const std::string& name, const std::string& text, PushCredentials* credentials,
                    TlsOptions* tls);
// What is wrong with them together, and with the files that they name; "" if nothing.
std::string CheckPushAccess(const HttpUrl& url, const PushCredentials& credentials,
                            const TlsOptions& tls);

// Reads the targets of the flag "push.pushgateway", a list of maps:
//
//   - url: https://gateway:9091          # the only one that must be there
//     name: main                         # in metrics and logs; else the URL
//     job: nightly
//     grouping: {instance: host1, path: /var/tmp}
//     interval: 15s
//     timeout: 10s                       # of a request in all
//     families: {include: ["app_*"], exclude: ["*_debug_*"]}
//     max_series: 50000
//     own_metrics: true
//     on_exit: keep                      # or delete
//     basic_auth: {username: tallyd, password_file: secret}
//     bearer_token_file: token
//     tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem, server_name: gw,
//           insecure_skip_verify: false}
//
// and of "push.pushgateway-url", the URL of one more that has nothing but the defaults. Reads the
// files that they name, to say at once if they are not what they should be. What is wrong is added
// to `problems`, each with its origin.
std::vector<PushgatewayOptions> ReadPushgateways(const FlagValues& values,
                                                 const PushDefaults& defaults,
                                                 std::vector<std::string>* problems);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_CONFIG_H_
