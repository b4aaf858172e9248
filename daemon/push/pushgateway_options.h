// What may be said about a Pushgateway to push to.

#ifndef TALLYD_DAEMON_PUSH_PUSHGATEWAY_OPTIONS_H_
#define TALLYD_DAEMON_PUSH_PUSHGATEWAY_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "daemon/push/credentials.h"
#include "daemon/push/family_filter.h"
#include "daemon/push/grouping_key.h"
#include "daemon/push/http_url.h"
#include "daemon/push/tls_options.h"

namespace tallyd {

// What is configured for a target. A value.
struct PushgatewayOptions {
  std::string name;  // as metrics call it
  HttpUrl url;       // of the gateway; its path comes before "/metrics" and has no slash at its end
  GroupingKey key;
  absl::Duration interval = absl::Seconds(15);
  FamilyFilter families;
  uint64_t max_series = 0;
  bool own_metrics = false;     // the daemon's own families too, if the filter wants them
  bool delete_on_exit = false;  // else the group stays
  PushCredentials credentials;
  TlsOptions tls;
  absl::Duration connect_timeout = absl::Seconds(1);
  absl::Duration total_timeout = absl::Seconds(10);
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_PUSHGATEWAY_OPTIONS_H_
