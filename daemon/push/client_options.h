// How targets of pushes are talked to.

#ifndef TALLYD_DAEMON_PUSH_CLIENT_OPTIONS_H_
#define TALLYD_DAEMON_PUSH_CLIENT_OPTIONS_H_

#include "daemon/push/http_client.h"
#include "daemon/push/pushgateway_options.h"

namespace tallyd {

// As the options of a target of any kind say.
template <typename TargetOptions>
HttpClientOptions ClientOptionsOf(const TargetOptions& options) {
  HttpClientOptions client;
  client.url = options.url;
  client.tls = options.tls;
  client.credentials = options.credentials;
  client.connect_timeout = options.connect_timeout;
  client.total_timeout = options.total_timeout;
  return client;
}

inline HttpClientOptions GatewayClientOptions(const PushgatewayOptions& options) {
  HttpClientOptions client = ClientOptionsOf(options);
  // A gateway lists every inconsistent series.
  client.kept_answer_bytes = client.max_answer_bytes;
  return client;
}

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_CLIENT_OPTIONS_H_
