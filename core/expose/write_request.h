// Requests of remote write, put together from records.

#ifndef TALLYD_CORE_EXPOSE_WRITE_REQUEST_H_
#define TALLYD_CORE_EXPOSE_WRITE_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/expose/remote_write.h"

namespace tallyd {

enum class WriteProtocol : uint8_t {
  k1,  // prometheus.WriteRequest
  k2,  // io.prometheus.write.v2.Request
};

// What a request of a protocol says of itself.
std::string_view WriteContentType(WriteProtocol protocol);
std::string_view WriteVersion(WriteProtocol protocol);

// What a receiver of 2.0 says that it stored.
struct WrittenCounts {
  uint64_t samples = 0;
  uint64_t histograms = 0;
};
WrittenCounts CountsOf(std::span<const WriteRecord> records);

// Makes bodies of requests: protobuf in one snappy block. Keeps its scratch from one to the next.
// Thread-compatible.
class WriteRequestBuilder {
 public:
  // Without records: the empty request, which stores nothing and is answered as any other.
  std::string Build(WriteProtocol protocol, std::span<const WriteRecord> records);

 private:
  void Put1(std::span<const WriteRecord> records);
  void Put2(std::span<const WriteRecord> records);

  std::string message_;
};

// In one snappy block, without framing.
std::string SnappyBlock(std::string_view bytes);

}  // namespace tallyd

#endif  // TALLYD_CORE_EXPOSE_WRITE_REQUEST_H_
