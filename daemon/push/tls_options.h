// What may be said about TLS to a target.

#ifndef TALLYD_DAEMON_PUSH_TLS_OPTIONS_H_
#define TALLYD_DAEMON_PUSH_TLS_OPTIONS_H_

#include <string>

#include "absl/status/status.h"

namespace tallyd {

// A value. The files are PEM; they are read for each new connection, so they may be exchanged under
// a running daemon.
struct TlsOptions {
  std::string ca_file;      // empty: the host's own certificate authorities
  std::string cert_file;    // of the client, with its chain; empty: none
  std::string key_file;     // of the client
  std::string server_name;  // that the certificate is made out to; empty: the URL's host
  bool insecure_skip_verify = false;
};

// Whether the files can be read and hold what they should.
absl::Status CheckTls(const TlsOptions& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_TLS_OPTIONS_H_
