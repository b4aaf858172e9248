// What a push shows to be let in: a password or a token, from a file.

#ifndef TALLYD_DAEMON_PUSH_CREDENTIALS_H_
#define TALLYD_DAEMON_PUSH_CREDENTIALS_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tallyd {

// Of files with secrets, keys and certificates.
inline constexpr size_t kMaxSecretBytes = 16 * 1024;
inline constexpr size_t kMaxCertificateFileBytes = 4 << 20;

// A value. Either a user with a password file, or a token file, or none of it.
struct PushCredentials {
  std::string username;
  std::string password_file;      // path
  std::string bearer_token_file;  // path
};

// The whole of a regular file of at most `most_bytes`. Anything else is refused: a pipe would never
// end. The error names the file and never shows what is in it.
absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t most_bytes);

// The value of the header "Authorization", or "" if there are no credentials. Reads the files at
// each call, so that they may be exchanged under a running daemon. White space at the end of a file
// is no part of its secret; a control character within it is an error, since it could end the
// header.
absl::StatusOr<std::string> AuthorizationHeader(const PushCredentials& credentials);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_CREDENTIALS_H_
