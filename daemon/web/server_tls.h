// TLS as our HTTP listeners speak it.

#ifndef TALLYD_DAEMON_WEB_SERVER_TLS_H_
#define TALLYD_DAEMON_WEB_SERVER_TLS_H_

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "absl/status/statusor.h"
#include "daemon/web/web_config.h"

namespace tallyd {

// Reads the files that `options` names. Sessions are not resumed: a certificate is looked at on
// every connection.
absl::StatusOr<std::shared_ptr<boost::asio::ssl::context>> MakeServerTls(
    const ServerTlsOptions& options);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WEB_SERVER_TLS_H_
