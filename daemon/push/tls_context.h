// TLS as pushes use it: the peer is who it says it is, or nothing is sent.

#ifndef TALLYD_DAEMON_PUSH_TLS_CONTEXT_H_
#define TALLYD_DAEMON_PUSH_TLS_CONTEXT_H_

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/push/tls_options.h"

namespace tallyd {

// Reads the files of `options`. TLS 1.2 at least.
absl::StatusOr<std::unique_ptr<boost::asio::ssl::context>> MakeTlsContext(
    const TlsOptions& options);

// To be called before the handshake: the name to ask for, and the name or address that the
// certificate must be made out to unless `options` says otherwise.
absl::Status ExpectPeer(const std::string& host, const TlsOptions& options, SSL* ssl);

// Why the peer's certificate was refused, or "" if it was not.
std::string CertificateError(const SSL* ssl);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_TLS_CONTEXT_H_
