#include "daemon/push_request.h"

#include <libdeflate.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/groups/protobuf_reader.h"
#include "core/groups/text_reader.h"

namespace tallyd {
namespace {

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* decompressor) const {
    libdeflate_free_decompressor(decompressor);
  }
};

absl::Status TooLong(size_t max_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the body has more than ", max_bytes, " bytes when it is decompressed"));
}

// One member after the other, as gzip streams may be made.
absl::StatusOr<std::string> Gunzip(std::string_view bytes, size_t max_bytes) {
  const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> decompressor(
      libdeflate_alloc_decompressor());
  std::string text;
  while (!bytes.empty()) {
    // The last four bytes say how long the member is that ends there. What they say may be wrong,
    // and there may be several members; then the room doubles until it is enough.
    uint32_t announced = 0;
    if (bytes.size() >= 18) std::memcpy(&announced, bytes.data() + bytes.size() - 4, 4);
    size_t room = std::min<size_t>(std::max<size_t>(announced, 4096), max_bytes - text.size());
    const size_t before = text.size();
    while (true) {
      text.resize(before + room);
      size_t used = 0;
      size_t written = 0;
      const libdeflate_result result =
          libdeflate_gzip_decompress_ex(decompressor.get(), bytes.data(), bytes.size(),
                                        text.data() + before, room, &used, &written);
      if (result == LIBDEFLATE_SUCCESS) {
        text.resize(before + written);
        bytes.remove_prefix(used);
        break;
      }
      if (result != LIBDEFLATE_INSUFFICIENT_SPACE) {
        return absl::InvalidArgumentError("gzip: invalid header or data");
      }
      if (before + room == max_bytes) return TooLong(max_bytes);
      room = std::min(2 * room, max_bytes - before);
    }
  }
  return text;
}

// Of "a/b; c=d; e=f": whether it is the full type of delimited MetricFamily messages.
bool IsDelimitedProtobuf(const std::string& content_type) {
  const std::vector<std::string> parts = absl::StrSplit(content_type, ';');
  if (absl::AsciiStrToLower(absl::StripAsciiWhitespace(parts[0])) !=
      "application/vnd.google.protobuf") {
    return false;
  }
  bool delimited = false;
  bool of_families = false;
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(pair.first));
    absl::string_view value = absl::StripAsciiWhitespace(pair.second);
    if (absl::ConsumePrefix(&value, "\"")) absl::ConsumeSuffix(&value, "\"");
    if (name == "encoding") delimited = value == "delimited";
    if (name == "proto") of_families = value == "io.prometheus.client.MetricFamily";
  }
  return delimited && of_families;
}

}  // namespace

std::optional<std::string> DecodedPath(std::string_view path_untrusted) {
  std::string decoded;
  for (size_t i = 0; i < path_untrusted.size(); ++i) {
    if (path_untrusted[i] != '%') {
      decoded.push_back(path_untrusted[i]);
      continue;
    }
    const std::string_view digits = path_untrusted.substr(i + 1, 2);
    if (digits.size() < 2 || !absl::ascii_isxdigit(static_cast<unsigned char>(digits[0])) ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(digits[1]))) {
      return {};
    }
    decoded += absl::HexStringToBytes(absl::string_view(digits.data(), 2));
    i += 2;
  }
  return decoded;
}

std::string CleanPath(std::string_view path) {
  std::vector<absl::string_view> kept;
  const absl::string_view text(path.data(), path.size());
  for (const absl::string_view segment : absl::StrSplit(text, '/', absl::SkipEmpty())) {
    if (segment == ".") continue;
    if (segment != "..") {
      kept.push_back(segment);
    } else if (!kept.empty()) {
      kept.pop_back();
    }
  }
  std::string clean;
  for (const absl::string_view segment : kept) absl::StrAppend(&clean, "/", segment);
  if (path.empty() || path.back() == '/' || clean.empty()) clean.push_back('/');
  return clean;
}

std::string EncodedPath(std::string_view path) {
  std::string encoded;
  for (const char c : path) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        (c != 0 && std::strchr("/-._~@=:+,$&", c) != nullptr)) {
      encoded.push_back(c);
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

absl::StatusOr<PushedFamilies> ReadPushBody(const PushBody& body, size_t max_bytes,
                                            size_t max_samples) {
  std::string unzipped;
  std::string_view bytes = body.bytes_untrusted;
  // Other codings are passed over, and the body read as it is.
  if (body.content_encoding == "gzip") {
    absl::StatusOr<std::string> text = Gunzip(bytes, max_bytes);
    if (!text.ok()) return text.status();
    unzipped = *std::move(text);
    bytes = unzipped;
  }
  return IsDelimitedProtobuf(body.content_type) ? ReadPushedProtobuf(bytes, max_samples)
                                                : ReadPushedText(bytes, max_samples);
}

}  // namespace tallyd
