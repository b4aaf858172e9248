// The file of --web.config.file: TLS and passwords of our HTTP listeners, in the format that
// Prometheus' exporter-toolkit (0.8, as of Prometheus 2.42) has made common.

#ifndef TALLYD_DAEMON_WEB_WEB_CONFIG_H_
#define TALLYD_DAEMON_WEB_WEB_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace tallyd {

// What is wanted of a client's certificate, by the names that Go gives these.
enum class ClientAuth : uint8_t {
  kNoClientCert,
  kRequestClientCert,
  kRequireAnyClientCert,
  kVerifyClientCertIfGiven,
  kRequireAndVerifyClientCert
};

// tls_server_config. Values.
struct ServerTlsOptions {
  std::string cert_file;       // path
  std::string key_file;        // path
  std::string client_ca_file;  // path; empty: none
  ClientAuth client_auth = ClientAuth::kNoClientCert;
  int min_version = 0;               // as OpenSSL numbers them; 0: TLS 1.2
  int max_version = 0;               // 0: the newest
  std::vector<std::string> ciphers;  // names of the IANA's registry; empty: OpenSSL's choice
  std::vector<std::string> groups;   // names of OpenSSL's; empty: its choice
  bool prefer_server_ciphers = true;
};

struct WebUser {
  std::string name;
  std::string hash;  // of bcrypt
};

struct WebConfig {
  std::optional<ServerTlsOptions> tls;                       // without: plain HTTP
  std::vector<WebUser> users;                                // none: everybody may come in
  std::vector<std::pair<std::string, std::string>> headers;  // for every answer
};

inline constexpr size_t kMaxWebConfigBytes = 1 << 20;
// 2^16 rounds take some seconds: more is a mistake, or a way to keep us busy.
inline constexpr int kMaxBcryptCost = 16;

// Relative paths are taken from `file`'s folder. Unknown and repeated keys and values that have no
// meaning are errors, "file:line: key: what is wrong", all of them at once.
absl::StatusOr<WebConfig> ParseWebConfig(std::string_view yaml_untrusted, const std::string& file);

// Reads the file; not those that it names.
absl::StatusOr<WebConfig> LoadWebConfig(const std::string& file);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WEB_WEB_CONFIG_H_
