// A push as it comes over HTTP: whom it is for, and what it holds.

#ifndef TALLYD_DAEMON_PUSH_REQUEST_H_
#define TALLYD_DAEMON_PUSH_REQUEST_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/groups/pushed_family.h"

namespace tallyd {

// Percent-decoded; nothing if a percent sign is not followed by two digits.
std::optional<std::string> DecodedPath(std::string_view path_untrusted);

// The path without empty, "." and ".." segments, but for an empty one at its end: where Go's server
// sends whoever asks for it otherwise.
std::string CleanPath(std::string_view path);

// Escaped for a Location header.
std::string EncodedPath(std::string_view path);

struct PushBody {
  std::string bytes_untrusted;
  std::string content_type;
  std::string content_encoding;
};

// What is in a body: gzip'd or not, protobuf if the type says so in full, else text.
// InvalidArgument if it cannot be read, ResourceExhausted if it is more than that.
absl::StatusOr<PushedFamilies> ReadPushBody(const PushBody& body, size_t max_bytes,
                                            size_t max_samples);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_REQUEST_H_
