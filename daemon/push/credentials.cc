#include "daemon/push/credentials.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "daemon/file_text.h"

namespace tallyd {
namespace {

absl::Status CannotRead(const std::string& path, int error) {
  return absl::InvalidArgumentError(absl::StrCat("cannot read ", path, ": ", std::strerror(error)));
}

absl::StatusOr<std::string> ReadSecret(const std::string& path) {
  absl::StatusOr<std::string> secret = ReadBoundedFile(path, kMaxSecretBytes);
  if (!secret.ok()) return secret.status();
  absl::StripTrailingAsciiWhitespace(&*secret);
  if (secret->empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": is empty"));
  const bool clean = std::none_of(secret->begin(), secret->end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
  if (clean) return secret;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": a secret is one line without control characters"));
}

}  // namespace

absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t most_bytes) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return CannotRead(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  FileText file = ReadFileText(path, most_bytes + 1);
  if (file.open_error != 0) return CannotRead(path, file.open_error);
  if (file.read_error != 0) return CannotRead(path, file.read_error);
  if (file.text.size() > most_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has more than ", most_bytes, " bytes"));
  }
  return std::move(file.text);
}

absl::StatusOr<std::string> AuthorizationHeader(const PushCredentials& credentials) {
  if (!credentials.bearer_token_file.empty()) {
    const absl::StatusOr<std::string> token = ReadSecret(credentials.bearer_token_file);
    if (!token.ok()) return token.status();
    return absl::StrCat("Bearer ", *token);
  }
  if (credentials.username.empty()) return std::string();
  const absl::StatusOr<std::string> password = ReadSecret(credentials.password_file);
  if (!password.ok()) return password.status();
  return absl::StrCat("Basic ",
                      absl::Base64Escape(absl::StrCat(credentials.username, ":", *password)));
}

}  // namespace tallyd
