// Content negotiation reads headers of anybody: any bytes must lead to one of the answers, and the
// answer must not depend on what a header may vary freely.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/expose/negotiate.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

std::string UpperCase(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return upper;
}

void CheckFormat(std::string_view header) {
  const ScrapeFormat format = NegotiateFormat(header);
  Check(!ContentType(format).empty());
  Check(NegotiateFormat(UpperCase(header)) == format);
  if (UpperCase(header).find("PROTOBUF") == std::string::npos) {
    Check(format != ScrapeFormat::kProtobuf);
  }
  if (header.find("openmetrics") == std::string_view::npos &&
      UpperCase(header).find("OPENMETRICS") == std::string::npos &&
      header.find('*') == std::string_view::npos) {
    Check(format != ScrapeFormat::kOpenMetrics100);
  }
}

void CheckCoding(std::string_view header) {
  const ContentCoding coding = NegotiateCoding(header);
  Check(NegotiateCoding(UpperCase(header)) == coding);
  if (UpperCase(header).find("GZIP") == std::string::npos &&
      header.find('*') == std::string_view::npos) {
    Check(coding == ContentCoding::kIdentity);
  }
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view header(reinterpret_cast<const char*>(data), size);
  tallyd::CheckFormat(header);
  tallyd::CheckCoding(header);
  return 0;
}
