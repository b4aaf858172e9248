#include "daemon/push/tls_context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <boost/asio/ip/address.hpp>

#include "absl/strings/str_cat.h"
#include "daemon/push/credentials.h"

namespace tallyd {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

absl::Status Unfit(const std::string& file, const char* as, const error_code& error) {
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": cannot be used as ", as, ": ", error.message()));
}

absl::Status UseAuthorities(const TlsOptions& options, ssl::context* context) {
  error_code error;
  if (options.ca_file.empty()) {
    context->set_default_verify_paths(error);
    return error ? Unfit("OpenSSL's default paths", "certificate authorities", error)
                 : absl::OkStatus();
  }
  const absl::StatusOr<std::string> pem =
      ReadBoundedFile(options.ca_file, kMaxCertificateFileBytes);
  if (!pem.ok()) return pem.status();
  context->add_certificate_authority(boost::asio::buffer(*pem), error);
  return error ? Unfit(options.ca_file, "certificate authorities", error) : absl::OkStatus();
}

absl::Status UseClientCertificate(const TlsOptions& options, ssl::context* context) {
  if (options.cert_file.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> chain =
      ReadBoundedFile(options.cert_file, kMaxCertificateFileBytes);
  if (!chain.ok()) return chain.status();
  const absl::StatusOr<std::string> key = ReadBoundedFile(options.key_file, kMaxSecretBytes);
  if (!key.ok()) return key.status();
  // Nobody is there to type a password.
  context->set_password_callback([](size_t, ssl::context::password_purpose) { return ""; });
  error_code error;
  context->use_certificate_chain(boost::asio::buffer(*chain), error);
  if (error) return Unfit(options.cert_file, "a client's certificate", error);
  context->use_private_key(boost::asio::buffer(*key), ssl::context::pem, error);
  if (error) return Unfit(options.key_file, "the key of the client's certificate", error);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ssl::context>> MakeTlsContext(const TlsOptions& options) {
  auto context = std::make_unique<ssl::context>(ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  context->set_verify_mode(options.insecure_skip_verify ? ssl::verify_none : ssl::verify_peer);
  absl::Status status = UseAuthorities(options, context.get());
  if (status.ok()) status = UseClientCertificate(options, context.get());
  if (!status.ok()) return status;
  return context;
}

absl::Status ExpectPeer(const std::string& host, const TlsOptions& options, SSL* ssl) {
  const std::string& name = options.server_name.empty() ? host : options.server_name;
  error_code not_numeric;
  boost::asio::ip::make_address(name, not_numeric);
  // RFC 6066 section 3: addresses are no names to ask for.
  bool ok = !not_numeric || SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
  X509_VERIFY_PARAM* const check = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (options.insecure_skip_verify) {
    // Neither the chain nor the name.
  } else if (not_numeric) {
    ok = ok && X509_VERIFY_PARAM_set1_host(check, name.data(), name.size()) == 1;
  } else {
    ok = X509_VERIFY_PARAM_set1_ip_asc(check, name.c_str()) == 1;
  }
  return ok ? absl::OkStatus()
            : absl::InvalidArgumentError(absl::StrCat("cannot ask for a certificate of ", name));
}

std::string CertificateError(const SSL* ssl) {
  const long result = SSL_get_verify_result(ssl);  // NOLINT(google-runtime-int): OpenSSL's type
  return result == X509_V_OK ? "" : X509_verify_cert_error_string(result);
}

absl::Status CheckTls(const TlsOptions& options) {
  if (options.cert_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("a client's certificate and its key go together");
  }
  return MakeTlsContext(options).status();
}

}  // namespace tallyd
