#include "daemon/web/server_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/push/credentials.h"

namespace tallyd {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

absl::Status Unfit(const std::string& what, const char* as, const error_code& error) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": cannot be used as ", as, ": ", error.message()));
}

absl::Status UseCertificate(const ServerTlsOptions& options, ssl::context* context) {
  const auto chain = ReadBoundedFile(options.cert_file, kMaxCertificateFileBytes);
  if (!chain.ok()) return chain.status();
  const auto key = ReadBoundedFile(options.key_file, kMaxSecretBytes);
  if (!key.ok()) return key.status();
  // Nobody is there to type a password.
  context->set_password_callback([](size_t, ssl::context::password_purpose) { return ""; });
  error_code error;
  context->use_certificate_chain(boost::asio::buffer(*chain), error);
  if (error) return Unfit(options.cert_file, "a server's certificate", error);
  context->use_private_key(boost::asio::buffer(*key), ssl::context::pem, error);
  if (error) return Unfit(options.key_file, "the key of the server's certificate", error);
  // OpenSSL has a place for each type of key, and compared within that of this one alone.
  if (SSL_CTX_check_private_key(context->native_handle()) == 1) return absl::OkStatus();
  ::ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrCat(options.key_file, ": is of another type than the key of the certificate ",
                   options.cert_file));
}

absl::Status UseClientAuthorities(const ServerTlsOptions& options, ssl::context* context) {
  if (options.client_ca_file.empty()) return absl::OkStatus();
  const auto pem = ReadBoundedFile(options.client_ca_file, kMaxCertificateFileBytes);
  if (!pem.ok()) return pem.status();
  error_code error;
  context->add_certificate_authority(boost::asio::buffer(*pem), error);
  return error ? Unfit(options.client_ca_file, "certificate authorities", error) : absl::OkStatus();
}

int AcceptAnyCertificate(int, X509_STORE_CTX*) { return 1; }

void SetClientAuth(ClientAuth auth, SSL_CTX* context) {
  switch (auth) {
    case ClientAuth::kNoClientCert:
      return SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    case ClientAuth::kRequestClientCert:
      return SSL_CTX_set_verify(context, SSL_VERIFY_PEER, AcceptAnyCertificate);
    case ClientAuth::kRequireAnyClientCert:
      return SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                                AcceptAnyCertificate);
    case ClientAuth::kVerifyClientCertIfGiven:
      return SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    case ClientAuth::kRequireAndVerifyClientCert:
      return SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                                nullptr);
  }
}

// Suites of TLS 1.3 are left alone, as Go leaves them.
absl::Status SetCiphers(const ServerTlsOptions& options, SSL_CTX* context) {
  std::vector<std::string> names;
  for (const std::string& name : options.ciphers) {
    const std::string ours = OPENSSL_cipher_name(name.c_str());
    if (ours != name) names.push_back(ours);  // those of TLS 1.3 have one name
  }
  if (!names.empty() && SSL_CTX_set_cipher_list(context, absl::StrJoin(names, ":").c_str()) != 1) {
    return absl::InvalidArgumentError("cipher_suites: OpenSSL takes none of them");
  }
  if (!options.groups.empty() &&
      SSL_CTX_set1_groups_list(context, absl::StrJoin(options.groups, ":").c_str()) != 1) {
    return absl::InvalidArgumentError("curve_preferences: OpenSSL does not take them");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<ssl::context>> MakeServerTls(const ServerTlsOptions& options) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_min_proto_version(native,
                                options.min_version == 0 ? TLS1_2_VERSION : options.min_version);
  SSL_CTX_set_max_proto_version(native, options.max_version);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(native, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  if (options.prefer_server_ciphers) SSL_CTX_set_options(native, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SetClientAuth(options.client_auth, native);
  absl::Status status = UseCertificate(options, context.get());
  if (status.ok()) status = UseClientAuthorities(options, context.get());
  if (status.ok()) status = SetCiphers(options, native);
  if (!status.ok()) return status;
  return context;
}

}  // namespace tallyd
