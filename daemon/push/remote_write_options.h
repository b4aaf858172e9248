// What may be said about a target of remote write.

#ifndef TALLYD_DAEMON_PUSH_REMOTE_WRITE_OPTIONS_H_
#define TALLYD_DAEMON_PUSH_REMOTE_WRITE_OPTIONS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/push/credentials.h"
#include "daemon/push/family_filter.h"
#include "daemon/push/http_url.h"
#include "daemon/push/remote_write_sender.h"
#include "daemon/push/tls_options.h"

namespace tallyd {

// What is configured for a target. A value.
struct RemoteWriteOptions {
  std::string name;  // as metrics call it
  HttpUrl url;       // with its path
  RemoteWriteSenderOptions sender;
  FamilyFilter families;
  bool own_metrics = true;  // the daemon's own families too, if the filter wants them
  std::vector<std::pair<std::string, std::string>> headers;  // besides our own
  PushCredentials credentials;
  TlsOptions tls;
  absl::Duration connect_timeout = absl::Seconds(1);
  absl::Duration total_timeout = absl::Seconds(10);
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_REMOTE_WRITE_OPTIONS_H_
